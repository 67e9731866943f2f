"""Groups of patients: bands meet without gap or overlap, undated facts find their prompts."""

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from lifechart.data.history import History
from lifechart.evaluate.subgroups import AGE_BANDS, age_band, subgroups
from lifechart.evaluate.tasks import default_task, draw_prompts
from tests.evaluate.hospital import events_of


@given(st.floats(0, 130, allow_nan=False))
def test_every_age_has_its_band(age: float) -> None:
    band = age_band(age)
    low, high = next((low, high) for low, high in AGE_BANDS if band in (f"{low}-{high}", f"{low}+"))
    assert low <= age
    assert high is None or age < high + 1


def test_members_of_each_group() -> None:
    events = events_of(30)
    prompts = draw_prompts(events, default_task(), seed=0)
    groups = subgroups(events, History(events), prompts, {})
    subject = prompts["subject_id"].to_numpy()
    np.testing.assert_array_equal(groups["sex=female"], subject % 2 == 0)
    np.testing.assert_array_equal(groups["race=black"], subject % 3 == 0)
    bands = [name for name in groups if name.startswith("age=")]
    np.testing.assert_array_equal(sum(groups[name].astype(int) for name in bands), np.ones(len(subject)))


def test_dated_facts_are_no_attribute() -> None:
    events = events_of(10)
    prompts = draw_prompts(events, default_task(), seed=0)
    dated = events.with_columns(
        time=pl.when(pl.col("code").str.starts_with("RACE")).then(pl.col("time").max()).otherwise("time")
    )
    assert not [name for name in subgroups(dated, History(dated), prompts, {}) if name.startswith("race=")]


def test_numbers_are_told_by_their_names() -> None:
    events = events_of(10).with_columns(pl.col("code").replace("RACE//white", "RACE//2106-3"))
    prompts = draw_prompts(events, default_task(), seed=0)
    named = subgroups(events, History(events), prompts, {"RACE//2106-3": "White", "GENDER//male": "Male"})
    assert {"race=White", "sex=male"} <= set(named)
    assert "race=2106-3" in subgroups(events, History(events), prompts, {})
