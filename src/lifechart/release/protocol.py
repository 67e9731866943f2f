"""Protocols: what will be examined, on whom and by what rule, sealed before anybody looks.

A protocol is a TOML file. Registering it puts its digest into the ledger, with the signatures that it needs; amendments
are entries of their own and take nothing back. What the protocol decides may be carried out only on data that nobody
had evaluated before the registration, and only once.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lifechart.core import durable
from lifechart.core.errors import GateRefused, InputError
from lifechart.core.settings import Settings
from lifechart.ledger.keys import Signer
from lifechart.ledger.log import Entry, Log, Receipt
from lifechart.ledger.statement import Statement, Subject
from lifechart.release.approvals import Matter, approvals, approve, require
from lifechart.release.change_control import Envelope
from lifechart.release.criteria import Criterion, of_rows
from lifechart.release.people import Office, People
from lifechart.release.trial.design import Design

_KIND = "protocol"
_SIGNED_BY = (Office.ETHICS_BOARD, Office.MEDICAL_OFFICER)


class Purpose(StrEnum):
    """What a protocol is for."""

    VALIDATION = "validation"
    TRIAL = "trial"
    CHANGE = "change"


class Protocol(BaseModel):
    """One protocol, as its file states it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    capability: str = Field(description="what is examined")
    title: str
    purpose: Purpose
    stage: Literal["simulation", "shadow", "trial", "clinicians"] = Field(description="where its data come from")
    date: datetime = Field(description="when it was finished; before its registration")
    population: str = Field(min_length=10, description="who is asked about, and who is not")
    tasks: tuple[str, ...] = Field(min_length=1, description="evaluation tasks, by name")
    min_patients: int = Field(ge=1, description="the sample size below which nothing is concluded")
    min_events: int = Field(ge=1)
    analysis: str = Field(min_length=20, description="the primary analysis, in words that fix it")
    subgroups: tuple[str, ...] = ()
    stopping: str = Field(min_length=5, description="when it ends early, or that it does not")
    criterion: tuple[dict[str, Any], ...] = Field(default=(), description="what counts as success, as for the gate")
    trial: Design | None = None
    envelope: Envelope | None = None

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """What counts as success."""
        return of_rows(self.criterion)


@dataclass(frozen=True, slots=True)
class Registered:
    """A protocol under seal."""

    protocol: Protocol
    digest: str
    """SHA-256 of the file as it stands now, amendments included."""
    original: str
    """SHA-256 of the file as it was first registered: the name of the protocol."""
    entry: Entry
    """The statement of the registration or the last amendment."""
    first: Entry
    amendments: int


def load(content: bytes, name: str) -> Protocol:
    """Read a protocol; raises InputError that names the key, its value and what was expected."""
    try:
        protocol = Protocol.model_validate(tomllib.loads(content.decode()))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError("protocol", name, f"a TOML file ({error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"protocol {name}: {key}", first["input"], first["msg"]) from error
    for table, purpose in (("trial", Purpose.TRIAL), ("envelope", Purpose.CHANGE)):
        there = getattr(protocol, table) is not None
        if there != (protocol.purpose is purpose):
            raise InputError(f"protocol {name}: {table}", there, f"a [{table}] table where the purpose is {purpose}")
    if not protocol.criteria and protocol.purpose is Purpose.VALIDATION:
        raise InputError(f"protocol {name}: criterion", (), "at least one [[criterion]]: what counts as success")
    return protocol


def matter(content: bytes, deed: str = "register") -> Matter:
    """Return what signatories sign: these exact bytes."""
    return Matter(deed, (Subject("protocol", hashlib.sha256(content).hexdigest()),))


class Registry:
    """The protocols of one institution: files under `folder`, seals in the ledger."""

    def __init__(self, folder: Path, log: Log, people: People) -> None:
        self.folder, self.log, self.people = folder, log, people

    def signatures(self, digest: str) -> Path:
        """Return the folder of the signatures on a protocol."""
        return self.folder / digest / "approvals"

    def sign(self, path: Path, signer: Signer, *, office: Office, comment: str) -> Path:
        """Sign a protocol's exact bytes; raises InputError if they are no protocol."""
        content = path.read_bytes()
        load(content, str(path))
        folder = self.signatures(hashlib.sha256(content).hexdigest())
        return approve(folder, matter(content), signer, office=office, comment=comment, when=self.log.now())

    def register(self, path: Path, *, actor: str) -> Registered:
        """Seal a protocol that its signatories have signed; raises GateRefused for what cannot be sealed."""
        content = path.read_bytes()
        protocol, digest = load(content, str(path)), hashlib.sha256(content).hexdigest()
        if self._entries(digest):
            raise GateRefused(f"{path}: registered already; a change is an amendment")
        self._check_date(protocol)
        self._require_signed(digest, matter(content))
        durable.write_bytes(self.folder / digest / "protocol.toml", content)
        self._say(digest, digest, protocol, actor, {"amends": None, "reason": "registered"})
        return self.get(digest)

    def amend(self, original: str, path: Path, *, actor: str, reason: str) -> Registered:
        """Seal a changed protocol in the place of a registered one; what was sealed before stays readable.

        Raises GateRefused once anything has been carried out under it: what the data decide is not rewritten by them.
        """
        if not reason.strip():
            raise InputError("reason", reason, "the reason for the amendment, in a sentence")
        standing = self.get(original)
        if used := self.uses(original):
            raise GateRefused(
                f"{path}: amendment after data: entry {used[0].index} of the ledger already carried this protocol out"
            )
        content = path.read_bytes()
        protocol, digest = load(content, str(path)), hashlib.sha256(content).hexdigest()
        if protocol.capability != standing.protocol.capability or protocol.purpose != standing.protocol.purpose:
            raise GateRefused(f"{path}: of another capability or purpose; that is a new protocol, not an amendment")
        self._check_date(protocol)
        self._require_signed(digest, matter(content))
        durable.write_bytes(self.folder / digest / "protocol.toml", content)
        self._say(digest, original, protocol, actor, {"amends": standing.digest, "reason": reason})
        return self.get(original)

    def get(self, original: str) -> Registered:
        """Return a registered protocol as amended; raises GateRefused if the ledger has no such registration."""
        entries = self._entries(original)
        if not entries:
            raise GateRefused(f"protocol {original[:16]}…: not registered")
        digest = entries[-1].statement.subjects[0].digest
        content = (self.folder / digest / "protocol.toml").read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise GateRefused(f"protocol {digest[:16]}…: its file is not the one that was sealed")
        return Registered(load(content, digest[:16]), digest, original, entries[-1], entries[0], len(entries) - 1)

    def all(self) -> list[Registered]:
        """Return every registered protocol, oldest first."""
        originals = dict.fromkeys(entry.statement.predicate["protocol"] for entry in self.log.find(kind=_KIND))
        return [self.get(original) for original in originals]

    def uses(self, original: str) -> list[Entry]:
        """Return the entries in which this protocol was carried out: validations, and steps of its trial."""
        return [
            entry
            for kind in ("validation", "trial")
            for entry in self.log.find(kind=kind, digest=original)
            if entry.statement.predicate.get("protocol") == original
        ]

    def require_unseen(self, registered: Registered, data: str) -> None:
        """Raise GateRefused if anybody evaluated these data before the seal, or carried the protocol out on them."""
        for entry in self.log.find(kind="evaluate", digest=data):
            if entry.statement.predicate.get("registered") != registered.original:
                when = "before" if entry.index < registered.entry.index else "after"
                raise GateRefused(
                    f"protocol {registered.original[:16]}…: entry {entry.index} of the ledger evaluated these data "
                    f"outside the protocol, {when} its seal (entry {registered.entry.index}); whoever has looked "
                    "cannot confirm. Use data that nobody has evaluated."
                )
        for entry in self.uses(registered.original):
            if entry.statement.predicate.get("data") == data:
                raise GateRefused(
                    f"protocol {registered.original[:16]}…: carried out on these data already (entry {entry.index})"
                )

    def _entries(self, original: str) -> list[Entry]:
        found = self.log.find(kind=_KIND, digest=original)
        return [entry for entry in found if entry.statement.predicate["protocol"] == original]

    def _check_date(self, protocol: Protocol) -> None:
        """Refuse a date that lies ahead, or a clock that runs behind the ledger's last entry."""
        now = self.log.now()
        stated = protocol.date if protocol.date.tzinfo else protocol.date.replace(tzinfo=UTC)
        if stated > now:
            raise GateRefused(f"protocol date {stated:%Y-%m-%d %H:%M}: lies ahead of its registration")
        check_clock(self.log, now)

    def _require_signed(self, digest: str, what: Matter) -> None:
        found = approvals(self.signatures(digest), what, self.people)
        require(found, _SIGNED_BY, persons=2, not_by=(), deed=f"{what.deed} protocol {digest[:16]}…")

    def _say(self, digest: str, original: str, protocol: Protocol, actor: str, more: dict[str, object]) -> Receipt:
        said = {
            "protocol": original,
            "capability": protocol.capability,
            "purpose": protocol.purpose.value,
            "title": protocol.title,
            "actor": actor,
            **more,
        }
        return self.log.append(Statement(_KIND, (Subject("protocol", digest),), said))


def open_registry(settings: Settings, log: Log) -> Registry:
    """Open this institution's protocols."""
    return Registry(settings.protocols, log, People(log))


def check_clock(log: Log, now: datetime) -> None:
    """Raise GateRefused if `now` lies before the ledger's newest entry: a clock set back would back-date."""
    log.refresh()
    for entry in log.entries(max(0, log.size - 1), log.size):
        newest = datetime.fromisoformat(entry.statement.created.replace("Z", "+00:00"))
        if now < newest:
            raise GateRefused(
                f"clock {now:%Y-%m-%d %H:%M:%S}: behind the ledger's newest entry ({newest:%Y-%m-%d %H:%M:%S}); "
                "nothing is back-dated"
            )
