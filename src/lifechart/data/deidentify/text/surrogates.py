"""What stands in for an identifier: the same for the same identifier of one patient, and of nobody's.

Each surrogate is drawn by HMAC-SHA256 from the institution's key, the patient's id and the identifier itself, so it is
the same in every note of the patient and in every later run, and another for the next patient. Names are replaced word
for word: `John Smith`, `Smith, John` and `Mr Smith` stay one person. Dates move by the patient's own offset, as do
those of the structured record (deidentify.dates). What no surrogate can be made of gets its tag.
"""

from __future__ import annotations

import hmac
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

import polars as pl

from lifechart.data.deidentify import dates, structured
from lifechart.data.deidentify.text.moved_dates import moved
from lifechart.data.deidentify.text.spans import types
from lifechart.data.deidentify.text.words import entries, fold

_WORD = re.compile(r"[^\W\d_]+")
_SIGN = re.compile(r"[^\W_]")
_DIGIT = re.compile(r"\d")
_KEPT_WORDS = frozenset(
    [
        "dr",
        "dra",
        "mr",
        "mrs",
        "ms",
        "miss",
        "prof",
        "nurse",
        "doctor",
        "de",
        "la",
        "del",
        "los",
        "las",
        "van",
        "von",
        "der",
        "bin",
        "sr",
        "sra",
        "don",
        "dona",
        "jr",
    ]
)


@dataclass(frozen=True, slots=True)
class Surrogates:
    """Makes the surrogates of one patient."""

    key: bytes
    patient: str

    def of(self, type_: str, value: str, language: str) -> str:
        """Return what stands in for an identifier."""
        table = _table(language)
        if type_ == "name":
            return _WORD.sub(lambda match: self._word(match[0], table), value)
        if type_ in ("date", "year"):
            new = moved(value, _offset_days(self.key, self.patient), table["months"], day_first=table["day_first"])
            return tag(type_) if new is None else new
        if type_ == "old_age":
            return re.sub(r"\d+", "90+", value) if _DIGIT.search(value) else tag(type_)
        if type_ == "zip":
            return _area(value)
        if type_ in ("place", "facility", "organisation"):
            return self._choice(type_, value, table[type_])
        if type_ == "street":
            street = self._choice(type_, value, table["street"])
            return f"{1 + self._draw(type_, value) % 199} {street}" if not table["day_first"] else f"{street}, 1"
        return self._signs(type_, value)

    def _word(self, word: str, table: dict[str, Any]) -> str:
        folded = fold(word)
        if folded in _KEPT_WORDS:
            return word
        if len(word) == 1:
            return chr(ord("A") + self._draw("initial", folded) % 26) if word.isupper() else word
        kind = "family"
        if folded in entries("female"):
            kind = "female"
        elif folded in entries("male"):
            kind = "male"
        new = self._choice("name", folded, table[kind])
        return new.upper() if word.isupper() else new.lower() if word.islower() else new

    def _signs(self, type_: str, value: str) -> str:
        """Return an identifier of the same form, from a range that is nobody's where there is one."""
        if type_ == "email":
            return f"person{self._draw(type_, value.lower()) % 10_000}@example.org"
        if type_ == "url":
            return f"https://example.org/{self._draw(type_, value.lower()) % 10_000}"
        if type_ == "ip":
            return f"192.0.2.{self._draw(type_, value) % 256}"
        if type_ in ("age", "sex", "relative", "profession", "other", "country", "photo", "biometric"):
            return tag(type_)
        if not _DIGIT.search(value):
            return tag(type_)
        plain = "".join(_SIGN.findall(value)).lower()
        stream = iter(self._bytes(type_, plain, len(value)))
        made = _SIGN.sub(lambda match: _sign_like(match[0], next(stream)), value)
        if type_ in ("phone", "fax"):
            return _put_digits(made, "55501" + f"{self._draw(type_, plain) % 100:02d}")
        # No social security number begins with a 9.
        return _DIGIT.sub("9", made, count=1) if type_ == "ssn" else made

    def _choice(self, purpose: str, value: str, pool: Sequence[str]) -> str:
        return pool[self._draw(purpose, fold(value)) % len(pool)]

    def _draw(self, purpose: str, value: str) -> int:
        return int.from_bytes(self._bytes(purpose, value, 8), "big")

    def _bytes(self, purpose: str, value: str, number: int) -> bytes:
        content = "\0".join(("surrogate", self.patient, purpose, value)).encode()
        blocks = range(1 + number // 32)
        return b"".join(hmac.digest(self.key, content + b"\0%d" % block, "sha256") for block in blocks)[:number]


@lru_cache(maxsize=4096)
def _offset_days(key: bytes, patient: str) -> int:
    """Return by how many days a patient's dates move, in their notes as in their events."""
    return int(dates.offsets(key, pl.Series([patient])).dt.total_days()[0])


def month_names(language: str) -> list[str]:
    """Return the months of a language, as they are written within a sentence."""
    names: list[str] = _table(language)["months"]
    return names


def tag(type_: str) -> str:
    """Return the tag of a type, as [NAME]."""
    return f"[{types()[type_]['tag']}]"


def _area(value: str) -> str:
    """Return a ZIP's first three digits, 000 for an area of few people; other countries' codes get a tag."""
    digits = "".join(_DIGIT.findall(value))
    if len(digits) not in (5, 9):
        return tag("zip")
    return structured.restricted_zips().get(f"ZIP3//{digits[:3]}", f"ZIP3//{digits[:3]}").removeprefix("ZIP3//")


def _sign_like(sign: str, draw: int) -> str:
    if sign.isdigit():
        return str(draw % 10)
    letter = chr(ord("a") + draw % 26)
    return letter.upper() if sign.isupper() else letter


def _put_digits(text: str, last: str) -> str:
    """Return `text` with its last digits replaced."""
    places = [match.start() for match in _DIGIT.finditer(text)][-len(last) :]
    signs = list(text)
    for place, digit in zip(places, last[-len(places) :], strict=True):
        signs[place] = digit
    return "".join(signs)


@cache
def _table(language: str) -> dict[str, Any]:
    tables = tomllib.loads((files(__package__) / "surrogates.toml").read_text(encoding="utf-8"))
    found: dict[str, Any] = tables.get(language, tables["en"])
    return found
