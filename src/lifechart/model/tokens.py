"""Events to arrays: one row an event, ages and intervals only. Bulk frames and one live chart take the same path.

What each row says of its own code's past (how often, how lately, the running mean of its values) is computed here
over the whole record, so that nothing is forgotten where a record is longer than the network's context.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.core.timeline import BIRTH, DEATH, RECORD_END, Timeline, believable
from lifechart.data.units import in_units
from lifechart.model.encoders import Pictures
from lifechart.model.modalities import Items, find_items
from lifechart.model.usual import usual_at
from lifechart.model.vocabulary import QUANTILES, START, UNKNOWN, UNREAD_KINDS, Vocabulary, event_codes

DAY_US = 86_400_000_000
YEAR_US = DAY_US * 365.25
RECENT_DAYS = 365.25
"""Time constant of the decaying count of a code."""
_READ = ("subject_id", "time", "code", "numeric_value", "text_value", "unit", "kind")


@dataclass(frozen=True)
class Tokens:
    """Arrays over all events [N] of all subjects [S], sorted by subject, then time, undated first.

    `end` is where observation ends (the record's end or death), `window` where it would have ended without the death.
    `micros` counts from birth (from the first dated event where the birth is not recorded). `level` places a value
    among its code's knots (0 to K-1, NaN without one), `tail` says how far beyond them it lies. `next_same` is the
    first later row of the same subject and code (N if none).
    """

    subject_ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    origin: NDArray[np.int64]
    end: NDArray[np.int64]
    window: NDArray[np.int64]
    birth_known: NDArray[np.bool_]

    code: NDArray[np.int64]
    micros: NDArray[np.int64]
    static: NDArray[np.bool_]
    level: NDArray[np.float32]
    tail: NDArray[np.float32]
    gap: NDArray[np.float32]
    count: NDArray[np.float32]
    recent: NDArray[np.float32]
    first_micros: NDArray[np.int64]
    last_level: NDArray[np.float32]
    least_level: NDArray[np.float32]
    greatest_level: NDArray[np.float32]
    mean_level: NDArray[np.float32]
    num_values: NDArray[np.float32]
    last_excess: NDArray[np.float32]
    mean_excess: NDArray[np.float32]
    recent_level: NDArray[np.float32]
    next_same: NDArray[np.int64]
    outcome: NDArray[np.int64]
    row: NDArray[np.int64]
    items: Items | None = None
    """What hangs on the records besides coded events; None if nothing does that the vocabulary knows."""
    truth: Tokens | None = None
    """The same subjects' whole records, where only a part of them is read: labels come from there (model.leave_out)."""

    def __len__(self) -> int:
        return len(self.code)

    @property
    def num_subjects(self) -> int:
        """How many subjects."""
        return len(self.subject_ids)

    @property
    def days(self) -> NDArray[np.float32]:
        """Age at each event, in days."""
        return (self.micros / DAY_US).astype(np.float32)

    @cached_property
    def num_static(self) -> NDArray[np.int64]:
        """How many undated events each subject has [S]."""
        return np.add.reduceat(self.static.astype(np.int64), self.starts[:-1])

    @cached_property
    def onsets(self) -> NDArray[np.int64]:
        """Rows that are outcomes. Kept, since every batch looks them up."""
        return np.flatnonzero(self.outcome >= 0)

    @property
    def owner(self) -> NDArray[np.int64]:
        """Index of each row's subject."""
        return np.repeat(np.arange(self.num_subjects), np.diff(self.starts))

    @cached_property
    def previous_same(self) -> NDArray[np.int64]:
        """For each row, the row before it of the same subject and code, -1 if none."""
        previous = np.full(len(self) + 1, -1, dtype=np.int64)
        previous[self.next_same] = np.arange(len(self))
        return previous[:-1]


@dataclass(frozen=True)
class Entries:
    """Events [N] by the vocabulary's rows, one START a subject among them, in the order of tokens; see `entries`."""

    owner: NDArray[np.int64]
    time: NDArray[np.int64]
    role: NDArray[np.int8]
    code: NDArray[np.int64]
    outcome: NDArray[np.int64]
    value: NDArray[np.float32]
    row: NDArray[np.int64]
    """Its row among the events (-1 for START)."""

    def without_each(self, rows: NDArray[np.int64]) -> Entries:
        """Return one subject's entries once for each of `rows`, that event left out; subjects are then 0, 1, 2 …"""
        size = len(self.row)
        places = [np.delete(np.arange(size), np.flatnonzero(self.row == row)) for row in rows]
        keep = np.concatenate(places)
        columns = {each.name: getattr(self, each.name)[keep] for each in fields(self)}
        return Entries(**columns | {"owner": np.repeat(np.arange(len(rows)), [len(place) for place in places])})


def timeline_entries(timeline: Timeline, vocabulary: Vocabulary) -> Entries:
    """Return one chart's entries."""
    return entries(timeline.events.with_columns(subject_id=pl.lit(timeline.subject_id, pl.Int64)), vocabulary)


def tokenise_timeline(timeline: Timeline, vocabulary: Vocabulary, pictures: Pictures | None = None) -> Tokens:
    """Tokenise one chart."""
    events = timeline.events.with_columns(subject_id=pl.lit(timeline.subject_id, pl.Int64))
    return tokenise(events, vocabulary, pictures)


def tokenise(events: pl.DataFrame, vocabulary: Vocabulary, pictures: Pictures | None = None) -> Tokens:
    """Tokenise MEDS rows of any number of subjects. `Tokens.row` is each token's row in `events` (-1 for START).

    `pictures`: where the images of these subjects are, if the vocabulary knows images.
    """
    return with_items(tokens_of(entries(events, vocabulary), vocabulary), events, vocabulary, pictures)


def with_items(tokens: Tokens, events: pl.DataFrame, vocabulary: Vocabulary, pictures: Pictures | None) -> Tokens:
    """Return tokens with what hangs on the events that they were made of."""
    if not vocabulary.modalities:
        return tokens
    times = tokens.subject_ids, tokens.origin, tokens.starts, tokens.micros
    return replace(tokens, items=find_items(events, vocabulary, pictures, *times))


def tokens_of(read: Entries, vocabulary: Vocabulary) -> Tokens:
    """Return the tokens of entries that are in order."""
    subject_ids, first_rows = np.unique(read.owner, return_index=True)
    sizes = np.diff(np.append(first_rows, len(read.owner)))
    origin, birth_known, end, window = _spans(first_rows, read.time, read.role)

    subject = np.repeat(np.arange(len(subject_ids)), sizes)
    kept = read.role <= _DEATH
    code = read.code[kept]
    subject, static = subject[kept], (read.time == _NEVER)[kept]
    micros = np.where(static, 0, np.maximum(read.time[kept] - origin[subject], 0))
    starts = np.searchsorted(subject, np.arange(len(subject_ids) + 1))
    level, tail = _levels(read.value[kept], code, vocabulary)
    return Tokens(
        subject_ids=subject_ids,
        starts=starts,
        origin=origin,
        end=end - origin,
        window=window - origin,
        birth_known=birth_known,
        code=code,
        micros=micros,
        static=static,
        level=level,
        tail=tail,
        gap=_gaps(micros, starts),
        outcome=read.outcome[kept],
        row=read.row[kept],
        **_past_of_code(subject, code, micros, level, level - usual_at(vocabulary.usual, code, micros / YEAR_US)),
    )


_NEVER = np.iinfo(np.int64).min
_EVENT, _DEATH, _BIRTH, _END, _UNREAD = 0, 1, 2, 3, 4


def entries(events: pl.DataFrame, vocabulary: Vocabulary) -> Entries:
    """Return the events plus one START a subject, sorted, with the vocabulary's rows.

    `role` tells birth, death, RECORD_END and what is not read from the rest. At equal times the code decides the order,
    so that it does not matter in which order a source lists one visit.
    """
    # Lazy where it can be: for one chart, a query costs more than its rows.
    lazy = events.lazy().select(_READ).with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    read = lazy.with_columns(token=event_codes(), numeric_value=believable()).collect()
    tokens = read.get_column("token").unique()
    rows = [vocabulary.row(token) for token in tokens]
    outcome_of = {code: index for index, code in enumerate(vocabulary.outcomes)}
    unread = pl.col("kind").is_in(UNREAD_KINDS).fill_null(False)
    known = read.lazy().with_columns(
        row_of_code=pl.col("token").replace_strict(tokens, pl.Series(rows, dtype=pl.Int64), default=UNKNOWN),
        outcome=pl.col("code").replace_strict(outcome_of, default=-1, return_dtype=pl.Int64),
        role=pl.when(unread)
        .then(_UNREAD)
        .otherwise(pl.col("code").replace_strict({BIRTH: _BIRTH, RECORD_END: _END, DEATH: _DEATH}, default=_EVENT))
        .cast(pl.Int8),
    )
    read = known.collect()
    expected = pl.Series(vocabulary.units, dtype=pl.String).gather(read.get_column("row_of_code"))
    value = in_units(read, expected)
    start = {"row": -1, "role": _EVENT, "row_of_code": START, "outcome": -1}
    columns = ["subject_id", "time", "row", "role", "row_of_code", "outcome", "numeric_value"]
    starts = (
        read.lazy()
        .select(pl.col("subject_id").unique())
        .with_columns(**{name: pl.lit(number, read.schema[name]) for name, number in start.items()})
    )
    both = pl.concat([starts, read.lazy().with_columns(numeric_value=value).select(columns)], how="diagonal")
    by = ("subject_id", "time", "row_of_code")
    ordered = both.select(columns).sort(by, nulls_last=False, maintain_order=True).collect()
    return Entries(
        owner=ordered["subject_id"].to_numpy(),
        time=ordered["time"].cast(pl.Int64).fill_null(_NEVER).to_numpy(),
        role=ordered["role"].to_numpy(),
        code=ordered["row_of_code"].to_numpy(),
        outcome=ordered["outcome"].to_numpy(),
        value=ordered["numeric_value"].to_numpy(),
        row=ordered["row"].to_numpy(),
    )


def _spans(
    first_rows: NDArray[np.int64], time: NDArray[np.int64], role: NDArray[np.int8]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Return per subject the time that ages count from, whether it is the birth, and the two ends of observation."""
    dated = time != _NEVER
    born = np.minimum.reduceat(np.where((role == _BIRTH) & dated, time, _LATE), first_rows)
    first = np.minimum.reduceat(np.where(dated & (role != _END), time, _LATE), first_rows)
    last = np.maximum.reduceat(np.where(dated & (role != _END), time, _NEVER), first_rows)
    stop = np.minimum.reduceat(np.where(role == _END, time, _LATE), first_rows)
    death = np.minimum.reduceat(np.where(role == _DEATH, time, _LATE), first_rows)
    birth_known = born != _LATE
    origin = np.where(birth_known, born, np.where(first == _LATE, 0, first))
    last = np.where(last == _NEVER, origin, last)
    end = np.minimum(np.where(stop == _LATE, last, stop), death)
    # A record that ends with the death, or at no stated time after it, says no more: the dead stay in view.
    window = np.where(death == _LATE, end, np.where((stop != _LATE) & (stop > death), stop, _FAR + origin))
    return origin, birth_known, end, window


_LATE = np.iinfo(np.int64).max
_FAR = 200 * 366 * DAY_US


def _levels(
    value: NDArray[np.float32], code: NDArray[np.int64], vocabulary: Vocabulary
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Place values among their code's knots, linearly between them; beyond the outer knots only `tail` grows."""
    knots = vocabulary.knots[code]
    usable = np.isfinite(value) & ~np.isnan(knots[:, 0])
    level = np.full(len(value), np.nan, dtype=np.float32)
    tail = np.zeros(len(value), dtype=np.float32)
    if not usable.any():
        return level, tail
    knots, value = knots[usable], value[usable].astype(np.float32)
    below = np.clip((value[:, None] >= knots).sum(axis=1) - 1, 0, len(QUANTILES) - 2)
    pick = np.arange(len(value))
    low, high = knots[pick, below], knots[pick, below + 1]
    share = np.clip((value - low) / np.maximum(high - low, 1e-6), 0.0, 1.0)
    level[usable] = below + np.where(high > low, share, (value >= high).astype(np.float32))
    spread = np.maximum(knots[:, -2] - knots[:, 1], 1e-6)
    beyond = np.maximum(value - knots[:, -1], 0.0) + np.minimum(value - knots[:, 0], 0.0)
    tail[usable] = np.arcsinh(np.clip(beyond / spread, -1e3, 1e3))
    return level, tail


def _gaps(micros: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.float32]:
    gap = np.diff(micros, prepend=0)
    gap[starts[:-1][starts[:-1] < len(micros)]] = 0
    return (np.maximum(gap, 0) / DAY_US).astype(np.float32)


def _past_of_code(
    subject: NDArray[np.int64],
    code: NDArray[np.int64],
    micros: NDArray[np.int64],
    level: NDArray[np.float32],
    excess: NDArray[np.float64],
) -> dict[str, Any]:
    """Return what each event's own code did before it, itself included. `excess`: the level above what is usual."""
    size = len(code)
    order = np.lexsort((np.arange(size), code, subject))
    changes = np.ones(size, dtype=bool)
    changes[1:] = (np.diff(subject[order]) != 0) | (np.diff(code[order]) != 0)
    first = np.maximum.accumulate(np.where(changes, np.arange(size), 0))
    position = np.arange(size) - first

    next_same = np.full(size, size, dtype=np.int64)
    next_same[order[:-1]] = np.where(changes[1:], size, order[1:])
    sorted_level = level[order].astype(np.float64)
    valued = ~np.isnan(sorted_level)
    sorted_excess = np.where(valued, excess[order], 0.0)
    number_here = _running_sums(valued.astype(np.float64), first)

    def mean_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = _running_sums(values, first)
        means: NDArray[np.float64] = np.divide(sums, number_here, out=np.full(size, np.nan), where=number_here > 0)
        return means

    mean = mean_of(np.where(valued, sorted_level, 0.0))
    latest_valued = np.maximum.accumulate(np.where(valued, np.arange(size), -1))
    last = np.where(latest_valued >= first, sorted_level[np.maximum(latest_valued, 0)], np.nan)
    last_excess = np.where(latest_valued >= first, sorted_excess[np.maximum(latest_valued, 0)], np.nan)
    run = np.cumsum(changes) * 2.0 * len(QUANTILES)

    def greatest_so_far(levels: NDArray[np.float64]) -> NDArray[np.float64]:
        # Every run is lifted above the one before it, so that one scan serves all.
        scanned = np.maximum.accumulate(np.where(valued, levels, -len(QUANTILES)) + run) - run
        return np.where(number_here > 0, scanned, np.nan)

    days = micros[order] / DAY_US
    decayed = _decaying_sums(np.ones(size), days, position)
    decayed_level = _decaying_sums(np.where(valued, sorted_level, 0.0), days, position)
    decayed_number = _decaying_sums(valued.astype(np.float64), days, position)
    lately = np.divide(decayed_level, decayed_number, out=np.full(size, np.nan), where=number_here > 0)

    def back(column: NDArray[Any], dtype: type) -> NDArray[Any]:
        out: NDArray[Any] = np.empty(size, dtype=dtype)
        out[order] = column
        return out

    return {
        "count": back(position + 1, np.float32),
        "recent": back(decayed, np.float32),
        "first_micros": back(micros[order][first], np.int64),
        "last_level": back(last, np.float32),
        "least_level": back(-greatest_so_far(-sorted_level), np.float32),
        "greatest_level": back(greatest_so_far(sorted_level), np.float32),
        "mean_level": back(mean, np.float32),
        "num_values": back(number_here, np.float32),
        "last_excess": back(last_excess, np.float32),
        "mean_excess": back(mean_of(sorted_excess), np.float32),
        "recent_level": back(lately, np.float32),
        "next_same": next_same,
    }


def _running_sums(values: NDArray[np.float64], first: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the sum over each run up to and with each place; `first` is where the place's run begins."""
    summed = np.cumsum(values)
    sums: NDArray[np.float64] = summed - np.where(first > 0, summed[np.maximum(first - 1, 0)], 0.0)
    return sums


def _decaying_sums(
    values: NDArray[np.float64], days: NDArray[np.float64], position: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return c[i] = v[i] + c[i-1] exp(-(t[i] - t[i-1]) / RECENT_DAYS) within each run of rising `position`.

    A parallel scan by doubling: after step s, c[i] holds the sum over the last 2s events of its run.
    """
    decayed = values.copy()
    stride = 1
    while stride <= position.max(initial=0):
        late = np.flatnonzero(position >= stride)
        fade = np.exp(-(days[late] - days[late - stride]) / RECENT_DAYS)
        decayed[late] = decayed[late] + fade * decayed[late - stride]
        stride *= 2
    return decayed


def field_names() -> tuple[str, ...]:
    """Return the names of the arrays, for whoever stores them."""
    return tuple(each.name for each in fields(Tokens) if each.name not in ("items", "truth"))
