"""Moves a date by whole days and writes it as it was written: `3rd of May '21`, `12/05/2021`, `mayo de 2021`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from lifechart.data.deidentify.text.words import fold

_NUMBERS = re.compile(r"\d+")
_LETTERS = re.compile(r"[^\W\d_]+")
_WHOLE = frozenset(("may", "june", "july", "mayo"))
"""Short words for months that are no abbreviations."""
_SOME_YEAR = 2001
"""Stands in for a year that is not written; no leap year."""
_CENTURY_TURNS = 40
"""A year of two digits is of this century below this."""


@dataclass(frozen=True, slots=True)
class _Part:
    start: int
    end: int
    text: str


def moved(text: str, days: int, months: Sequence[str], *, day_first: bool) -> str | None:
    """Return a date moved by `days` in its own form, or None if it is not one that can be moved.

    Where no day is written it is taken to be the 15th, where no month is, 1 July.
    """
    numbers = [_Part(*match.span(), match[0]) for match in _NUMBERS.finditer(text)]
    word = _month_word(text, months)
    year, month, day = _parts(numbers, word is not None, day_first)
    if year is None and ((month is None and word is None) or day is None):
        return None
    try:
        when = date(
            _SOME_YEAR if year is None else _full_year(year.text),
            word[1] if word else int(month.text) if month else 7,
            int(day.text) if day else (15 if word or month else 1),
        ) + timedelta(days=days)
    except (ValueError, OverflowError):
        return None
    padded = any(part.text.startswith("0") for part in numbers) or (year is not None and year is numbers[0])
    new: list[tuple[int, int, str]] = []
    if word is not None:
        new.append((word[0].start, word[0].end, _like(word[0].text, months[when.month - 1])))
    for part, value in ((year, when.year), (month, when.month), (day, when.day)):
        if part is not None:
            new.append((part.start, part.end, _written(part.text, value, padded)))
    return _ordinal(_put(text, new), when.day if day is not None else None)


def _month_word(text: str, months: Sequence[str]) -> tuple[_Part, int] | None:
    for match in _LETTERS.finditer(text):
        plain = fold(match[0])
        for number, month in enumerate(months, start=1):
            if len(plain) >= 3 and fold(month).startswith(plain if plain != "sept" else "sep"):
                return _Part(*match.span(), match[0]), number
    return None


def _parts(numbers: list[_Part], named: bool, day_first: bool) -> tuple[_Part | None, _Part | None, _Part | None]:
    """Return (year, month, day) among up to three numbers."""
    years = [part for part in numbers if len(part.text) == 4]
    year = years[0] if years else None
    rest = [part for part in numbers if part is not year and len(part.text) <= 2]
    if len(rest) + bool(year) != len(numbers) or len(numbers) > 3:
        return None, None, None
    if year is None and len(rest) == (2 if named else 3):
        year, rest = rest[-1], rest[:-1]
    if named:
        return year, None, rest[0] if rest else None
    if len(rest) == 1:
        return year, rest[0], None
    if len(rest) != 2:
        return year, None, None
    first, second = rest
    if year is not None and year.start < first.start:
        return year, first, second
    swap = day_first if int(first.text) <= 12 and int(second.text) <= 12 else int(first.text) > 12
    return (year, second, first) if swap else (year, first, second)


def _full_year(text: str) -> int:
    value = int(text)
    return value if len(text) == 4 else value + (2000 if value < _CENTURY_TURNS else 1900)


def _written(old: str, value: int, padded: bool) -> str:
    if len(old) == 4:
        return f"{value:04d}"
    if value > 99:
        return f"{value % 100:02d}"
    return f"{value:02d}" if padded else str(value)


def _like(old: str, month: str) -> str:
    new = month if len(old) > 4 or fold(old) in _WHOLE else month[:3]
    return new.upper() if old.isupper() else new.lower() if old.islower() else new[0].upper() + new[1:]


def _put(text: str, new: list[tuple[int, int, str]]) -> str:
    for start, end, value in sorted(new, reverse=True):
        text = text[:start] + value + text[end:]
    return text


_ORDINAL = re.compile(r"(\d{1,2})(st|nd|rd|th)\b")


def _ordinal(text: str, day: int | None) -> str:
    if day is None:
        return text
    suffix = "th" if day in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return _ORDINAL.sub(lambda match: match[1] + suffix, text)
