"""What has happened in a trial so far: its statements in the ledger, replayed. There is no other state."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lifechart.ledger.log import Entry


@dataclass(frozen=True, slots=True)
class Enrolled:
    """One participant: a keyed hash, never an identity."""

    participant: str
    stratum: str
    cluster: str
    period: int
    position: int
    """Place in the stratum's order of enrolment, from 0."""
    entry: int


@dataclass(frozen=True, slots=True)
class AdverseEvent:
    """Something bad that happened to a participant, and by when it has to be known further up."""

    entry: int
    participant: str
    serious: bool
    fatal: bool
    suspected: bool
    """Whether the intervention is suspected to have caused it."""
    occurred: datetime
    due: datetime | None
    reported: datetime | None = None


@dataclass(slots=True)
class Course:
    """A trial's history."""

    opened: Entry | None = None
    commitment: str = ""
    manifest: str = ""
    """Digest of the release that is on trial."""
    enrolled: dict[str, Enrolled] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)
    """Participant to the digest of the recorded outcome."""
    adverse: dict[int, AdverseEvent] = field(default_factory=dict)
    looks: list[dict[str, Any]] = field(default_factory=list)
    paused: str = ""
    """Why it stands still, or nothing."""
    closed: str = ""
    """Why it ended, or nothing."""
    concluded: str = ""
    """What the plan says of the result: `stop for efficacy` and the like, or nothing yet."""
    secret: str = ""
    """The allocation's secret in hexadecimal, once it has been opened."""
    left: set[str] = field(default_factory=set)
    """Participants who withdrew; intention to treat still counts them where they were put."""

    def take(self, entry: Entry, said: dict[str, Any]) -> None:
        """Carry the next entry in; `said` is its predicate."""
        getattr(self, f"_{said['step']}")(entry, said)

    def in_stratum(self, stratum: str) -> int:
        """Return how many of a stratum are enrolled."""
        return sum(each.stratum == stratum for each in self.enrolled.values())

    def _opened(self, entry: Entry, said: dict[str, Any]) -> None:
        self.opened, self.commitment, self.manifest = entry, said["commitment"], said["manifest"]

    def _enrolled(self, entry: Entry, said: dict[str, Any]) -> None:
        who = Enrolled(
            said["participant"], said["stratum"], said["cluster"], said["period"], said["position"], entry.index
        )
        self.enrolled[who.participant] = who

    def _outcome(self, entry: Entry, said: dict[str, Any]) -> None:
        self.outcomes[said["participant"]] = said["digest"]

    def _adverse(self, entry: Entry, said: dict[str, Any]) -> None:
        self.adverse[entry.index] = AdverseEvent(
            entry.index,
            said["participant"],
            said["serious"],
            said["fatal"],
            said["suspected"],
            datetime.fromisoformat(said["occurred"]),
            datetime.fromisoformat(said["due"]) if said["due"] else None,
        )

    def _reported(self, entry: Entry, said: dict[str, Any]) -> None:
        event = self.adverse[said["event"]]
        self.adverse[event.entry] = AdverseEvent(
            event.entry,
            event.participant,
            event.serious,
            event.fatal,
            event.suspected,
            event.occurred,
            event.due,
            datetime.fromisoformat(said["when"]),
        )

    def _look(self, entry: Entry, said: dict[str, Any]) -> None:
        self.looks.append(said)

    def _paused(self, entry: Entry, said: dict[str, Any]) -> None:
        self.paused = said["reason"]

    def _resumed(self, entry: Entry, said: dict[str, Any]) -> None:
        self.paused = ""

    def _closed(self, entry: Entry, said: dict[str, Any]) -> None:
        self.closed = said["reason"]

    def _concluded(self, entry: Entry, said: dict[str, Any]) -> None:
        self.concluded = said["advice"]

    def _revealed(self, entry: Entry, said: dict[str, Any]) -> None:
        self.secret = said["secret"]

    def _left(self, entry: Entry, said: dict[str, Any]) -> None:
        self.left.add(said["participant"])
