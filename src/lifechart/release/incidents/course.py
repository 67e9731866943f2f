"""What has happened with each incident: its statements in the ledger, replayed. There is no other state."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from lifechart.core import durable
from lifechart.ledger.log import Entry
from lifechart.release.incidents.policy import Policy


class Standing(StrEnum):
    """How far an incident has come."""

    REPORTED = "reported"
    TRIAGED = "triaged"
    INVESTIGATED = "investigated"
    CORRECTED = "corrected"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was done about an incident."""

    entry: int
    time: datetime
    step: str
    actor: str
    words: str
    """Digest of what was written, or nothing."""
    said: dict[str, Any]


@dataclass(slots=True)
class Incident:
    """One incident as the ledger tells it. Patients stand in it as keyed hashes."""

    digest: str
    """Names it: the digest of the first words about it."""
    number: int
    """Counted from 1, for people."""
    reported: datetime
    reporter: str
    problem: str
    severity: str
    """The reporter's word until triage."""
    capability: str
    page: str
    """Route of the page that it was reported from."""
    occurred: str = ""
    standing: Standing = Standing.REPORTED
    triaged: datetime | None = None
    paused: bool = False
    cause: str = ""
    answers: dict[str, str] = field(default_factory=dict)
    """Digest of a linked answer to the digest of the model that gave it."""
    users: set[str] = field(default_factory=set)
    """Who was given the linked answers."""
    patients: set[str] = field(default_factory=set)
    submitted: dict[str, tuple[datetime, str]] = field(default_factory=dict)
    """Regulator to when it was told, and under which reference."""
    exported: dict[str, str] = field(default_factory=dict)
    """Regulator to the digest of the last export."""
    recalls: list[str] = field(default_factory=list)
    closed: datetime | None = None
    closed_by: str = ""
    steps: list[Step] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list, repr=False)

    @classmethod
    def begin(cls, entry: Entry, said: dict[str, Any], time: datetime, number: int) -> Incident:
        """Return the incident that a report opens."""
        return cls(
            digest=said["incident"],
            number=number,
            reported=time,
            reporter=said["actor"],
            problem=said["problem"],
            severity=said["severity"],
            capability=said["capability"],
            page=said["page"],
            occurred=said["occurred"],
        )

    def take(self, entry: Entry, said: dict[str, Any], time: datetime) -> None:
        """Carry the next statement about this incident in; `said` is its predicate."""
        self.steps.append(Step(entry.index, time, said["step"], said["actor"], said.get("words", ""), said))
        self.leaves.append(entry.leaf)
        getattr(self, f"_{said['step']}")(said, time)

    @property
    def course(self) -> str:
        """Digest of every step so far: what the safety officer signs when it is closed."""
        return durable.digest_of(self.leaves)

    def triage_due(self, policy: Policy) -> datetime:
        """Return by when somebody has to have looked at it."""
        return self.reported + timedelta(hours=policy.severity(self.severity).triage_hours)

    def regulator_due(self, policy: Policy) -> dict[str, datetime]:
        """Return by when each regulator has to know, for those who do."""
        return {
            regulator.name: self.reported + timedelta(days=regulator.days[self.severity])
            for regulator in policy.demands.regulator
            if self.severity in regulator.days
        }

    def overdue(self, policy: Policy, now: datetime) -> list[str]:
        """Return what should have been done by now and was not: `triage`, and regulators by name."""
        late = ["triage"] if self.triaged is None and now > self.triage_due(policy) else []
        dues = self.regulator_due(policy).items()
        return late + [name for name, due in dues if name not in self.submitted and now > due]

    def _link(self, said: dict[str, Any]) -> None:
        self.answers.update({each["answer"]: each["model"] for each in said["answers"]})
        self.users.update(each["user"] for each in said["answers"])
        self.patients.update(each["patient"] for each in said["answers"])
        self.patients.update(said["patients"])

    def _reported(self, said: dict[str, Any], time: datetime) -> None:
        self._link(said)

    def _linked(self, said: dict[str, Any], time: datetime) -> None:
        self._link(said)

    def _triaged(self, said: dict[str, Any], time: datetime) -> None:
        self.severity, self.triaged, self.paused = said["severity"], self.triaged or time, said["paused"] or self.paused
        if self.standing is Standing.REPORTED:
            self.standing = Standing.TRIAGED

    def _investigated(self, said: dict[str, Any], time: datetime) -> None:
        self.cause, self.standing = said["cause"], Standing.INVESTIGATED

    def _corrected(self, said: dict[str, Any], time: datetime) -> None:
        self.standing = Standing.CORRECTED

    def _exported(self, said: dict[str, Any], time: datetime) -> None:
        self.exported[said["regulator"]] = said["export"]

    def _submitted(self, said: dict[str, Any], time: datetime) -> None:
        self.submitted[said["regulator"]] = (time, said["reference"])

    def _recalled(self, said: dict[str, Any], time: datetime) -> None:
        self.recalls.append(said["recall"])

    def _ended(self, said: dict[str, Any], time: datetime) -> None:
        pass  # The recall's own matter; that it was ended, and why, is a step all the same.

    def _closed(self, said: dict[str, Any], time: datetime) -> None:
        self.standing, self.closed, self.closed_by = Standing.CLOSED, time, said["approval"]["name"]

    def _reopened(self, said: dict[str, Any], time: datetime) -> None:
        self.standing, self.closed, self.closed_by = Standing.TRIAGED, None, ""
