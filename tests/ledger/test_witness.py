"""Witnesses: the published format, one history and no other, over files and over HTTP; N of M in the verifier."""

import base64
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from bench._tampers import SIGNER, VERIFIER, fork, statement
from lifechart.cli import app
from lifechart.core.errors import InputError, IntegrityError
from lifechart.core.settings import Settings
from lifechart.ledger import cosigned
from lifechart.ledger.checkpoint import Checkpoint, parse
from lifechart.ledger.keys import COSIGNATURES, PublicKey, Signer
from lifechart.ledger.log import Log, open_log
from lifechart.ledger.witness import Refused, Witness, cosign, message, pack_request, unpack_request
from lifechart.ledger.witness_http import server
from lifechart_verify.audit import verify
from lifechart_verify.findings import DamageKind
from lifechart_verify.notes import Key, Note
from tests.ledger.test_page import run

KEY = Key.parse(str(SIGNER.public))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with Log(tmp_path / "ledger", SIGNER.public.name, VERIFIER, SIGNER) as log:
        log.append_many([statement(number) for number in range(300)])
        yield log


def witness(folder: Path, name: str = "w1") -> Witness:
    return Witness.open(folder / name, f"witness.example/{name}", [SIGNER.public])


def test_the_signed_message_and_the_key_are_those_of_the_specification() -> None:
    """The example of C2SP tlog-cosignature: header, time, and the text up to the blank line."""
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    assert message(text, 1679315147).decode() == f"cosignature/v1\ntime 1679315147\n{text}"
    signer = Signer.generate("witness.example/w1", COSIGNATURES)
    assert base64.b64decode(str(signer.public).split("+", 2)[2])[:1] == b"\x04"
    line = cosign(signer, parse(f"{text}\n\u2014 x AAAAAAA=\n"), 1679315147)
    content = base64.b64decode(line.split(" ")[2])
    assert (len(content), content[:4], content[4:12]) == (76, signer.public.id_bytes, (1679315147).to_bytes(8, "big"))
    note = Note.parse(f"{text}\n{line}")
    assert note.cosigned_at(Key.parse(str(signer.public))) == 1679315147, "the verifier reads it"
    assert note.cosigned_at(Key.parse(str(Signer.generate("witness.example/w1", COSIGNATURES).public))) is None


def test_a_log_that_only_grows_is_cosigned(log: Log, tmp_path: Path) -> None:
    seen = witness(tmp_path)
    for size in (300, 300, 555, 900):
        log.append_many([statement(number) for number in range(log.size, size)])
        note = log.checkpoint()
        text, line = cosigned.cosign_copy(seen, log.folder)
        assert text == parse(note).text
        assert cosigned.keep(log, note, [line], [seen.public]) == line
    assert sorted(path.name for path in (log.folder / "cosigned").iterdir()) == [
        "000000000300", "000000000555", "000000000900",
    ]  # fmt: skip
    last = witness(tmp_path).last(SIGNER.public.name)
    assert last is not None
    assert last.size == 900


def test_a_split_view_is_refused(log: Log, tmp_path: Path) -> None:
    """The log's own key signs another history of the same and of a greater size; the witness cosigns neither."""
    seen = witness(tmp_path)
    log.append_many([statement(number) for number in range(300, 700)])
    log.checkpoint()
    shutil.copytree(log.folder, tmp_path / "fork")
    cosigned.cosign_copy(seen, log.folder)
    fork(tmp_path / "fork")
    with pytest.raises(Refused, match="history forked: two roots of 700 entries") as refused:
        cosigned.cosign_copy(seen, tmp_path / "fork")
    assert refused.value.status == 409
    with Log(tmp_path / "other", SIGNER.public.name, VERIFIER, SIGNER) as other:
        other.append_many([statement(5000 + number) for number in range(900)])
        other.checkpoint()
        with pytest.raises(Refused, match="history forked: 900 entries do not begin with the 700") as refused:
            cosigned.cosign_copy(seen, other.folder)
    assert refused.value.status == 422
    with Log(tmp_path / "short", SIGNER.public.name, VERIFIER, SIGNER) as short:
        short.append(statement(0))
        short.checkpoint()
        with pytest.raises(IntegrityError, match="history shortened"):
            cosigned.cosign_copy(seen, short.folder)
    last = seen.last(SIGNER.public.name)
    assert last is not None
    assert (last.size, last.root.hex()) == (700, log.root), "what was refused is forgotten"


def test_what_else_a_witness_refuses(log: Log, tmp_path: Path) -> None:
    seen = witness(tmp_path)
    note = log.checkpoint()
    for status, arguments in {
        400: (0, [], "no note"),
        404: (0, [], Checkpoint("somebody/else", 3, bytes(32)).signed(SIGNER)),
        403: (0, [], Checkpoint(SIGNER.public.name, 3, bytes(32)).signed(Signer.generate(SIGNER.public.name))),
        409: (17, [], note),
        422: (0, [bytes(32)], note),
    }.items():
        with pytest.raises(Refused) as refused:
            seen.add_checkpoint(*arguments)
        assert refused.value.status == status, refused.value
    with pytest.raises(Refused, match="above the checkpoint"):
        seen.add_checkpoint(301, [], note)
    assert seen.last(SIGNER.public.name) is None
    shutil.rmtree(tmp_path / "w1/logs")
    with pytest.raises(InputError, match="begin a new witness"):
        witness(tmp_path)
    with pytest.raises(InputError, match="of a witness"):
        PublicKey.parse(str(SIGNER.public), COSIGNATURES)


@given(st.integers(0, 2**60), st.lists(st.binary(min_size=32, max_size=32), max_size=63), st.text(max_size=50))
def test_requests_round_trip(old: int, proof: list[bytes], note: str) -> None:
    assert unpack_request(pack_request(old, proof, note)) == (old, proof, note)


@pytest.mark.parametrize(
    "body",
    ["", "old 1", "old 01\n\nx", "old -1\n\nx", "old \u0661\n\nx", "new 1\n\nx", "old 1\n??\n\nx", "old 1\nAAAA\n\nx"],
)
def test_a_request_that_is_none_is_refused(body: str) -> None:
    with pytest.raises(Refused) as refused:
        unpack_request(body)
    assert refused.value.status == 400


def test_over_http(log: Log, tmp_path: Path) -> None:
    seen = witness(tmp_path)
    http = server(seen, "127.0.0.1", 0)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{http.server_port}"
        for size in (300, 300, 700):
            log.append_many([statement(number) for number in range(log.size, size)])
            assert cosigned.ask(log, url, seen.public).startswith("\u2014 witness.example/w1 ")
        stale = httpx.post(f"{url}/add-checkpoint", content=pack_request(0, [], log.checkpoint()))
        assert (stale.status_code, stale.text, stale.headers["content-type"]) == (409, "700\n", "text/x.tlog.size")
        with Log(tmp_path / "other", SIGNER.public.name, VERIFIER, SIGNER) as other:
            other.append_many([statement(5000 + number) for number in range(900)])
            with pytest.raises(IntegrityError, match="refused with 422: witness: history forked"):
                cosigned.ask(other, url, seen.public)
        with pytest.raises(IntegrityError, match="no cosignature"):
            cosigned.ask(log, url, witness(tmp_path, "w2").public)
        assert httpx.post(f"{url}/elsewhere", content=b"").status_code == 404
        assert httpx.post(f"{url}/add-checkpoint", content=b"\xff").status_code == 400
        assert httpx.post(f"{url}/add-checkpoint", content=b"x" * 70_000).status_code == 400
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
    with pytest.raises(InputError, match="a witness that answers"):
        cosigned.ask(log, url, seen.public)


def test_the_verifier_demands_n_of_m(log: Log, tmp_path: Path) -> None:
    witnesses = [witness(tmp_path, name) for name in ("w1", "w2", "w3")]
    keys = [Key.parse(str(each.public)) for each in witnesses]
    note = log.checkpoint()
    for each in witnesses[:2]:
        cosigned.keep(log, note, [cosigned.cosign_copy(each, log.folder)[1]], [each.public])
    log.append_many([statement(number) for number in range(300, 400)])
    log.checkpoint()
    found = verify(log.folder, KEY, witnesses=keys, quorum=2)
    assert found.sound, str(found)
    assert found.witnessed == {"witness.example/w1": 300, "witness.example/w2": 300}
    assert "2 or more witnesses stand behind the first 300 entries" in str(found)
    wanting = verify(log.folder, KEY, witnesses=keys, quorum=3)
    assert [damage.kind for damage in wanting.damages] == [DamageKind.WITNESSES_WANTING]
    twice = [keys[0], Key("another name", keys[0].use, keys[0].raw)]
    assert not verify(log.folder, KEY, witnesses=twice, quorum=2).sound, "one key under two names is one witness"


def test_what_a_witness_cosigned_shows_a_fork_and_a_forged_cosignature(log: Log, tmp_path: Path) -> None:
    seen = witness(tmp_path)
    keys = [Key.parse(str(seen.public))]
    log.append_many([statement(number) for number in range(300, 700)])
    note = log.checkpoint()
    line = cosigned.cosign_copy(seen, log.folder)[1]
    cosigned.keep(log, note, [line], [seen.public])
    log.close()
    (log.folder / "journal").write_bytes(bytes(16))
    path = log.folder / "cosigned/000000000700"
    signature = bytearray(base64.b64decode(line.split(" ")[2]))
    signature[-1] ^= 1
    forged = base64.b64encode(signature).decode()
    whole = path.read_text()
    path.write_text(whole.replace(line.split(" ")[2].strip(), forged))
    assert DamageKind.COSIGNATURE_FORGED in {each.kind for each in verify(log.folder, KEY, witnesses=keys).damages}
    path.write_text(whole)
    fork(log.folder)
    damages = verify(log.folder, KEY, witnesses=keys, quorum=1).damages
    assert [(each.kind, each.message.split(":")[0]) for each in damages] == [
        (DamageKind.HISTORY_FORKED, "cosigned/000000000700")
    ]


def test_the_commands_by_hand_and_the_verifier_after_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A witness without a network: a copy goes out, a line comes back."""
    home = tmp_path / "home"
    monkeypatch.setenv("LIFECHART_HOME", str(home))
    with open_log(Settings(home=home)) as own:
        own.append_many([statement(number) for number in range(20)])
        own.checkpoint()
    shutil.copytree(home / "ledger", tmp_path / "copy")
    arguments = ["--log", str(home / "keys/ledger.pub"), "--home", str(tmp_path / "w"), "--name", "ethics.example/w"]
    (tmp_path / "line").write_text(run("witness", "sign", str(tmp_path / "copy"), *arguments))
    with open_log(Settings(home=home)) as own:
        own.append(statement(20))
    key, note = str(tmp_path / "w/witness.pub"), str(tmp_path / "copy/checkpoint")
    run("ledger", "cosign", "--key", key, "--line", str(tmp_path / "line"), "--note", note)
    checked = run("ledger", "verify", "--witness", key, "--quorum", "1")
    assert "ethics.example/w cosigned the first 20 entries" in checked
    assert "21 entries, sound" in checked
    assert CliRunner().invoke(app, ["ledger", "verify", "--witness", key, "--quorum", "2"]).exit_code == 2
