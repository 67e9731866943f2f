"""The shelf: only what was trained, examined and signed is served; every change is in the ledger first."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lifechart.core import durable
from lifechart.core.capability import Phase
from lifechart.core.errors import AuditError, GateRefused, InputError, IntegrityError
from lifechart.core.report import Report
from lifechart.ledger import merkle, tiles
from lifechart.ledger.keys import Signer
from lifechart.ledger.log import open_log
from lifechart.ledger.statement import Statement, Subject
from lifechart.release.shelf import Shelf, open_shelf
from tests.release.institution import FILES, PAIR, Institution


def test_a_release_is_verified_listed_and_off(institution: Institution) -> None:
    version = institution.release(0)
    release = institution.shelf.current("risk")
    assert (release.version, release.capability, release.released) == (version, "risk", (PAIR,))
    assert sorted(path.name for path in release.model.iterdir()) == sorted(FILES)
    assert Report.load(release.report).model_digest == release.manifest.model_digest
    assert release.report.with_name("report.html").exists()
    assert release.manifest.data_digests == {"train": "d" * 64, "evaluate": "b" * 64}
    assert len(release.manifest.checks) > 7
    state = institution.shelf.state("risk")
    assert (state.version, state.phase, state.on) == ("1", Phase.OFF, True)
    (entry,) = institution.log.find(kind="release", digest=release.manifest.digest)
    assert entry.statement.predicate["model"] == release.manifest.model_digest


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


def make_link(path: Path) -> None:
    path.rename(path.parents[3] / "elsewhere")
    path.symlink_to(path.parents[3] / "elsewhere")


TAMPERED: list[tuple[str, Callable[[Path], None], str]] = [
    ("model/weights.bin", flip, "weights.bin: not the file that was released .its content changed"),
    ("model/weights.bin", grow, "weights.bin: not the file that was released .257 bytes where 256"),
    ("model/config.json", Path.unlink, "config.json: missing"),
    ("model/config.json", make_link, "config.json: a link"),
    ("model/extra.py", Path.touch, "extra.py: not part of the release"),
    ("report/report.json", flip, "report.json: not the file"),
    ("report/report.html", flip, "report.html: not the file"),
    ("criteria.toml", flip, "criteria.toml: not the file"),
    ("manifest.json", flip, "manifest.json|envelope"),
    ("manifest.json", Path.unlink, "manifest.json: cannot be read"),
]


@pytest.mark.parametrize(("name", "tamper", "message"), TAMPERED)
def test_a_changed_byte_is_refused_by_the_name_of_its_file(
    institution: Institution, name: str, tamper: Callable[[Path], None], message: str
) -> None:
    institution.release(0)
    tamper(institution.settings.shelf / "risk/1" / name)
    with pytest.raises(IntegrityError, match=message):
        institution.shelf.current("risk")


def test_a_manifest_signed_by_another_key_is_refused(institution: Institution) -> None:
    institution.release(0)
    stranger = Shelf(
        institution.settings.shelf,
        institution.log,
        institution.shelf._verifier,
        institution.shelf._stages,
        Signer.generate("lifechart/example-hospital/release"),
    )
    model, report = institution.train(1)
    stranger.release("risk", model, report, actor="stranger")
    with pytest.raises(IntegrityError, match="signed by"):
        institution.shelf.current("risk")


def test_an_earlier_signed_release_cannot_take_a_later_ones_place(institution: Institution) -> None:
    institution.release(0)
    institution.release(1)
    shelf = institution.settings.shelf / "risk"
    shutil.rmtree(shelf / "2")
    shutil.copytree(shelf / "1", shelf / "2")
    with pytest.raises(IntegrityError, match="not the manifest that the ledger names"):
        institution.shelf.current("risk")


def test_phases_switch_and_rollback(institution: Institution) -> None:
    shelf = institution.shelf
    institution.release(0)
    shelf.set_phase("risk", Phase.SIMULATION, actor="steward", reason="first stage")
    shelf.set_phase("risk", Phase.SHADOW, actor="steward", reason="went well")
    assert shelf.phase("risk") is Phase.SHADOW
    shelf.set_phase("risk", Phase.SIMULATION, actor="monitor", reason="drift", automatic=True)
    with pytest.raises(GateRefused, match="only a person may raise"):
        shelf.set_phase("risk", Phase.SHADOW, actor="monitor", reason="better again", automatic=True)
    shelf.switch("risk", False, actor="steward", reason="laboratory recoded its potassium")
    state = shelf.state("risk")
    assert (state.on, state.reason, state.phase) == (False, "laboratory recoded its potassium", Phase.SIMULATION)
    assert shelf.phase("risk") is Phase.OFF
    assert institution.release(1) == "2"
    assert (shelf.state("risk").phase, shelf.state("risk").on) == (Phase.OFF, False), "the switch outlives a release"
    shelf.switch("risk", True, actor="steward", reason="recoding undone")
    shelf.rollback("risk", "1", actor="steward", reason="the second one is slower")
    assert (shelf.current("risk").version, shelf.phase("risk")) == ("1", Phase.SIMULATION)
    assert institution.release(2) == "3"
    whats = [change.what for change in shelf.state("risk").changes]
    assert whats == [
        "released",
        "simulation",
        "shadow",
        "simulation",
        "off",
        "released",
        "on",
        "made current again",
        "released",
    ]


def test_state_is_what_the_ledger_says_and_nothing_else(institution: Institution) -> None:
    institution.release(0)
    files = durable.tree_digests(institution.settings.shelf)
    institution.shelf.set_phase("risk", Phase.SIMULATION, actor="steward", reason="first stage")
    institution.shelf.switch("risk", False, actor="steward", reason="stop")
    assert durable.tree_digests(institution.settings.shelf) == files, "no file on the shelf states a phase or a switch"
    rebuilt = open_shelf(institution.settings, open_log(institution.settings))
    assert rebuilt.states() == institution.shelf.states()
    assert (rebuilt.state("risk").phase, rebuilt.state("risk").on) == (Phase.SIMULATION, False)


def test_another_process_sees_a_switch_at_once(institution: Institution) -> None:
    institution.release(0)
    other = open_shelf(institution.settings, open_log(institution.settings))
    assert other.state("risk").on
    institution.shelf.switch("risk", False, actor="steward", reason="stop")
    assert not other.state("risk").on


def test_an_entry_exchanged_on_disk_is_not_believed(institution: Institution) -> None:
    institution.release(0)
    institution.shelf.switch("risk", False, actor="steward", reason="stop")
    institution.shelf.switch("risk", True, actor="steward", reason="go")
    institution.shelf.switch("risk", False, actor="steward", reason="stop again")
    institution.log.close()
    ledger = institution.settings.ledger
    (path,) = (ledger / "tile/entries").rglob(f"000.p/{institution.log.size}")
    entries = tiles.unpack(path.read_bytes())
    entries[-1] = entries[-2]
    path.write_bytes(tiles.pack(entries))
    (ledger / "journal").write_bytes((ledger / "journal").read_bytes()[:16])
    shelf = open_shelf(institution.settings, open_log(institution.settings))
    with pytest.raises(IntegrityError, match="not those under its signed head"):
        shelf.state("risk")
    assert merkle.leaf_hash(entries[-1]) == merkle.leaf_hash(entries[-2])


def test_nothing_changes_if_the_ledger_cannot_be_written(
    institution: Institution, monkeypatch: pytest.MonkeyPatch
) -> None:
    institution.release(0)
    model, report = institution.train(1)

    def broken(statement: Statement) -> None:
        raise AuditError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(institution.log, "append", broken)
        with pytest.raises(AuditError):
            institution.shelf.release("risk", model, report, actor="steward")
        with pytest.raises(AuditError):
            institution.shelf.set_phase("risk", Phase.SIMULATION, actor="steward", reason="first stage")
    assert institution.shelf.state("risk").version == "1"
    assert institution.shelf.state("risk").phase is Phase.OFF
    assert institution.shelf.release("risk", model, report, actor="steward")[0].version == "2"
    assert institution.shelf.current("risk").version == "2"


def test_what_was_not_trained_or_examined_is_refused(institution: Institution) -> None:
    model, report = institution.train(0)
    flip(model / "weights.bin")
    with pytest.raises(IntegrityError, match=r"weights.bin: not the file that was trained"):
        institution.shelf.release("risk", model, report, actor="steward")
    flip(model / "weights.bin")
    content = Report.load(report)
    Report(content.model_digest, "e" * 64, "c" * 64, content.created, content.metrics, {}).save(report)
    with pytest.raises(GateRefused, match="no 'evaluate' statement"):
        institution.shelf.release("risk", model, report, actor="steward")
    Report("f" * 64, "b" * 64, "c" * 64, content.created, content.metrics, {}).save(report)
    with pytest.raises(GateRefused, match="no 'train' statement about the model ffff"):
        institution.shelf.release("risk", model, report, actor="steward")
    assert institution.shelf.states() == {}
    assert not list(institution.settings.shelf.rglob("weights.bin"))


@pytest.mark.parametrize(
    ("files", "message"),
    [({"../escape": "0" * 64}, "outside the model"), ({"/etc/passwd": "0" * 64}, "outside"), ({}, "does not name")],
)
def test_a_training_statement_must_name_files_within_the_model(
    institution: Institution, files: dict[str, str], message: str
) -> None:
    model, report = institution.train(0)
    digest = Report.load(report).model_digest
    institution.log.append(Statement("train", (Subject("model", digest),), {"files": files, "dataset": "d" * 64}))
    with pytest.raises(GateRefused, match=message):
        institution.shelf.release("risk", model, report, actor="steward")


def test_arguments_are_checked(institution: Institution) -> None:
    shelf = institution.shelf
    with pytest.raises(GateRefused, match="nothing has been released"):
        shelf.set_phase("risk", Phase.SHADOW, actor="steward", reason="because")
    with pytest.raises(InputError, match="a release on the shelf"):
        shelf.current("risk")
    institution.release(0)
    with pytest.raises(InputError, match="reason"):
        shelf.switch("risk", False, actor="steward", reason=" ")
    with pytest.raises(InputError, match="actor"):
        shelf.switch("risk", False, actor="", reason="because")
    with pytest.raises(InputError, match=r"one of \['1'\]"):
        shelf.rollback("risk", "7", actor="steward", reason="because")


def test_states_may_be_asked_for_by_many_threads(institution: Institution) -> None:
    institution.release(0)
    seen: list[bool] = []

    def ask() -> None:
        for _ in range(50):
            seen.append(institution.shelf.state("risk").version == "1")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(50):
        institution.log.append(Statement("feedback", (Subject("answer", f"{number:064x}"),), {}))
    for thread in threads:
        thread.join()
    assert len(seen) == 200
    assert all(seen)
