"""Values in one unit a code. Training data (settle, publish) go through `canonical`, a live chart through its twin.

Which unit: for a LOINC code of canonical_units.csv, that one; for any other, the unit that the data set mostly uses, if
the caller names it. A value outside the plausible limits stays as it is and is marked in `text_value`. Factors are
found once a (code, unit) pair and applied by a join, so the cost is that of the join.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from ctypes import c_float
from dataclasses import dataclass
from functools import cache, lru_cache
from math import isfinite
from typing import Any, NamedTuple

import polars as pl

from lifechart.core.timeline import IMPLAUSIBLE
from lifechart.data.units import conversion, marks, spellings

CONVERSIONS: dict[str, Any] = {
    "code": pl.String,
    "written": pl.String,
    "unit": pl.String,
    "factor": pl.Float64,
    "offset": pl.Float64,
}
"""Columns of metadata/units.parquet: value in `unit` = value as `written` * factor + offset."""

_RULE = {**CONVERSIONS, "low": pl.Float64, "high": pl.Float64, "outcome": pl.String}
CONVERTED, RESPELLED, UNCONVERTED, UNITLESS = "converted", "unit respelled", "not convertible", "no unit"
_READ = ("code", "numeric_value", "text_value", "unit")
CHANGED = (CONVERTED, RESPELLED)
_PAIRS = 65_536


class Converted(NamedTuple):
    """What became of some events."""

    events: pl.DataFrame
    counts: Counter[str]
    """converted, unit respelled, not convertible (values of a listed code that stay in their unit), no unit (of a
    listed code), implausible -> values."""
    conversions: pl.DataFrame
    """Columns CONVERSIONS: what was done, a row a pair of code and unit as written. Units of no table are not in it."""


@dataclass(frozen=True, slots=True)
class Canonical:
    """A row of canonical_units.csv."""

    unit: str
    analyte: str
    per: str
    low: float
    high: float


@cache
def listed() -> dict[str, Canonical]:
    """Return canonical_units.csv by code (`LOINC//…`)."""
    return {
        f"LOINC//{row['loinc']}": Canonical(
            row["unit"], row["analyte"], row["per"], float(row["low"]), float(row["high"])
        )
        for row in spellings.rows("canonical_units.csv")
    }


def canonical(events: pl.DataFrame, usual: Mapping[str, str] | None = None) -> Converted:
    """Return events with values in one unit a code.

    `events`: any frame with columns code, numeric_value, unit, text_value; others pass through. `usual`: code -> unit
    for codes that are not listed; without it their units are only respelled. Doing it twice changes nothing more.
    """
    pairs = events.select("code", "unit").filter(pl.col("unit").is_not_null()).unique().sort("code", "unit")
    usual = usual or {}
    found = [_rule(code, unit, usual.get(code)) for code, unit in pairs.iter_rows()]
    rules = pl.DataFrame([rule for rule in found if rule is not None], schema=_RULE, orient="row")
    lacking = pl.col("unit").is_null() & pl.col("numeric_value").is_not_null() & pl.col("code").is_in(list(listed()))
    unitless = events.select(lacking.sum()).item()
    counts = Counter({UNITLESS: unitless})
    if not rules.height and events.get_column("numeric_value").is_finite().all():
        return Converted(events, +counts, pl.DataFrame(schema=CONVERSIONS))
    # Only these columns, so that no other of the caller's can share a name with a rule's.
    joined = events.select(_READ).join(
        rules.rename({"unit": "wanted", "written": "unit"}), on=["code", "unit"], how="left", maintain_order="left"
    )
    measured = pl.col("numeric_value").is_not_null()
    exact = pl.col("numeric_value").cast(pl.Float64) * pl.col("factor") + pl.col("offset")
    value = pl.when(pl.col("outcome") == CONVERTED).then(exact.cast(pl.Float32)).otherwise("numeric_value")
    warned = marks.is_implausible(pl.col("text_value"))
    odd = (value < pl.col("low").cast(pl.Float32)) | (value > pl.col("high").cast(pl.Float32)) | ~value.is_finite()
    said = _written_ranges(joined)
    worked = joined.with_columns(
        numeric_value=value,
        text_value=pl.when((odd & ~warned).fill_null(False)).then(marks.with_implausible(said)).otherwise(said),
        unit=pl.coalesce("wanted", "unit"),
        odd=odd.fill_null(False),
    )
    outcomes = worked.filter(measured & pl.col("outcome").is_not_null()).get_column("outcome").value_counts()
    counts.update({outcome: number for outcome, number in outcomes.iter_rows() if outcome})
    counts[IMPLAUSIBLE] += int(worked.get_column("odd").sum())
    done = rules.filter(pl.col("outcome").is_in(CHANGED)).select(list(CONVERSIONS))
    shown = pl.Series([spellings.is_listed(written) for written in done.get_column("written")], dtype=pl.Boolean)
    changed = worked.select("numeric_value", "text_value", "unit")
    return Converted(events.with_columns(changed.get_columns()), +counts, done.filter(shown))


def canonical_one(
    code: str, value: float | None, unit: str | None, text: str | None
) -> tuple[float | None, str | None, str | None]:
    """Return (value, unit, text_value) of one event as `canonical` leaves it: the plain form, for a live chart.

    `value`: a Float32's.
    """
    rule = _rule(code, unit, None) if unit is not None else None
    low = high = None
    if rule is not None:
        _, _, unit, factor, offset, low, high, outcome = rule
        if outcome == CONVERTED:
            value = single(None if value is None else value * factor + offset)
            if text is not None and marks.is_range(text):
                text = marks.scaled_range(text, conversion.Linear(factor, offset))
    if value is None or (text or "").endswith(IMPLAUSIBLE):
        return value, unit, text
    within = low is None or high is None or c_float(low).value <= value <= c_float(high).value
    odd = not (isfinite(value) and within)
    return value, unit, f"{text} {IMPLAUSIBLE}" if odd and text is not None else IMPLAUSIBLE if odd else text


def single(value: float | None) -> float | None:
    """Return a number as a Float32 column holds it."""
    return None if value is None else c_float(value).value


def in_units(events: pl.DataFrame, wanted: pl.Series) -> pl.Series:
    """Return each event's value in the unit that `wanted` names for it: what a model learnt its code in.

    `events`: columns code, numeric_value, unit. A value without unit, or that no unit is wanted for, stays; one that
    cannot be converted becomes null.
    """
    values, written = events.get_column("numeric_value"), events.get_column("unit")
    differs = written.is_not_null() & wanted.is_not_null() & (written != wanted) & values.is_not_null()
    if not differs.any():
        return values
    rows = differs.arg_true()
    cases = zip(events.get_column("code").gather(rows), written.gather(rows), wanted.gather(rows), strict=True)
    found = [_between(*case) for case in cases]
    converted = [None if step is None else step(value) for step, value in zip(found, values.gather(rows), strict=True)]
    return values.clone().scatter(rows, pl.Series(converted, dtype=values.dtype))


def _between(code: str, written: str, wanted: str) -> conversion.Linear | None:
    row = listed().get(code)
    analyte, per = (row.analyte, row.per) if row is not None else ("", "")
    steps = (conversion.between(unit, wanted, analyte, per) for unit in spellings.candidates(written))
    return next((step for step in steps if step is not None), None)


def usual_units(pairs: pl.DataFrame) -> dict[str, str]:
    """Return the unit that most events of each unlisted code have, where there are several.

    `pairs`: columns code, unit, num. Of equally frequent units the first in the alphabet; a unit in several spellings
    counts as one.
    """
    meant = pairs.with_columns(
        unit=pl.col("unit").replace_strict(
            {unit: spellings.meant(unit) for unit in pairs.get_column("unit").unique()}, return_dtype=pl.String
        )
    )
    summed = meant.filter(~pl.col("code").is_in(list(listed()))).group_by("code", "unit").agg(pl.col("num").sum())
    several = summed.filter(pl.len().over("code") > 1).sort("num", "unit", descending=[True, False])
    return dict(several.unique("code", keep="first", maintain_order=True).select("code", "unit").iter_rows())


@lru_cache(maxsize=_PAIRS)
def _rule(code: str, written: str, usual: str | None) -> tuple[Any, ...] | None:
    """Return a row of _RULE for a pair, or None if there is nothing to do or check."""
    row = listed().get(code)
    if row is None:
        return _unlisted(code, written, usual)
    for unit in spellings.candidates(written):
        found = conversion.between(unit, row.unit, row.analyte, row.per)
        if found is not None:
            outcome = CONVERTED if found != conversion.SAME else RESPELLED if row.unit != written else ""
            return (code, written, row.unit, found.factor, found.offset, row.low, row.high, outcome)
    return (code, written, spellings.meant(written), 1.0, 0.0, None, None, UNCONVERTED)


def _unlisted(code: str, written: str, usual: str | None) -> tuple[Any, ...] | None:
    if usual is not None and usual != written:
        for unit in spellings.candidates(written):
            found = conversion.between(unit, usual)
            # What an annotation leaves out may be all the difference, where no code says what was measured.
            if found is not None and _notes(unit) == _notes(usual):
                outcome = CONVERTED if found != conversion.SAME else RESPELLED
                return (code, written, usual, found.factor, found.offset, None, None, outcome)
    unit = spellings.meant(written)
    return None if unit == written else (code, written, unit, 1.0, 0.0, None, None, RESPELLED)


def _notes(unit: str) -> list[str]:
    return conversion.ANNOTATION.findall(unit)


def _written_ranges(joined: pl.DataFrame) -> pl.Expr:
    """Return `text_value` with the ends of written ranges (`5-10`) in the unit that the value is now in."""
    ranges = joined.filter((pl.col("outcome") == CONVERTED) & marks.holds_range(pl.col("text_value")))
    if not ranges.height:
        return pl.col("text_value")
    keys = ("text_value", "factor", "offset")
    ends = {
        key: marks.scaled_range(key[0], conversion.Linear(key[1], key[2]))
        for key in ranges.select(keys).unique().iter_rows()
    }
    found = [ends.get(key, key[0]) for key in joined.select(keys).iter_rows()]
    return pl.lit(pl.Series(found, dtype=pl.String))
