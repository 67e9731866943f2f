"""What a laboratory meant by a unit: `MG/DL`, `mg/100ml` and `mg%` are all UCUM's mg/dL."""

from __future__ import annotations

import csv
import re
import unicodedata
from functools import cache
from importlib import resources

_SIGNS = str.maketrans({"µ": "u", "μ": "u", "×": "x"})
_RAISED = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_LOWERED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SHORTEST = 3
"""A spelling shorter than this (`c`, `in`) is only believed where the code's own unit confirms it."""


def rows(table: str) -> list[dict[str, str]]:
    """Return the rows of one of this folder's tables."""
    content = resources.files("lifechart.data.units").joinpath(table).read_text(encoding="utf-8")
    return list(csv.DictReader(content.splitlines()))


@cache
def _spellings() -> dict[str, tuple[str, ...]]:
    """Return spelling -> the units it may mean. Keys with a capital letter hold for that case alone."""
    found: dict[str, tuple[str, ...]] = {}
    for row in rows("spellings.csv"):
        found[row["written"]] = (*found.get(row["written"], ()), row["ucum"])
    return found


@cache
def known() -> frozenset[str]:
    """Return the UCUM units that stand in the tables; each means itself."""
    stated = {unit for units in _spellings().values() for unit in units}
    return frozenset(stated | {row["unit"] for row in rows("canonical_units.csv")})


@cache
def candidates(written: str) -> tuple[str, ...]:
    """Return the UCUM units that `written` may mean, the likeliest first; a unit in no table means itself.

    The case as written counts first: `G/L` is the French 10*9/L, or grams where a laboratory writes all in capitals.

    >>> candidates("MG/DL"), candidates("G/L"), candidates("mm Hg")
    (('mg/dL',), ('10*9/L', 'g/L'), ('mm[Hg]',))
    """
    plain = re.sub(r"\s+", " ", _folded(written)).strip()
    if plain in known():
        return (plain,)
    for key in (plain, plain.replace(" ", "")):
        if key in _spellings():
            return _spellings()[key]
    lower = plain.lower()
    for key in (lower, lower.replace(" ", "")):
        if key in _spellings():
            return _spellings()[key]
    return (plain,)


def meant(written: str) -> str:
    """Return the one UCUM unit that `written` means whatever was measured, or `written` itself if that is not certain.

    >>> meant("mg/dl"), meant("G/L"), meant("in")
    ('mg/dL', 'G/L', 'in')
    """
    found = candidates(written)
    if len(found) == 1 and (found[0].lower() == written.lower() or len(written) >= _SHORTEST):
        return found[0]
    return written


def is_listed(written: str) -> bool:
    """Return whether a unit, in whatever spelling, stands in the tables: such a unit holds nobody's name."""
    return all(unit in known() for unit in candidates(written))


def _folded(written: str) -> str:
    # A raised number is a power, which NFKC would make one number with its base: 10³ would be 103.
    powers = _RAISED.sub(lambda match: "^" + match[0].translate(_LOWERED), written)
    # NFKC makes ℃ into °C; the micro sign and the Greek letter mean the same.
    return unicodedata.normalize("NFKC", powers.translate(_SIGNS)).translate(_SIGNS)
