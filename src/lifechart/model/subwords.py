"""A tokenizer of our own for clinical text: byte-pair merges learnt from the training notes, nothing else.

Byte-pair encoding over words (Sennrich, Haddow and Birch 2016, arXiv 1508.07909). Text is lower-cased and cut into runs
of letters, single digits and marks; a tag that de-identification left (`[NAME]`) is one piece.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

PAD, UNKNOWN = 0, 1
_WORD = re.compile(r"\[[A-Z]+\]|[^\W\d_]+|\d|[^\w\s]")
_END = "</w>"


@dataclass(frozen=True)
class Subwords:
    """Pieces by id (0 padding, 1 unknown) and the merges that make them, in order."""

    pieces: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)
    _ranks: dict[tuple[str, str], int] = field(init=False, repr=False, compare=False)
    _known: dict[str, tuple[int, ...]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ids", {piece: number + 2 for number, piece in enumerate(self.pieces)})
        object.__setattr__(self, "_ranks", {pair: rank for rank, pair in enumerate(self.merges)})

    def __len__(self) -> int:
        return len(self.pieces) + 2

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text's pieces."""
        found: list[int] = []
        for word in words(text):
            ids = self._known.get(word)
            if ids is None:
                ids = self._known[word] = tuple(self._ids.get(piece, UNKNOWN) for piece in self._pieces(word))
            found += ids
        return found

    def _pieces(self, word: str) -> list[str]:
        parts = _start(word)
        while len(parts) > 1:
            pairs = [(self._ranks.get(pair, len(self.merges)), at) for at, pair in enumerate(itertools.pairwise(parts))]
            rank, at = min(pairs)
            if rank == len(self.merges):
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return parts


def words(text: str) -> list[str]:
    """Cut a text.

    >>> words("Seen by [NAME] on 3/14.")
    ['seen', 'by', '[NAME]', 'on', '3', '/', '1', '4', '.']
    """
    return [word if word[0] == "[" and len(word) > 1 else word.lower() for word in _WORD.findall(text)]


def learn(texts: Iterable[str], size: int, fewest: int) -> Subwords:
    """Learn at most `size` pieces. A word that fewer than `fewest` texts hold teaches nothing and is never a piece.

    Rare words are where names hide that de-identification missed: they are read as letters and common parts.
    """
    holders: Counter[str] = Counter()
    for text in texts:
        holders.update(set(words(text)))
    known = {word: count for word, count in holders.items() if count >= fewest}
    parts = {word: _start(word) for word in known}
    pieces = sorted({piece for each in parts.values() for piece in each})
    merges: list[tuple[str, str]] = []
    weight: Counter[tuple[str, str]] = Counter()
    where: dict[tuple[str, str], set[str]] = defaultdict(set)
    for word, each in parts.items():
        for pair in itertools.pairwise(each):
            weight[pair] += known[word]
            where[pair].add(word)
    while len(pieces) + 2 < size and weight:
        best = max(weight, key=lambda pair: (weight[pair], pair))
        if weight[best] < fewest:
            break
        merges.append(best)
        pieces.append(best[0] + best[1])
        for word in list(where[best]):
            _merge(word, best, parts, known[word], weight, where)
        weight.pop(best, None)
        where.pop(best, None)
    return Subwords(tuple(pieces), tuple(merges))


def _start(word: str) -> list[str]:
    return [word + _END] if word[0] == "[" and len(word) > 1 else [*word[:-1], word[-1] + _END]


def _merge(
    word: str,
    best: tuple[str, str],
    parts: dict[str, list[str]],
    count: int,
    weight: Counter[tuple[str, str]],
    where: dict[tuple[str, str], set[str]],
) -> None:
    """Join the pair `best` in one word, and keep the counts of pairs right."""
    old = parts[word]
    new: list[str] = []
    at = 0
    while at < len(old):
        joined = tuple(old[at : at + 2]) == best
        new.append(old[at] + old[at + 1] if joined else old[at])
        at += 2 if joined else 1
    for pair in itertools.pairwise(old):
        weight[pair] -= count
        where[pair].discard(word)
    for pair in itertools.pairwise(new):
        weight[pair] += count
        where[pair].add(word)
    for pair in itertools.pairwise(old):
        if weight[pair] <= 0:
            weight.pop(pair, None)
            where.pop(pair, None)
    parts[word] = new
