"""What leaves the house is what was signed, less what holds a row for each patient."""

from pathlib import Path

import pytest

from lifechart.core import durable
from lifechart.core.errors import InputError, IntegrityError
from lifechart.ledger.keys import Verifier
from lifechart.ledger.statement import Statement, Subject
from lifechart.model.neighbours import NEIGHBOURS
from lifechart.release import manifest as manifests
from lifechart.release.handover import hand_over
from lifechart.release.shelf import open_shelf
from tests.release.institution import FILES, Institution


@pytest.fixture
def released(institution: Institution) -> Institution:
    """An institution whose current release has an index of people."""
    model, report = institution.train(0)
    (model / NEIGHBOURS).write_bytes(b"a row for each patient")
    files = {name: durable.file_digest(model / name) for name in (*FILES, NEIGHBOURS)}
    digest = durable.digest_of({name: files[name] for name in FILES})
    institution.log.append(Statement("train", (Subject("model", digest),), {"files": files, "dataset": "d" * 64}))
    institution.shelf.release("risk", model, report, actor="steward")
    return institution


def test_the_index_of_people_stays_and_the_rest_is_as_it_was_signed(released: Institution, tmp_path: Path) -> None:
    release, out = released.shelf.current("risk"), tmp_path / "out" / "risk-1"
    assert f"model/{NEIGHBOURS}" in manifests.HOUSE_ONLY
    assert hand_over(release, out, to="South", actor="steward", log=released.log) == (f"model/{NEIGHBOURS}",)
    there = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    signed = {file.path for file in release.manifest.files} | {manifests.MANIFEST}
    assert there == signed - {f"model/{NEIGHBOURS}"}
    (entry,) = released.log.find(kind="hand-over", digest=release.manifest.digest)
    assert entry.statement.predicate["to"] == "South"
    verifier = _verifier(released)
    assert manifests.verify(out, verifier, handed_over=True).digest == release.manifest.digest
    with pytest.raises(IntegrityError, match="missing"):
        manifests.verify(out, verifier)
    (out / "model" / FILES[0]).unlink()
    with pytest.raises(IntegrityError, match="missing"):
        manifests.verify(out, verifier, handed_over=True)


def test_nothing_is_written_over_or_given_to_nobody(released: Institution, tmp_path: Path) -> None:
    release, before = released.shelf.current("risk"), released.log.size
    with pytest.raises(InputError, match="does not exist yet"):
        hand_over(release, tmp_path, to="South", actor="steward", log=released.log)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="can be made"):
        hand_over(release, tmp_path / "file" / "new", to="South", actor="steward", log=released.log)
    with pytest.raises(InputError, match="--to"):
        hand_over(release, tmp_path / "new", to=" ", actor="steward", log=released.log)
    assert (released.log.size, (tmp_path / "new").exists()) == (before, False)


def _verifier(institution: Institution) -> Verifier:
    return open_shelf(institution.settings, institution.log)._verifier
