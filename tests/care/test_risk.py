"""The capability `risk`: what it says, in which order, and each reason not to say it."""

from datetime import timedelta

import pytest

from lifechart.care.risk import capability
from lifechart.core.answer import Answer, Disposition, EvidenceKind
from lifechart.core.capability import Capability
from lifechart.core.errors import IntegrityError
from tests.care.toy import (
    AS_OF,
    DIABETES,
    HEART_FAILURE,
    HORIZONS,
    LUNG_CANCER,
    OUTCOMES,
    ToyForecaster,
    grounds,
    potassium,
    report,
    timeline,
)


def ask(*extra: dict, forecaster: ToyForecaster | None = None, changes: dict | None = None, **person: object) -> Answer:
    return capability.answer(timeline(*extra, **person), AS_OF, grounds(forecaster, **(changes or {})))


def test_keeps_the_contract() -> None:
    assert isinstance(capability, Capability)


def test_ranks_by_how_far_above_usual_and_gives_every_horizon() -> None:
    answer = ask()
    assert answer.disposition is Disposition.ANSWERED
    assert [(claim.outcome, claim.horizon_days) for claim in answer.claims] == [
        (code, days) for code in (HEART_FAILURE, LUNG_CANCER, DIABETES) for days in HORIZONS
    ]
    headline = answer.claims[2]
    assert headline.text == ("Heart failure within 1 year: 20% (14% to 28%); 5.0% is usual for patients aged 65 to 79")


def test_every_claim_links_to_the_chart_the_model_and_the_report() -> None:
    for claim in ask().claims:
        kinds = {evidence.kind: evidence for evidence in claim.evidence}
        assert set(kinds) == {EvidenceKind.CHART, EvidenceKind.MODEL, EvidenceKind.REPORT}
        assert kinds[EvidenceKind.CHART].reference == "Observation/k0"
        assert kinds[EvidenceKind.CHART].label == "Potassium 4.2 mmol/L"
        assert kinds[EvidenceKind.CHART].effect == 0.7
    headline = ask().claims[2]
    assert headline.evidence[-1].reference == f"{report().digest}#age=65-79"
    assert headline.evidence[-1].label == (
        "1,000 forecasts examined for patients aged 65 to 79, 50 came true; AUROC 0.80 (0.78 to 0.82)"
    )


def test_an_outcome_in_the_record_is_not_a_new_risk() -> None:
    known = {
        "time": AS_OF - timedelta(days=900),
        "code": HEART_FAILURE,
        "kind": "condition",
        "reference": "Condition/hf",
    }
    assert HEART_FAILURE not in {claim.outcome for claim in ask(known).claims}


def test_only_what_the_gate_released_is_claimed() -> None:
    released = frozenset({(DIABETES, 365), (LUNG_CANCER, 30)})
    answer = ask(changes={"released": released})
    assert {(claim.outcome, claim.horizon_days) for claim in answer.claims} == released


def test_what_was_never_examined_is_not_claimed() -> None:
    rows = tuple(metric for metric in report().metrics if metric.outcome == DIABETES)
    answer = ask(changes={"report": report(metrics=rows)})
    assert {claim.outcome for claim in answer.claims} == {DIABETES}


def test_a_report_on_another_model_is_refused() -> None:
    with pytest.raises(IntegrityError, match="another model"):
        ask(changes={"report": report(model_digest="00" * 32)})


@pytest.mark.parametrize(
    ("person", "word"), [({"birth": None}, "date of birth"), ({"sex": None}, "sex"), ({"sex": "unknown"}, "sex")]
)
def test_asks_for_what_is_missing(person: dict, word: str) -> None:
    answer = ask(**person)
    assert answer.disposition is Disposition.NEEDS_INFORMATION
    assert word in answer.reason
    assert not answer.claims


def test_asks_for_more_history() -> None:
    short = timeline()
    short = type(short)(short.subject_id, short.events.head(6))
    answer = capability.answer(short, AS_OF, grounds())
    assert answer.disposition is Disposition.NEEDS_INFORMATION
    assert "history" in answer.reason


def test_abstains_when_the_chart_is_unlike_any_other_and_warns_before_that() -> None:
    answer = ask(forecaster=ToyForecaster(novelty=0.995))
    assert answer.disposition is Disposition.ABSTAINED
    assert not answer.claims
    warned = ask(forecaster=ToyForecaster(novelty=0.97))
    assert warned.disposition is Disposition.ANSWERED
    assert any("trust these figures less" in limit for limit in warned.limits)
    assert not any("trust these figures less" in limit for limit in ask().limits)


def test_says_nothing_of_the_dead() -> None:
    died = {"time": AS_OF - timedelta(days=1), "code": "MEDS_DEATH", "kind": "death", "reference": "Patient/1"}
    assert ask(died).disposition is Disposition.ABSTAINED


def test_a_red_flag_comes_first_with_the_risks_after_it() -> None:
    answer = ask(potassium(6.8, 3))
    assert answer.disposition is Disposition.ESCALATED
    assert answer.reason.startswith("Potassium is dangerously high: 6.8 mmol/L at 09:00")
    first = answer.claims[0]
    assert first.evidence[0].reference == "Observation/k-3"
    assert first.evidence[1].kind is EvidenceKind.LITERATURE
    assert {claim.outcome for claim in answer.claims[1:]} == set(OUTCOMES)


def test_a_red_flag_is_raised_even_where_the_model_abstains() -> None:
    answer = ask(potassium(6.8, 3), forecaster=ToyForecaster(novelty=1.0))
    assert answer.disposition is Disposition.ESCALATED
    assert "more unusual" in answer.reason
    assert len(answer.claims) == 1


def test_an_old_chart_is_said_to_be_old() -> None:
    late = AS_OF + timedelta(days=1000)
    answer = capability.answer(timeline(), late, grounds())
    assert any("newest entry" in limit for limit in answer.limits)
