"""The network's speed on this machine: events learnt and read a second, and one chart's whole forecast.

Synthetic records, so that it needs no data: what is measured is arithmetic, not skill. Rates by the core's own time and
by the clock; only ratios between sizes, or between two versions in one run, carry over to another machine.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
import torch
from rich.console import Console
from rich.table import Table

from lifechart.core.timeline import Timeline
from lifechart.model.calibration import calibrate
from lifechart.model.checkpoint import save_model
from lifechart.model.fit import Fitter, Recipe
from lifechart.model.forecaster import load_forecaster
from lifechart.model.inference import tell
from lifechart.model.questions import label, sample_questions
from lifechart.model.sizes import SIZES
from lifechart.model.tokens import tokenise
from lifechart.model.vocabulary import build_vocabulary

Result = TypeVar("Result")
EVENTS_A_LIFE = 250
CODES = 300


def main(quick: bool) -> dict[str, float]:
    """Measure each size that a CPU trains; print a table and return the figures."""
    lives = 100 if quick else 600
    events = records(lives)
    table = Table("size", "parameters", "learnt events/s", "read events/s", "forecast p50 ms", "p99 ms")
    metrics: dict[str, float] = {}
    for name in ("xs", "s") if quick else ("xs", "s", "m"):
        learnt, read, times, parameters = measure(name, events, 8 if quick else 40)
        p50, p99 = np.quantile(times, [0.5, 0.99]) * 1e3
        table.add_row(name, f"{parameters:,}", f"{learnt:,.0f}", f"{read:,.0f}", f"{p50:.1f}", f"{p99:.1f}")
        metrics |= {
            f"{name}_learn_events_per_s": learnt,
            f"{name}_read_events_per_s": read,
            f"{name}_forecast_p99_ms": p99,
        }
    Console().print(table)
    return {key: round(float(value), 1) for key, value in metrics.items()}


def records(lives: int) -> pl.DataFrame:
    """Make lives of random events: a hundred conditions, two hundred tests with values."""
    rng = np.random.default_rng(0)
    size = lives * EVENTS_A_LIFE
    code = rng.integers(0, CODES, size)
    day = rng.integers(0, 25_000, size)
    test = code >= CODES // 3
    frame = pl.DataFrame(
        {
            "subject_id": np.repeat(np.arange(lives), EVENTS_A_LIFE),
            "day": day,
            "number": code,
            "numeric_value": np.where(test, rng.normal(100, 15, size), np.nan).astype(np.float32),
        }
    )
    return frame.select(
        "subject_id",
        time=pl.lit(datetime(1950, 1, 1)) + pl.duration(days="day"),
        code=pl.when(pl.col("number") < CODES // 3).then(pl.lit("SNOMED//")).otherwise(pl.lit("LOINC//"))
        + pl.col("number").cast(pl.String),
        numeric_value=pl.col("numeric_value").fill_nan(None),
        text_value=pl.lit(None, pl.String),
        unit=pl.lit(None, pl.String),
        kind=pl.when(pl.col("number") < CODES // 3).then(pl.lit("condition")).otherwise(pl.lit("laboratory")),
    ).sort("subject_id", "time")


def measure(name: str, events: pl.DataFrame, charts: int) -> tuple[float, float, list[float], int]:
    """Return events learnt and read a second, seconds of each forecast, and the number of parameters."""
    vocabulary = build_vocabulary(events)
    tokens = tokenise(events, vocabulary)
    size = replace(SIZES[name], epochs=1)
    fitter = Fitter(vocabulary, size, tokens, tokens, 0, Recipe(), torch.device("cpu"))
    fitted = fitter.run()
    questions = sample_questions(tokens, 8, np.random.default_rng(0))
    seconds, told = timed(lambda: tell(fitted.network, fitter.collator, tokens, questions))
    labels = label(tokens, questions, len(vocabulary.outcomes))
    calibration = calibrate((told, labels, questions.subject), (told, labels, questions.subject), None)
    with tempfile.TemporaryDirectory(prefix="lifechart-bench-") as folder:
        save_model(Path(folder), fitted.network, calibration, vocabulary, size, {})
        forecaster = load_forecaster(Path(folder))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = []
    for subject in range(charts + 2):
        chart = Timeline.of(subject, events.filter(pl.col("subject_id") == subject).drop("subject_id"))
        moment = datetime(1950, 1, 1) + timedelta(days=25_001)
        times.append(timed(lambda chart=chart, moment=moment: forecaster.forecast(chart, moment))[0])  # type: ignore[misc]
    torch.set_num_threads(threads)
    parameters = sum(each.numel() for each in fitted.network.parameters())
    return fitted.events / fitted.seconds, len(tokens) / seconds, times[2:], parameters


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Return the seconds that `work` took, and its result."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result
