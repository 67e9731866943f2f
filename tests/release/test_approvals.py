"""Approvals hold for one matter, one person and one office, and nothing else."""

import shutil
from pathlib import Path

import pytest

from bench._institution import STAFF, Institution
from lifechart.core.capability import Phase
from lifechart.core.errors import GateRefused, InputError, IntegrityError
from lifechart.ledger.keys import Signer
from lifechart.ledger.statement import Subject
from lifechart.release.approvals import Approval, Matter, approvals, approve, require
from lifechart.release.people import Office

MATTER = Matter("enter shadow", (Subject("model", "a" * 64), Subject("report", "b" * 64)))


@pytest.fixture
def house(tmp_path: Path) -> Institution:
    return Institution(tmp_path)


def sign(house: Institution, name: str, matter: Matter = MATTER) -> Path:
    return approve(house.folder / "signed", matter, house.keys[name], office=STAFF[name][0], comment="weighed")


def test_approvals_come_in_the_order_of_signing(house: Institution) -> None:
    for name in ("ethics.chair", "dr.okafor", "sam.steward"):
        sign(house, name)
    found = approvals(house.folder / "signed", MATTER, house.people)
    assert [each.name for each in found] == ["ethics.chair", "dr.okafor", "sam.steward"]
    sign(house, "ethics.chair")
    found = approvals(house.folder / "signed", MATTER, house.people)
    assert [each.name for each in found] == ["dr.okafor", "sam.steward", "ethics.chair"], "a second one replaces"


@pytest.mark.parametrize(
    "other",
    [
        Matter("enter trial", MATTER.subjects),
        Matter("enter shadow", (Subject("model", "c" * 64), Subject("report", "b" * 64))),
        Matter("enter shadow", MATTER.subjects[:1]),
    ],
)
def test_an_approval_is_of_exact_bytes(house: Institution, other: Matter) -> None:
    path = sign(house, "ethics.chair")
    assert approvals(house.folder / "signed", other, house.people) == []
    moved = path.with_name(path.name.replace(MATTER.digest[:16], other.digest[:16]))
    shutil.copy(path, moved)
    with pytest.raises(IntegrityError, match="approves something other"):
        approvals(house.folder / "signed", other, house.people)


def test_it_cannot_be_forged_borrowed_or_outlive_its_signer(house: Institution) -> None:
    path = sign(house, "ethics.chair")
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(IntegrityError, match="envelope"):
        approvals(house.folder / "signed", MATTER, house.people)
    path.write_bytes(whole)
    house.people.dismiss("ethics.chair", actor="root")
    with pytest.raises(IntegrityError, match="signed by"):
        approvals(house.folder / "signed", MATTER, house.people)
    path.unlink()
    approve(house.folder / "signed", MATTER, Signer.generate("stranger"), office=Office.ETHICS_BOARD, comment="fine")
    with pytest.raises(IntegrityError, match="signed by"):
        approvals(house.folder / "signed", MATTER, house.people)


def test_an_office_has_to_be_held(house: Institution) -> None:
    approve(house.folder / "signed", MATTER, house.keys["dr.li"], office=Office.ETHICS_BOARD, comment="fine")
    with pytest.raises(IntegrityError, match="does not hold the office"):
        approvals(house.folder / "signed", MATTER, house.people)
    with pytest.raises(InputError, match="comment"):
        approve(house.folder, MATTER, house.keys["dr.li"], office=Office.INVESTIGATOR, comment=" ")


def test_what_is_required_is_counted_in_persons_and_offices() -> None:
    def signed(name: str, office: Office) -> Approval:
        return Approval(name, office, "weighed", "2026-01-01", "0" * 64)

    both = (Office.ETHICS_BOARD, Office.MEDICAL_OFFICER)
    alone = [signed("a", Office.ETHICS_BOARD), signed("a", Office.MEDICAL_OFFICER)]
    with pytest.raises(GateRefused, match=r"signed by 1 person \(a\), wants 2"):
        require(alone, both, persons=2, not_by=(), deed="enter shadow")
    pair = [signed("a", Office.ETHICS_BOARD), signed("b", Office.MEDICAL_OFFICER)]
    require(pair, both, persons=2, not_by=(), deed="enter shadow")
    with pytest.raises(GateRefused, match=r"medical-officer \(b made the model"):
        require(pair, both, persons=2, not_by={"b"}, deed="enter shadow")


def test_signing_waits_for_its_evidence(house: Institution) -> None:
    house.release()
    with pytest.raises(GateRefused, match="no stage is skipped"):
        house.approve(Phase.SHADOW, "ethics.chair")
