"""Carries out an ACES task on records, real or generated: finds its triggers, resolves its windows, reads its label.

A generated future is labelled as a record is: what was known at the moment of prediction, then what was generated.
Legend of shapes: N events, R realisations (one a trigger).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.core.timeline import BIRTH, DEATH, RECORD_END
from lifechart.data.history import DAY, MISSING, microseconds
from lifechart.evaluate.aces import ANY, END, START, AcesTask, Both, Bound, Window

Rows = NDArray[np.int64]
_NEVER = np.iinfo(np.int64).max
_BEFORE = -(1 << 62)


@dataclass(frozen=True, slots=True, eq=False)
class _Occurrences:
    """When a predicate was satisfied: times, by subject. `offsets` [S+1] is where each subject's begin."""

    times: Rows
    offsets: Rows

    def before(self, owner: Rows, moment: Rows, inclusive: bool) -> Rows:
        """Return the place after the last time before (or at, if `inclusive`) each moment [R], by bisection."""
        low, high = self.offsets[owner].copy(), self.offsets[owner + 1].copy()
        while (open_ := low < high).any():
            middle = np.minimum((low + high) // 2, max(len(self.times) - 1, 0))
            time = self.times[middle] if len(self.times) else moment
            earlier = (time <= moment) if inclusive else (time < moment)
            low = np.where(open_ & earlier, middle + 1, low)
            high = np.where(open_ & ~earlier, middle, high)
        return low

    def at(self, owner: Rows, place: Rows) -> Rows:
        """Return the time at a place, _NEVER where it is not the subject's."""
        inside = (place >= self.offsets[owner]) & (place < self.offsets[owner + 1])
        held = self.times if len(self.times) else np.full(1, _NEVER)
        return np.where(inside, held[np.clip(place, 0, len(held) - 1)], _NEVER)


class Record:
    """Records of many subjects, as a task reads them. `events`: MEDS rows in any order."""

    def __init__(self, events: pl.DataFrame, task: AcesTask) -> None:
        self.task = task
        dated = events.filter(pl.col("time").is_not_null() & (pl.col("code") != BIRTH))
        self.subjects: Rows = events["subject_id"].unique().sort().to_numpy()
        codes = dated["code"].cast(pl.String).unique().to_list()
        self._dated, self._codes = dated, codes
        self._found: dict[str, _Occurrences] = {}
        lives = dated.group_by("subject_id").agg(
            first=pl.col("time").min(),
            last=pl.col("time").max(),
            death=pl.col("time").filter(pl.col("code") == DEATH).min(),
            end=pl.col("time").filter(pl.col("code") == RECORD_END).min(),
        )
        lives = pl.DataFrame({"subject_id": self.subjects}).join(
            lives, on="subject_id", how="left", maintain_order="left"
        )
        self.first, self.last, self.death, self.end = (
            microseconds(lives[name]) for name in ("first", "last", "death", "end")
        )

    def occurrences(self, name: str) -> _Occurrences:
        """Return when a predicate was satisfied: once an event for a plain one, once a moment for a derived one."""
        if name not in self._found:
            self._found[name] = self._occurrences(name)
        return self._found[name]

    def _occurrences(self, name: str) -> _Occurrences:
        columns = ["subject_id", "time"]
        if name == START:
            found = self._dated.group_by("subject_id").agg(pl.col("time").min())
        elif name == END:
            found = self._dated.group_by("subject_id").agg(pl.col("time").max())
        elif name == ANY:
            found = self._dated.filter(pl.col("code") != RECORD_END).select(columns).unique()
        else:
            predicate = self.task.predicates[name]
            if isinstance(predicate, Both):
                masks = [self._mask(part).alias(part) for part in predicate.names]
                found = self._dated.group_by(columns).agg(*(mask.any() for mask in masks))
                found = found.filter(pl.all_horizontal(*predicate.names))
            else:
                found = self._dated.filter(predicate.on(self._codes)).select(columns)
                found = found.unique() if len(predicate.any_of) > 1 else found
        found = found.select(columns).sort(columns)
        owner = np.searchsorted(self.subjects, found["subject_id"].to_numpy())
        offsets = np.searchsorted(owner, np.arange(len(self.subjects) + 1))
        return _Occurrences(microseconds(found["time"]), offsets)

    def _mask(self, name: str) -> pl.Expr:
        predicate = self.task.predicates[name]
        assert not isinstance(predicate, Both), "derived predicates are made of plain ones"
        return predicate.on(self._codes)


def realise(events: pl.DataFrame, task: AcesTask, triggers: pl.DataFrame | None = None) -> pl.DataFrame:
    """Carry out a task: one row a trigger whose windows satisfy the task.

    `triggers` (subject_id, trigger_time) says which triggers to look at; by default all. Returns `subject_id`,
    `trigger_time`, `prediction_time` and `boolean_value`, null where observation ends before the label's window does.
    Moments of prediction at or after death are left out, as are windows whose bounding event never came.
    """
    record = Record(events, task)
    if triggers is None:
        found = record.occurrences(task.trigger)
        owner = np.repeat(np.arange(len(record.subjects)), np.diff(found.offsets))
        pairs = np.unique(np.stack([owner, found.times], axis=1), axis=0) if len(owner) else np.zeros((0, 2), np.int64)
        owner, asked = pairs[:, 0], pairs[:, 1]
    else:
        owner = np.searchsorted(record.subjects, triggers["subject_id"].to_numpy())
        asked = microseconds(triggers["trigger_time"])
    bounds: dict[str, Rows] = {}
    valid = np.ones(len(owner), dtype=bool)
    for name, window in task.windows.items():
        start, end = (_resolve(record, name, side, owner, asked, bounds) for side in ("start", "end"))
        valid &= (start != _NEVER) & (end != _NEVER) & (start <= end)
        for predicate, (least, most) in window.has.items():
            count = _count(record, window, predicate, owner, start, end)
            valid &= (count >= (least or 0)) & (count <= (_NEVER if most is None else most))
    index = _resolve(record, *task.index, owner, asked, bounds)
    window = task.windows[task.label_window]
    start, until = bounds[f"{window.name}.start"], bounds[f"{window.name}.end"]
    occurred = _count(record, window, task.label, owner, start, until) > 0
    known = _known(record, owner, until, occurred)
    death = record.death[owner]
    valid &= (index != _NEVER) & ((death == MISSING) | (index < death))
    table = pl.DataFrame(
        {
            "subject_id": record.subjects[owner],
            "trigger_time": pl.Series(asked).cast(pl.Datetime("us")),
            "prediction_time": pl.Series(np.where(valid, index, 0)).cast(pl.Datetime("us")),
            "boolean_value": pl.select(pl.when(pl.Series(known)).then(pl.Series(occurred))).to_series(),
        }
    )
    return table.filter(pl.Series(valid))


def _known(record: Record, owner: Rows, until: Rows, occurred: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Say whether the label's window closed in sight, by the rule of tasks.label."""
    end, death, last = record.end[owner], record.death[owner], record.last[owner]
    stated = (end != MISSING) & ((death == MISSING) | (end > death))
    closes = np.where(stated, end, last) >= until
    died = (death != MISSING) & (death <= until)
    known: NDArray[np.bool_] = closes | (~stated & (died | occurred))
    return known


def _resolve(record: Record, name: str, side: str, owner: Rows, asked: Rows, bounds: dict[str, Rows]) -> Rows:
    """Return the times [R] of a window's side, _NEVER where its event does not come."""
    key = f"{name}.{side}"
    if key not in bounds:
        window = record.task.windows[name]
        bound: Bound | None = getattr(window, side)
        if bound is None:
            bounds[key] = np.full(len(owner), _BEFORE) if side == "start" else record.last[owner]
        else:
            bounds[key] = _moved(record, window, bound, side, owner, asked, bounds)
    return bounds[key]


def _moved(
    record: Record, window: Window, bound: Bound, side: str, owner: Rows, asked: Rows, bounds: dict[str, Rows]
) -> Rows:
    if bound.base == "trigger":
        base = asked
    else:
        home, which = (window.name, bound.base) if bound.base in ("start", "end") else bound.base.split(".")
        base = _resolve(record, home, which, owner, asked, bounds)
    if bound.event is None:
        return np.where(base == _NEVER, _NEVER, base + round(bound.days * DAY))
    found = record.occurrences(bound.event)
    if bound.forward:
        inclusive = window.start_inclusive if side == "end" else window.end_inclusive
        return found.at(owner, found.before(owner, base, inclusive=not inclusive))
    inclusive = window.end_inclusive if side == "start" else window.start_inclusive
    return found.at(owner, found.before(owner, base, inclusive=inclusive) - 1)


def _count(record: Record, window: Window, predicate: str, owner: Rows, start: Rows, end: Rows) -> Rows:
    found = record.occurrences(predicate)
    first = found.before(owner, start, inclusive=not window.start_inclusive)
    count: Rows = np.maximum(found.before(owner, end, inclusive=window.end_inclusive) - first, 0)
    return count
