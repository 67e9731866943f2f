"""The whole way of a text: its language, what rules and tagger find, and what the policy takes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lifechart.data.deidentify.text import language, spans
from lifechart.data.deidentify.text.rules import load_rules
from lifechart.data.deidentify.text.spans import Span
from lifechart.data.deidentify.text.tagger import load_tagger
from lifechart.data.deidentify.text.words import tokens


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in one text."""

    text: str
    language: str
    spans: tuple[Span, ...]


def find(texts: Sequence[str], languages: Sequence[str | None] | None = None, policy: str | None = None) -> list[Found]:
    """Return what is found in texts; a language of None is detected."""
    given = languages or [None] * len(texts)
    tags = [tag or language.detect(text) for text, tag in zip(texts, given, strict=True)]
    found: list[list[Span]] = [[] for _ in texts]
    for tag in dict.fromkeys(tags):
        numbers = [number for number, other in enumerate(tags) if other == tag]
        wanted = spans.redacted(policy or language.policy_of(tag))
        cut = [tokens(texts[number]) for number in numbers]
        tagger, rules = load_tagger(tag), load_rules(tag)
        if tagger is not None:
            tagged = tagger.find([texts[number] for number in numbers], cut, wanted)
            for number, ones in zip(numbers, tagged, strict=True):
                found[number] += ones
        for number, pieces in zip(numbers, cut, strict=True):
            found[number] += [span for span in rules.find(texts[number], pieces) if span.type in wanted]
    return [
        Found(text, tag, tuple(spans.merge(text, ones, spans.tags(text))))
        for text, tag, ones in zip(texts, tags, found, strict=True)
    ]
