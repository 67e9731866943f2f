"""A whole record as one row of numbers, for any set of codes and any scale of time: what a task of one's own is learnt
from. Counts, recency, values, their spread and course, over all of the past and in windows that the data choose.

Beside `features`, whose windows of months suit yearly prompts of a hospital's record, this finds out for itself whether
hours or years matter, and reads values that have no time. Legend of shapes: P prompts, F features, N events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.codes.parents import ANY, ancestors
from lifechart.core.timeline import DEATH, RECORD_END
from lifechart.data.features import reduced, sums
from lifechart.data.history import DAY, MISSING, History, Rows, microseconds

Matrix = NDArray[np.float32]

LADDER_DAYS = (0.125, 0.25, 0.5, 1.0, 2.0, 7.0, 30.0, 90.0, 365.0, 1825.0)
"""Windows to choose from."""
MOST_WINDOWS = 4
_TEXT_LIMIT = 64
_MOST_CELLS = 120_000_000
_SAMPLE = 20_000
_FURTHEST = 1e30
"""Beyond this no number goes, so that what is made of numbers stays finite in 32 bits."""
_NO_RECORD, _NEVER = "NO_RECORD", datetime(9999, 1, 1)  # noqa: DTZ001 (times are naive here)


@dataclass(frozen=True)
class Summary:
    """What becomes a column: codes, those of them with numbers, and windows in days. Chosen on training prompts."""

    counted: tuple[str, ...]
    measured: tuple[str, ...]
    windows: tuple[float, ...]
    kept: tuple[str, ...] = ()
    """Names of the columns that vary and that no other repeats; all, where empty."""

    @classmethod
    def choose(
        cls, events: pl.DataFrame, prompts: pl.DataFrame, advance: Callable[[float], None] = lambda share: None
    ) -> tuple[Summary, Matrix]:
        """Choose codes and windows from what was known at the prompts; return them with the features [P, F].

        A code needs ten people (five in a small data set, a thousandth of a large one); the commonest come first
        where there is no room for all.
        """
        history, view = _viewed(events, prompts)
        windows = view.windows_that_tell()
        people = len(np.unique(view.owner))
        fewest = max(5 if people < 500 else 10, people // 1000)
        known = history.times <= _last_asked(history, view)[history.owners]
        holders: dict[str, int] = {}
        measured = set()
        for code in history.codes:
            rows = history.rows(code)
            rows = rows[known[rows]]
            if code in (RECORD_END, DEATH) or not len(rows):
                continue
            holders[code] = len(np.unique(history.owners[rows]))
            if np.isfinite(history.values[rows]).mean() >= 0.2:
                measured.add(code)
        common = sorted((code for code, count in holders.items() if count >= fewest), key=lambda code: -holders[code])
        room = _MOST_CELLS // max(prompts.height, 1)
        counted = []
        for code in common:
            room -= (3 + len(windows)) + (code in measured) * (8 + 3 * len(windows))
            if room < 0:
                break
            counted.append(code)
        chosen = cls(tuple(sorted(counted)), tuple(sorted(measured & set(counted))), windows)
        matrix, names = chosen._matrix(history, view, advance)
        kept = _distinct(matrix) or [names.index("events")]
        return replace(chosen, kept=tuple(names[column] for column in kept)), matrix[:, kept]

    def matrix(
        self, events: pl.DataFrame, prompts: pl.DataFrame, advance: Callable[[float], None] = lambda share: None
    ) -> Matrix:
        """Return the features [P, F] of prompts, in their order; a subject without any event has an empty record."""
        history, view = _viewed(events, prompts)
        matrix, names = self._matrix(history, view, advance)
        place = {name: column for column, name in enumerate(names)}
        return matrix[:, [place[name] for name in self.kept]] if self.kept else matrix

    def _matrix(self, history: History, view: _View, advance: Callable[[float], None]) -> tuple[Matrix, list[str]]:
        wanted = set(self.kept)
        columns: dict[str, Matrix] = {}

        def add(found: dict[str, NDArray[Any]]) -> None:
            for name, values in found.items():
                if not wanted or name in wanted:
                    columns[name] = np.clip(values, -_FURTHEST, _FURTHEST).astype(np.float32)

        add(view.moment(self.windows))
        for number, code in enumerate(self.counted):
            rows = history.rows(code)
            add({f"{code}:{name}": values for name, values in view.counts(rows, self.windows).items()})
            if code in self.measured:
                add({f"{code}:{name}": values for name, values in view.values(rows, self.windows).items()})
            advance((number + 1) / len(self.counted))
        return np.stack(list(columns.values()), axis=1), list(columns)

    def narrowed(self, columns: NDArray[np.int64]) -> Summary:
        """Return what gives only these of the kept columns, in their order here: fewer codes to read."""
        kept = tuple(self.kept[column] for column in columns)
        codes = {name.rpartition(":")[0] for name in kept} | {name.rsplit(":", 2)[0] for name in kept}
        counted = tuple(code for code in self.counted if code in codes)
        return replace(self, counted=counted, measured=tuple(c for c in self.measured if c in codes), kept=kept)

    def content(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return asdict(self)

    @classmethod
    def of(cls, content: dict[str, Any]) -> Summary:
        """Read what `content` returned."""
        return cls(**{name: tuple(value) for name, value in content.items()})


def expanded(events: pl.DataFrame) -> pl.DataFrame:
    """Return the events with categories in their codes (`CODE=TEXT`), and one more row for each wider code.

    A text that is a plain number is one. Wider codes (ICD's categories, ATC's groups, a category's bare code) carry no
    values; the widest of a system, which says nothing, is left out.
    """
    text = pl.col("text_value").str.strip_chars()
    number = pl.coalesce("numeric_value", text.cast(pl.Float32, strict=False))
    is_category = number.is_null() & text.str.len_chars().is_between(1, _TEXT_LIMIT)
    read = events.select(
        "subject_id",
        "time",
        bare=pl.col("code"),
        code=pl.when(is_category).then(pl.concat_str("code", pl.lit("="), text)).otherwise("code"),
        numeric_value=pl.when(number.is_finite()).then(number),
    )
    pairs = read.select("bare", "code").unique()
    wider = [
        ([bare] if bare != code else []) + [each for each in ancestors(bare) if not each.endswith(f"//{ANY}")]
        for bare, code in pairs.iter_rows()
    ]
    table = pairs.with_columns(wider=pl.Series(wider, dtype=pl.List(pl.String))).explode("wider").drop_nulls("wider")
    more = read.join(table, on=["bare", "code"]).select(
        "subject_id", "time", code="wider", numeric_value=pl.lit(None, pl.Float32)
    )
    return pl.concat([read.drop("bare"), more]) if more.height else read.drop("bare")


def _viewed(events: pl.DataFrame, prompts: pl.DataFrame) -> tuple[History, _View]:
    # Whoever has no event at all gets one that nobody will ever know of: an empty record is an answer too.
    without = prompts.select("subject_id").unique().join(events, on="subject_id", how="anti")
    empty = without.with_columns(
        time=pl.lit(_NEVER, pl.Datetime("us")), code=pl.lit(_NO_RECORD), numeric_value=pl.lit(None, pl.Float32)
    )
    read = expanded(events)
    history = History(pl.concat([read, empty.select(read.columns)]))
    return history, _View.of(history, prompts)


def _last_asked(history: History, view: _View) -> Rows:
    last = np.full(len(history.subjects), MISSING)
    np.maximum.at(last, view.owner, view.asked)
    return last


def _distinct(matrix: Matrix) -> list[int]:
    """Return the columns that vary, each content once."""
    seen: set[bytes] = set()
    kept = []
    for column in range(matrix.shape[1]):
        values = np.ascontiguousarray(matrix[:, column])
        missing = np.isnan(values)
        held = values[~missing]
        if not len(held) or (not missing.any() and held.min() == held.max()):
            continue
        content = values.tobytes()
        if content not in seen:
            seen.add(content)
            kept.append(column)
    return kept


@dataclass(frozen=True, eq=False)
class _View:
    """Each prompt's slice of the rows: `start` to `cut` were known when it was `asked`."""

    history: History
    owner: Rows
    asked: Rows
    start: Rows
    dated: Rows
    """The first row with a time."""
    cut: Rows
    _held: dict[float, Rows] = field(default_factory=dict)

    @classmethod
    def of(cls, history: History, prompts: pl.DataFrame) -> _View:
        owner = history.owner(prompts["subject_id"].to_numpy())
        asked = microseconds(prompts["prediction_time"])
        start, cut = history.offsets[owner], history.cut(owner, asked)
        dated = np.minimum(history.cut(owner, np.full(len(owner), MISSING)), cut)
        return cls(history, owner, asked, start, dated, cut)

    def since(self, days: float) -> Rows:
        """Return the first row inside the window that ends at the prompt."""
        if days not in self._held:
            row = self.history.cut(self.owner, self.asked - int(days * DAY))
            self._held[days] = np.clip(row, self.dated, self.cut)
        return self._held[days]

    def windows_that_tell(self) -> tuple[float, ...]:
        """Return the windows that hold some of the dated past but not nearly all, each clearly more than the last."""
        total = float((self.cut - self.dated).sum())
        chosen: list[float] = []
        before = 0.0
        for days in LADDER_DAYS:
            share = float((self.cut - self.since(days)).sum()) / max(total, 1.0)
            if 0.02 <= share <= 0.97 and share - before >= 0.04:
                chosen.append(days)
                before = share
        while len(chosen) > MOST_WINDOWS:
            del chosen[1]
        return tuple(chosen)

    def moment(self, windows: tuple[float, ...]) -> dict[str, NDArray[Any]]:
        """Return what is known of the moment itself: age, how much record there is, since when, and how lately."""
        times, born = np.append(self.history.times, MISSING), self.history.births[self.owner]
        some = self.cut > self.dated
        first, last = times[self.dated], times[np.maximum(self.cut - 1, 0)]
        return {
            # A birth after the prompt is no more known than anything else after it.
            "age": np.where((born == MISSING) | (born > self.asked), np.nan, (self.asked - born) / (365.25 * DAY)),
            "events": (self.cut - self.start).astype(float),
            "known_for": np.where(some, (self.asked - np.where(some, first, 0)) / DAY, np.nan),
            "silence": np.where(some, (self.asked - np.where(some, last, 0)) / DAY, np.nan),
            **{f"events:{days}d": (self.cut - self.since(days)).astype(float) for days in windows},
        }

    def counts(self, rows: Rows, windows: tuple[float, ...]) -> dict[str, NDArray[Any]]:
        """Return how often these rows occurred, and days since the last and the first of them."""
        first, last = np.searchsorted(rows, self.start), np.searchsorted(rows, self.cut)
        columns: dict[str, NDArray[Any]] = {"count": (last - first).astype(float)}
        for days in windows:
            columns[f"count:{days}d"] = (last - np.searchsorted(rows, self.since(days))).astype(float)
        times = np.append(self.history.times[rows], MISSING)
        for name, place in (("since_last", np.maximum(last - 1, 0)), ("since_first", np.minimum(first, len(rows)))):
            when = np.where(last > first, times[place], MISSING)
            columns[name] = np.where(when != MISSING, (self.asked - np.where(when != MISSING, when, 0)) / DAY, np.nan)
        return columns

    def values(self, rows: Rows, windows: tuple[float, ...]) -> dict[str, NDArray[Any]]:
        """Return the latest, first and mean value, spread, extremes, slope, and mean and extremes of each window."""
        rows = rows[np.isfinite(self.history.values[rows])]
        first, last = np.searchsorted(rows, self.start), np.searchsorted(rows, self.cut)
        values = np.append(self.history.values[rows], 0.0)
        some = last > first
        centred = values - values[:-1].mean() if len(rows) else values
        count = np.maximum(last - first, 1)
        mean = sums(centred, first, last) / count
        variance = np.maximum(sums(centred**2, first, last) / count - mean**2, 0.0)
        columns: dict[str, NDArray[Any]] = {
            "latest": np.where(some, values[np.maximum(last - 1, 0)], np.nan),
            "first": np.where(some, values[np.minimum(first, len(rows))], np.nan),
            "mean": np.where(some, mean + (values[0] - centred[0]), np.nan),
            "spread": np.where(last - first > 1, np.sqrt(variance), np.nan),
            "least": reduced(np.minimum, values, first, last),
            "greatest": reduced(np.maximum, values, first, last),
            "slope": self._slope(rows, centred, first, last),
        }
        columns["change"] = columns["latest"] - columns["first"]
        for days in windows:
            low = np.searchsorted(rows, self.since(days))
            held, number = last > low, np.maximum(last - low, 1)
            average = sums(centred, low, np.maximum(last, low)) / number + (values[0] - centred[0])
            columns[f"mean:{days}d"] = np.where(held, average, np.nan)
            columns[f"least:{days}d"] = reduced(np.minimum, values, low, last)
            columns[f"greatest:{days}d"] = reduced(np.maximum, values, low, last)
        return columns

    def _slope(self, rows: Rows, values: NDArray[np.float64], first: Rows, last: Rows) -> NDArray[np.float64]:
        """Return the least-squares slope a day over all dated values; NaN below two, or where all are of one moment."""
        first = np.minimum(np.maximum(first, np.searchsorted(rows, self.dated)), last)
        when = self.history.times[rows]
        origin = self.history.times[self.history.dated[self.history.owners[rows]]] if len(rows) else when
        days = np.append(np.where(when == MISSING, 0, when - np.where(when == MISSING, 0, origin)) / DAY, 0.0)
        count = np.maximum(last - first, 1)
        mean_days, mean_values = sums(days, first, last) / count, sums(values, first, last) / count
        spread = sums(days**2, first, last) / count - mean_days**2
        together = sums(days * values, first, last) / count - mean_days * mean_values
        enough = (last - first >= 2) & (spread > 1e-4 + 1e-9 * mean_days**2)
        return np.where(enough, together / np.where(enough, spread, 1.0), np.nan)
