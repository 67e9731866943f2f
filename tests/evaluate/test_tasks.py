"""Prompts and labels: against a slow twin, under shifts in time, and case by case."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifechart.core.errors import InputError
from lifechart.core.timeline import BIRTH, DEATH, RECORD_END
from lifechart.data.history import History
from lifechart.evaluate.tasks import PROTOCOLS, Labels, default_task, draw_prompts, label, load_task, uniform
from tests.evaluate.hospital import HORIZONS, OUTCOMES, events_of

EPOCH = datetime(2000, 1, 1)
CODES = ["A//1", "A//2", DEATH, RECORD_END]


def frame(rows: list[tuple[int, float | None, str]]) -> pl.DataFrame:
    """Rows of (subject, day or None, code)."""
    return pl.DataFrame(
        {
            "subject_id": [subject for subject, _, _ in rows],
            "time": [None if day is None else EPOCH + timedelta(days=day) for _, day, _ in rows],
            "code": [code for _, _, code in rows],
        },
        schema={"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String},
    )


def at(*prompts: tuple[int, float]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "subject_id": [subject for subject, _ in prompts],
            "prediction_time": [EPOCH + timedelta(days=day) for _, day in prompts],
        },
        schema={"subject_id": pl.Int64, "prediction_time": pl.Datetime("us")},
    )


def slow_label(events: pl.DataFrame, prompts: pl.DataFrame, outcomes: list[str], horizons: list[int]) -> Labels:
    """The definition, one prompt, outcome and horizon at a time."""
    shape = (prompts.height, len(outcomes), len(horizons))
    occurred, known, recorded = np.zeros(shape, bool), np.zeros(shape, bool), np.zeros(shape[:2], bool)
    occurrence = np.full(shape[:2], -1)
    ordered = events.sort("subject_id", "time", maintain_order=True, nulls_last=False)
    for p, (subject, asked) in enumerate(prompts.iter_rows()):
        mine = [(time, code) for owner, time, code in events.iter_rows() if owner == subject]
        dated = [(time, code) for time, code in mine if time is not None]
        death = min((time for time, code in dated if code == DEATH), default=None)
        end = min((time for time, code in dated if code == RECORD_END), default=None)
        end_stated = None if death is not None and end is not None and end <= death else end
        last = max((time for time, _ in dated), default=None)
        for o, outcome in enumerate(outcomes):
            recorded[p, o] = any(code == outcome and (time is None or time <= asked) for time, code in mine)
            after = (
                row
                for row, (owner, time, code) in enumerate(ordered.iter_rows())
                if owner == subject and code == outcome and time is not None and time > asked
            )
            occurrence[p, o] = next(after, -1)
            for h, horizon in enumerate(horizons):
                until = asked + timedelta(days=horizon)
                occurred[p, o, h] = any(code == outcome and asked < time <= until for time, code in dated)
                if end_stated is not None:
                    known[p, o, h] = end_stated >= until
                else:
                    dead = death is not None and death <= until
                    known[p, o, h] = (last is not None and last >= until) or dead or occurred[p, o, h]
    return Labels(occurred, known, recorded, occurrence)


days = st.floats(0, 60, allow_nan=False).map(lambda day: round(day * 4) / 4)
histories = st.lists(
    st.tuples(st.integers(1, 3), st.one_of(st.none(), days), st.sampled_from(CODES)), min_size=1, max_size=25
)


@settings(deadline=None, max_examples=150)
@given(histories, st.lists(st.tuples(st.integers(1, 3), days), min_size=1, max_size=6))
def test_labels_equal_the_slow_twin(rows: list, asked: list) -> None:
    rows = [(subject, day if code not in (DEATH, RECORD_END) else day or 0.0, code) for subject, day, code in rows]
    rows += [(subject, None, "GENDER//female") for subject in (1, 2, 3)]
    events, prompts, outcomes, horizons = frame(rows), at(*asked), ["A//1", "A//2", DEATH, "B//never"], [1, 7, 30]
    fast, slow = label(History(events), prompts, outcomes, horizons), slow_label(events, prompts, outcomes, horizons)
    np.testing.assert_array_equal(fast.occurred, slow.occurred)
    np.testing.assert_array_equal(fast.known, slow.known)
    np.testing.assert_array_equal(fast.recorded, slow.recorded)
    np.testing.assert_array_equal(fast.occurrence, slow.occurrence)


def one(rows: list, day: float, outcome: str = "A//1", horizon: int = 30) -> tuple[bool, bool, bool]:
    """(occurred, known, recorded) of subject 1 asked at `day`."""
    found = label(History(frame(rows)), at((1, day)), [outcome], [horizon])
    return bool(found.occurred[0, 0, 0]), bool(found.known[0, 0, 0]), bool(found.recorded[0, 0])


def test_an_event_at_the_prompt_is_history_and_one_at_the_horizon_counts() -> None:
    assert one([(1, 10, "A//1"), (1, 99, RECORD_END)], 10) == (False, True, True)
    assert one([(1, 40, "A//1"), (1, 99, RECORD_END)], 10) == (True, True, False)
    assert one([(1, 40.01, "A//1"), (1, 99, RECORD_END)], 10) == (False, True, False)


def test_an_open_window_does_not_count_even_with_an_event_in_it() -> None:
    assert one([(1, 15, "A//1"), (1, 20, RECORD_END)], 10) == (True, False, False)


def test_death_without_the_outcome_is_a_known_zero() -> None:
    assert one([(1, 12, DEATH)], 10) == (False, True, False)
    assert one([(1, 12, DEATH), (1, 99, RECORD_END)], 10) == (False, True, False)
    assert one([(1, 12, DEATH), (1, 20, RECORD_END)], 10) == (False, False, False)


def test_a_record_without_an_end_stops_at_its_last_event() -> None:
    assert one([(1, 20, "C//1")], 10) == (False, False, False)
    assert one([(1, 20, "A//1")], 10) == (True, True, False)
    assert one([(1, 41, "C//1")], 10) == (False, True, False)


def test_prompts_keep_the_protocol() -> None:
    events, task = events_of(60), default_task()
    prompts = draw_prompts(events, task, seed=1)
    assert prompts.height > 500
    assert prompts.n_unique() == prompts.height
    lives = events.group_by("subject_id").agg(
        birth=pl.col("time").filter(pl.col("code") == BIRTH).first(),
        death=pl.col("time").filter(pl.col("code") == DEATH).first(),
    )
    joined = prompts.join(lives, on="subject_id")
    age = (joined["prediction_time"] - joined["birth"]).dt.total_days() / 365.25
    assert age.min() >= 17.99
    assert joined.filter(pl.col("death") <= pl.col("prediction_time")).is_empty()
    same_day = events.filter(pl.col("kind").is_in(["encounter", "condition"])).select(
        "subject_id", day=pl.col("time").dt.truncate("1d")
    )
    with_day = prompts.with_columns(day=pl.col("prediction_time").dt.truncate("1d"))
    assert with_day.join(same_day, on=["subject_id", "day"], how="anti").is_empty()
    spread = prompts.group_by("subject_id").agg(pl.col("prediction_time").diff().min())["prediction_time"].min()
    assert spread > timedelta(0)
    assert (with_day["prediction_time"] - with_day["day"]).unique().to_list() == [timedelta(days=1, microseconds=-1)]


def test_prompts_are_chosen_without_the_future() -> None:
    # Cut every life anywhere: the prompts before the cut stay as they were.
    events, task = events_of(40), default_task()
    prompts = draw_prompts(events, task, seed=1)
    cut = datetime(2010, 6, 1)
    past = draw_prompts(events.filter(pl.col("time").is_null() | (pl.col("time") < cut)), task, seed=1)
    before = prompts.filter(pl.col("prediction_time") < cut)
    assert before.height > 100
    assert past.equals(_still_observed(events, before, cut))


def _still_observed(events: pl.DataFrame, prompts: pl.DataFrame, cut: datetime) -> pl.DataFrame:
    """Prompts that are still before their subject's last event once the record is cut."""
    last = events.filter(pl.col("time") < cut).group_by("subject_id").agg(last=pl.col("time").max())
    kept = prompts.join(last, on="subject_id").filter(pl.col("prediction_time") < pl.col("last"))
    return kept.select("subject_id", "prediction_time").sort("subject_id", "prediction_time")


@settings(deadline=None, max_examples=20)
@given(offset=st.integers(-20_000, 20_000), seed=st.integers(0, 5))
def test_shifting_lives_shifts_their_prompts_and_keeps_their_labels(offset: int, seed: int) -> None:
    events, task, move = events_of(8), default_task(), timedelta(days=offset)
    moved = events.with_columns(pl.col("time") + move)
    prompts, moved_prompts = draw_prompts(events, task, seed), draw_prompts(moved, task, seed)
    assert moved_prompts.equals(prompts.with_columns(pl.col("prediction_time") + move))
    before = label(History(events), prompts, OUTCOMES, HORIZONS)
    after = label(History(moved), moved_prompts, OUTCOMES, HORIZONS)
    np.testing.assert_array_equal(before.occurred, after.occurred)
    np.testing.assert_array_equal(before.known, after.known)


def test_a_limit_keeps_a_part_of_the_same_prompts() -> None:
    events, task = events_of(30), default_task()
    everything, some = draw_prompts(events, task, 1), draw_prompts(events, task, 1, limit=50)
    assert some.height == 50
    assert some.join(everything, on=some.columns, how="anti").is_empty()


def test_uniform_is_uniform_and_fixed() -> None:
    lots = uniform(np.repeat(np.arange(200), 50), np.tile(np.arange(50), 200), seed=3)
    counts = np.histogram(lots, bins=10, range=(0, 1))[0]
    assert np.abs(counts - 1000).max() < 130
    assert uniform(np.array([5]), np.array([-2]), 1)[0] == uniform(np.array([5]), np.array([-2]), 1)[0]


def test_every_protocol_loads() -> None:
    for path in PROTOCOLS.glob("*.yaml"):
        assert load_task(path).name == path.stem


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\ntitle: b\nhorizons_days: [30]\nmain_horizon_days: 90", "main_horizon_days: got 90"),
        ("name: a\ntitle: b\nhorizons_days: [30]\nmain_horizon_days: 30\nagee: 3", "agee: got 3"),
        ("name: a\ntitle: b\nhorizons_days: [soon]\nmain_horizon_days: 30", "horizons_days.0: got 'soon'"),
        ("name: [", "a task file"),
    ],
)
def test_a_bad_task_is_refused_by_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        load_task(path)
