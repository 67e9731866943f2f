"""What became of the people most like this one: its own claims, in aggregates, or the reason why there are none."""

import pytest

from lifechart.care.alike import interval_of
from lifechart.care.risk import capability
from lifechart.core.answer import Answer, Disposition, EvidenceKind
from lifechart.core.forecast import Alike
from tests.care.toy import ALIKE, AS_OF, DIABETES, HEART_FAILURE, LUNG_CANCER, ToyForecaster, grounds, timeline


def ask(alike: Alike | None, novelty: float = 0.4) -> Answer:
    return capability.answer(timeline(), AS_OF, grounds(ToyForecaster(alike=alike, novelty=novelty)))


def test_each_shown_outcome_that_may_be_told_has_a_claim_of_its_own() -> None:
    answer = ask(ALIKE)
    assert [claim.outcome for claim in answer.background] == [HEART_FAILURE, LUNG_CANCER]
    heart, lung = answer.background
    assert heart.text == (
        "Heart failure: of the 200 people most like this one, about 180 had not had it before; about 45 of them had "
        "it within 5 years: 25% (19% to 32%)"
    )
    assert heart.probability == pytest.approx(0.25)
    assert heart.interval is not None
    assert heart.horizon_days == 1825
    assert lung.text.endswith("fewer than 11 of them had it within 5 years")
    assert lung.probability is None


def test_its_evidence_is_the_index_and_names_nobody() -> None:
    (evidence,) = ask(ALIKE).background[0].evidence
    assert (evidence.kind, evidence.reference) == (EvidenceKind.MODEL, "ef" * 32)
    assert "6,400 de-identified people" in evidence.label


def test_forecasts_are_what_they_are_without_it() -> None:
    assert ask(ALIKE).claims == ask(None).claims
    assert ask(None).background == ()
    assert DIABETES in {claim.outcome for claim in ask(ALIKE).claims}


def test_a_refusal_is_said_once_with_its_reason() -> None:
    (claim,) = ask(Alike(0, 0, 1825, (), "", "the model promised so")).background
    assert claim.text == "Nobody is counted who was like this person: the model promised so."
    assert claim.outcome is None


def test_whoever_is_not_answered_is_told_of_nobody() -> None:
    answer = ask(ALIKE, novelty=0.999)
    assert answer.disposition is Disposition.ABSTAINED
    assert answer.background == ()


def test_the_interval_is_the_score_interval() -> None:
    found = interval_of(45, 180)
    assert (found.low, found.high) == (pytest.approx(0.1924, abs=1e-4), pytest.approx(0.3181, abs=1e-4))
