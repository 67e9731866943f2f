"""Cuts a text into tokens (runs of letters, runs of digits, single marks), and looks them up in the lists of names."""

from __future__ import annotations

import gzip
import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

TOKEN = re.compile(r"[^\W\d_]+|\d+|\S")
"""`MRN-12345x` is four tokens, so that an edge of an identifier is always an edge of a token."""
Tokens = Sequence[tuple[str, int]]
"""Tokens of a text, and where each starts."""
LISTS = ("female", "male", "family", "place", "state", "country", "institution")
_MARKS = dict.fromkeys(range(768, 880))


def tokens(text: str) -> list[tuple[str, int]]:
    """Cut a text."""
    return [(match.group(), match.start()) for match in TOKEN.finditer(text)]


def fold(text: str) -> str:
    """Return lower case without accents, as the lists are kept.

    >>> fold("José-María Núñez")
    'jose-maria nunez'
    """
    lower = text.lower()
    return lower if lower.isascii() else unicodedata.normalize("NFD", lower).translate(_MARKS)


@cache
def spellings(name: str) -> tuple[str, ...]:
    """Return a list's entries as they are written, sorted: but for `institution`, in lower case."""
    folder = files(__package__) / "lists"
    plain = folder / f"{name}.txt"
    if plain.is_file():
        lines = plain.read_text(encoding="utf-8").splitlines()
        return tuple(line for line in lines if line and not line.startswith("#"))
    return tuple(gzip.decompress((folder / f"{name}.txt.gz").read_bytes()).decode().split("\n"))


@cache
def entries(name: str) -> frozenset[str]:
    """Return a list's entries, folded; several words a line are one entry."""
    return frozenset(fold(entry) for entry in spellings(name))


@cache
def single_words(name: str) -> frozenset[str]:
    """Return the words that a list's entries consist of, but for particles."""
    return frozenset(word for entry in entries(name) for word in re.split(r"[ .'-]+", entry) if len(word) > 2)


def is_given_name(folded: str) -> bool:
    """Return whether a folded word is a given name by the lists."""
    return folded in entries("female") or folded in entries("male")


def is_name(word: str) -> bool:
    """Return whether a word is a given or a family name by the lists."""
    folded = fold(word)
    return is_given_name(folded) or folded in entries("family")
