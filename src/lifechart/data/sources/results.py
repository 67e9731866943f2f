"""Results in words, and the one way in which each is written: `Pos.`, `+` and `POSITIVE` are all "positive".

The same list is the allow-list of de-identification: words that are not on it do not reach a data set. Words that hold
a number become one (`read`): `<5`, "less than 5", `5-10`, `1:160`, `7.2 mg/dL (H)`; what stood with the number stays
beside it in text_value (units.marks).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from functools import cache, lru_cache
from importlib import resources
from typing import Any, NamedTuple

import polars as pl

from lifechart.core.timeline import COMPARATORS
from lifechart.data.units import marks, single
from lifechart.data.units.spellings import is_listed

VALUE_KINDS = ("laboratory", "vital", "survey", "imaging", "procedure")
"""Kinds of event whose words may be a result; a note's never are."""

_WORDS = {
    "less than or equal to": "<=",
    "at most": "<=",
    "less than": "<",
    "below": "<",
    "under": "<",
    "greater than or equal to": ">=",
    "at least": ">=",
    "greater than": ">",
    "more than": ">",
    "above": ">",
    "over": ">",
    "≤": "<=",
    "=<": "<=",
    "≥": ">=",
    "=>": ">=",
}
_NUMBER = r"[+-]?(?:0|[1-9]\d*)?(?:[.,]\d+)*(?:[eE][+-]?\d{1,2})?"
_RESULT = re.compile(rf"(?P<comparator><=|>=|<|>)?\s*(?P<number>{_NUMBER})(?P<rest>[^\d.,].*)?")
_RANGE = re.compile(r"(?P<low>\d+(?:\.\d+)?)\s*(?:-|–|to)\s*(?P<high>\d+(?:\.\d+)?)(?P<rest>[^\d.,].*)?")
_TITRE = re.compile(r"(?P<comparator><=|>=|<|>)?\s*1\s*:\s*(?P<number>[1-9]\d{0,5})")
_FLAG = re.compile(r"(?:^|\s)\(?(?P<flag>HH|LL|H|L|N|A|AA|\*)\)?$")
_SAID = ("comparator", "low", "high", "flag")
UNSAID = (None, None, None, None)
"""What a record says of a value beside it, where it says nothing."""
_FLAG_WORDS = {
    "POS": "positive",
    "NEG": "negative",
    "IND": "indeterminate",
    "DET": "detected",
    "ND": "not detected",
    "S": "susceptible",
    "I": "intermediate",
    "R": "resistant",
}
"""Interpretations that are a result of their own, where there is no value."""
_READ = ("kind", "numeric_value", "unit", "text_value")
_LONGEST = 60
_LARGEST_RANGE = 1000.0
"""Ends of a written range are below this: `555-1234` and `2015-2016` are no results."""
_LARGEST_BARE, _YEARS = 10_000, (1900, 2100)
"""A whole number in words without comparator or unit is only believed below this, and never if it could be a year."""
_MOST_DECIMALS = 4
_LARGEST = 1e6


class Result(NamedTuple):
    """A result in words, understood."""

    value: float | None
    unit: str | None
    text: str | None
    """The words in their one spelling or, beside a number, what stood with it."""


NOTHING = Result(None, None, None)


@cache
def spellings() -> dict[str, str]:
    """Return the results as met in records, in lower case -> as written."""
    content = resources.files("lifechart.data.sources").joinpath("result_texts.csv").read_text(encoding="utf-8")
    return {row["text"]: row["written"] for row in csv.DictReader(content.splitlines())}


def as_written(text: str) -> str:
    """Return a result as written if it is on the list, else as it stands."""
    return spellings().get(text.strip().lower(), text)


def listed(text: pl.Expr) -> pl.Expr:
    """Return results as written, and null for whatever is not on the list."""
    return text.str.strip_chars().str.to_lowercase().replace_strict(spellings(), default=None, return_dtype=pl.String)


@lru_cache(maxsize=65_536)
def understood(text: str) -> Result:
    """Return what a result in words says; NOTHING if it is neither on the list nor a number in a known form.

    A range counts as its middle, a titre as the reciprocal. `1,200` may be 1200 or 1.2, so it is not understood; nor is
    a number with anything but a known unit behind it.

    >>> understood("less than 5 mg/dL")
    Result(value=5.0, unit='mg/dL', text='<')
    >>> understood("5-10").value, understood("1:160").text, understood("POS.").text
    (7.5, '1:160', 'positive')
    >>> understood("5 Main Street") == NOTHING
    True
    """
    stripped = text.strip()
    if (written := spellings().get(stripped.lower())) is not None:
        return Result(None, None, written)
    if not 0 < len(stripped) <= _LONGEST or not any(character in "0123456789" for character in stripped):
        return NOTHING
    plain = _symbols(stripped)
    for pattern, meaning in _FORMS:
        if (match := pattern.fullmatch(plain)) and (found := meaning(match)) is not None:
            return found
    return NOTHING


def _symbols(text: str) -> str:
    lower = text.lower()
    for words, symbol in _WORDS.items():
        if lower.startswith(words):
            return symbol + text[len(words) :]
    return text


def _titre(match: re.Match[str]) -> Result | None:
    return Result(float(match["number"]), None, f"{match['comparator'] or ''}1:{match['number']}")


def _range(match: re.Match[str]) -> Result | None:
    low, high = float(match["low"]), float(match["high"])
    behind = _unit_and_flag(match["rest"])
    if behind is None or not low < high < _LARGEST_RANGE:
        return None
    return Result((low + high) / 2, behind[0], " ".join(part for part in (f"{low:g}-{high:g}", behind[1]) if part))


def _number(match: re.Match[str]) -> Result | None:
    value, behind = number_of(match["number"]), _unit_and_flag(match["rest"])
    if value is None or behind is None or abs(value) >= _LARGEST:
        return None
    unit, flag = behind
    if match["comparator"] is None and unit is None:
        decimals = match["number"].replace(",", ".").rpartition(".")[2] if value != int(value) else ""
        year = _YEARS[0] <= value <= _YEARS[1]
        if len(decimals) >= _MOST_DECIMALS or (value == int(value) and (abs(value) >= _LARGEST_BARE or year)):
            return None
    return Result(value, unit, " ".join(part for part in (match["comparator"], flag) if part) or None)


def _unit_and_flag(rest: str | None) -> tuple[str | None, str | None] | None:
    """Return the unit and the laboratory's flag behind a number; None if anything else stands there."""
    behind = (rest or "").strip()
    if behind in ("", "*", "L"):
        return None, None  # `L` may be litres or low
    if is_listed(behind):
        return behind, None
    if (match := _FLAG.search(behind)) is None:
        return None
    unit = behind[: match.start()].strip()
    flag = match["flag"] if match["flag"] != "*" else None
    return (unit or None, flag) if not unit or is_listed(unit) else None


_FORMS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Result | None]], ...] = (
    (_TITRE, _titre),
    (_RANGE, _range),
    (_RESULT, _number),
)


def number_of(written: str) -> float | None:
    """Return a number as written, with a decimal point or comma; None where a comma could be either.

    >>> number_of("7,25"), number_of("1,234,567.5"), number_of("1,200"), number_of("0,400")
    (7.25, 1234567.5, None, 0.4)
    """
    mantissa, mark, exponent = written.lower().partition("e")
    if "," in mantissa:
        whole, *groups = mantissa.split(",")
        last, point, _ = groups[-1].partition(".")
        by_threes = whole.lstrip("+-") not in ("", "0") and all(len(group) == 3 for group in (*groups[:-1], last))
        if by_threes and (len(groups) > 1 or point):
            mantissa = mantissa.replace(",", "")
        elif len(groups) == 1 and not point and not by_threes:
            mantissa = mantissa.replace(",", ".")
        else:
            return None
    try:
        return float(mantissa + mark + exponent)
    except ValueError:
        return None


def read(rows: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Return rows with results in words understood, and how many texts were left out.

    `rows`: any frame with columns kind, numeric_value, unit, text_value; what a record says of a value in the columns
    comparator, low, high, flag (sources.ROWS), where they are there, goes into text_value. Words that are not
    understood are left out, a note's text among them: this is what a data set takes. For a live chart see `read_one`.
    """
    rows = _with_marks(rows)
    said_in_words = rows.get_column("text_value").is_not_null()
    if not said_in_words.any():
        return rows, 0
    if not said_in_words.all():  # most rows of a record have none
        where = said_in_words.arg_true()
        read_, lost = read(rows.select(_READ).filter(said_in_words))
        parts = (rows.get_column(name).clone().scatter(where, read_.get_column(name)) for name in _READ[1:])
        return rows.with_columns(list(parts)), lost
    text, valued = pl.col("text_value"), pl.col("numeric_value").is_not_null()
    result = pl.col("kind").is_in(VALUE_KINDS) & ~valued
    spoken = rows.filter(result & text.is_not_null()).get_column("text_value").unique().sort()
    found = [(said, *meaning) for said in spoken if (meaning := understood(said)) != NOTHING]
    schema = {"text_value": pl.String, "said": pl.Float32, "in_unit": pl.String, "beside": pl.String}
    joined = rows.select(_READ).join(
        pl.DataFrame(found, schema=schema, orient="row"), on="text_value", how="left", maintain_order="left"
    )
    joined = joined.with_columns(known=result & pl.any_horizontal(pl.col("said", "beside").is_not_null()))
    kept = pl.when(valued).then(marks.allowed(text)).otherwise(listed(text))
    worked = joined.with_columns(
        numeric_value=pl.when("known").then("said").otherwise("numeric_value"),
        unit=pl.when("known").then(pl.coalesce("in_unit", "unit")).otherwise("unit"),
        text_value=pl.when("known").then("beside").otherwise(kept),
        lost=text.is_not_null() & ~pl.col("known") & kept.is_null(),
    )
    changed = worked.select("numeric_value", "unit", "text_value").get_columns()
    return rows.with_columns(changed), int(worked.get_column("lost").sum())


def read_one(
    kind: str, value: float | None, unit: str | None, text: str | None, said: tuple[Any, ...] = UNSAID
) -> Result:
    """Return what `read` makes of one row, in plain Python; for a live chart, so words that are not understood stay.

    `value`: a Float32's. `said`: comparator, low, high, flag.
    """
    if said != UNSAID:
        text = _beside(value, text, *said)
    if text is None or value is not None or kind not in VALUE_KINDS:
        return Result(value, unit, text)
    found = understood(text)
    if found.value is None and found.text is None:
        return Result(value, unit, text)
    return Result(single(found.value), found.unit or unit, found.text)


def _beside(
    value: float | None, text: str | None, comparator: str | None, low: Any, high: Any, flag: str | None
) -> str | None:
    """Return the text of a row with what the record says of its value: `_with_marks` of one row."""
    if text is not None:
        return text
    if value is None:
        return _FLAG_WORDS.get(flag or "")
    comparator = comparator if comparator in COMPARATORS else None
    judged = flag if flag in marks.INTERPRETATIONS else marks.judge(value, single(low), single(high), comparator)
    return " ".join(part for part in (comparator, judged) if part) or None


def _with_marks(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows with what the record says of a value beside it (units.marks), or instead of it in words.

    The record's own reading counts; without one, its reference range.
    """
    if not set(_SAID) <= set(rows.columns) or all(rows.get_column(name).null_count() == rows.height for name in _SAID):
        return rows
    value, flag = pl.col("numeric_value"), pl.col("flag")
    comparator = pl.when(pl.col("comparator").is_in(COMPARATORS)).then("comparator")
    judged = pl.coalesce(pl.when(flag.is_in(marks.INTERPRETATIONS)).then(flag), marks.judgement(comparator))
    made = pl.concat_str([comparator, judged], separator=" ", ignore_nulls=True)
    text = pl.col("text_value")
    beside = pl.coalesce(text, pl.when(made != "").then(made))
    instead = pl.coalesce(text, flag.replace_strict(_FLAG_WORDS, default=None, return_dtype=pl.String))
    return rows.with_columns(text_value=pl.when(value.is_not_null()).then(beside).otherwise(instead))
