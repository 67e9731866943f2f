"""Which entries are of a kind, or name a digest: kept in memory, made from the log, never trusted over it.

A log of a million answers names some ten million digests, so they are held as sorted arrays of 8-byte prefixes, 12
bytes a mention. Whoever reads an entry sees whether it truly names the digest.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lifechart.core.errors import InputError

if TYPE_CHECKING:
    from lifechart.ledger.log import Entry

_DIGEST = re.compile(rb'"([0-9a-f]{64})"')
_WHOLE = re.compile(r"[0-9a-f]{64}")
_PREFIX = re.compile(r"[0-9a-f]{6,64}")
_MARK = b'"predicateType":"https://lifechart.example/predicate/'
_CAPABILITY = re.compile(rb'"capability":"([^"\\]+)"')
_TAIL, _MOST_SEGMENTS = 1 << 16, 8
_HEX = 16
"""Hex digits of a prefix."""

Numbers = NDArray[np.uint32]


class Index:
    """Entry numbers by kind, by kind and capability, and by digest."""

    def __init__(self) -> None:
        self.size = 0
        self._kinds: dict[tuple[str, str], array[int]] = {}
        self._segments: list[tuple[NDArray[np.uint64], Numbers]] = []
        self._tail: list[bytes] = []  # digests in hex, not sorted yet
        self._tail_numbers = array("I")
        self._arrays: dict[object, Any] = {}  # made of the lists above when asked for, until more entries come

    def extend(self, entries: Iterable[Entry]) -> None:
        """Take in entries that follow those already known."""
        for entry in entries:
            self._arrays.clear()
            assert entry.index == self.size, "entries come in order"
            payload = entry.payload
            start = payload.rfind(_MARK) + len(_MARK)
            kind = payload[start : payload.find(b"/", start)].decode()
            capability = _CAPABILITY.search(payload)
            self._kinds.setdefault((kind, ""), array("I")).append(entry.index)
            if capability is not None:
                self._kinds.setdefault((kind, capability[1].decode()), array("I")).append(entry.index)
            found = _DIGEST.findall(payload)
            self._tail += found
            self._tail_numbers.extend([entry.index] * len(found))
            self.size += 1
            if len(self._tail) >= _TAIL:
                self._sort_tail()

    def find(self, kind: str | None, digest: str | None, capability: str = "") -> Numbers:
        """Return the numbers of entries that satisfy all, in order; None and "" ask for nothing."""
        if digest is not None and not _WHOLE.fullmatch(digest):
            raise InputError("digest", digest, "a SHA-256 as 64 lower-case hex digits")
        of_kind = self._of_kind(kind, capability) if kind is not None else None
        if digest is None:
            return np.arange(self.size, dtype=np.uint32) if of_kind is None else of_kind
        first = int(digest[:_HEX], 16)
        naming = np.unique(np.concatenate([numbers for _, numbers in self._between(first, first)]))
        return naming if of_kind is None else np.intersect1d(naming, of_kind, assume_unique=True)

    def starting(self, prefix: str) -> list[int]:
        """Return one entry for each different digest that begins with `prefix` (6 hex digits or more), oldest first."""
        if not _PREFIX.fullmatch(prefix):
            raise InputError("digest", prefix, "6 to 64 lower-case hex digits")
        head = prefix[:_HEX]
        low, high = int(head.ljust(_HEX, "0"), 16), int(head.ljust(_HEX, "f"), 16)
        firsts: dict[int, int] = {}
        for keys, numbers in self._between(low, high):
            for key, number in zip(keys.tolist(), numbers.tolist(), strict=True):
                firsts[key] = min(number, firsts.get(key, number))
        return sorted(set(firsts.values()))

    def _between(self, low: int, high: int) -> list[tuple[NDArray[np.uint64], Numbers]]:
        """Return (keys, entry numbers) of the keys from `low` to `high`, inclusive."""
        ends = np.array([low, high], np.uint64)
        found = []
        for keys, numbers in self._segments:
            start, stop = np.searchsorted(keys, ends[0], "left"), np.searchsorted(keys, ends[1], "right")
            found.append((keys[start:stop], numbers[start:stop]))
        if "tail" not in self._arrays:
            self._arrays["tail"] = self._tail_arrays()
        keys, numbers = self._arrays["tail"]
        inside = (keys >= ends[0]) & (keys <= ends[1])
        return [*found, (keys[inside], numbers[inside])]

    def _of_kind(self, kind: str, capability: str) -> Numbers:
        key = kind, capability
        if key not in self._arrays:
            self._arrays[key] = _array(self._kinds.get(key, array("I")))
        numbers: Numbers = self._arrays[key]
        return numbers

    def _sort_tail(self) -> None:
        self._segments.append(self._tail_arrays())
        self._tail, self._tail_numbers = [], array("I")
        merged = self._segments if len(self._segments) > _MOST_SEGMENTS else self._segments[-1:]
        keys = np.concatenate([segment[0] for segment in merged])
        numbers = np.concatenate([segment[1] for segment in merged])
        order = np.argsort(keys, kind="stable")
        self._segments = [*self._segments[: -len(merged)], (keys[order], numbers[order])]

    def _tail_arrays(self) -> tuple[NDArray[np.uint64], Numbers]:
        # Every fourth word: the first 8 bytes of each digest.
        words = np.frombuffer(bytes.fromhex(b"".join(self._tail).decode()), ">u8")[::4]
        return words.astype(np.uint64), _array(self._tail_numbers)


def _array(numbers: array[int]) -> Numbers:
    return np.array(numbers, np.uint32)
