"""One patient's events in time order: the noun that every stage reads. Columnar and immutable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from lifechart.core.errors import InputError

BIRTH = "MEDS_BIRTH"
DEATH = "MEDS_DEATH"
RECORD_END = "RECORD_END"
"""Where observation stops (the export's date): it censors labels and is never shown to a model."""

COMPARATORS = ("<", "<=", ">=", ">")
IMPLAUSIBLE = "implausible"
"""Last word of the `text_value` of a number outside its code's plausible limits. It stays as it was written."""

COLUMNS: Mapping[str, Any] = {
    "time": pl.Datetime("us"),
    "code": pl.String,
    "numeric_value": pl.Float32,
    "text_value": pl.String,
    "unit": pl.String,
    "kind": pl.String,
    "reference": pl.String,
}
"""The columns of a timeline. `time` is null for what has no date (sex, ancestry); `reference` names the chart item
that an event came from ("Observation/17") and is absent from de-identified data. `text_value` is the result in words
or, beside a number, what stood with it: `<`, `>=`, `5-10`, `1:160`, `H`, IMPLAUSIBLE."""

KINDS = (
    "demographic",
    "encounter",
    "condition",
    "laboratory",
    "vital",
    "survey",
    "medication",
    "procedure",
    "immunization",
    "allergy",
    "report",
    "note",
    "imaging",
    "family_history",
    "care_plan",
    "order",
    "administrative",
    "device",
    "genomic",
    "death",
    "record",
)
"""What sort of chart item an event came from. Outcomes are found among `condition`, `encounter` and `death`."""

UNDATED = ("demographic", "genomic")
"""Kinds whose events need no date: they hold for the whole life."""


def limit_of(beside: str | None) -> str:
    """Return the comparator that stands beside a number, or nothing.

    >>> limit_of("<= L"), limit_of("H"), limit_of(None)
    ('<=', '', '')
    """
    first = (beside or "").split(" ")[0]
    return first if first in COMPARATORS else ""


def believable() -> pl.Expr:
    """Return the numeric values, null where they are marked implausible: what a model should read of them."""
    marked = pl.col("text_value").str.ends_with(IMPLAUSIBLE).fill_null(False)
    return pl.when(~(marked & pl.col("numeric_value").is_not_null())).then("numeric_value")


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """One patient's events, sorted by time with undated events first.

    `events` holds exactly COLUMNS. Times are naive: wall-clock at the place of care, shifted in de-identified data.
    """

    subject_id: int
    events: pl.DataFrame

    def __post_init__(self) -> None:
        if dict(self.events.schema) != dict(COLUMNS):
            raise InputError("Timeline.events", dict(self.events.schema), f"the columns {list(COLUMNS)}")
        if not self.events.get_column("time").is_sorted(nulls_last=False):
            raise InputError("Timeline.events", "events out of order", "events sorted by time, undated first")

    @classmethod
    def of(cls, subject_id: int, events: Iterable[Mapping[str, Any]] | pl.DataFrame) -> Timeline:
        """Build a timeline from rows or a frame in any order; columns that are missing become null."""
        if not isinstance(events, pl.DataFrame):
            rows = list(events)
            frame = pl.DataFrame(rows, schema_overrides=COLUMNS) if rows else pl.DataFrame(schema=dict(COLUMNS))
        else:
            frame = events
        columns = [
            (pl.col(name) if name in frame.columns else pl.lit(None)).cast(dtype).alias(name)
            for name, dtype in COLUMNS.items()
        ]
        return cls(subject_id, frame.select(columns).sort("time", maintain_order=True, nulls_last=False))

    def __len__(self) -> int:
        return self.events.height

    @property
    def birth(self) -> datetime | None:
        """When the patient was born, if the record says."""
        return self._first_time(BIRTH)

    @property
    def death(self) -> datetime | None:
        """When the patient died, if the record says."""
        return self._first_time(DEATH)

    @property
    def end(self) -> datetime | None:
        """The time of the last dated event."""
        last = self.events.get_column("time").max()
        return last if isinstance(last, datetime) else None

    def until(self, moment: datetime) -> Timeline:
        """Return what was known at `moment`: undated events and those at or before it."""
        end = self.end
        if end is None or end <= moment:
            return self
        known = pl.col("time").is_null() | (pl.col("time") <= moment)
        return Timeline(self.subject_id, self.events.filter(known))

    def shifted(self, offset: timedelta) -> Timeline:
        """Return the same life moved in time. A model's tokens of it must not change."""
        return Timeline(self.subject_id, self.events.with_columns(pl.col("time") + offset))

    def age_at(self, moment: datetime) -> float | None:
        """Return the age in years (of 365.25 days) at `moment`, or None if the birth is not recorded."""
        return None if self.birth is None else (moment - self.birth) / timedelta(days=365.25)

    def of_kind(self, *kinds: str) -> pl.DataFrame:
        """Return the events that came from these kinds of chart item."""
        return self.events.filter(pl.col("kind").is_in(kinds))

    def _first_time(self, code: str) -> datetime | None:
        # Series, not a query: a chart is asked for these many times, and a query costs more than its rows.
        found = self.events.get_column("code") == code
        at = found.arg_max()
        return self.events.get_column("time")[at] if at is not None and found[at] else None
