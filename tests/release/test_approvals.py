"""Approvals hold for one release and one person, and nothing else."""

import shutil

import pytest

from lifechart.core.errors import InputError, IntegrityError
from lifechart.ledger.keys import Signer, Verifier
from lifechart.release.approvals import approvals, approve
from tests.release.institution import Institution

OFFICER, CHAIR = Signer.generate("dr.okafor"), Signer.generate("ethics.chair")
KNOWN = Verifier([OFFICER.public, CHAIR.public])


def test_approvals_stay_with_their_release(institution: Institution) -> None:
    institution.release(0)
    release = institution.shelf.current("risk")
    assert approvals(release, KNOWN) == []
    approve(release, OFFICER, role="clinical safety officer", comment="hazard log reviewed")
    approve(release, CHAIR, role="ethics board", comment="approved for simulation")
    found = approvals(institution.shelf.current("risk"), KNOWN)
    assert [(each.name, each.role) for each in found] == [
        ("dr.okafor", "clinical safety officer"),
        ("ethics.chair", "ethics board"),
    ]
    with pytest.raises(InputError, match="comment"):
        approve(release, CHAIR, role="ethics board", comment=" ")


def test_an_approval_cannot_be_moved_forged_or_borrowed(institution: Institution) -> None:
    institution.release(0)
    institution.release(1)
    first, second = institution.shelf.get("risk", "1"), institution.shelf.get("risk", "2")
    path = approve(first, OFFICER, role="clinical safety officer", comment="fine")
    moved = second.folder / "approvals" / path.name
    moved.parent.mkdir()
    shutil.copy(path, moved)
    with pytest.raises(IntegrityError, match="approves another release than risk/2"):
        approvals(second, KNOWN)
    with pytest.raises(IntegrityError, match="signed by"):
        approvals(first, Verifier([CHAIR.public]))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(IntegrityError, match="envelope"):
        approvals(first, KNOWN)
