"""People like this one: which rows of a report hold a person, in which order, and how far above usual a risk stands."""

from hypothesis import given
from hypothesis import strategies as st

from lifechart.care.comparison import Examined, excess, nearest
from lifechart.core.report import Metric
from tests.care.toy import HEART_FAILURE, report

PROBABILITY = st.floats(0.0, 1.0)


def like(age: float, sex: str, *rows: tuple[str, int]) -> list[str]:
    metrics = tuple(
        Metric("auroc", 0.7, None, "toy", HEART_FAILURE, 365, "new", group, 1000, events) for group, events in rows
    )
    return [each.subgroup for each in Examined(report(metrics=metrics)).like("toy", HEART_FAILURE, 365, age, sex)]


ROWS = (("all", 90), ("age=65-79", 30), ("age=80+", 9), ("sex=male", 50), ("sex=female", 40), ("age=65-79,sex=male", 9))


def test_groups_that_hold_the_person_narrowest_first() -> None:
    assert like(70, "male", *ROWS) == ["age=65-79,sex=male", "age=65-79", "sex=male", "all"]
    assert like(79.99, "female", *ROWS) == ["age=65-79", "sex=female", "all"]
    assert like(80, "female", *ROWS) == ["age=80+", "sex=female", "all"]
    assert like(30, "other", *ROWS) == ["all"]
    assert like(30, "other") == []


def test_nearest_needs_enough_events_and_falls_back_on_everyone() -> None:
    found = Examined(report()).like("toy", HEART_FAILURE, 365, 70, "female")
    assert nearest(found, 10).people == "patients aged 65 to 79"
    assert nearest(found, 70).people == "female patients"
    assert nearest(found, 10**6).people == "everyone examined"
    assert nearest([], 1) is None


def test_another_forecasters_rows_and_recurrences_are_not_this_models() -> None:
    index = Examined(report())
    assert index.like("boosted-trees", HEART_FAILURE, 365, 70, "female") == []
    assert index.like("toy", HEART_FAILURE, 365, 70, "female", onset="recurrent") == []


@given(PROBABILITY, PROBABILITY)
def test_excess_has_the_sign_of_the_difference(p: float, usual: float) -> None:
    if abs(p - usual) > 1e-5:
        assert (excess(p, usual) > 0) == (p > usual)


@given(st.floats(0.01, 0.99), PROBABILITY, PROBABILITY)
def test_excess_rises_with_the_forecast(usual: float, p: float, q: float) -> None:
    low, high = sorted((p, q))
    assert excess(low, usual) <= excess(high, usual) + 1e-9


def test_excess_weighs_ratio_and_difference() -> None:
    assert excess(0.5, 0.25) > excess(1e-4, 1e-6)  # a doubling of what is common before a hundredfold of nothing
    assert excess(0.05, 0.005) > excess(0.30, 0.27)  # a tenfold rise before a tenth more
