"""Makes the texts that a tagger is trained on: templates filled, and marked texts with other people's identifiers."""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files

from lifechart.data.deidentify.text.corpora import Gold, Text
from lifechart.data.deidentify.text.fill import Filler
from lifechart.data.deidentify.text.words import fold

_SLOT = re.compile(r"\{(\w+)(?::(\w+))?\}|~(\w+)~")


def pools(texts: Iterable[Text]) -> dict[str, list[str]]:
    """Return the identifiers of each type that stand in texts."""
    found: dict[str, list[str]] = {}
    for text in texts:
        for start, end, type_ in text.spans:
            found.setdefault(type_, []).append(text.text[start:end])
    return found


def swapped(text: Text, filler: Filler, chance: random.Random, rate: float) -> Text:
    """Return a text in which each identifier is, at a rate, another of its type."""
    parts: list[str] = []
    spans: list[Gold] = []
    at = size = 0
    for start, end, type_ in text.spans:
        if start < at:
            continue
        value = text.text[start:end]
        if chance.random() < rate:
            value = filler.like(type_, value)
        parts += [text.text[at:start], value]
        size += start - at
        spans.append((size, size + len(value), type_))
        size += len(value)
        at = end
    parts.append(text.text[at:])
    return Text("".join(parts), text.language, tuple(spans), False)


def from_templates(language: str, number: int, filler: Filler, chance: random.Random) -> Iterator[Text]:
    """Yield texts made from a language's templates."""
    table = tomllib.loads((files(__package__) / "training" / f"{language}.toml").read_text(encoding="utf-8"))
    for _ in range(number):
        yield _filled(chance.choice(table["texts"]), table["phrases"], language, filler, chance)


def _filled(
    template: str, phrases: dict[str, Sequence[str]], language: str, filler: Filler, chance: random.Random
) -> Text:
    parts: list[str] = []
    spans: list[Gold] = []
    at = size = 0
    for slot in _SLOT.finditer(template):
        literal = template[at : slot.start()]
        type_, form, phrase = slot.groups()
        if phrase:
            value = chance.choice(phrases[phrase.lower().rstrip("23")])
            if phrase[0].isupper():
                value = value[0].upper() + value[1:]
        else:
            value = filler.draw(type_, form or "")
        parts += [literal, value]
        size += len(literal)
        if type_ and form != "credential":
            spans.append((size, size + len(value), type_))
        size += len(value)
        at = slot.end()
    parts.append(template[at:])
    return Text("".join(parts), language, tuple(spans), False)


def roughened(text: Text, chance: random.Random) -> Text:
    """Return a text as somebody in a hurry or a scanner might have it: now and then lower case, capitals, no accents.

    Lengths stay, so that spans do.
    """
    draw = chance.random()
    if draw < 0.08:
        rough = text.text.lower()
    elif draw < 0.11:
        rough = text.text.upper()
    elif draw < 0.15:
        rough = "".join(fold(sign) if sign.islower() and not sign.isascii() else sign for sign in text.text)
    else:
        return text
    # A few signs change their length with their case; such a text stays as it is.
    return text if len(rough) != len(text.text) else Text(rough, text.language, text.spans, False)
