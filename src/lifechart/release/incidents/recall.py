"""Recalls: a notice that reaches everybody who was shown an affected answer, until each has acknowledged it.

Who that is follows from the ledger at every look, so somebody who is shown such an answer after the notice was issued
gets it too, and somebody who is shown another one after acknowledging gets it again.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime

from lifechart.core.errors import GateRefused, InputError
from lifechart.ledger.log import Log
from lifechart.ledger.statement import Statement, Subject
from lifechart.release.incidents.book import Book, Recall
from lifechart.release.incidents.scope import Reach, Seen
from lifechart.release.incidents.words import Words


@dataclass(frozen=True, slots=True)
class Notice:
    """A recall as one person sees it."""

    recall: str
    issued: datetime
    message: str
    capability: str
    seen: Seen


@dataclass(frozen=True, slots=True)
class Tally:
    """Who has acknowledged a recall, of all whom it reaches."""

    answers: int
    patients: int
    people: dict[str, tuple[Seen, datetime | None]] = field(default_factory=dict)
    """Name to what they saw and when they acknowledged it, or None as long as they have not."""

    @property
    def outstanding(self) -> list[str]:
        """Whoever has not acknowledged it."""
        return [name for name, (_, when) in self.people.items() if when is None]


class Recalls:
    """The recalls of one institution. Safe for threads."""

    def __init__(self, book: Book, log: Log, words: Words) -> None:
        self._book, self._log, self._words = book, log, words
        self._lock = threading.Lock()
        self._reaches: dict[str, Reach] = {}

    def all(self) -> list[Recall]:
        """Return every recall, oldest first."""
        return list(self._book.read().recalls.values())

    def get(self, digest: str) -> Recall:
        """Return a recall; raises InputError if there is none."""
        found = self._book.read().recalls.get(digest)
        if found is None:
            raise InputError("recall", digest, "the digest of a recall")
        return found

    def message(self, recall: Recall) -> str:
        """Return what the notice says."""
        return self._words.read(recall.digest)

    def tally(self, recall: Recall) -> Tally:
        """Return whom a recall reaches and who has acknowledged all that they were shown."""
        with self._lock:
            reach = self._reach(recall)
            people = {name: (seen, _acknowledged(recall, name, seen)) for name, seen in sorted(reach.people.items())}
            return Tally(reach.answers, len(reach.patients), people)

    def notices(self, name: str) -> list[Notice]:
        """Return the notices that somebody has still to acknowledge, oldest first."""
        found = []
        for recall in self.all():
            if recall.ended is not None:
                continue
            with self._lock:
                seen = self._reach(recall).people.get(name)
            if seen is not None and _acknowledged(recall, name, seen) is None:
                found.append(Notice(recall.digest, recall.issued, self.message(recall), recall.scope.capability, seen))
        return found

    def about(self, patient: str) -> list[tuple[Recall, datetime]]:
        """Return the recalls of answers about a patient (keyed hash), each with when the last was shown.

        Those of incidents that are open: ending a recall does not make what was said any better.
        """
        found = []
        for recall in self.all():
            if self._book.incidents[recall.incident].closed is None:
                with self._lock:
                    when = self._reach(recall).patients.get(patient)
                if when is not None:
                    found.append((recall, when))
        return found

    def acknowledge(self, digest: str, name: str) -> None:
        """Record that somebody has read a notice; raises GateRefused for one that was not theirs to read."""
        recall = self.get(digest)
        seen, when = self.tally(recall).people.get(name, (None, None))
        if seen is None:
            raise GateRefused("recall: only those who were shown an affected answer acknowledge it")
        if when is not None:
            return
        said = {
            "incident": recall.incident,
            "step": "acknowledged",
            "actor": name,
            "recall": recall.digest,
            "seen": seen.last_entry,
        }
        self._log.append(Statement("incident", (Subject("recall", recall.digest),), said))

    def _reach(self, recall: Recall) -> Reach:
        return self._reaches.setdefault(recall.digest, Reach(recall.scope)).follow(self._log)


def _acknowledged(recall: Recall, name: str, seen: Seen) -> datetime | None:
    """Return when somebody acknowledged all that they were shown, or None if they were shown more since."""
    upto, when = recall.acknowledged.get(name, (-1, None))
    return when if upto >= seen.last_entry else None
