"""What a released model can read of another institution's records: its codes, and whether its value scales fit here.

Another laboratory's assay, or another unit under the same name, runs at a level of its own by a factor; so do people
who are truly otherwise. Age is taken out first, and a scale is moved only where the local outcomes bear it out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.core.suppression import SMALLEST
from lifechart.core.timeline import BIRTH, RECORD_END
from lifechart.model.tokens import Entries, Tokens
from lifechart.model.usual import usual_at
from lifechart.model.vocabulary import UNKNOWN, UNREAD_KINDS, Vocabulary, event_codes, is_onset

_FEWEST_VALUES, _MOST_VALUES = 200, 20_000
_FACTORS = np.exp(np.linspace(-0.4, 0.4, 161))
_LEAST_SHIFT = 0.2
"""Steps of the value scale by which results must lie off, age taken out, for its scale to be doubted at all."""
_LARGE_SHIFT = 0.75
"""From which it is taken for an assay's, unless the local outcomes speak against it: one step of the scale holds a
sixth of a population, and whole populations do not lie that far apart once age is taken out."""
_MOST_DOUBTED = 12
_LISTED = 10


@dataclass(frozen=True)
class Reading:
    """How much of the local records the released vocabulary reads. Events and codes of fewer than 11 people count too,
    but no code is named that fewer hold.
    """

    events: int
    codes: int
    read_events: float
    """Share of the events whose own code the model has."""
    wider_events: float
    """Share that is read as a wider code."""
    unread_events: float
    unread_codes: int
    released_codes: int
    unused_codes: int
    """Codes of the released vocabulary that no local record holds."""
    most_unread: tuple[tuple[str, int], ...]
    """The commonest codes that are not read, and how many events carry each."""
    silent_outcomes: tuple[str, ...]
    """Outcomes that the model forecasts and that never occur here: their forecasts cannot be checked."""
    unknown_onsets: int
    """Conditions that begin here in 20 people or more and that the model does not forecast."""

    def content(self) -> dict[str, Any]:
        """Return plain data, for a statement."""
        return {**asdict(self), "most_unread": [list(each) for each in self.most_unread],
                "silent_outcomes": list(self.silent_outcomes)}  # fmt: skip

    def table(self) -> list[tuple[str, ...]]:
        """Return a header and rows for a terminal."""
        rows = [
            ("local codes, events", f"{self.codes:,}", f"{self.events:,}"),
            ("read as themselves", f"{self.codes - self.unread_codes:,} or by a wider one", f"{self.read_events:.1%}"),
            ("read as a wider code", "", f"{self.wider_events:.1%}"),
            ("not read", f"{self.unread_codes:,}", f"{self.unread_events:.1%}"),
            ("released codes never used here", f"{self.unused_codes:,} of {self.released_codes:,}", ""),
            ("outcomes that never occur here", f"{len(self.silent_outcomes):,}", ""),
            ("frequent local conditions not forecast", f"{self.unknown_onsets:,}", ""),
        ]
        return [("what the released model reads", "codes", "events"), *rows]


def read_of(events: pl.DataFrame, vocabulary: Vocabulary) -> Reading:
    """Count what of local events (columns of a shard) the vocabulary reads."""
    silent = pl.col("code").is_in([BIRTH, RECORD_END]) | pl.col("kind").is_in(UNREAD_KINDS)
    counts = (
        events.filter(~silent.fill_null(False))
        .with_columns(token=event_codes())
        .group_by("token")
        .agg(pl.len().alias("events"), people=pl.col("subject_id").n_unique())
        .sort("events", "token", descending=[True, False])
    )
    rows = [vocabulary.row(token) for token in counts["token"]]
    read = counts.with_columns(
        unread=pl.Series(rows, dtype=pl.Int64) == UNKNOWN, exact=pl.col("token").is_in(list(vocabulary.rows))
    )
    total = int(read["events"].sum())
    unread = read.filter("unread")
    onsets = events.filter(is_onset() & pl.col("time").is_not_null())
    begun = onsets.group_by("code").agg(people=pl.col("subject_id").n_unique())
    here = set(read.filter("exact")["token"]) | {vocabulary.codes[row] for row in rows}

    def share(number: int) -> float:
        return round(number / max(total, 1), 6)

    exact, missed = int(read.filter("exact")["events"].sum()), int(unread["events"].sum())
    return Reading(
        events=total,
        codes=read.height,
        read_events=share(exact),
        wider_events=share(total - exact - missed),
        unread_events=share(missed),
        unread_codes=unread.height,
        released_codes=len(vocabulary) - 2,
        unused_codes=len(set(vocabulary.codes[2:]) - here),
        most_unread=tuple(unread.filter(pl.col("people") >= SMALLEST).select("token", "events").head(_LISTED).rows()),
        silent_outcomes=tuple(sorted(set(vocabulary.outcomes) - set(begun["code"]))),
        unknown_onsets=begun.filter((pl.col("people") >= 20) & ~pl.col("code").is_in(vocabulary.outcomes)).height,
    )


@dataclass(frozen=True)
class Scale:
    """A code's results run at another level here: `factor` times the released scale fits them, age taken out."""

    row: int
    code: str
    factor: float
    shift: float
    """Steps of the released scale by which they lie off."""
    moved: bool = False
    """Whether the scale was moved by it."""


def doubtful(read: Entries, tokens: Tokens, vocabulary: Vocabulary) -> list[Scale]:
    """Return the codes whose local results lie off the released scale, the farthest first."""
    known = ~np.isnan(tokens.level)
    value_of = np.full(int(read.row.max(initial=0)) + 1, np.nan, np.float64)
    value_of[read.row[read.row >= 0]] = read.value[read.row >= 0]
    places = np.flatnonzero(known)
    places = places[np.argsort(tokens.code[places], kind="stable")]
    codes, firsts, counts = np.unique(tokens.code[places], return_index=True, return_counts=True)
    found = []
    for row, first, count in zip(codes, firsts, counts, strict=True):
        if count < _FEWEST_VALUES:
            continue
        mine = places[first : first + count][:: max(1, count // _MOST_VALUES)]
        years = tokens.days[mine].astype(np.float64) / 365.25
        usual = usual_at(vocabulary.usual, tokens.code[mine], years)
        off = _offsets(value_of[tokens.row[mine]], vocabulary.knots[row].astype(np.float64), usual)
        shift = float(np.interp(0.0, np.log(_FACTORS), off))
        if abs(shift) >= _LEAST_SHIFT:
            found.append(Scale(int(row), vocabulary.codes[row], float(_FACTORS[np.abs(off).argmin()]), shift))
    return sorted(found, key=lambda each: -abs(each.shift))[:_MOST_DOUBTED]


def _offsets(
    values: NDArray[np.float64], knots: NDArray[np.float64], usual: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return by how many steps values lie above what is usual, with the scale times each of _FACTORS."""
    steps = np.arange(len(knots))
    return np.array([float((np.interp(values, knots * factor, steps) - usual).mean()) for factor in _FACTORS])


def moved(vocabulary: Vocabulary, scales: list[Scale]) -> dict[int, NDArray[np.float32]]:
    """Return the value scales of the vocabulary that are moved, by row."""
    return {each.row: (vocabulary.knots[each.row] * each.factor).astype(np.float32) for each in scales if each.moved}


def borne_out(doubted: list[Scale], gain: Callable[[list[Scale]], tuple[float, float]]) -> list[Scale]:
    """Return the scales, each marked as moved where the local outcomes say so; by more than chance would have it.

    `gain`: what moving some scales adds to the local log likelihood, and its standard error over people. They are taken
    one after the other, each on top of those moved before.
    """
    kept: list[Scale] = []
    out: list[Scale] = []
    before = 0.0
    for each in doubted:
        trial = Scale(each.row, each.code, each.factor, each.shift, moved=True)
        worth, error = gain([*kept, trial])
        limit = -error if abs(each.shift) >= _LARGE_SHIFT else error
        if worth - before > limit:
            kept.append(trial)
            before = worth
            out.append(trial)
        else:
            out.append(each)
    return out
