"""Forecast, Answer, Report, Capability: what cannot be built, and what survives a round trip."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifechart.core.answer import Answer, Claim, Disposition, Evidence, EvidenceKind
from lifechart.core.capability import Phase
from lifechart.core.errors import InputError
from lifechart.core.forecast import Forecast, Interval, Risk
from lifechart.core.report import Metric, Report

NOON = datetime(2026, 1, 1, 12)
EVIDENCE = (Evidence(EvidenceKind.MODEL, "ab" * 32, "model"),)


def test_an_interval_runs_upward() -> None:
    with pytest.raises(InputError, match="low <= high"):
        Interval(0.3, 0.2)
    assert 0.25 in Interval(0.2, 0.3)
    assert 0.35 not in Interval(0.2, 0.3)


@pytest.mark.parametrize(
    ("probability", "interval"), [(1.2, Interval(0, 2)), (-0.1, Interval(-1, 1)), (0.5, Interval(0.1, 0.2))]
)
def test_a_risk_is_a_probability_inside_its_interval(probability: float, interval: Interval) -> None:
    with pytest.raises(InputError):
        Risk("SNOMED//1", 365, probability, interval)


def test_a_forecast_finds_its_risks_and_names_what_it_has() -> None:
    risk = Risk("SNOMED//1", 365, 0.2, Interval(0.1, 0.3))
    forecast = Forecast(1, NOON, (risk,), 0.1, "ab")
    assert forecast.risk("SNOMED//1", 365) is risk
    with pytest.raises(InputError, match=r"SNOMED//1.*365"):
        forecast.risk("SNOMED//1", 30)


def test_a_claim_needs_evidence_and_a_probability_its_interval() -> None:
    with pytest.raises(InputError, match="evidence"):
        Claim("Risk is raised.", ())
    with pytest.raises(InputError, match="interval"):
        Claim("Risk is raised.", EVIDENCE, probability=0.3)


@pytest.mark.parametrize("disposition", [d for d in Disposition if d is not Disposition.ANSWERED])
def test_an_answer_that_is_none_says_why(disposition: Disposition) -> None:
    with pytest.raises(InputError, match="reason"):
        Answer("risk", disposition, NOON, "ab")
    assert Answer("risk", disposition, NOON, "ab", reason="No birth date.").to_json()["reason"] == "No birth date."


def test_phases_stand_in_order_of_trust() -> None:
    assert Phase.OFF.rank < Phase.SHADOW.rank < Phase.CLINICIANS.rank < Phase.PUBLIC.rank


numbers = st.floats(0, 1)
metrics = st.builds(
    Metric,
    name=st.sampled_from(["auroc", "brier"]),
    value=numbers,
    interval=st.none() | numbers.map(lambda low: Interval(low, low + 0.1)),
    forecaster=st.just("lifechart"),
    outcome=st.just("SNOMED//1"),
    horizon_days=st.sampled_from([30, 365]),
    num_events=st.integers(0, 100),
)


@given(st.lists(metrics))
def test_a_report_survives_the_disk_and_keeps_its_digest(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Metric]
) -> None:
    path = tmp_path_factory.mktemp("report") / "report.json"
    report = Report("a" * 64, "b" * 64, "c" * 64, "2026-01-01T00:00:00Z", tuple(rows), {"SNOMED//1": "Thing"})
    report.save(path)
    loaded = Report.load(path)
    assert loaded == report
    assert loaded.digest == report.digest
    assert replace(report, data_digest="d" * 64).digest != report.digest


@pytest.mark.parametrize("content", ["", "{", "{}", '{"metrics": [{"name": "auroc"}]}'])
def test_a_file_that_is_no_report_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"report\.json"):
        Report.load(path)
