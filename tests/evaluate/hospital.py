"""A small hospital with known hazards, as a MEDS data set on disk and as forecasters: a fixture for this room's tests.

Each life has a hidden risk factor that a laboratory value shows with noise; a symptom makes days with care.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.core import durable
from lifechart.core.forecast import Forecast, Interval, Risk
from lifechart.core.timeline import BIRTH, DEATH, RECORD_END, Timeline
from lifechart.data.history import DAY, History, microseconds

HEART, GOUT, INPATIENT = "SNOMED//84114007", "SNOMED//90560007", "ENCOUNTER//inpatient"
OUTCOMES = (HEART, GOUT, INPATIENT, DEATH)
HORIZONS = (30, 90, 365, 1825)
TODAY = datetime(2024, 1, 1)
YEAR = timedelta(days=365.25)


def life(random: np.random.Generator, subject: int) -> list[dict[str, Any]]:
    """Return one life's events; hazards a year are exp of a hidden factor, so the best score is known."""
    born = TODAY - timedelta(days=float(random.uniform(20, 80)) * 365.25)
    born = born.replace(hour=0, minute=0, second=0, microsecond=0)
    hidden = random.normal()

    def row(time: datetime | None, code: str, kind: str, value: float | None = None) -> dict[str, Any]:
        return {"subject_id": subject, "time": time, "code": code, "kind": kind, "numeric_value": value}

    rows = [row(born, BIRTH, "demographic"), row(None, f"GENDER//{('female', 'male')[subject % 2]}", "demographic")]
    rows.append(row(None, f"RACE//{('white', 'black')[subject % 3 == 0]}", "demographic"))
    death = None
    seen: set[str] = set()
    for year in range(int((TODAY - born) / YEAR)):
        start = born + year * YEAR
        for _ in range(random.poisson(1.2)):
            when = start + random.random() * YEAR
            rows.append(row(when, "ENCOUNTER//ambulatory", "encounter"))
            rows.append(row(when, "LOINC//4548-4", "laboratory", float(hidden + random.normal(0, 0.5))))
        rates = {HEART: 0.01 * np.exp(hidden), GOUT: 0.008, INPATIENT: 0.05 * np.exp(0.5 * hidden)}
        for code, rate in rates.items():
            if random.random() < 1 - np.exp(-rate) and (code == INPATIENT or code not in seen):
                seen.add(code)
                rows.append(
                    row(start + random.random() * YEAR, code, "encounter" if code == INPATIENT else "condition")
                )
        if random.random() < 1e-4 * np.exp(0.085 * year):
            death = start + random.random() * YEAR
            break
    stop = death or TODAY
    rows = [each for each in rows if each["time"] is None or each["time"] <= stop]
    if death is not None:
        rows.append(row(death, DEATH, "death"))
    return [*rows, row(TODAY, RECORD_END, "record")]


def events_of(num_lives: int, seed: int = 0) -> pl.DataFrame:
    """Return the events of many lives."""
    random = np.random.default_rng(seed)
    schema = {
        "subject_id": pl.Int64,
        "time": pl.Datetime("us"),
        "code": pl.String,
        "kind": pl.String,
        "numeric_value": pl.Float32,
    }
    rows = [row for subject in range(1, num_lives + 1) for row in life(random, subject)]
    return pl.DataFrame(rows, schema=schema).sort("subject_id", "time", nulls_last=False)


def write_dataset(folder: Path, num_lives: int, seed: int = 0) -> Path:
    """Write a MEDS data set: every tenth life held out, every tenth for tuning."""
    events = events_of(num_lives, seed)
    turn = pl.col("subject_id") % 10
    splits = {"held_out": turn == 0, "tuning": turn == 1, "train": turn > 1}
    for split, chosen in splits.items():
        (folder / "data" / split).mkdir(parents=True)
        events.filter(chosen).write_parquet(folder / "data" / split / "0.parquet")
    (folder / "metadata").mkdir()
    names = {HEART: "Heart failure", GOUT: "Gout", INPATIENT: "Admission to hospital", DEATH: "Death"}
    codes = events.select(pl.col("code").unique().sort())
    codes = codes.with_columns(description=pl.col("code").replace(names))
    codes.write_parquet(folder / "metadata" / "codes.parquet")
    files = durable.tree_digests(folder)
    durable.write_json(folder / "manifest.json", {"files": files, "digest": durable.digest_of(files)})
    return folder


@dataclass
class LastValue:
    """A forecaster that knows the hazards' form and reads the hidden factor off the mean of the values seen so far."""

    name: str = "last-value"
    digest: str = "0" * 64
    outcomes: tuple[str, ...] = OUTCOMES
    horizons: tuple[int, ...] = HORIZONS
    peeks: bool = False
    asked: list[int] = field(default_factory=list)

    def risks(self, events: pl.DataFrame, prompts: pl.DataFrame) -> NDArray[np.float32]:
        history = History(events)
        self.asked.append(prompts.height)
        owner = history.owner(prompts["subject_id"].to_numpy())
        times = microseconds(prompts["prediction_time"])
        start, cut = history.offsets[owner], history.cut(owner, times)
        rows = history.rows("LOINC//4548-4")
        total = np.concatenate([[0.0], np.cumsum(history.values[rows])])
        low, high = np.searchsorted(rows, start), np.searchsorted(rows, cut)
        if self.peeks:
            high = np.searchsorted(rows, history.offsets[owner + 1])
        hidden = (total[high] - total[low]) / (high - low + 0.25)
        age = (times - history.births[owner]) / (365.25 * DAY)
        rates = [
            0.01 * np.exp(hidden),
            np.full(len(age), 0.008),
            0.05 * np.exp(0.5 * hidden),
            1e-4 * np.exp(0.085 * age),
        ]
        years = np.array(self.horizons) / 365.25
        return (1 - np.exp(-np.stack(rates, 1)[:, :, None] * years)).astype(np.float32)

    def forecast(self, timeline: Timeline, as_of: datetime) -> Forecast:
        prompts = pl.DataFrame({"subject_id": [timeline.subject_id], "prediction_time": [as_of]})
        table = self.risks(timeline.events.with_columns(subject_id=pl.lit(timeline.subject_id)), prompts)[0]
        risks = tuple(
            Risk(outcome, horizon, float(table[o, h]), Interval(0.0, 1.0))
            for o, outcome in enumerate(self.outcomes)
            for h, horizon in enumerate(self.horizons)
        )
        return Forecast(timeline.subject_id, as_of, risks, 0.0, self.digest)
