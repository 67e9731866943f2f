"""Every incident and recall as the ledger tells them; only what is new in it is read."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lifechart.core.errors import IntegrityError
from lifechart.ledger.log import Entry, Log
from lifechart.release.incidents.course import Incident
from lifechart.release.incidents.scope import Scope

KIND = "incident"


@dataclass(slots=True)
class Recall:
    """One recall, issued because of an incident."""

    digest: str
    """Names it: the digest of its message."""
    incident: str
    scope: Scope
    issued: datetime
    by: str
    acknowledged: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    """Who has read it, up to which entry of the ledger they had been shown, and when."""
    ended: datetime | None = None
    """When it was ended although somebody had not acknowledged it."""


class Book:
    """Replays the ledger. Safe for threads."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._read = 0
        self.incidents: dict[str, Incident] = {}
        self.recalls: dict[str, Recall] = {}

    def read(self) -> Book:
        """Take in what is new; raises IntegrityError for a statement that cannot be read."""
        with self._lock:
            numbers = self._log.numbers(kind=KIND)
            for entry in self._log.read(numbers[self._read :].tolist()):
                self._take(entry)
                self._read += 1
        return self

    def _take(self, entry: Entry) -> None:
        statement = entry.statement
        said, time = statement.predicate, datetime.fromisoformat(statement.created)
        try:
            if said["step"] == "acknowledged":
                self.recalls[said["recall"]].acknowledged[said["actor"]] = (said["seen"], time)
                return
            if said["step"] == "reported":
                self.incidents[said["incident"]] = Incident.begin(entry, said, time, len(self.incidents) + 1)
            self._note_recall(said, time)
            self.incidents[said["incident"]].take(entry, said, time)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise IntegrityError(f"ledger: entry {entry.index} is an incident that cannot be read ({error})") from error

    def _note_recall(self, said: dict[str, Any], time: datetime) -> None:
        if said["step"] == "recalled":
            scope = Scope.of_json(said["scope"])
            self.recalls[said["recall"]] = Recall(said["recall"], said["incident"], scope, time, said["actor"])
        elif said["step"] == "ended":
            self.recalls[said["recall"]].ended = time
