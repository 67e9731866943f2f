"""Finds identifiers by rule: patterns, words that announce an identifier, and words that name a place.

The rules are data, `rules/any.toml` and one file a language. This file only says how each kind is applied:
`rules` match by themselves; after a word of `contexts` stands a value; `heads` draw in the words around them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from lifechart.data.deidentify.text.spans import Span
from lifechart.data.deidentify.text.words import entries, fold

_REACH = 96
"""Characters before a head that can belong to it."""


@dataclass(frozen=True, slots=True)
class _Rule:
    id: str
    type: str
    pattern: re.Pattern[str]
    needs: tuple[str, ...]
    check: Callable[[str], bool] | None


@dataclass(frozen=True, slots=True)
class _Context:
    type: str
    value: re.Pattern[str]
    check: Callable[[str], bool] | None


@dataclass(frozen=True, slots=True)
class _Head:
    rule: _Rule
    before: re.Pattern[str]
    after: re.Pattern[str]


class Rules:
    """The rules of one language with those of any."""

    def __init__(self, tables: list[dict[str, Any]]) -> None:
        self._rules: list[_Rule] = []
        self._contexts: list[tuple[re.Pattern[str], dict[str, list[_Context]]]] = []
        self._heads: list[_Head] = []
        for table in tables:
            words = table.get("words", {})
            self._rules += [_rule(entry, words) for entry in table.get("rules", ())]
            self._heads += [
                _Head(_rule(entry, words), _compiled(entry["before"], words, True), _compiled(entry["after"], words))
                for entry in table.get("heads", ())
            ]
            if "contexts" in table:
                self._contexts.append(_contexts(table, words))

    def find(self, text: str) -> Iterator[Span]:
        """Yield what the rules find, in no particular order."""
        lower = text.lower()
        for rule in self._rules:
            if rule.needs and not any(need in lower for need in rule.needs):
                continue
            for match in rule.pattern.finditer(text):
                start, end = _identifier(match)
                if rule.check is None or rule.check(text[start:end]):
                    yield Span(start, end, rule.type, f"rule:{rule.id}")
        for pattern, contexts in self._contexts:
            yield from _after_words(text, pattern, contexts)
        for head in self._heads:
            yield from _around_heads(text, head)


def _after_words(text: str, pattern: re.Pattern[str], contexts: dict[str, list[_Context]]) -> Iterator[Span]:
    for match in pattern.finditer(text):
        for context in contexts[_spaced(match[0])]:
            found = context.value.match(text, match.end())
            if found is None:
                continue
            start, end = found.span("phi")
            if context.check is None or context.check(text[start:end]):
                yield Span(start, end, context.type, f"rule:after.{context.type}")


def _around_heads(text: str, head: _Head) -> Iterator[Span]:
    for match in head.rule.pattern.finditer(text):
        start, end = match.span()
        left = text[max(0, start - _REACH) : start]
        before = head.before.search(left)
        drawn = 0 if before is None else _from_capital(before[0])
        after = head.after.match(text, end)
        if drawn or (after is not None and after.end() > end and text[start].isupper()):
            yield Span(start - drawn, end if after is None else after.end(), head.rule.type, f"rule:{head.rule.id}")


def _from_capital(words: str) -> int:
    """Return how many characters of `words` are left from its first capital on; 0 if there is none."""
    for position, letter in enumerate(words):
        if letter.isupper():
            return len(words) - position
    return 0


def _identifier(match: re.Match[str]) -> tuple[int, int]:
    groups = match.re.groupindex
    for name in ("phi", "phi2", "phi3"):
        if name in groups and match[name] is not None:
            return match.span(name)
    return match.span()


def _rule(entry: Mapping[str, Any], words: Mapping[str, str]) -> _Rule:
    check = CHECKS[entry["check"]] if "check" in entry else None
    pattern = _compiled(entry["pattern"], words, entry.get("case", False))
    return _Rule(entry["id"], entry["type"], pattern, tuple(entry.get("needs", ())), check)


def _compiled(pattern: str, words: Mapping[str, str], case: bool = False) -> re.Pattern[str]:
    for name, alternation in words.items():
        pattern = pattern.replace(f"{{{name}}}", f"(?:{alternation})")
    return re.compile(pattern, 0 if case else re.IGNORECASE)


def _contexts(table: Mapping[str, Any], words: Mapping[str, str]) -> tuple[re.Pattern[str], dict[str, list[_Context]]]:
    values = {name: _compiled(pattern, words) for name, pattern in table["values"].items()}
    by_word: dict[str, list[_Context]] = {}
    for entry in table["contexts"]:
        check = CHECKS[entry["check"]] if "check" in entry else None
        for word in entry["words"]:
            by_word.setdefault(word.lower(), []).append(_Context(entry["type"], values[entry["value"]], check))
    # The longest first: an alternation takes the first that fits.
    alternation = "|".join(
        re.escape(word).replace(r"\ ", r"\s{1,2}") + (r"(?!\w)" if word[-1].isalnum() else "")
        for word in sorted(by_word, key=len, reverse=True)
    )
    return re.compile(rf"(?<![\w-])(?:{alternation})", re.IGNORECASE), by_word


def _spaced(words: str) -> str:
    return " ".join(words.lower().split())


@cache
def load_rules(language: str) -> Rules:
    """Return the rules of a language; of one that has no file, those of any language."""
    folder = files(__package__) / "rules"
    paths = [folder / "any.toml", folder / f"{language}.toml"]
    return Rules([tomllib.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()])


def languages() -> tuple[str, ...]:
    """Return the languages that have rules of their own."""
    folder = files(__package__) / "rules"
    return tuple(sorted(path.name.removesuffix(".toml") for path in folder.iterdir() if path.name != "any.toml"))


def luhn(text: str) -> bool:
    """Return whether the digits end in their check digit (ISO/IEC 7812-1, annex B)."""
    digits = [int(digit) for digit in text if digit.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def iban(text: str) -> bool:
    """Return whether an international bank account number has its check digits (ISO 13616, mod 97)."""
    plain = "".join(text.split()).upper()
    return int("".join(str(int(letter, 36)) for letter in plain[4:] + plain[:4])) % 97 == 1


def vin(text: str) -> bool:
    """Return whether a vehicle identification number mixes letters and digits, as ISO 3779 has them."""
    digits = sum(letter.isdigit() for letter in text)
    return 5 <= digits <= 15


def listed_name(text: str) -> bool:
    """Return whether words are a name by the lists: a given name first, or two family names."""
    words = [fold(word) for word in re.split(r"[\s.]+", text) if word]
    if not words:
        return False
    if len(words) == 1:
        return words[0] in entries("given") and len(words[0]) > 3
    return words[0] in entries("given") and (len(words[1]) == 1 or words[1] in entries("family"))


CHECKS: Mapping[str, Callable[[str], bool]] = {"luhn": luhn, "iban": iban, "vin": vin, "listed_name": listed_name}
