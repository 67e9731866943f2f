"""Runs a model in shadow on weekly data sets, and tells what became of its forecasts when their time is up.

Writes `forecasts.parquet` and `matured.parquet` beside weeks that have none. A forecast of horizon h made in week v is
judged in week v + ceil(h / 7), by the charts of all weeks up to then: whoever was not seen again had no event here.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.progress import track

from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.core.forecast import Forecaster, Situated
from lifechart.core.report import ATTRIBUTES
from lifechart.core.timeline import BIRTH, RECORD_END
from lifechart.data import shards
from lifechart.evaluate.subgroups import age_band

Pair = tuple[str, int]
_DAYS_A_WEEK = 7
_SCHEMA: Mapping[str, Any] = {
    "subject_id": pl.Int64,
    "prediction_time": pl.Datetime("us"),
    "outcome": pl.String,
    "horizon_days": pl.Int64,
    "probability": pl.Float64,
    "groups": pl.List(pl.String),
}


_SITUATED: Mapping[str, Any] = {"novelty": pl.Float64, "embedding": pl.List(pl.Float32)}
"""Also there where the forecaster tells where charts lie."""


def follow_up(folder: Path, forecaster: Forecaster, pairs: Sequence[Pair]) -> int:
    """Forecast `pairs` (outcome, days) for all who were seen, each week, and collect labels; return the weeks forecast.

    Weeks that have the tables keep them. Raises InputError for a pair that the forecaster does not know.
    """
    if unknown := sorted({(o, h) for o, h in pairs if o not in forecaster.outcomes or h not in forecaster.horizons}):
        raise InputError("pairs", unknown, f"outcomes and horizons of {forecaster.name}")
    weeks = sorted(path for path in folder.iterdir() if path.is_dir())
    occurred: list[pl.DataFrame] = []
    done = 0
    shown = track(weeks, "forecasts", console=Console(stderr=True), disable=not sys.stderr.isatty())
    for number, week in enumerate(shown):
        events = chart_rows(week)
        occurred.append(_occurrences(events, sorted({outcome for outcome, _ in pairs})))
        if not (week / "forecasts.parquet").exists():
            _write(_forecasts(events, forecaster, pairs), week / "forecasts.parquet")
            done += 1
        if not (week / "matured.parquet").exists() and (judged := _matured(weeks, number, occurred)) is not None:
            _write(judged, week / "matured.parquet")
    return done


def chart_rows(week: Path) -> pl.DataFrame:
    """Return the events of a week's charts, by subject and time, without where observation ends."""
    events = pl.concat([shards.read_split(week, split) for split in shards.SPLITS])
    events = events.with_columns(pl.col("code").cast(pl.String), pl.col("kind").cast(pl.String))
    return events.filter(pl.col("code") != RECORD_END).sort("subject_id", "time", nulls_last=False, maintain_order=True)


def _forecasts(events: pl.DataFrame, forecaster: Forecaster, pairs: Sequence[Pair]) -> pl.DataFrame:
    prompts = (
        events.filter(pl.col("time").is_not_null() & (pl.col("code") != BIRTH))
        .group_by("subject_id")
        .agg(prediction_time=pl.col("time").max())
        .sort("subject_id")
    )
    if prompts.is_empty() or not pairs:
        more = _SITUATED if isinstance(forecaster, Situated) else {}
        return pl.DataFrame(schema=dict(_SCHEMA) | dict(more))
    risks = forecaster.risks(events, prompts)
    outcomes, horizons = list(forecaster.outcomes), list(forecaster.horizons)
    of_whom = prompts.join(_groups(events, prompts), on="subject_id", how="left", maintain_order="left")
    parts = [
        of_whom.with_columns(
            outcome=pl.lit(outcome),
            horizon_days=pl.lit(days, pl.Int64),
            probability=pl.Series(risks[:, outcomes.index(outcome), horizons.index(days)].astype(float)),
        )
        for outcome, days in pairs
    ]
    made = pl.concat(parts).select(list(_SCHEMA))
    if not isinstance(forecaster, Situated):
        return made
    states, novelty = forecaster.situate(events, prompts)
    embedding = pl.Series("embedding", states.astype(np.float32).tolist(), pl.List(pl.Float32))
    where = prompts.select("subject_id", novelty=pl.Series(novelty.astype(float)), embedding=embedding)
    return made.join(where, on="subject_id", how="left", maintain_order="left")


def _groups(events: pl.DataFrame, prompts: pl.DataFrame) -> pl.DataFrame:
    """Return `subject_id`, `groups`: age band and stated demographics of each."""
    births = events.filter(pl.col("code") == BIRTH).group_by("subject_id").agg(birth=pl.col("time").min())
    ages = prompts.join(births, on="subject_id").select(
        "subject_id", years=(pl.col("prediction_time") - pl.col("birth")).dt.total_days() / 365.25
    )
    banded = ages.select(
        "subject_id",
        group="age=" + pl.col("years").map_elements(lambda years: age_band(max(years, 0.0)), return_dtype=pl.String),
    )
    parts = pl.col("code").str.split("//")
    stated = (
        events.filter(pl.col("time").is_null())
        .select("subject_id", system=parts.list.first(), value=parts.list.last())
        .filter(pl.col("system").is_in(list(ATTRIBUTES)))
        .select("subject_id", group=pl.col("system").replace_strict(ATTRIBUTES) + "=" + pl.col("value"))
    )
    return pl.concat([banded, stated]).group_by("subject_id").agg(groups=pl.col("group").unique().sort())


def _occurrences(events: pl.DataFrame, outcomes: Sequence[str]) -> pl.DataFrame:
    dated = events.filter(pl.col("code").is_in(list(outcomes)) & pl.col("time").is_not_null())
    return dated.select("subject_id", outcome="code", happened="time")


def _matured(weeks: Sequence[Path], number: int, occurred: Sequence[pl.DataFrame]) -> pl.DataFrame | None:
    """Return the forecasts of earlier weeks whose time is up in week `number`, with labels; None if there are none."""
    due = []
    for earlier in range(number):
        made = pl.read_parquet(weeks[earlier] / "forecasts.parquet")
        mine = pl.Series([math.ceil(days / _DAYS_A_WEEK) == number - earlier for days in made["horizon_days"]])
        if made.height and mine.any():
            due.append(made.filter(mine))
    if not due:
        return None
    asked = pl.concat(due).select(list(_SCHEMA)).with_row_index("asked")
    ahead = pl.col("happened") - pl.col("prediction_time")
    hits = (
        asked.join(pl.concat(list(occurred)), on=["subject_id", "outcome"])
        .filter((ahead > pl.duration()) & (ahead <= pl.duration(days=pl.col("horizon_days"))))["asked"]
        .unique()
    )
    return asked.with_columns(label=pl.col("asked").is_in(hits.to_list())).drop("asked")


def _write(frame: pl.DataFrame, path: Path) -> None:
    with durable.replacing(path) as aside:
        frame.write_parquet(aside)
