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
_WITHIN = re.compile(r"[ \t]*(?:[,;/&(-]|in|at|of|en)?[ \t]*")
"""What may stand between two parts of one address."""
_SHORT = re.compile(r"\b[^\W\d_]{1,3}\Z")
"""An abbreviation, after which a full stop ends no name: `St. Clair`."""
_SUREST = ("known", "rule", "tagger")
"""Whose word counts where findings overlap, by what stands before the colon of a reason."""
_NUMBERED = frozenset(["mrn", "plan", "account", "license", "device", "vehicle", "id", "ssn", "biometric", "photo"])
"""Types whose parts are held together by marks: `12345-JS` is one."""
_TAG = re.compile(r"\[[A-Z][A-Z_]{1,14}\]")


def tags(text: str) -> list[tuple[int, int]]:
    """Return where our own tags stand, so that a text that was de-identified before stays as it is."""
    if "[" not in text:
        return []
    known = {f"[{entry['tag']}]" for entry in types().values()}
    return [match.span() for match in _TAG.finditer(text) if match[0] in known]


def merge(text: str, found: Iterable[Span], keep: Sequence[tuple[int, int]] = ()) -> list[Span]:
    """Return disjoint spans in order that cover everything found, but for the stretches of `keep`.

    A span holds whole words, and a number all that is written in one with it. Of findings that overlap the one with
    the surest reason (_SUREST), then the leftmost, gives type and reason; findings of one type with nothing but a blank
    or one mark of punctuation between them are one (a name's two halves), as are the parts of an address. Blanks at
    either end belong to no span.
    """
    merged = _merged(text, found, keep)
    # A finding that took on the type of another may now hold more: a number takes in what goes on from it.
    while (again := _merged(text, merged, keep)) != merged:
        merged = again
    return merged


def _merged(text: str, found: Iterable[Span], keep: Sequence[tuple[int, int]]) -> list[Span]:
    merged: list[Span] = []
    whole = (_whole(text, span) for span in found if span.start < span.end)
    for span in sorted(_outside(whole, keep), key=lambda one: (one.start, -one.end)):
        start, end = _stripped(text, span.start, span.end)
        if start >= end:
            continue
        last = merged[-1] if merged else None
        if last is not None and start < last.end:
            surer = min(last, span, key=_doubt)
            merged[-1] = Span(last.start, max(end, last.end), surer.type, surer.reason)
        elif last is not None and _one(text, last, span, start):
            merged[-1] = Span(last.start, end, last.type, last.reason)
        else:
            merged.append(Span(start, end, span.type, span.reason))
    return merged


def _doubt(span: Span) -> int:
    who = span.reason.partition(":")[0]
    return _SUREST.index(who) if who in _SUREST else len(_SUREST)


def _one(text: str, last: Span, span: Span, start: int) -> bool:
    """Return whether two findings next to each other are parts of one identifier."""
    if start - last.end > 6:
        return False
    if last.type == span.type:
        if _BRIDGE.fullmatch(text, last.end, start):
            return True
        if text[last.end : start] == ". " and _SHORT.search(text, 0, last.end):
            return True
    address = last.class_ == span.class_ == "GEOGRAPHIC_LOCATION"
    return address and _WITHIN.fullmatch(text, last.end, start) is not None


def _whole(text: str, span: Span) -> Span:
    """Return a span that ends and begins where words do."""
    start, end = span.start, span.end
    marks = "-_/#" if span.type in _NUMBERED else ""
    while start > 0 and _goes_on(text[start], text[start - 1], marks):
        start -= 1
    while end < len(text) and _goes_on(text[end - 1], text[end], marks):
        end += 1
    while marks and text[end - 1] in marks and end > span.end:
        end -= 1
    return span if (start, end) == (span.start, span.end) else Span(start, end, span.type, span.reason)


def _goes_on(edge: str, beyond: str, marks: str) -> bool:
    if beyond.isalnum():
        return edge.isalnum() or edge in marks
    return beyond in marks and edge.isalnum()


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
