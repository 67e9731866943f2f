"""Tells the language of a text by a vote of its commonest words (languages.toml)."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from lifechart.core.errors import InputError

_WORD = re.compile(r"[^\W\d_]+")
_SHORT = 3
_MARGIN = 2
"""By how much another language than the first must win."""
_SAMPLE = 4_000
"""Characters that vote."""


@cache
def known() -> dict[str, dict[str, Any]]:
    """Return what is known of each language: {tag: {"policy": …, "words": (…)}}; the first is the default."""
    table = tomllib.loads((files(__package__) / "languages.toml").read_text(encoding="utf-8"))
    return {tag: entry | {"words": frozenset(entry["words"])} for tag, entry in table["languages"].items()}


def detect(text: str) -> str:
    """Return the language most of whose common words a text has; in doubt the first language.

    >>> detect("Paciente de 40 años que acude a la consulta por dolor")
    'es'
    >>> detect("")
    'en'
    """
    words = [word.lower() for word in _WORD.findall(text[:_SAMPLE])]
    votes = {tag: sum(_vote(word) for word in words if word in entry["words"]) for tag, entry in known().items()}
    first = next(iter(votes))
    votes[first] += _MARGIN - 1
    return max(votes, key=lambda tag: votes[tag])


def _vote(word: str) -> int:
    """Return what a word counts: short ones are words, names or abbreviations of other languages too."""
    return 2 if len(word) > _SHORT else 1


def policy_of(tag: str) -> str:
    """Return the policy that a language has unless another is asked for; raises InputError for an unknown language."""
    if tag not in known():
        raise InputError("language", tag, f"one of {sorted(known())}")
    return str(known()[tag]["policy"])
