"""Finds identifiers by rule: patterns, words that announce an identifier, and words that name a place.

The rules are data, `rules/any.toml` and one file a language. This file only says how each kind is applied: `rules`
match by themselves; after a word of `contexts` stands a value; `heads` draw in the words around them. What begins with
a known word is tried at that word alone: several times faster than a search of the whole text for every pattern.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from typing import Any

from lifechart.data.deidentify.text.spans import Span
from lifechart.data.deidentify.text.words import TOKEN, Tokens, entries, fold, is_given_name

_REACH = 96
"""Characters before a head that can belong to it."""
_DIGITS = "<digits>"
"""In `starts`: any run of digits."""
_LETTERS = re.compile(r"[^\W\d_]+")

Apply = Callable[[str, int], Span | None]
"""Tries a rule on a text at a token's start."""


@dataclass(frozen=True, slots=True)
class _Rule:
    id: str
    type: str
    pattern: re.Pattern[str]
    needs: tuple[str, ...]
    check: Callable[[str], bool] | None

    def span(self, match: re.Match[str]) -> Span | None:
        start, end = _identifier(match)
        return None if self.check and not self.check(match.string[start:end]) else self.made(start, end)

    def made(self, start: int, end: int) -> Span:
        return Span(start, end, self.type, f"rule:{self.id}")

    def at(self, text: str, start: int) -> Span | None:
        match = self.pattern.match(text, start)
        return None if match is None else self.span(match)


class Rules:
    """The rules of one language with those of any."""

    def __init__(self, tables: list[dict[str, Any]]) -> None:
        self._rules: list[_Rule] = []
        self._starting: dict[str, list[Apply]] = {}
        for table in tables:
            words = table.get("words", {})
            for entry in table.get("rules", ()):
                self._add(_rule(entry, words), _starts(entry, words))
            for entry in table.get("heads", ()):
                self._add_head(entry, words)
            for entry in table.get("contexts", ()):
                self._add_context(entry, _compiled(table["values"][entry["value"]], words))

    def find(self, text: str, tokens: Tokens) -> Iterator[Span]:
        """Yield what the rules find, in no particular order."""
        lower = text.lower()
        for rule in self._rules:
            if rule.needs and not any(need in lower for need in rule.needs):
                continue
            for match in rule.pattern.finditer(text):
                span = rule.span(match)
                if span is not None:
                    yield span
        starting = self._starting
        for token, start in tokens:
            for apply in starting.get(_DIGITS if token[0].isdecimal() else token.lower(), ()):
                span = apply(text, start)
                if span is not None:
                    yield span

    def _add(self, rule: _Rule, starts: Sequence[str]) -> None:
        if not starts:
            self._rules.append(rule)
        for word in starts:
            self._starting.setdefault(word, []).append(rule.at)

    def _add_context(self, entry: Mapping[str, Any], value: re.Pattern[str]) -> None:
        check = CHECKS[entry["check"]] if "check" in entry else None
        rule = _Rule(f"after.{entry['type']}", entry["type"], value, (), check)
        for word, pattern in _by_first(entry["words"], case=False):
            self._starting.setdefault(word, []).append(partial(_after_word, pattern, rule))

    def _add_head(self, entry: Mapping[str, Any], words: Mapping[str, str]) -> None:
        before, after = _compiled(entry["before"], words, True), _compiled(entry["after"], words)
        for word, pattern in _by_first(entry["words"], case=entry.get("case", False)):
            rule = _Rule(entry["id"], entry["type"], pattern, (), None)
            self._starting.setdefault(word, []).append(partial(_around_head, rule, before, after))


def _after_word(words: re.Pattern[str], rule: _Rule, text: str, at: int) -> Span | None:
    word = words.match(text, at)
    return None if word is None else rule.at(text, word.end())


def _around_head(rule: _Rule, before: re.Pattern[str], after: re.Pattern[str], text: str, at: int) -> Span | None:
    head = rule.pattern.match(text, at)
    if head is None:
        return None
    left = before.search(text[max(0, at - _REACH) : at])
    drawn = 0 if left is None else _from_capital(left[0])
    right = after.match(text, head.end())
    end = head.end() if right is None else right.end()
    named = drawn or (end > head.end() and text[at].isupper())
    return rule.made(at - drawn, end) if named else None


def _by_first(phrases: Sequence[str], *, case: bool) -> Iterator[tuple[str, re.Pattern[str]]]:
    """Yield (first token, pattern of the phrases that begin with it, the longest first)."""
    groups: dict[str, list[str]] = {}
    for phrase in phrases:
        first = TOKEN.match(phrase)
        assert first is not None, f"an empty phrase among {phrases}"
        groups.setdefault(first[0].lower(), []).append(phrase)
    for first_word, group in groups.items():
        alternation = "|".join(
            re.escape(phrase).replace(r"\ ", r"\s{1,2}") + (r"(?!\w)" if phrase[-1].isalnum() else "")
            for phrase in sorted(group, key=len, reverse=True)
        )
        yield first_word, re.compile(rf"(?<![\w-])(?:{alternation})", 0 if case else re.IGNORECASE)


def _starts(entry: Mapping[str, Any], words: Mapping[str, str]) -> Sequence[str]:
    """Return the first tokens of what a rule matches: listed, or those of an alternation of [words]."""
    starts = entry.get("starts", ())
    if isinstance(starts, str):
        firsts = (_LETTERS.match(branch) for branch in words[starts].split("|"))
        return sorted({first[0] for first in firsts if first is not None})
    return list(starts)


def _from_capital(words: str) -> int:
    """Return how many characters of `words` are left from its first capital on; 0 if there is none."""
    for position, letter in enumerate(words):
        if letter.isupper():
            return len(words) - position
    return 0


def _identifier(match: re.Match[str]) -> tuple[int, int]:
    groups = match.re.groupindex
    for name in ("phi", "phi2", "phi3", "phi4"):
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
        return is_given_name(words[0]) and len(words[0]) > 3
    return is_given_name(words[0]) and (len(words[1]) == 1 or words[1] in entries("family"))


CHECKS: Mapping[str, Callable[[str], bool]] = {"luhn": luhn, "iban": iban, "vin": vin, "listed_name": listed_name}
