"""Quasi-identifiers and attackers as a table (identifiers.toml): one row a subject, coarser forms, scenarios."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from lifechart.core.errors import InputError
from lifechart.core.timeline import BIRTH

DEFAULT = Path(__file__).with_name("identifiers.toml")
_READS = ("code", "date", "age", "number", "held")
_DAYS_A_YEAR = 365.25
LEFT_OUT = "left out"
"""The last rung of every ladder."""


@dataclass(frozen=True, slots=True)
class Identifier:
    """One thing that somebody outside could know of a patient."""

    name: str
    title: str
    read: str
    """`code`, `date`, `age`, `number` or `held`: see identifiers.toml."""
    code: str = ""
    prefix: str = ""
    by: str = "year"
    moves: bool = False
    """Whether the shift of dates moves it, so that an attacker's knowledge fits only to within the shift."""
    ladder: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True)
class Scenario:
    """What one sort of attacker knows."""

    name: str
    title: str
    knows: str
    identifiers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """identifiers.toml, checked."""

    source: str
    review_by: date
    identifiers: tuple[Identifier, ...]
    scenarios: tuple[Scenario, ...]

    def named(self, names: Sequence[str]) -> list[Identifier]:
        """Return the identifiers of these names."""
        return [each for each in self.identifiers if each.name in names]


def load(path: Path | None = None) -> Table:
    """Read a table of identifiers and scenarios; raises InputError that names what is wrong."""
    path = path or DEFAULT
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        found = tuple(Identifier(**row | {"ladder": tuple(row.get("ladder", ()))}) for row in content["identifier"])
        scenarios = tuple(Scenario(**row | {"identifiers": tuple(row["identifiers"])}) for row in content["scenario"])
        table = Table(content["source"], content["review_by"], found, scenarios)
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise InputError("identifiers", str(path), f"a table as in identifiers.toml ({error})") from error
    known = {each.name for each in table.identifiers}
    for each in table.identifiers:
        if each.read not in _READS or not (each.code or each.prefix):
            raise InputError(f"identifier {each.name}", each.read, f"one of {_READS}, with a code or a prefix")
    for scenario in table.scenarios:
        if missing := set(scenario.identifiers) - known:
            raise InputError(f"scenario {scenario.name}", sorted(missing), f"names of {sorted(known)}")
    return table


def people_of(events: pl.DataFrame, identifiers: Sequence[Identifier]) -> pl.DataFrame:
    """Return one row a subject, sorted by id: subject_id, one column an identifier, and `NAME.date` where one moves.

    Dates are cut to their year or month (as whole numbers); what a record does not hold is null.
    """
    birth = pl.col("time").filter(pl.col("code") == BIRTH).first()
    columns: dict[str, pl.Expr] = {}
    for each in identifiers:
        code = pl.col("code")
        ours = (code == each.code) if each.code else code.str.starts_with(each.prefix)
        first = pl.col("time").filter(ours).min()
        if each.read == "code":
            # The smallest, so that several values of one subject give the same row whatever their order.
            columns[each.name] = code.filter(ours).min().str.strip_prefix(each.prefix)
        elif each.read == "date":
            columns[each.name] = _cut(first, each.by)
        elif each.read == "age":
            columns[each.name] = ((first - birth).dt.total_days() / _DAYS_A_YEAR).floor().cast(pl.Int64)
        elif each.read == "number":
            columns[each.name] = ours.sum().cast(pl.Int64)
        else:
            columns[each.name] = ours.any()
        if each.moves:
            columns[f"{each.name}.date"] = first
    return events.group_by("subject_id").agg(**columns).sort("subject_id")


def _cut(time: pl.Expr, by: str) -> pl.Expr:
    year = time.dt.year().cast(pl.Int64)
    if by == "year":
        return year
    if by == "month":
        return year * 12 + time.dt.month().cast(pl.Int64)
    return time.dt.epoch("d").cast(pl.Int64)


def rungs(identifier: Identifier) -> tuple[str | int, ...]:
    """Return the coarser forms of an identifier, the coarsest (leaving it out) last."""
    return (*identifier.ladder, LEFT_OUT)


def coarser(column: pl.Expr, identifier: Identifier, rung: str | int) -> pl.Expr:
    """Return a column of `people_of` on a rung of its ladder."""
    if rung == LEFT_OUT:
        return pl.lit(None)
    if isinstance(rung, int):
        return column // rung * rung
    if rung == "year" and identifier.by == "month":
        return (column - 1) // 12
    words = rung.split()
    if words[0] == "first":
        return column.str.slice(0, int(words[1]))
    if words[1:] == ["or", "more"]:
        return column.clip(upper_bound=int(words[0]))
    raise InputError(f"identifier {identifier.name}: ladder", rung, "a width, `first N`, `N or more` or `year`")


def rung_in_words(identifier: Identifier, rung: str | int) -> str:
    """Return what a remedy does, for a page."""
    if rung == LEFT_OUT:
        return f"{identifier.title}: left out"
    if isinstance(rung, int):
        return f"{identifier.title}: in steps of {rung}"
    if rung.startswith("first"):
        return f"{identifier.title}: its {rung} characters only"
    return f"{identifier.title}: {rung}"
