"""What the tagger sees of a token: rows of its table, by the token's letters, its shape, and the lists it stands in.

A token's row numbers depend on its letters alone, so that what follows from them is worked out once a distinct token.
"""

from __future__ import annotations

import re
import zlib
from functools import cache

from lifechart.data.deidentify.text.words import LISTS, fold, single_words

ROWS = 1 << 15
"""Rows of the table. The first RESERVED have one meaning each; on the others features fall by hash."""
RESERVED = 64
GAPS = 4
"""What stands before a token: nothing, a blank, a line's end, or several."""

_SHAPES = ("lower", "Title", "UPPER", "mIxEd", "X")
_DIGITS = ("short", "year", "1", "2", "3", "4", "5", "6", "7", "8", "long", "hour", "month", "day")
_NUMBERS = {f"list:{name}": number for number, name in enumerate(LISTS)}
_NUMBERS |= {f"shape:{name}": 8 + number for number, name in enumerate(_SHAPES)}
_NUMBERS |= {f"digits:{name}": 16 + number for number, name in enumerate(_DIGITS)}
_NUMBERS |= {f"length:{number}": 33 + number for number in range(12)}
_NUMBERS |= {"mark": 46, "accent": 47, "unlisted": 48}
_YEAR = re.compile(r"(?:19|20)\d\d")


@cache
def _lists() -> tuple[tuple[int, frozenset[str]], ...]:
    return tuple((_NUMBERS[f"list:{name}"], single_words(name)) for name in LISTS)


def rows(token: str) -> tuple[int, list[int]]:
    """Return the row of the word itself, and those of everything else that is seen of it."""
    if token[0].isdecimal():
        return _row(f"w={token}") if len(token) < 3 else _row(f"n={len(token)}"), _of_digits(token)
    folded = fold(token)
    word = _row(f"w={folded}")
    if not token[0].isalpha():
        return word, [_NUMBERS["mark"]]
    return word, _of_letters(token, folded)


def _of_digits(token: str) -> list[int]:
    found = [_NUMBERS[f"digits:{len(token) if len(token) < 9 else 'long'}"]]
    if _YEAR.fullmatch(token):
        found.append(_NUMBERS["digits:year"])
    if len(token) < 3:
        value = int(token)
        found += [_NUMBERS["digits:month"]] * (0 < value < 13) + [_NUMBERS["digits:day"]] * (0 < value < 32)
    found.append(_row(f"d1={token[:1]}{len(token)}"))
    found.append(_row(f"d2={token[:2]}{len(token)}"))
    return found


def _of_letters(token: str, folded: str) -> list[int]:
    found = [_NUMBERS[f"shape:{_shape(token)}"], _NUMBERS[f"length:{min(len(token), 11)}"]]
    listed = [number for number, words in _lists() if folded in words]
    found += listed or [_NUMBERS["unlisted"]]
    if not token.isascii():
        found.append(_NUMBERS["accent"])
    lower = token.lower()
    found += [_row(f"p{n}={lower[:n]}") for n in (2, 3) if len(lower) > n]
    found += [_row(f"s{n}={lower[-n:]}") for n in (1, 2, 3, 4) if len(lower) > n]
    bounded = f"<{folded}>"
    if len(bounded) <= 18:
        found += [_row(f"t={bounded[at : at + 4]}") for at in range(len(bounded) - 3)]
    found.append(_row(f"c={_shape(token)}{folded[:4]}"))
    return found


def _shape(token: str) -> str:
    if len(token) == 1:
        return "X" if token.isupper() else "lower"
    if token.islower():
        return "lower"
    if token.isupper():
        return "UPPER"
    return "Title" if token[0].isupper() and token[1:].islower() else "mIxEd"


def _row(feature: str) -> int:
    return RESERVED + zlib.crc32(feature.encode()) % (ROWS - RESERVED)
