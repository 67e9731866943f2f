"""Spans of identifiers: what they are called, and how many findings become the stretches that are taken out. Pure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from lifechart.core.errors import InputError


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a text, in code points: `start` to before `end`, its type (classes.toml) and who found it."""

    start: int
    end: int
    type: str
    reason: str

    @property
    def class_(self) -> str:
        """The one of the 18 classes that the type belongs to, or QUASI_IDENTIFIER."""
        return str(types()[self.type]["class"])

    def to_json(self) -> dict[str, Any]:
        """Return it as `lifechart deidentify-text` writes it."""
        return {"start": self.start, "end": self.end, "class": self.class_, "type": self.type, "reason": self.reason}


@cache
def _tables() -> dict[str, Any]:
    return tomllib.loads((files(__package__) / "classes.toml").read_text(encoding="utf-8"))


def types() -> dict[str, dict[str, str]]:
    """Return {type: {"class": …, "tag": …}}."""
    found: dict[str, dict[str, str]] = _tables()["types"]
    return found


def classes() -> tuple[str, ...]:
    """Return the 18 classes, and QUASI_IDENTIFIER last."""
    return tuple(dict.fromkeys(entry["class"] for entry in types().values()))


@cache
def redacted(policy: str) -> frozenset[str]:
    """Return the types that a policy takes out; raises InputError for a policy that is not in classes.toml."""
    policies = _tables()["policies"]
    if policy not in policies:
        raise InputError("--policy", policy, f"one of {sorted(policies)}")
    return frozenset(types()) - frozenset(policies[policy]["leaves"])


_BRIDGE = re.compile(r"[ \t]*[,;/&-]?[ \t]*")
_TAG = re.compile(r"\[[A-Z][A-Z_]{1,14}\]")


def tags(text: str) -> list[tuple[int, int]]:
    """Return where our own tags stand, so that a text that was de-identified before stays as it is."""
    if "[" not in text:
        return []
    known = {f"[{entry['tag']}]" for entry in types().values()}
    return [match.span() for match in _TAG.finditer(text) if match[0] in known]


def merge(text: str, found: Iterable[Span], keep: Sequence[tuple[int, int]] = ()) -> list[Span]:
    """Return disjoint spans in order that cover everything found, but for the stretches of `keep`.

    Of findings that overlap the one that comes first in `found` at the leftmost place gives type and reason; findings
    of one type with nothing but a space, or one mark of punctuation, between them are one (a name's two halves).
    Blanks at either end belong to no span.
    """
    merged: list[Span] = []
    for span in sorted(_outside(found, keep), key=lambda one: (one.start, -one.end)):
        start, end = _stripped(text, span.start, span.end)
        if start >= end:
            continue
        last = merged[-1] if merged else None
        if last is not None and start < last.end:
            if end > last.end:
                merged[-1] = Span(last.start, end, last.type, last.reason)
        elif last is not None and last.type == span.type and _BRIDGE.fullmatch(text, last.end, start):
            merged[-1] = Span(last.start, end, last.type, last.reason)
        else:
            merged.append(Span(start, end, span.type, span.reason))
    return merged


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _outside(found: Iterable[Span], keep: Sequence[tuple[int, int]]) -> Iterable[Span]:
    if not keep:
        yield from found
        return
    for span in found:
        at = span.start
        for start, end in keep:
            if end <= at or start >= span.end:
                continue
            if start > at:
                yield Span(at, start, span.type, span.reason)
            at = max(at, end)
        if at < span.end:
            yield Span(at, span.end, span.type, span.reason)
