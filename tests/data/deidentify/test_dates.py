"""Dates move by whole days within a year, one offset a patient; ages stop at 90; nothing gives the offset away."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from lifechart.core.timeline import BIRTH, RECORD_END
from lifechart.data.deidentify import dates
from tests.data.samples import KEY, patient, resource, take, write

IDS = st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=30, unique=True)
NINETY = timedelta(days=90 * 365.25)


@given(key=st.binary(min_size=32, max_size=32), ids=IDS)
def test_offsets_are_whole_days_within_a_year_and_never_none(key: bytes, ids: list[str]) -> None:
    moved = dates.offsets(key, pl.Series("patient", ids))
    assert moved.dtype == pl.Duration("us")
    for offset in moved:
        assert offset % timedelta(days=1) == timedelta(0)
        assert timedelta(0) < abs(offset) <= timedelta(days=365)
    assert moved.equals(dates.offsets(key, pl.Series("patient", ids)))


@given(key=st.binary(min_size=32, max_size=32), ids=IDS)
def test_curtailments_are_1_to_180_days(key: bytes, ids: list[str]) -> None:
    for cut in dates.curtailments(key, pl.Series(ids)):
        assert timedelta(days=1) <= cut <= timedelta(days=180)


def test_offsets_use_the_whole_range_and_depend_on_the_key() -> None:
    ids = pl.Series([f"p{n}" for n in range(4000)])
    days = dates.offsets(KEY, ids).dt.total_days()
    assert (days.min(), days.max()) == (-365, 365)
    assert days.n_unique() > 700
    assert abs(days.mean()) < 20
    assert not days.equals(dates.offsets(b"x" * 32, ids).dt.total_days())


def life(born: str, *times: str) -> pl.DataFrame:
    rows = [(1, datetime.fromisoformat(born), BIRTH), *((1, datetime.fromisoformat(time), "X//1") for time in times)]
    schema = {"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_nobody_up_to_90_changes() -> None:
    events = life("1930-01-01", "1930-02-01", "2019-12-20T10:00:00")
    assert dates.cap_ages(events).equals(events)


def test_over_90_the_birth_moves_and_what_lay_before_it_goes() -> None:
    capped = dates.cap_ages(life("1915-01-01", "1920-01-01", "2000-01-01", "2020-01-01T08:00:00"))
    times = dict(zip(capped["code"], capped["time"], strict=False))
    assert capped["time"].to_list()[1:] == [datetime(2000, 1, 1), datetime(2020, 1, 1, 8)]
    assert datetime(2020, 1, 1, 8) - capped["time"][0] == timedelta(days=32_872)
    assert set(times) == {BIRTH, "X//1"}


@given(
    age=st.integers(0, 40_000),
    gaps=st.lists(st.integers(0, 40_000), min_size=1, max_size=5),
)
def test_no_age_in_a_capped_record_exceeds_90(age: int, gaps: list[int]) -> None:
    born = datetime(1850, 1, 1)
    times = [born + timedelta(days=min(age + gap, 50_000)) for gap in gaps]
    capped = dates.cap_ages(life(born.isoformat(), *(time.isoformat() for time in times)))
    births = capped.filter(pl.col("code") == BIRTH)["time"]
    assert len(births) == 1
    assert max(capped["time"]) - births[0] <= NINETY
    assert min(capped["time"]) == births[0]
    assert max(capped["time"]) == max(times)


def test_a_subject_without_a_birth_is_left_alone() -> None:
    events = life("1915-01-01", "2020-01-01").filter(pl.col("code") != BIRTH)
    assert dates.cap_ages(events).equals(events)


def _ingested(tmp_path: Path, mode: str) -> pl.DataFrame:
    lines = []
    for n in range(60):
        lines.append(patient(f"p{n}", birthDate=f"19{n % 80 + 10}-07-01"))
        for visit in range(8):
            at = f"20{visit + 11}-0{n % 9 + 1}-15T1{visit}:30:00Z"
            lines.append(resource("Observation", f"o{n}-{visit}", f"p{n}", effectiveDateTime=at))
    write(tmp_path / "in" / "all.ndjson", *lines)
    _, found = take(tmp_path / "in", tmp_path / mode, dates=mode, as_of=datetime(2019, 1, 1))
    return found


def test_intervals_survive_a_shift_and_calendars_do_not(tmp_path: Path) -> None:
    found = _ingested(tmp_path, "shift").filter(pl.col("code") == "LOINC//4548-4")
    real = {f"{month:02d}-15" for month in range(1, 10)}
    assert sum(time.strftime("%m-%d") in real for time in found["time"]) < found.height * 0.15
    years_apart = found.group_by("subject_id").agg(gap=pl.col("time").diff().drop_nulls().dt.total_hours() / 24)
    assert all(364 < gap < 368 for gaps in years_apart["gap"] for gap in gaps)


def test_the_end_of_the_record_does_not_give_the_offset_away(tmp_path: Path) -> None:
    found = _ingested(tmp_path, "shift")
    offsets = dates.offsets(KEY, pl.Series([f"p{n}" for n in range(60)])).to_list()
    ends = found.filter(pl.col("code") == RECORD_END)["time"].to_list()
    given_away = {datetime(2019, 1, 1) + offset for offset in offsets}
    assert sum(end in given_away for end in ends) <= 12  # by chance: 60 ends over two years of days


def test_year_mode_leaves_years_alone(tmp_path: Path) -> None:
    found = _ingested(tmp_path, "year")
    times = found["time"].drop_nulls()
    assert all((time.month, time.day, time.hour, time.minute) == (1, 1, 0, 0) for time in times)


def test_ages_stop_at_90_in_both_modes(tmp_path: Path) -> None:
    for mode in dates.MODES:
        found = _ingested(tmp_path, mode)
        births = found.filter(pl.col("code") == BIRTH).select("subject_id", birth="time")
        aged = found.join(births, on="subject_id")
        # A year alone can be off by one: 90 years and a day before truncation.
        most = timedelta(days=90 * 365.25 + (1 if mode == "year" else 0))
        assert (aged["time"] - aged["birth"]).max() <= most
        assert found["subject_id"].n_unique() == 60
