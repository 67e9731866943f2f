"""Which entries are of a kind, or name a digest: kept in memory, made from the log, never trusted over it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lifechart.core.errors import InputError

if TYPE_CHECKING:
    from lifechart.ledger.log import Entry

_DIGEST = re.compile(rb'"([0-9a-f]{64})"')
_WHOLE = re.compile(r"[0-9a-f]{64}")


class Index:
    """Entry numbers by kind and by digest."""

    def __init__(self) -> None:
        self.size = 0
        self._kinds: dict[str, list[int]] = {}
        self._digests: dict[bytes, list[int]] = {}

    def extend(self, entries: Iterable[Entry]) -> None:
        """Take in entries that follow those already known."""
        for entry in entries:
            assert entry.index == self.size, "entries come in order"
            envelope = entry.envelope
            self._kinds.setdefault(envelope.statement().kind, []).append(entry.index)
            for digest in set(_DIGEST.findall(envelope.payload)):
                self._digests.setdefault(bytes.fromhex(digest.decode()), []).append(entry.index)
            self.size += 1

    def find(self, kind: str | None, digest: str | None) -> list[int]:
        """Return the numbers of entries that satisfy both; None asks for nothing."""
        if digest is None:
            return self._kinds.get(kind, []) if kind is not None else list(range(self.size))
        if not _WHOLE.fullmatch(digest):
            raise InputError("digest", digest, "a SHA-256 as 64 lower-case hex digits")
        naming = self._digests.get(bytes.fromhex(digest), [])
        if kind is None:
            return naming
        of_kind = set(self._kinds.get(kind, []))
        return [index for index in naming if index in of_kind]
