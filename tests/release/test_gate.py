"""The gate: each criterion refuses what it should, and says so; the criteria that come with Lifechart load."""

from dataclasses import replace
from pathlib import Path

import pytest

from lifechart.core.errors import GateRefused, InputError
from lifechart.core.forecast import Interval
from lifechart.core.report import Metric, Report
from lifechart.release import criteria as criteria_module
from lifechart.release.criteria import Criteria, Criterion, default_path, load
from lifechart.release.gate import Verdict, judge


def row(name: str, value: float, margin: float = 0.05, **about: object) -> Metric:
    fields = {
        "forecaster": "lifechart-s",
        "outcome": "SNOMED//44054006",
        "horizon_days": 365,
        "num_prompts": 900,
        "num_events": 60,
        **about,
    }
    return Metric(name, value, Interval(value - margin, value + margin), **fields)  # type: ignore[arg-type]


def good_rows(**about: object) -> list[Metric]:
    return [
        row("auroc", 0.75, **about),
        row("observed_expected", 1.0, 0.3, **about),
        row("calibration_slope", 1.0, 0.3, **about),
        row("auroc", 0.74, **{**about, "forecaster": "boosted-trees"}),
    ]


def report(rows: list[Metric]) -> Report:
    return Report("a" * 64, "b" * 64, "c" * 64, "2026-01-01T00:00:00Z", tuple(rows), {})


def judged(rows: list[Metric]) -> Verdict:
    return judge(report(rows), load(default_path("risk")))


def test_a_good_report_passes_and_releases_its_pairs() -> None:
    verdict = judged([*good_rows(), *good_rows(outcome="MEDS_DEATH", horizon_days=30)]).require()
    assert verdict.released == (("MEDS_DEATH", 30), ("SNOMED//44054006", 365))
    assert verdict.left_out == ()
    names = {criterion.name for criterion in load(default_path("risk")).criteria}
    assert {check.criterion for check in verdict.checks} == names, "every criterion is listed"
    assert ("enough events", "value >= 20", "2", "0") in verdict.table()


WORSE = [
    ("auroc", {"num_events": 19}, 0.75, "enough events"),
    ("auroc", {}, 0.59, "tells who from who not"),
    ("observed_expected", {}, 1.81, "not shown to forecast too little"),
    ("observed_expected", {}, 0.36, "not shown to forecast too much"),
    ("calibration_slope", {}, 0.19, "not shown to be far too extreme"),
    ("calibration_slope", {}, 2.31, "not shown to be far too timid"),
]


@pytest.mark.parametrize(("metric", "change", "value", "criterion"), WORSE)
def test_a_pair_that_fails_is_left_out(metric: str, change: dict, value: float, criterion: str) -> None:
    margin = 0.05 if metric == "auroc" else 0.3
    rows = good_rows(outcome="MEDS_DEATH")
    for each in good_rows():
        if each.name == metric:
            each = replace(each, value=value, interval=Interval(value - margin, value + margin), **change)
        rows.append(each)
    verdict = judged(rows).require()
    assert verdict.released == (("MEDS_DEATH", 365),)
    assert verdict.left_out == (("SNOMED//44054006", 365),)
    assert [check.criterion for check in verdict.checks if not check.passed] == [criterion]


def test_losing_clearly_to_boosted_trees_leaves_a_pair_out() -> None:
    rows = [replace(each, value=0.83) if each.forecaster == "boosted-trees" else each for each in good_rows()]
    verdict = judged([*rows, *good_rows(outcome="MEDS_DEATH")])
    assert verdict.released == (("MEDS_DEATH", 365),)
    (failed,) = [check for check in verdict.checks if not check.passed]
    assert str(failed) == (
        "not shown to lose to boosted trees for SNOMED//44054006 within 365 days: -0.030, wanted high >= -0.02"
    )


def test_a_group_served_far_worse_leaves_a_pair_out() -> None:
    rows = [*good_rows(), row("auroc", 0.70, subgroup="sex=female"), row("auroc", 0.55, subgroup="age=80+")]
    with pytest.raises(GateRefused, match=r"something to show: 0\.000, wanted value >= 1"):
        judged(rows).require()
    failed = [check for check in judged(rows).checks if not check.passed and check.scope == "subgroup"]
    assert [check.subgroup for check in failed] == ["age=80+"]


def test_losing_on_the_whole_refuses_everything() -> None:
    gain = row("auroc_gain", -0.06, 0.03, outcome="*")
    verdict = judged([*good_rows(), gain])
    assert verdict.released
    with pytest.raises(GateRefused, match="on the whole not shown to lose"):
        verdict.require()


@pytest.mark.parametrize("missing", ["observed_expected", "calibration_slope", "boosted-trees"])
def test_a_figure_that_is_missing_never_passes(missing: str) -> None:
    rows = [each for each in good_rows() if missing not in (each.name, each.forecaster)]
    assert judged(rows).released == ()


def test_a_figure_without_an_interval_or_not_a_number_never_passes() -> None:
    bare = [replace(each, interval=None) if each.name == "auroc" else each for each in good_rows()]
    assert judged(bare).released == ()
    counts = Criterion("n", "pair", "brier", "why", at_most=0.2)
    nothing = judge(
        report([row("auroc", 0.7), replace(row("brier", 0.1), value=float("nan"))]), Criteria("x", "", (counts,), "")
    )
    assert nothing.released == ()


def test_a_report_of_two_models_or_none_is_refused() -> None:
    for rows in ([*good_rows(), row("auroc", 0.7, forecaster="another")], []):
        with pytest.raises(InputError, match="exactly one model"):
            judged(rows)


def test_the_mean_over_outcomes_is_no_pair() -> None:
    assert judged([*good_rows(), row("mean_auroc", 0.8, outcome="*")]).released == (("SNOMED//44054006", 365),)


@pytest.mark.parametrize(
    "path", sorted(Path(criteria_module.__file__).parent.glob("*.toml")), ids=lambda path: path.stem
)
def test_criteria_that_come_along_are_whole(path: Path) -> None:
    criteria = load(path)
    assert criteria.capability == path.stem
    assert criteria.review_by > "2026"
    assert {criterion.scope for criterion in criteria.criteria} == {"pair", "subgroup", "whole"}


BROKEN = [
    ("", "capability, review_by"),
    ('capability = "x"\nreview_by = 2027-01-01\n[[criterion]]\nname = "a"\n', "at least name, scope"),
    ("nonsense", "TOML with"),
]
FIELDS = 'name = "a"\nscope = "pair"\nmetric = "auroc"\nwhy = "w"\n'
BROKEN += [
    (f'capability = "x"\nreview_by = 2027-01-01\n[[criterion]]\n{FIELDS}{line}\n', message)
    for line, message in [
        ("", "either at_least or at_most"),
        ("at_least = 1\nat_most = 2", "either at_least or at_most"),
        ('at_least = 1\nbound = "middle"', "bound: got 'middle'"),
        ("at_least = 1\ntypo = 3", "only the keys"),
    ]
]


@pytest.mark.parametrize(("content", "message"), BROKEN)
def test_broken_criteria_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "criteria.toml"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        load(path)


def test_a_capability_without_criteria_is_refused() -> None:
    with pytest.raises(InputError, match="one with criteria"):
        default_path("astrology")
