"""Whole lives: what must hold in any simulated hospital, and that a record replays into the very state it came from."""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.simulate import hospital, population, tables
from lifechart.simulate.lives import live
from lifechart.simulate.processes import Floats
from lifechart.simulate.record import read
from lifechart.simulate.state import State
from tests.simulate.conftest import TODAY


def frames(truth: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    return pl.read_parquet(truth / "people.parquet"), pl.read_parquet(truth / "events.parquet")


def check(people: pl.DataFrame, events: pl.DataFrame, today: date) -> None:
    joined = events.join(people, on="life", how="left")
    assert joined["birth"].null_count() == 0
    assert (joined["time"] >= joined["birth"]).all()
    assert joined.filter(pl.col("time") >= pl.lit(today).cast(pl.Datetime)).height == 0
    assert (joined["time"] <= joined["death"]).drop_nulls().all()
    deaths = events.filter(pl.col("kind") == "death")
    assert deaths["life"].is_unique().all()
    assert deaths.height == people["death"].drop_nulls().len()
    assert events.select(pl.struct("life", "time")).to_series().is_sorted()
    visits = events.filter(pl.col("kind") == "encounter")
    numbered = visits.with_columns(expected=pl.int_range(pl.len()).over("life"))
    assert (numbered["encounter"] == numbered["expected"]).all()
    inside = events.filter(pl.col("kind") != "death").join(visits, on=["life", "encounter"], suffix="_visit")
    assert inside.height == events.height - deaths.height
    assert (inside["time"] == inside["time_visit"]).all()
    ends = visits.join(people, on="life").drop_nulls("death")
    # Hours are rounded to hundredths, times to minutes.
    late = ends["time"] + pl.Series(ends["value"].cast(pl.Float64) * 3600e6).cast(pl.Duration("us")) - ends["death"]
    assert late.max() is None or late.max() <= timedelta(minutes=1)
    lasting = [row["key"] for row in tables.rows("conditions") if row["chronic"] == "1"]
    chronic = events.filter((pl.col("kind") == "condition") & pl.col("key").is_in(lasting))
    assert chronic.select(pl.struct("life", "key")).to_series().is_unique().all()


def test_invariants(truth: Path) -> None:
    check(*frames(truth), TODAY)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), lives=st.integers(1, 12), today=st.dates(date(1990, 1, 1), date(2060, 1, 1)))
def test_invariants_hold_for_any_seed_and_date(seed: int, lives: int, today: date, tmp_path: Path) -> None:
    folder = tmp_path / f"{seed}-{lives}-{today}"
    hospital.write_truth(folder, lives, seed, today)
    check(*frames(folder), today)


def test_same_seed_same_bytes_and_seeds_differ(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        hospital.write_truth(tmp_path / name, 8, seed, TODAY)
    one, again, other = (durable.tree_digests(tmp_path / name) for name in "abc")
    assert one == again
    assert all(one[file] != other[file] for file in ("people.parquet", "events.parquet", "latent.parquet"))


def test_no_lives_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lives: got 0"):
        hospital.write_truth(tmp_path, 0, 1, TODAY)


def test_patient_ids_are_stable_and_distinct() -> None:
    ids = [population.patient_id(3, life) for life in range(200)]
    assert len(set(ids)) == 200
    assert ids[7] == population.patient_id(3, 7) != population.patient_id(4, 7)


def test_replay_reaches_the_state_that_the_simulator_had() -> None:
    rng = np.random.Generator(np.random.SFC64(2))
    people = population.draw(80, 0, TODAY, rng)
    seen: dict[int, tuple[NDArray[np.int64], State]] = {}

    def watch(state: State, rates: Floats, lives: NDArray[np.int64]) -> None:
        step = int(state.step[0])
        if step in (3, 200, 451, 702):
            seen[step] = lives, state.take(np.arange(len(lives)))

    happened = live(people, np.datetime64("2026-01-01", "m"), rng, watch)
    events = hospital.events_frame(people, happened)
    record = read(hospital.people_frame(people, events, 0), events)
    state = State.newborn(record.sex, record.ancestry)
    for step in range(703):
        if step in seen:
            lives, expected = seen.pop(step)
            for field in ("features_NF", "left_NW", "doses", "crossed_NT"):
                np.testing.assert_array_equal(getattr(state, field)[lives], getattr(expected, field), field)
        state.observe(record.month(step))
    assert not seen


def test_deaths_follow_the_life_table(truth: Path) -> None:
    # Expected deaths from the published rates and the time lived: a Poisson count, so within four deviations.
    from lifechart.simulate.processes import SEXES, names, published

    people, _ = frames(truth)
    rate = published()[:, :, names().processes.index("death")] / 1000
    end = people["death"].fill_null(pl.Series([TODAY]).cast(pl.Datetime("us"))[0])
    lived = ((end - people["birth"]).dt.total_days() / 365.25).to_numpy()
    expected = 0.0
    for sex, years in zip(people["sex"], lived, strict=True):
        whole = int(years)
        expected += rate[SEXES.index(sex), :whole].sum() + rate[SEXES.index(sex), whole] * (years - whole)
    deaths = people["death"].drop_nulls().len()
    assert abs(deaths - expected) < 4 * np.sqrt(expected)
