"""A record as one row: against plain arithmetic, from the past alone, whatever the scale of time."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifechart.data.meds_folder import EVENTS
from lifechart.data.summaries import Summary

NOON = datetime(2020, 1, 1, 12)


def rows(*events: tuple) -> pl.DataFrame:
    return pl.DataFrame(events, schema=EVENTS, orient="row")


def prompts(*asked: tuple[int, datetime]) -> pl.DataFrame:
    return pl.DataFrame(asked, schema={"subject_id": pl.Int64, "prediction_time": pl.Datetime("us")}, orient="row")


def ward(people: int, hours: int, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return rows(
        *(
            (person, NOON + timedelta(hours=float(hour)), code, float(rng.normal(50, 10)), None)
            for person in range(people)
            for code in ("HR", "NA")
            for hour in np.sort(rng.uniform(0, hours, 9))
        )
    )


def column(summary: Summary, matrix: np.ndarray, name: str) -> np.ndarray:
    return matrix[:, summary.kept.index(name)]


def test_values_against_plain_arithmetic() -> None:
    events = ward(20, 48)
    asked = prompts(*((person, NOON + timedelta(hours=30)) for person in range(20)))
    summary, matrix = Summary.choose(events, asked)
    for person in range(20):
        known = events.filter(
            (pl.col("subject_id") == person) & (pl.col("code") == "HR") & (pl.col("time") <= NOON + timedelta(hours=30))
        )
        values = known["numeric_value"].to_numpy().astype(float)
        days = (known["time"] - NOON).dt.total_seconds().to_numpy() / 86400
        expected = {
            "HR:count": len(values),
            "HR:latest": values[-1],
            "HR:first": values[0],
            "HR:mean": values.mean(),
            "HR:least": values.min(),
            "HR:greatest": values.max(),
            "HR:spread": values.std() if len(values) > 1 else np.nan,
            "HR:slope": np.polyfit(days, values, 1)[0] if len(values) > 1 else np.nan,
            "HR:since_last": 30 / 24 - days[-1],
        }
        for name, value in expected.items():
            found = column(summary, matrix, name)[person]
            assert found == pytest.approx(value, rel=1e-3, abs=1e-3, nan_ok=True), name


def test_windows_follow_the_scale_of_the_data() -> None:
    asked = NOON + timedelta(days=4000)
    hours, _ = Summary.choose(ward(20, 48), prompts(*((person, NOON + timedelta(hours=48)) for person in range(20))))
    years, _ = Summary.choose(ward(20, 4000 * 24), prompts(*((person, asked) for person in range(20))))
    assert 0 < max(hours.windows) <= 1
    assert max(years.windows) >= 365


@given(seed=st.integers(0, 100), hour=st.floats(1, 47), shift=st.integers(-20_000, 20_000))
@settings(max_examples=15, deadline=None)
def test_only_the_past_counts_and_no_calendar(seed: int, hour: float, shift: int) -> None:
    events, moment = ward(12, 48, seed), NOON + timedelta(hours=hour)
    asked = prompts(*((person, moment) for person in range(12)))
    summary, matrix = Summary.choose(events, asked)
    past = summary.matrix(events.filter(pl.col("time") <= moment), asked)
    np.testing.assert_allclose(past, matrix, rtol=1e-5)
    moved = timedelta(days=shift)
    later = summary.matrix(
        events.with_columns(pl.col("time") + moved), asked.with_columns(pl.col("prediction_time") + moved)
    )
    np.testing.assert_allclose(later, matrix, rtol=1e-4, atol=1e-5)


def test_undated_values_categories_and_wider_codes_are_read() -> None:
    people = range(12)
    events = rows(
        *((person, None, "HEIGHT", 150.0 + person, None) for person in people),
        *((person, NOON, "UNIT", None, "ICU" if person % 2 else "ward") for person in people),
        *((person, NOON, "ICD10CM//E11.65" if person % 3 else "ICD10CM//E11.9", None, None) for person in people),
        *((person, NOON, "GLUCOSE", None, f" {5 + person} ") for person in people),
    )
    summary, matrix = Summary.choose(events, prompts(*((person, NOON) for person in people)))
    assert column(summary, matrix, "HEIGHT:latest").tolist() == [150.0 + person for person in people]
    assert column(summary, matrix, "GLUCOSE:latest").tolist() == [5.0 + person for person in people]
    assert column(summary, matrix, "UNIT=ICU:count").tolist() == [person % 2 for person in people]
    assert "ICD10CM//E11.6" in summary.counted, "wider codes count too"


def test_a_subject_without_events_has_an_empty_record() -> None:
    events = ward(12, 48)
    asked = prompts(*((person, NOON + timedelta(hours=30)) for person in range(12)))
    summary, _ = Summary.choose(events, asked)
    matrix = summary.matrix(events, prompts((99, NOON), (3, NOON + timedelta(hours=30))))
    assert np.isnan(column(summary, matrix, "HR:latest")[0])
    assert np.isfinite(column(summary, matrix, "HR:latest")[1])


def test_narrowed_gives_the_same_columns() -> None:
    events = ward(12, 48)
    asked = prompts(*((person, NOON + timedelta(hours=30)) for person in range(12)))
    summary, matrix = Summary.choose(events, asked)
    chosen = np.array([each for each, name in enumerate(summary.kept) if name.startswith("HR") or ":" not in name])[::2]
    narrow = summary.narrowed(chosen)
    assert set(narrow.counted) <= {"HR"}
    np.testing.assert_array_equal(narrow.matrix(events, asked), matrix[:, chosen])
    assert Summary.of(narrow.content()) == narrow
