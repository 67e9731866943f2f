"""Red flags: each row of the table at, just past and just short of its threshold; newest value; units; age."""

from datetime import date, datetime, timedelta

import pytest

from lifechart.care import red_flags
from lifechart.core.errors import InputError
from tests.care.toy import AS_OF, potassium, timeline

TABLE = red_flags.load()
STEP = 0.01


def reading(flag: red_flags.RedFlag, value: float) -> dict:
    return {
        "time": AS_OF - timedelta(hours=1),
        "code": sorted(flag.codes)[0],
        "numeric_value": value,
        "unit": sorted(flag.units)[0],
        "kind": "laboratory",
        "reference": "Observation/x",
    }


@pytest.mark.parametrize("flag", TABLE.flags, ids=lambda flag: flag.key)
def test_threshold_counts_and_just_short_of_it_does_not(flag: red_flags.RedFlag) -> None:
    threshold = flag.at_least if flag.at_least is not None else flag.at_most
    inward = -STEP if flag.at_least is not None else STEP
    keys = [each.flag.key for each in red_flags.raised(timeline(reading(flag, threshold)), AS_OF)]
    assert keys == [flag.key]
    assert not red_flags.raised(timeline(reading(flag, threshold + inward)), AS_OF)


@pytest.mark.parametrize("flag", TABLE.flags, ids=lambda flag: flag.key)
def test_every_row_has_a_source_and_a_date_of_review(flag: red_flags.RedFlag) -> None:
    assert len(flag.source) > 20
    assert isinstance(flag.review_by, date)


@pytest.mark.parametrize(
    ("events", "fires"),
    [
        ([potassium(6.8, 2)], True),
        ([potassium(6.8, 47.9)], True),
        ([potassium(6.8, 48.1)], False),  # too long ago
        ([potassium(6.8, 9), potassium(4.6, 2)], False),  # normal on repeat
        ([potassium(4.6, 9), potassium(6.8, 2)], True),
        ([potassium(6.8, 2, unit=None)], False),  # a bare number is not compared
        ([potassium(6.8, 2, unit="mg/dL")], False),
        ([potassium(6.8, -1)], False),  # after the question
        ([], False),
    ],
)
def test_only_the_newest_comparable_value_within_two_days_counts(events: list[dict], fires: bool) -> None:
    assert bool(red_flags.raised(timeline(*events), AS_OF)) is fires


def test_children_have_other_thresholds_and_unknown_age_is_taken_as_adult() -> None:
    child = timeline(potassium(6.8, 2), birth=datetime(2020, 1, 1))
    assert not red_flags.raised(child, AS_OF)
    assert red_flags.raised(timeline(potassium(6.8, 2), birth=None), AS_OF)


def test_a_row_with_two_thresholds_is_refused() -> None:
    with pytest.raises(InputError, match="one of at_least, at_most"):
        red_flags.RedFlag("x", "x", frozenset(), frozenset(), "s", date(2027, 1, 1), 1.0, 2.0)
