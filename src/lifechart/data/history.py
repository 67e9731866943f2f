"""Row arithmetic on many subjects' events: where each prompt cuts each history. Labels and features both rest on it.

Legend of shapes: N events, S subjects, P prompts.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.core.timeline import BIRTH, DEATH, RECORD_END, believable

Rows = NDArray[np.int64]

MISSING = np.iinfo(np.int64).min
"""Stands for "no time": before every date, so that undated events are always known."""
DAY = 86_400_000_000
"""Microseconds in a day; all times here are int64 microseconds since 1970."""


class History:
    """Events of many subjects in one sorted order, so that "known at t" is a slice of rows.

    `events`: MEDS rows in any order (`subject_id`, `time`, `code`, and `numeric_value` if there is one).
    Attributes: `subjects` [S] rising ids; `offsets` [S+1] the rows where each subject's events begin;
    `times`, `values` [N] of the sorted rows.
    """

    def __init__(self, events: pl.DataFrame) -> None:
        events = events.sort("subject_id", "time", maintain_order=True, nulls_last=False)
        owners = events["subject_id"].to_numpy()
        self.subjects, first = np.unique(owners, return_index=True)
        self.offsets: Rows = np.append(first, len(owners)).astype(np.int64)
        self.times: Rows = events["time"].cast(pl.Datetime("us")).cast(pl.Int64).fill_null(MISSING).to_numpy()
        if "numeric_value" in events.columns:
            values = events.select(believable()) if "text_value" in events.columns else events
            self.values = values["numeric_value"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        else:
            self.values = np.full(len(owners), np.nan)
        codes = events["code"].cast(pl.String)
        self._names = codes.unique().sort().to_list()
        self._number = {name: number for number, name in enumerate(self._names)}
        numbers = codes.replace_strict(self._number, return_dtype=pl.Int32).to_numpy() if self._names else np.empty(0)
        self._order = np.argsort(numbers, kind="stable")
        self._starts = np.searchsorted(numbers[self._order], np.arange(len(self._names) + 1))

    @property
    def codes(self) -> list[str]:
        """Every code that occurs, sorted."""
        return self._names

    def rows(self, code: str) -> Rows:
        """Return the rising rows that hold `code`; none if it does not occur."""
        number = self._number.get(code)
        if number is None:
            return np.empty(0, np.int64)
        return self._order[self._starts[number] : self._starts[number + 1]]

    def owner(self, subject_ids: NDArray[np.int64]) -> Rows:
        """Return each subject's position in `subjects`; an id without events is a programmer's fault."""
        position = np.searchsorted(self.subjects, subject_ids)
        assert (self.subjects[np.minimum(position, len(self.subjects) - 1)] == subject_ids).all(), "unknown subject"
        return position

    def cut(self, owner: Rows, moments: Rows) -> Rows:
        """Return for each (subject, moment) the row after its last event with time <= moment.  Shapes [P] -> [P].

        One sort of events and prompts together; slices `offsets[owner]:cut` are what was known.
        """
        all_owners = np.concatenate([self.owners, owner])
        all_times = np.concatenate([self.times, moments])
        is_prompt = np.concatenate([np.zeros(len(self.times), np.int8), np.ones(len(owner), np.int8)])
        order = np.lexsort((is_prompt, all_times, all_owners))
        seen = np.cumsum(is_prompt[order] == 0)
        result = np.empty(len(order), np.int64)
        result[order] = seen
        return result[len(self.times) :]

    def first_time(self, code: str) -> Rows:
        """Return the time of each subject's first `code`, MISSING where there is none.  Shape [S]."""
        rows = self.rows(code)
        owner = np.searchsorted(self.offsets, rows, side="right") - 1
        owner, first = np.unique(owner, return_index=True)
        result = np.full(len(self.subjects), MISSING)
        result[owner] = self.times[rows[first]]
        return result

    def last_time(self) -> Rows:
        """Return the time of each subject's last event of any kind.  Shape [S]."""
        return self.times[self.offsets[1:] - 1]

    @cached_property
    def owners(self) -> Rows:
        """Position in `subjects` of each row's subject.  Shape [N]."""
        return np.repeat(np.arange(len(self.subjects)), np.diff(self.offsets))

    @cached_property
    def dated(self) -> Rows:
        """Each subject's first row with a time; the last row where none has one.  Shape [S]."""
        undated = np.add.reduceat((self.times == MISSING).astype(np.int64), self.offsets[:-1])
        return np.minimum(self.offsets[:-1] + undated, self.offsets[1:] - 1)

    @property
    def births(self) -> Rows:
        """When each subject was born, MISSING where unknown.  Shape [S]."""
        return self.first_time(BIRTH)

    @property
    def deaths(self) -> Rows:
        """When each subject died, MISSING where not.  Shape [S]."""
        return self.first_time(DEATH)

    @property
    def ends(self) -> Rows:
        """When each subject's observation stops, MISSING where the record does not say.  Shape [S]."""
        return self.first_time(RECORD_END)


def microseconds(times: pl.Series) -> Rows:
    """Return datetimes as int64 microseconds; null becomes MISSING."""
    return times.cast(pl.Datetime("us")).cast(pl.Int64).fill_null(MISSING).to_numpy()
