"""Findings that must not wait for a forecast: the newest value of an analyte, held against a cited threshold."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from lifechart.core.errors import InputError
from lifechart.core.timeline import Timeline, limit_of

_TABLE = Path(__file__).with_suffix(".toml")


@dataclass(frozen=True, slots=True)
class RedFlag:
    """One row of red_flags.toml."""

    key: str
    says: str
    codes: frozenset[str]
    units: frozenset[str]
    source: str
    review_by: date
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise InputError(f"red flag {self.key}", (self.at_least, self.at_most), "one of at_least, at_most")

    def can_tell(self, beside: str | None) -> bool:
        """Say whether a value with this beside it is comparable: `<7` does not say whether 6.5 was reached."""
        return not limit_of(beside).startswith("<" if self.at_least is not None else ">")

    def holds(self, value: float) -> bool:
        """Say whether `value` is past the threshold. The threshold itself counts as past it."""
        # A float32 of 6.4999998 was written as 6.5 in the chart, so values are compared at the table's precision.
        rounded = round(value, 4)
        return rounded >= self.at_least if self.at_least is not None else rounded <= (self.at_most or 0.0)


@dataclass(frozen=True, slots=True)
class RedFlags:
    """The table: its flags, how far back they look and from what age (years) they hold."""

    flags: tuple[RedFlag, ...]
    within: timedelta
    from_age: float


@dataclass(frozen=True, slots=True)
class Raised:
    """A flag that holds, and the chart item that raised it."""

    flag: RedFlag
    value: float
    unit: str
    time: datetime
    code: str
    reference: str | None


@cache
def load(path: Path = _TABLE) -> RedFlags:
    """Read a table of red flags; raises InputError if a row is not one."""
    content: dict[str, Any] = tomllib.loads(path.read_text())
    try:
        flags = tuple(
            RedFlag(**{**row, "codes": frozenset(row["codes"]), "units": frozenset(row["units"])})
            for row in content["flag"]
        )
        return RedFlags(flags, timedelta(hours=content["within_hours"]), float(content["from_age"]))
    except (KeyError, TypeError) as error:
        raise InputError("red flags", path.name, f"rows as the file's own head says ({error})") from error


def raised(timeline: Timeline, as_of: datetime, table: RedFlags | None = None) -> list[Raised]:
    """Return the flags that hold at `as_of`, in the table's order.

    Only the newest comparable value of a flag's codes counts: a potassium of 6.8 that was 4.6 on repeat raises nothing.
    Silent below the age that the table is for, and where the birth is not recorded the thresholds still apply.
    """
    table = table or load()
    age = timeline.age_at(as_of)
    if age is not None and age < table.from_age:
        return []
    recent = timeline.events.filter(
        pl.col("time").is_between(as_of - table.within, as_of)
        & pl.col("numeric_value").is_not_null()
        & pl.col("unit").is_not_null()
    )
    rows = recent.select("time", "code", "numeric_value", "unit", "reference", "text_value").rows()
    found = []
    for flag in table.flags:
        comparable = [row for row in rows if row[1] in flag.codes and row[3] in flag.units and flag.can_tell(row[5])]
        if comparable and flag.holds(comparable[-1][2]):
            time, code, value, unit, reference, _ = comparable[-1]
            found.append(Raised(flag, value, unit, time, code, reference))
    return found
