"""The whole way of a text: its language, what rules, tagger and the patient's own record find, what replaces it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lifechart.data.deidentify.text import language, spans
from lifechart.data.deidentify.text.known import Known
from lifechart.data.deidentify.text.rules import load_rules
from lifechart.data.deidentify.text.spans import Span
from lifechart.data.deidentify.text.surrogates import Surrogates, tag
from lifechart.data.deidentify.text.tagger import load_tagger
from lifechart.data.deidentify.text.words import is_name, tokens


@dataclass(frozen=True, slots=True)
class Request:
    """A text, and what is known of it."""

    text: str
    language: str | None = None
    """None: to be detected."""
    known: Known | None = None
    """The patient's own identifiers."""
    surrogates: Surrogates | None = None
    """Makes what stands in for identifiers; None: a tag does."""


@dataclass(frozen=True, slots=True)
class Result:
    """A de-identified text, and what was taken out of it. Offsets count code points of the text that came in."""

    text: str
    language: str
    spans: tuple[Span, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as `lifechart deidentify-text` writes it."""
        return {"text": self.text, "language": self.language, "spans": [span.to_json() for span in self.spans]}


def redact(requests: Sequence[Request], policy: str | None = None) -> list[Result]:
    """De-identify texts, several at a time because the tagger is faster so.

    `policy`: one of classes.toml; by default each language's own (languages.toml). Raises InputError for a language or
    policy that is not known.
    """
    tags = [one.language or language.detect(one.text) for one in requests]
    found = find([one.text for one in requests], tags, policy, [one.known for one in requests])
    return [
        Result(_replaced(one, tag_, ones), tag_, tuple(ones))
        for one, tag_, ones in zip(requests, tags, found, strict=True)
    ]


def find(
    texts: Sequence[str],
    languages: Sequence[str],
    policy: str | None = None,
    known: Sequence[Known | None] | None = None,
) -> list[list[Span]]:
    """Return for each text the spans that the policy takes out: disjoint, in order."""
    found: list[list[Span]] = [[] for _ in texts]
    for number, own in enumerate(known or ()):
        if own is not None:
            found[number] += own.find(texts[number])
    for tag_ in dict.fromkeys(languages):
        numbers = [number for number, other in enumerate(languages) if other == tag_]
        wanted = spans.redacted(policy or language.policy_of(tag_))
        cut = [tokens(texts[number]) for number in numbers]
        tagger, rules = load_tagger(tag_), load_rules(tag_)
        if tagger is not None:
            tagged = tagger.find([texts[number] for number in numbers], cut, wanted)
            for number, ones in zip(numbers, tagged, strict=True):
                text = texts[number]
                found[number] += [one for one in ones if "year" in wanted or not _is_year(text, one)]
        for number, pieces in zip(numbers, cut, strict=True):
            found[number] += [span for span in rules.find(texts[number], pieces) if span.type in wanted]
    return [
        spans.merge(text, [*ones, *_again(text, ones)], spans.tags(text))
        for text, ones in zip(texts, found, strict=True)
    ]


_YEAR = re.compile(r"(?:the )?(?:19|20)\d\d(?:s|'s)?")
_WORD = re.compile(r"[^\W\d_]{4,}")


def _is_year(text: str, span: Span) -> bool:
    """Return whether the tagger takes a year alone for a date, which a policy that leaves years must let stand."""
    return span.type == "date" and _YEAR.fullmatch(text, span.start, span.end) is not None


def _again(text: str, found: Sequence[Span]) -> list[Span]:
    """Return where else the words of a name stand, written as there: listed names of four letters or more."""
    words = {
        word
        for span in found
        if span.type == "name"
        for word in _WORD.findall(text[span.start : span.end])
        if word[0].isupper() and is_name(word)
    }
    if not words:
        return []
    pattern = re.compile(rf"\b(?:{'|'.join(sorted(words))})\b")
    return [Span(*match.span(), "name", "again") for match in pattern.finditer(text)]


def _replaced(request: Request, language_: str, found: Sequence[Span]) -> str:
    parts: list[str] = []
    at = 0
    for span in found:
        value = request.text[span.start : span.end]
        own = request.surrogates
        parts += [request.text[at : span.start], own.of(span.type, value, language_) if own else tag(span.type)]
        at = span.end
    return "".join((*parts, request.text[at:]))
