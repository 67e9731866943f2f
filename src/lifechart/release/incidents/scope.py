"""Which answers a recall is about, and whom they reached: read from the ledger's `answer` statements."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from lifechart.core.errors import InputError
from lifechart.ledger.log import Entry, Log

MOST_ANSWERS = 500
"""Answers that a scope may list one by one; more are named by model and time."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SHOWN = b'"showing":"shown"'


@dataclass(frozen=True, slots=True)
class Scope:
    """The answers of a capability that satisfy all that is given."""

    capability: str
    model: str = ""
    """Digest of the model that gave them: every answer of a release, and of others that hold the same model."""
    outcome: str = ""
    """That said something about this outcome."""
    since: datetime | None = None
    until: datetime | None = None
    """Shown from, and up to; aware."""
    answers: tuple[str, ...] = ()
    """Digests of single answers."""

    def __post_init__(self) -> None:
        if not self.capability:
            raise InputError("recall: capability", self.capability, "the name of a capability")
        for digest in (*self.answers, *([self.model] if self.model else [])):
            if not _DIGEST.fullmatch(digest):
                raise InputError("recall: digest", digest, "a SHA-256 as 64 lower-case hex digits")
        if len(self.answers) > MOST_ANSWERS:
            raise InputError("recall: answers", len(self.answers), f"at most {MOST_ANSWERS}; or a model and times")
        for moment in (self.since, self.until):
            if moment is not None and moment.tzinfo is None:
                raise InputError("recall: time", moment.isoformat(), "a time with its zone")
        if self.since and self.until and self.until < self.since:
            raise InputError("recall: until", self.until.isoformat(), f"not before {self.since.isoformat()}")

    def to_json(self) -> dict[str, Any]:
        """Return it as it stands in a statement."""
        return {
            "capability": self.capability,
            "model": self.model,
            "outcome": self.outcome,
            "since": self.since.isoformat() if self.since else "",
            "until": self.until.isoformat() if self.until else "",
            "answers": list(self.answers),
        }

    @classmethod
    def of_json(cls, said: dict[str, Any]) -> Scope:
        """Read it from a statement."""
        since, until = (datetime.fromisoformat(said[key]) if said[key] else None for key in ("since", "until"))
        return cls(said["capability"], said["model"], said["outcome"], since, until, tuple(said["answers"]))

    def numbers(self, log: Log) -> list[int]:
        """Return the numbers of the entries that may be about these answers, in order."""
        if self.answers:
            found = [log.numbers(kind="answer", digest=digest) for digest in self.answers]
            return [int(number) for number in np.unique(np.concatenate(found))]
        numbers = log.numbers(kind="answer", digest=self.model or None, capability=self.capability)
        return [int(number) for number in numbers]

    def covers(self, digest: str, said: dict[str, Any], time: datetime) -> bool:
        """Tell whether an answer (its digest, its predicate, when it was given) is one of them and was shown."""
        return (
            said["showing"] == "shown"
            and said["capability"] == self.capability
            and (not self.model or said["model"] == self.model)
            and (not self.answers or digest in self.answers)
            and (not self.outcome or any(claim["outcome"] == self.outcome for claim in said["claims"]))
            and (self.since is None or time >= self.since)
            and (self.until is None or time <= self.until)
        )


@dataclass(slots=True)
class Seen:
    """What one person was shown of the answers in a scope."""

    answers: int
    first: datetime
    last: datetime
    last_entry: int


@dataclass(slots=True)
class Reach:
    """Whom the answers in a scope reached, kept up with the log."""

    scope: Scope
    answers: int = 0
    people: dict[str, Seen] = field(default_factory=dict)
    """By whom they were shown to: an account, or a client system with the practitioner that it named."""
    patients: dict[str, datetime] = field(default_factory=dict)
    """Keyed hash of whom they were about, to when the last one was shown."""
    _read: int = 0

    def follow(self, log: Log) -> Reach:
        """Take in what is new in the log."""
        size = log.size
        if size > self._read:
            fresh = [number for number in self.scope.numbers(log) if self._read <= number < size]
            self._take(log.read(fresh))
            self._read = size
        return self

    def _take(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            if _SHOWN not in entry.payload:
                continue
            statement = entry.statement
            said, time = statement.predicate, datetime.fromisoformat(statement.created)
            if not self.scope.covers(statement.subjects[0].digest, said, time):
                continue
            self.answers += 1
            self.patients[said["patient"]] = time
            who = recipient(said)
            seen = self.people.setdefault(who, Seen(0, time, time, entry.index))
            seen.answers, seen.last, seen.last_entry = seen.answers + 1, time, entry.index


def recipient(said: dict[str, Any]) -> str:
    """Return to whom an answer was shown, from its statement: a user, or whom a client system asked for."""
    asker = said.get("asker", "")
    return f"{said['user']} {asker}" if asker else str(said["user"])
