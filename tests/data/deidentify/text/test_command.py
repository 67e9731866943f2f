"""`lifechart deidentify-text`, as somebody types it."""

import subprocess
import sys

import orjson


def run(*arguments, given=b"", home):
    command = [sys.executable, "-m", "lifechart.cli", "deidentify-text", *map(str, arguments)]
    return subprocess.run(command, input=given, capture_output=True, env={"LIFECHART_HOME": str(home), **_ENV})


_ENV = {"PYTHONPATH": "src", "OMP_NUM_THREADS": "1"}


def test_lines_go_in_and_come_out_in_order(tmp_path):
    texts = [f"Seen by Dr. Ann Brown on 3/{day}/2021." for day in range(1, 29)] * 5
    given = b"".join(orjson.dumps({"text": text}) + b"\n" for text in texts)
    done = run(given=given, home=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert [line["text"] for line in lines] == ["Seen by [NAME] on [DATE]."] * len(texts)
    for text, line in zip(texts, lines, strict=True):
        name, day = line["spans"]
        assert text[name["start"] : name["end"]] == "Dr. Ann Brown"
        assert text[day["start"] : day["end"]] == text.split(" on ")[1].rstrip(".")
        assert name.keys() >= {"start", "end", "class", "reason"}


def test_surrogates_are_the_same_in_every_run(tmp_path):
    file = tmp_path / "notes.jsonl"
    file.write_bytes(b'{"text": "Jane Roe, MRN 881-22, seen 3/4/2021.", "patient": "p"}\n')
    first, second = (run(file, "--surrogates", home=tmp_path / "home") for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert b"Roe" not in first.stdout
    assert b"881-22" not in first.stdout
    assert b"3/4/2021" not in first.stdout


def test_a_refusal_is_one_line_without_the_text(tmp_path):
    done = run(given=b'{"text": "fine"}\n{"text": "Jane Roe\n', home=tmp_path)
    assert done.returncode == 2
    assert done.stderr.decode().count("\n") == 1
    assert "line 2" in done.stderr.decode()
    assert "Roe" not in done.stderr.decode()
    assert run(tmp_path / "absent", home=tmp_path).returncode == 2
