"""Tasks as data: whom a forecast is asked of, when, about what, and what then happened.

A task file (YAML, the folder protocols/) names the population, how prompts are drawn, outcomes and horizons, in the
spirit of ACES (Xu et al. 2024): a trigger, an input window that ends with it, a target window after it.

Legend of shapes: P prompts, O outcomes, H horizons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lifechart.core.errors import InputError
from lifechart.core.timeline import BIRTH, DEATH, RECORD_END
from lifechart.data.history import DAY, MISSING, History, Rows, microseconds

PROTOCOLS = Path(__file__).parent / "protocols"
NOT_CARE = ("demographic", "death", "record")
"""Kinds of event that do not make a day one with care."""
_YEAR_DAYS = 365.25


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Population(_Strict):
    """Who is asked about: ages in years at the time of the prompt."""

    min_age: float = 18
    max_age: float = 120


class Trigger(_Strict):
    """When: one day with care in each stretch of `spacing_days` of age."""

    spacing_days: int = Field(default=365, ge=1)


class Task(_Strict):
    """One protocol of evaluation, as its file says it."""

    name: str
    title: str
    description: str = ""
    population: Population = Population()
    prompts: Trigger = Trigger()
    outcomes: Literal["all"] | tuple[str, ...] = "all"
    """Codes, or `all` that the forecaster offers."""
    horizons_days: tuple[int, ...] = Field(min_length=1)
    main_horizon_days: int
    """The horizon at which subgroups and the headline are computed."""


def load_task(path: Path) -> Task:
    """Read a task file; raises InputError that names the field, its value and what was expected."""
    try:
        task = Task.model_validate(yaml.safe_load(path.read_text()))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path.name}: {key}", first["input"], first["msg"]) from error
    except (OSError, yaml.YAMLError) as error:
        raise InputError("task", str(path), f"a task file ({error})") from error
    if task.main_horizon_days not in task.horizons_days:
        raise InputError(f"{path.name}: main_horizon_days", task.main_horizon_days, f"one of {task.horizons_days}")
    return task


def default_task() -> Task:
    """Return the protocol that `lifechart evaluate` follows unless told otherwise."""
    return load_task(PROTOCOLS / "new-onset.yaml")


def draw_prompts(events: pl.DataFrame, task: Task, seed: int, limit: int | None = None) -> pl.DataFrame:
    """Draw the moments to forecast at: columns `subject_id`, `prediction_time` (the last microsecond of a day).

    A subject's life is cut into stretches of `spacing_days` from birth; each has a random moment, fixed by a hash of
    subject, stretch and seed; the prompt is the first day with care at or after it, within the stretch. That day is a
    stopping time: choosing it uses nothing later. Prompts at or after death or the record's end are left out, as are
    subjects without a birth. `limit` keeps that many prompts at most, by hash. Moving a life in time by whole days
    moves its prompts with it and changes nothing else.
    """
    is_care = pl.col("time").is_not_null() & ~pl.col("code").is_in([BIRTH, DEATH, RECORD_END])
    if "kind" in events.columns:
        is_care &= ~pl.col("kind").is_in(NOT_CARE).fill_null(False)
    when = pl.col("time").cast(pl.Datetime("us"))
    lives = events.group_by("subject_id").agg(
        birth=when.filter(pl.col("code") == BIRTH).min(),
        death=when.filter(pl.col("code") == DEATH).min(),
        end=when.filter(pl.col("code") == RECORD_END).min().fill_null(when.max()),
    )
    days = (
        events.filter(is_care)
        .select("subject_id", day=when.dt.truncate("1d"))
        .unique()
        .join(lives.drop_nulls("birth"), on="subject_id")
    )
    subject = days["subject_id"].to_numpy()
    asked = microseconds(days["day"]) + DAY - 1
    stretch = task.prompts.spacing_days * DAY
    born = microseconds(days["birth"].dt.truncate("1d"))
    number = (asked - born) // stretch
    moment = born + number * stretch + (uniform(subject, number, seed) * stretch).astype(np.int64)
    age = (asked - born) / (_YEAR_DAYS * DAY)
    death, end = microseconds(days["death"]), microseconds(days["end"])
    eligible = (asked >= moment) & (age >= task.population.min_age) & (age <= task.population.max_age)
    eligible &= ((death == MISSING) | (asked < death)) & (asked < end)
    prompts = (
        pl.DataFrame({"subject_id": subject, "number": number, "asked": asked})
        .filter(pl.Series(eligible))
        .group_by("subject_id", "number")
        .agg(pl.col("asked").min())
    )
    if limit is not None and prompts.height > limit:
        lot = uniform(prompts["subject_id"].to_numpy(), prompts["number"].to_numpy(), seed + 1)
        prompts = prompts.with_columns(lot=pl.Series(lot)).sort("lot", "subject_id").head(limit)
    return prompts.select(
        pl.col("subject_id").cast(pl.Int64), prediction_time=pl.col("asked").cast(pl.Datetime("us"))
    ).sort("subject_id", "prediction_time")


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """What happened after each prompt."""

    occurred: NDArray[np.bool_]
    """[P, O, H] the outcome's next occurrence falls in (t, t + h]."""
    known: NDArray[np.bool_]
    """[P, O, H] observation suffices to say so."""
    recorded: NDArray[np.bool_]
    """[P, O] the outcome stands in the record at or before t: what follows is a recurrence."""
    occurrence: Rows
    """[P, O] the row of the outcome's next occurrence in the History, which several prompts may share; -1 if none."""


def label(history: History, prompts: pl.DataFrame, outcomes: Sequence[str], horizons: Sequence[int]) -> Labels:
    """Say of each prompt, outcome and horizon (days) whether it came true.

    A window counts when it closes before the record's end (RECORD_END), whatever happened in it: counting only the
    events of windows still open would make every forecaster look too low. After a death the window counts too, unless
    the record's end shows that it would still be open. Where the record names no end, the last event stands for it, and
    a window also counts when the outcome or death fell in it. Death without the outcome is a 0.
    """
    owner = history.owner(prompts["subject_id"].to_numpy())
    asked = microseconds(prompts["prediction_time"])
    cut = history.cut(owner, asked)
    start, stop = history.offsets[owner], history.offsets[owner + 1]
    death, end, last = history.deaths[owner], history.ends[owner], history.last_time()[owner]
    shape = (len(owner), len(outcomes), len(horizons))
    occurred, known = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    recorded, occurrence = np.zeros(shape[:2], np.bool_), np.full(shape[:2], -1)
    until = asked[:, None] + np.asarray(horizons, np.int64) * DAY
    died = (death[:, None] != MISSING) & (death[:, None] <= until)
    # A record's end at or before the death says nothing of how long the window could have stayed open.
    stated = (end != MISSING) & ((death == MISSING) | (end > death))
    closes = np.where(stated, end, np.maximum(last, end))[:, None] >= until
    for number, outcome in enumerate(outcomes):
        row, recorded[:, number] = next_occurrence(history.rows(outcome), start, cut, stop)
        occurrence[:, number] = row
        after = np.where(row >= 0, history.times[row], MISSING)
        occurred[:, number] = (after[:, None] != MISSING) & (after[:, None] <= until)
        known[:, number] = closes | (~stated[:, None] & (died | occurred[:, number]))
    return Labels(occurred, known, recorded, occurrence)


def next_occurrence(rows: Rows, start: Rows, cut: Rows, stop: Rows) -> tuple[Rows, NDArray[np.bool_]]:
    """Return (the first of `rows` in cut:stop or -1, whether one lies in start:cut).  Shapes [P]."""
    position = np.searchsorted(rows, cut)
    row = np.append(rows, np.iinfo(np.int64).max)[position]
    return np.where(row < stop, row, -1), np.searchsorted(rows, start) < position


def uniform(subject: NDArray[np.int64], number: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Return a uniform [0, 1) for each (subject, number, seed), the same on every machine (splitmix64's finaliser)."""
    with np.errstate(over="ignore"):
        state = subject.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state ^= (number.astype(np.uint64) + np.uint64(seed) * np.uint64(1_000_003)) * np.uint64(0xD1B54A32D192ED03)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
        state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) / 2.0**53
