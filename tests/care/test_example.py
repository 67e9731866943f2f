"""The example of docs/how-to-add/capability.md: each disposition, and the rows that must not match."""

from datetime import timedelta

import pytest

from examples.new_capability.monitoring import capability
from lifechart.core.answer import Disposition, EvidenceKind
from lifechart.core.capability import Capability
from lifechart.core.timeline import Timeline
from tests.care.toy import AS_OF, grounds, potassium

LISINOPRIL = {"code": "RxNorm//314076", "kind": "medication", "reference": "MedicationRequest/l"}


def given(days_ago: float, **fields: object) -> dict:
    return {**LISINOPRIL, "time": AS_OF - timedelta(days=days_ago), **fields}


def test_keeps_the_contract() -> None:
    assert isinstance(capability, Capability)


@pytest.mark.parametrize(
    ("events", "claims"),
    [
        ([given(100)], 1),
        ([given(100), potassium(4.2, 24 * 400)], 1),
        ([given(100), potassium(4.2, 24 * 300)], 0),
        ([given(100, code="RxNorm//1")], 0),
        ([given(2000)], 0),
    ],
)
def test_claims(events: list[dict], claims: int) -> None:
    answer = capability.answer(Timeline.of(1, events), AS_OF, grounds())
    assert answer.disposition is Disposition.ANSWERED
    assert len(answer.claims) == claims
    for claim in answer.claims:
        assert {evidence.kind for evidence in claim.evidence} == {EvidenceKind.CHART, EvidenceKind.LITERATURE}


def test_asks_when_no_medicine_is_on_record() -> None:
    answer = capability.answer(Timeline.of(1, [potassium(4.2, 1)]), AS_OF, grounds())
    assert answer.disposition is Disposition.NEEDS_INFORMATION
