"""What may stand beside a number in `text_value`: how it was censored or written, how the record judges it, a warning.

A closed set, so nothing else can reach a data set that way: a comparator, a range (`5-10`) or a titre (`1:160`) as
written; then an interpretation; then IMPLAUSIBLE.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import polars as pl

from lifechart.core.timeline import COMPARATORS, IMPLAUSIBLE

INTERPRETATIONS = ("LL", "L", "N", "H", "HH", "A", "AA")
"""HL7 v3 ObservationInterpretation, of numbers: critically low, low, normal, high, critically high, abnormal."""

_END = r"\d{1,3}(?:\.\d{1,4})?"
_COMPARATOR = "|".join(COMPARATORS)
_WRITTEN = rf"(?:{_COMPARATOR})|{_END}-{_END}|(?:{_COMPARATOR})?1:\d{{1,6}}"
_MARKS = rf"^(?:{_WRITTEN})?(?:^| |$)(?:{'|'.join(INTERPRETATIONS)})?(?:^| |$)(?:{IMPLAUSIBLE})?$"
_RANGE = rf"^{_END}-{_END}(?: |$)"
_ONE_RANGE = re.compile(rf"{_END}-{_END}(?: |\Z)")


def allowed(text: pl.Expr) -> pl.Expr:
    """Return what stands beside numbers if it is of the closed set, and null for whatever is not."""
    return pl.when(text.str.contains(_MARKS) & (text.str.len_bytes() > 0)).then(text)


def is_implausible(text: pl.Expr) -> pl.Expr:
    """Return whether a number is marked as implausible."""
    return text.str.ends_with(IMPLAUSIBLE).fill_null(False)


def with_implausible(text: pl.Expr) -> pl.Expr:
    """Return the text with the warning behind it."""
    return pl.concat_str([text, pl.lit(IMPLAUSIBLE)], separator=" ", ignore_nulls=True)


def holds_range(text: pl.Expr) -> pl.Expr:
    """Return whether the text is a range as written."""
    return text.str.contains(_RANGE).fill_null(False)


def is_range(text: str) -> bool:
    """Return `holds_range` of one text.

    >>> is_range("5-10 H"), is_range("5-10H")
    (True, False)
    """
    return _ONE_RANGE.match(text) is not None


def scaled_range(text: str, convert: Callable[[float], float]) -> str:
    """Return a written range, and what follows it, with its ends converted.

    >>> scaled_range("5-10 H", lambda value: value * 2)
    '10-20 H'
    """
    ends, mark, rest = text.partition(" ")
    low, high = (convert(float(end)) for end in ends.split("-"))
    return f"{low:.4g}-{high:.4g}{mark}{rest}"


def judge(value: float, low: float | None, high: float | None, comparator: str | None = None) -> str | None:
    """Return L, N or H of a value against a reference range (either end may be open), or None where it does not say.

    A censored value is only judged where its limit decides.

    >>> judge(7.2, 3.5, 5.1), judge(5, 10, 20, "<"), judge(15, 10, 20, "<"), judge(1, None, None)
    ('H', 'L', None, None)
    """
    if low is None and high is None:
        return None
    if comparator in ("<", "<="):
        return "L" if low is not None and (value < low or (comparator == "<" and value == low)) else None
    if comparator in (">", ">="):
        return "H" if high is not None and (value > high or (comparator == ">" and value == high)) else None
    if low is not None and value < low:
        return "L"
    return "H" if high is not None and value > high else "N"


def judgement(comparator: pl.Expr) -> pl.Expr:
    """Return `judge` of the columns numeric_value, low, high; `comparator`: the value's, or null."""
    value, low, high = pl.col("numeric_value"), pl.col("low"), pl.col("high")
    below, above = comparator.is_in(["<", "<="]), comparator.is_in([">", ">="])
    lies_low = (value < low) | ((comparator == "<") & (value == low))
    lies_high = (value > high) | ((comparator == ">") & (value == high))
    return (
        pl.when(low.is_null() & high.is_null())
        .then(None)
        .when(below)
        .then(pl.when(lies_low).then(pl.lit("L")))
        .when(above)
        .then(pl.when(lies_high).then(pl.lit("H")))
        .when(value < low)
        .then(pl.lit("L"))
        .when(value > high)
        .then(pl.lit("H"))
        .otherwise(pl.lit("N"))
    )
