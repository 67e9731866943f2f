"""The timeline noun: order, the cut at a moment, and what a shift leaves alone."""

from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifechart.core.errors import InputError
from lifechart.core.timeline import BIRTH, DEATH, Timeline

times = st.datetimes(datetime(1920, 1, 1), datetime(2030, 1, 1))
rows = st.lists(st.fixed_dictionaries({"time": st.none() | times, "code": st.sampled_from(["A", "B", BIRTH])}))


def timeline(events: list[dict[str, object]]) -> Timeline:
    return Timeline.of(1, events)


@given(rows)
def test_any_order_in_sorted_order_out_and_nothing_lost(events: list[dict[str, object]]) -> None:
    built = timeline(events)
    assert len(built) == len(events)
    found = built.events.get_column("time").to_list()
    dated = [time for time in found if time is not None]
    assert found == [None] * (len(found) - len(dated)) + sorted(dated)


@given(rows, times)
def test_until_keeps_exactly_what_was_known(events: list[dict[str, object]], moment: datetime) -> None:
    known = timeline(events).until(moment)
    expected = sum(event["time"] is None or event["time"] <= moment for event in events)  # type: ignore[operator]
    assert len(known) == expected


@given(rows, st.integers(-20_000, 20_000))
def test_a_shift_keeps_order_and_intervals(events: list[dict[str, object]], days: int) -> None:
    built, offset = timeline(events), timedelta(days=days)
    shifted = built.shifted(offset)
    back = shifted.shifted(-offset)
    assert back.events.equals(built.events)
    if built.end is not None and built.birth is not None:
        assert shifted.age_at(built.end + offset) == built.age_at(built.end)


def test_columns_that_are_not_the_columns_are_refused() -> None:
    with pytest.raises(InputError, match=r"Timeline\.events"):
        Timeline(1, pl.DataFrame({"time": [], "code": []}))


def test_events_out_of_order_are_refused() -> None:
    frame = Timeline.of(1, [{"time": datetime(2020, 1, day), "code": "A"} for day in (1, 2)]).events
    with pytest.raises(InputError, match="sorted by time"):
        Timeline(1, frame.reverse())


def test_birth_death_age_and_end() -> None:
    life = Timeline.of(
        7,
        [
            {"time": datetime(2010, 1, 1), "code": DEATH},
            {"time": datetime(1950, 1, 1), "code": BIRTH},
            {"code": "GENDER//female"},
        ],
    )
    assert (life.birth, life.death, life.end) == (datetime(1950, 1, 1), datetime(2010, 1, 1), datetime(2010, 1, 1))
    assert life.age_at(datetime(2000, 1, 1)) == pytest.approx(50, abs=0.01)
    assert timeline([]).age_at(datetime(2000, 1, 1)) is None
