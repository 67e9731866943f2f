"""Finds the patient's own identifiers, where the structured record tells what they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lifechart.data.deidentify.text.spans import Span, types
from lifechart.data.deidentify.text.words import fold

_WORD = re.compile(r"[^\W\d_]+")
_SIGN = re.compile(r"[^\W_]")
_LEAST = 3
"""Letters or digits that an identifier must have to be looked for."""
_LONG = 5
"""Letters from which on a lower-case word that is a part of the patient's name is taken for it."""


@dataclass(frozen=True, slots=True)
class Known:
    """Patterns of one patient's identifiers."""

    patterns: tuple[tuple[str, re.Pattern[str]], ...]

    def find(self, text: str) -> Iterable[Span]:
        """Yield where they stand, whatever the case, the accents and the marks between their letters."""
        plain = _folded(text)
        for type_, pattern in self.patterns:
            for match in pattern.finditer(plain):
                # A short word of a name that stands alone may be a word of the language (will, may, long): such a one
                # counts only as a name is written. A longer one is worth losing from this patient's notes.
                long = len(match[0]) >= _LONG or not match[0].isalpha()
                if type_ != "name" or long or text[match.start()].isupper():
                    yield Span(*match.span(), type_, "known")


def known(identifiers: Mapping[str, Iterable[str]]) -> Known:
    """Return patterns of {type: values}: names as a whole and word for word, everything else as a whole."""
    patterns: dict[tuple[str, str], re.Pattern[str]] = {}
    for type_, values in identifiers.items():
        assert type_ in types(), f"{type_} is not a type of classes.toml"
        for value in values:
            forms = [value, *(_WORD.findall(value) if type_ == "name" else ())]
            for form in forms:
                signs = _SIGN.findall(_folded(form))
                if len(signs) >= _LEAST:
                    loose = r"[\W_]{0,2}".join(map(re.escape, signs)) if type_ != "name" else _loose(form)
                    patterns[type_, loose] = re.compile(rf"(?<![^\W_]){loose}(?![^\W_])")
    # The longest first, so that a whole name gives one span.
    ordered = sorted(patterns.items(), key=lambda item: -len(item[0][1]))
    return Known(tuple((type_, pattern) for (type_, _), pattern in ordered))


def _loose(name: str) -> str:
    return r"[\W_]{1,3}".join(re.escape(word) for word in _WORD.findall(_folded(name)))


def _folded(text: str) -> str:
    """Return text in lower case without accents, sign for sign."""
    if text.isascii():
        return text.lower()
    return "".join(plain if len(plain := fold(sign)) == 1 else sign for sign in text)
