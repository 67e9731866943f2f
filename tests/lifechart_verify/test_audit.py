"""Each kind of damage to a log is found and named; an undamaged one is sound."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench._tampers import EARLIER, SIGNER, SIZE, TAMPERS, VERIFIER, Tamper, flip, fork, statement, write_log
from lifechart.core.errors import IntegrityError
from lifechart.ledger.checkpoint import Checkpoint
from lifechart.ledger.keys import Signer
from lifechart.ledger.log import Log
from lifechart_verify.__main__ import main
from lifechart_verify.audit import verify
from lifechart_verify.findings import DamageKind, Verification
from lifechart_verify.notes import Key

KEY = Key.parse(str(SIGNER.public))


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_log(tmp_path_factory.mktemp("published"))


def check(folder: Path, published: Path) -> Verification:
    return verify(folder, KEY, earlier=[(published.parent / "earlier").read_text()])


@pytest.mark.parametrize("tamper", TAMPERS, ids=[tamper.name for tamper in TAMPERS])
def test_damage_is_found_and_named(published: Path, tmp_path: Path, tamper: Tamper) -> None:
    folder = tmp_path / "ledger"
    shutil.copytree(published.parent, tmp_path, dirs_exist_ok=True)
    tamper.do(folder)
    found = check(folder, published)
    assert tamper.kind in {damage.kind for damage in found.damages}, str(found)
    assert any(re.search(tamper.message, damage.message) for damage in found.damages), str(found)


def test_the_kinds_that_are_asked_for_have_messages_of_their_own(published: Path, tmp_path: Path) -> None:
    """One flipped byte, a removed entry, a forked history, a forged checkpoint: four messages, none shared."""
    firsts = {}
    for name in (
        "a byte of an entry flipped",
        "an entry removed",
        "history forked by the key's owner",
        "checkpoint forged: another root",
    ):
        shutil.rmtree(tmp_path, ignore_errors=True)
        shutil.copytree(published.parent, tmp_path)
        next(tamper for tamper in TAMPERS if tamper.name == name).do(tmp_path / "ledger")
        firsts[name] = check(tmp_path / "ledger", published).damages[0].kind
    assert len(set(firsts.values())) == 4, firsts


def test_an_undamaged_log_is_sound(published: Path) -> None:
    found = check(published, published)
    assert found.sound, str(found)
    assert (found.size, found.published, found.kinds) == (SIZE, SIZE, {"train": SIZE})
    assert "700 entries, sound" in str(found)


def test_every_flipped_byte_of_a_small_log_is_found(tmp_path: Path) -> None:
    log = Log(tmp_path / "ledger", SIGNER.public.name, VERIFIER, SIGNER)
    log.append_many([statement(number) for number in range(2)])
    log.close()
    (tmp_path / "ledger/journal").write_bytes(bytes(16))
    for name in ("checkpoint", "tile/entries/000.p/2", "tile/0/000.p/2"):
        path = tmp_path / "ledger" / name
        whole = path.read_bytes()
        for place in range(len(whole)):
            flip(path, place)
            assert not verify(tmp_path / "ledger", KEY).sound, (name, place)
            path.write_bytes(whole)
    assert verify(tmp_path / "ledger", KEY).sound


def test_an_earlier_checkpoint_must_itself_be_signed(published: Path) -> None:
    stranger = Checkpoint("lifechart/test", 3, bytes(32)).signed(Signer.generate("someone"))
    found = verify(published, KEY, earlier=[stranger])
    assert [damage.kind for damage in found.damages] == [DamageKind.CHECKPOINT_FORGED]


def test_damage_to_what_is_not_published_yet(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    log = Log(folder, SIGNER.public.name, VERIFIER, SIGNER)
    log.append(statement(0))
    log.close()
    log.append_many([statement(1), statement(2)])
    log.append(statement(3))
    found = verify(folder, KEY)
    assert (found.sound, found.size, found.published) == (True, 4, 1), str(found)
    whole = (folder / "journal").read_bytes()
    for place in range(20, len(whole), 97):
        flip(folder / "journal", place)
        assert DamageKind.JOURNAL_DAMAGED in {damage.kind for damage in verify(folder, KEY).damages}, place
        with pytest.raises(IntegrityError, match="altered after it was written"):
            Log(folder, SIGNER.public.name, VERIFIER, SIGNER)
        (folder / "journal").write_bytes(whole)
    (folder / "journal").write_bytes(whole[:-10])
    found = verify(folder, KEY)
    assert (found.sound, found.size) == (True, 3)
    assert "not acknowledged" in str(found)


def test_a_writer_at_work_is_no_damage(tmp_path: Path) -> None:
    """Tiles are put in place before the checkpoint that covers them; the journal vouches for them until then."""
    log = Log(tmp_path, SIGNER.public.name, VERIFIER, SIGNER)
    log._publish_in_background = lambda: None  # type: ignore[method-assign]
    log.append_many([statement(number) for number in range(300)])
    log.publish()
    note = (tmp_path / "checkpoint").read_text()
    log.append_many([statement(number) for number in range(300, 900)])
    log.publish()
    (tmp_path / "checkpoint").write_text(note)
    found = verify(tmp_path, KEY)
    assert (found.sound, found.size, found.published) == (True, 900, 300), str(found)


def test_the_command_runs_without_lifechart(published: Path, tmp_path: Path) -> None:
    """The folder of the verifier alone, as an auditor would carry it away, in a Python that cannot see the rest."""
    source = Path(sys.modules["lifechart_verify"].__file__ or "").parent
    shutil.copytree(source, tmp_path / "carried/lifechart_verify", ignore=shutil.ignore_patterns("__pycache__"))
    run_it = "import runpy; runpy.run_module('lifechart_verify', run_name='__main__')"
    program = f"import sys; sys.modules['lifechart'] = None; {run_it}"

    def run(log: Path, *more: str) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, "-c", program, str(log), "--key", str(published.parent / "key"), *more]
        return subprocess.run(arguments, cwd=tmp_path / "carried", capture_output=True, text=True, check=False)

    sound = run(published, "--earlier", str(published.parent / "earlier"))
    assert (sound.returncode, sound.stderr) == (0, "")
    shutil.copytree(published, tmp_path / "forked")
    fork(tmp_path / "forked")
    forked = run(tmp_path / "forked", "--earlier", str(published.parent / "earlier"))
    assert forked.returncode == 1
    assert "history forked: kept checkpoint 1" in forked.stdout
    assert run(tmp_path / "nowhere").returncode == 2


def test_one_entry_is_proved_or_refused(published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = ["--key", str(published.parent / "key")]
    for index in (0, 255, 256, 511, 512, EARLIER, SIZE - 1):
        assert main([str(published), *key, "--entry", str(index)]) == 0
        said = capsys.readouterr().out
        assert f"entry {index} stands in the log" in said
        assert f'"number": {index}' in said
    assert main([str(published), *key, "--entry", str(SIZE)]) == 1
    assert "not among the 700" in capsys.readouterr().out
    folder = tmp_path / "ledger"
    shutil.copytree(published, folder)
    flip(folder / "tile/entries/001", 5_000)
    assert main([str(folder), *key, "--entry", "300"]) == 0
    wrong = next(index for index in range(256, 300) if main([str(folder), *key, "--entry", str(index)]))
    assert f"leaf {wrong} is not in the tree" in capsys.readouterr().out
