"""What the ledger says of each capability: releases, phases, switches. The only source of what is current.

No file states a phase, so none can be edited to change it. The log is replayed from its first entry, and what was
read is held against the signed head, so an entry exchanged or left out on disk is noticed before it is believed.
"""

from __future__ import annotations

import base64
import threading
from dataclasses import dataclass, field, replace

import orjson

from lifechart.core.capability import Phase
from lifechart.core.errors import IntegrityError
from lifechart.ledger import merkle
from lifechart.ledger.log import Entry, Log
from lifechart.ledger.statement import Statement, predicate_type

KINDS = ("release", "phase", "switch")
_MARKS = tuple(b'"predicateType":"%b"' % predicate_type(kind).encode() for kind in KINDS)


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a capability's history."""

    index: int
    """Entry in the ledger."""
    kind: str
    time: str
    version: str
    manifest: str
    """Digest of the manifest of the version that it concerns."""
    what: str
    """`released`, `made current again`, a phase, `on` or `off`."""
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class State:
    """How a capability stands."""

    capability: str
    version: str | None = None
    """The current release; None if there never was one."""
    manifest: str = ""
    """Digest of its manifest."""
    phase: Phase = Phase.OFF
    """The phase of the current release. A new release starts at `off`; one made current again takes up its own."""
    on: bool = True
    """Whether the capability is switched on. The switch outlives releases."""
    reason: str = ""
    """Why it is switched on or off, in the words of whoever did it."""
    actor: str = ""
    """Who last used the switch."""
    changes: tuple[Change, ...] = field(default=(), repr=False)

    @property
    def manifests(self) -> dict[str, str]:
        """Version to manifest digest, in the order of release."""
        return {change.version: change.manifest for change in self.changes if change.kind == "release"}

    def phase_of(self, version: str) -> Phase:
        """Return the phase that a version last stood in."""
        phases = [change.what for change in self.changes if change.kind == "phase" and change.version == version]
        return Phase(phases[-1]) if phases else Phase.OFF


class History:
    """The states of all capabilities, kept up with the log. Safe for threads."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._read = merkle.CompactRange()
        self._states: dict[str, State] = {}

    def states(self) -> dict[str, State]:
        """Return every capability's state as of now; raises IntegrityError if the log is not what was signed.

        Costs a look at the journal and the reading of what is new in it, so it can be asked for each request.
        """
        with self._lock:
            self._log.refresh()
            head = self._log.head()
            if head.size > self._read.size:
                self._take(head.size, head.root)
            return dict(self._states)

    def _take(self, size: int, root: bytes) -> None:
        read, states = self._read.copy(), dict(self._states)
        for entry in self._log.entries(read.size, size):
            read.append(merkle.leaf_hash(entry.content))
            if (statement := _relevant(entry)) is not None:
                _apply(states, entry.index, statement)
        if read.root() != root:
            raise IntegrityError(f"ledger: its {size} entries are not those under its signed head; verify it")
        self._read, self._states = read, states


def _relevant(entry: Entry) -> Statement | None:
    """Return a release, phase or switch; most entries are answers, and are passed over without being parsed whole."""
    payload = base64.b64decode(orjson.loads(entry.content)["payload"])
    if not any(mark in payload for mark in _MARKS):
        return None
    statement = Statement.of_payload(payload)
    return statement if statement.kind in KINDS else None


def _apply(states: dict[str, State], index: int, statement: Statement) -> None:
    """Carry one statement into the states."""
    said = statement.predicate
    try:
        name, what = str(said["capability"]), str(said["what"])
        change = Change(
            index=index,
            kind=statement.kind,
            time=statement.created,
            version=str(said["version"]),
            manifest=statement.subjects[0].digest,
            what=what,
            actor=str(said["actor"]),
            reason=str(said["reason"]),
        )
        state = states.get(name, State(name))
        changes = (*state.changes, change)
        if change.kind == "release":
            phase = state.phase_of(change.version)
            state = replace(state, version=change.version, manifest=change.manifest, phase=phase)
        elif change.kind == "phase":
            state = replace(state, phase=Phase(what) if change.version == state.version else state.phase)
        else:
            state = replace(state, on=what == "on", reason=change.reason, actor=change.actor)
    except (KeyError, ValueError) as error:
        raise IntegrityError(f"ledger: entry {index} is a {statement.kind} that cannot be read ({error})") from error
    states[name] = replace(state, changes=changes)
