"""Counts, latest values and trends of a chart at a prompt: the columns that boosted trees read.

Legend of shapes: P prompts, F features, N events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.core.timeline import RECORD_END
from lifechart.data.history import DAY, MISSING, History, Rows, microseconds

Matrix = NDArray[np.float32]

WINDOWS_DAYS = (30, 365)
"""Windows of the counts, beside all of the past."""
TREND_DAYS = 5 * 365
_YEAR = 365.25 * DAY


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """Which codes become columns. Chosen on training patients alone."""

    counted: tuple[str, ...]
    measured: tuple[str, ...]
    """Those that come with numbers: they get values and trends too."""

    @classmethod
    def choose(cls, history: History, min_subjects: int) -> FeatureSet:
        """Take the codes that `min_subjects` patients hold; one is measured if half its events have values."""
        counted, measured = [], []
        for code in history.codes:
            rows = history.rows(code)
            holders = len(np.unique(np.searchsorted(history.offsets, rows, side="right")))
            if holders >= min_subjects and code != RECORD_END:
                counted.append(code)
                if np.isfinite(history.values[rows]).mean() >= 0.5:
                    measured.append(code)
        return cls(tuple(counted), tuple(measured))

    def matrix(
        self, history: History, prompts: pl.DataFrame, advance: Callable[[], None] = lambda: None
    ) -> tuple[Matrix, list[str]]:
        """Return the features [P, F] of each prompt and their names. Uses rows at or before the prompt alone.

        A count is 0 where there is nothing; a value or a time since is NaN. `advance` is called once per code.
        """
        view = _View.of(history, prompts)
        columns: dict[str, NDArray[np.float64]] = {
            "age": np.where(view.born == MISSING, np.nan, (view.asked - view.born) / _YEAR),
            "events": (view.cut - view.start).astype(float),
            **{f"events:{days}d": (view.cut - low).astype(float) for days, low in view.windows.items()},
        }
        for code in self.counted:
            columns |= {f"{code}:{name}": column for name, column in view.counts(history.rows(code)).items()}
            if code in self.measured:
                columns |= {f"{code}:{name}": column for name, column in view.values(history.rows(code)).items()}
            advance()
        matrix = np.empty((prompts.height, len(columns)), np.float32)
        for number, column in enumerate(columns.values()):
            matrix[:, number] = column
        return matrix, list(columns)


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """Each prompt's slice of the rows."""

    history: History
    asked: Rows
    born: Rows
    start: Rows
    cut: Rows
    windows: dict[int, Rows]
    """Days to the first row inside the window that ends at the prompt."""
    trend: Rows

    @classmethod
    def of(cls, history: History, prompts: pl.DataFrame) -> _View:
        owner = history.owner(prompts["subject_id"].to_numpy())
        asked = microseconds(prompts["prediction_time"])
        windows = {days: history.cut(owner, asked - days * DAY) for days in WINDOWS_DAYS}
        trend = history.cut(owner, asked - TREND_DAYS * DAY)
        return cls(
            history,
            asked,
            history.births[owner],
            history.offsets[owner],
            history.cut(owner, asked),
            windows,
            trend,
        )

    def counts(self, rows: Rows) -> dict[str, NDArray[np.float64]]:
        """Return how often these rows occurred, and years since the last and the first of them."""
        first, last = np.searchsorted(rows, self.start), np.searchsorted(rows, self.cut)
        found = last > first
        columns = {"count": (last - first).astype(float)}
        for days, low in self.windows.items():
            columns[f"count:{days}d"] = (last - np.searchsorted(rows, low)).astype(float)
        for name, place in (("since_last", last - 1), ("since_first", first)):
            times = self.history.times[rows[np.where(found, place, 0)]] if len(rows) else np.zeros(len(first), np.int64)
            dated = found & (times != MISSING)
            columns[name] = np.where(dated, (self.asked - np.where(dated, times, 0)) / _YEAR, np.nan)
        return columns

    def values(self, rows: Rows) -> dict[str, NDArray[np.float64]]:
        """Return the latest value, the mean of all, the range within a year, and the slope over five years."""
        rows = rows[np.isfinite(self.history.values[rows]) & (self.history.times[rows] != MISSING)]
        first, last = np.searchsorted(rows, self.start), np.searchsorted(rows, self.cut)
        year = np.searchsorted(rows, self.windows[365])
        values = np.append(self.history.values[rows], 0.0)
        latest = np.where(last > first, values[np.maximum(last - 1, 0)], np.nan)
        years = np.append(self.history.times[rows] / _YEAR, 0.0)
        trend = np.searchsorted(rows, self.trend)
        return {
            "latest": latest,
            "mean": _mean(values, first, last),
            "least:365d": reduced(np.minimum, values, year, last),
            "greatest:365d": reduced(np.maximum, values, year, last),
            "slope": _slope(years - years.mean(), values, trend, last),
        }


def sums(values: NDArray[np.float64], low: Rows, high: Rows) -> NDArray[np.float64]:
    """Return the sum of each slice low:high of `values`."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    summed: NDArray[np.float64] = total[high] - total[low]
    return summed


def _mean(values: NDArray[np.float64], low: Rows, high: Rows) -> NDArray[np.float64]:
    count = high - low
    return np.where(count > 0, sums(values, low, high) / np.maximum(count, 1), np.nan)


def _slope(years: NDArray[np.float64], values: NDArray[np.float64], low: Rows, high: Rows) -> NDArray[np.float64]:
    """Return the least-squares slope of each slice; NaN below two values or within a month."""
    count = np.maximum(high - low, 1)
    mean_years, mean_values = sums(years, low, high) / count, sums(values, low, high) / count
    spread = sums(years**2, low, high) / count - mean_years**2
    together = sums(years * values, low, high) / count - mean_years * mean_values
    enough = (high - low >= 2) & (spread > (1 / 24) ** 2)
    return np.where(enough, together / np.where(enough, spread, 1.0), np.nan)


def reduced(operation: np.ufunc, values: NDArray[np.float64], low: Rows, high: Rows) -> NDArray[np.float64]:
    """Reduce each slice low:high of `values` (which ends in one spare element); NaN where empty."""
    pairs = np.column_stack([low, np.maximum(high, low)]).ravel()
    found = operation.reduceat(values, pairs)[::2]
    return np.where(high > low, found, np.nan)
