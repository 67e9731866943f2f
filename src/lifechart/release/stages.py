"""What a capability has to have earned before it enters a phase: evidence in the ledger, and signatures over it.

The demands are data (phases.toml, or an institution's own file). A phase is entered from the one before it,
on the current release, with every kind of evidence that its demand names; the signatures bind the exact digests of
manifest, model, Report and protocol. The one short cut is a registered change plan (release/change_control.py).
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lifechart.core.capability import Phase
from lifechart.core.errors import GateRefused, InputError
from lifechart.ledger.lineage import makers_of
from lifechart.ledger.log import Entry, Log
from lifechart.ledger.statement import Subject
from lifechart.release.approvals import Matter, approvals, require
from lifechart.release.history import State
from lifechart.release.manifest import Manifest
from lifechart.release.people import Office, People
from lifechart.release.shadow.course import Course, Wanted
from lifechart.release.shadow.course import require as require_shadow

DEFAULT = Path(__file__).with_name("phases.toml")


class Demand(BaseModel):
    """What one phase demands."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Phase
    after: tuple[Phase, ...] = Field(min_length=1)
    evidence: tuple[str, ...] = ()
    offices: tuple[Office, ...] = ()
    persons: int = Field(default=0, ge=0)
    days_before: float = Field(default=0, ge=0, description="days that the current release stood in the phase before")
    shadow: Wanted | None = Field(default=None, description="what the evidence `shadow` must have shown")
    why: str

    @model_validator(mode="after")
    def _says_how_much(self) -> Self:
        if ("shadow" in self.evidence) != (self.shadow is not None):
            raise ValueError("shadow: expected a [phase.shadow] table where the evidence `shadow` is asked for")
        return self


class Policy(BaseModel):
    """Every phase's demands."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    review_by: object
    phase: tuple[Demand, ...]

    def of(self, phase: Phase) -> Demand:
        """Return what a phase demands; raises GateRefused for one that the policy does not let anything enter."""
        for demand in self.phase:
            if demand.name is phase:
                return demand
        raise GateRefused(f"phase {phase}: the institution's policy has no such phase")


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked: may this release, which stands here, enter that phase?"""

    log: Log
    state: State
    manifest: Manifest
    now: datetime
    demand: Demand


Proof = Callable[[Case], tuple[Subject, ...]]
"""Finds one kind of evidence and returns what it rests on; raises GateRefused that says what is wanting."""


def _gate(case: Case) -> tuple[Subject, ...]:
    """Find the release itself: its manifest exists only because the gate let it through."""
    manifest = case.manifest
    return (
        Subject("manifest", manifest.digest),
        Subject("model", manifest.model_digest),
        Subject("report", manifest.report_digest),
    )


def _validation(case: Case) -> tuple[Subject, ...]:
    """Find a registered protocol that was carried out on this model, on data nobody had looked at, and was met."""
    found = case.log.find(kind="validation", digest=case.manifest.model_digest)
    met = [entry for entry in found if entry.statement.predicate["met"]]
    if not met:
        failed = f" ({len(found)} carried out, none met)" if found else ""
        raise GateRefused(f"validation: no registered protocol has been met by this model{failed}")
    said = met[-1].statement.predicate
    return Subject("protocol", said["sealed"]), Subject("validation", met[-1].leaf)


def _trial(case: Case) -> tuple[Subject, ...]:
    """Find a trial of this capability that was opened on this release, closed, and won without harm."""
    name = case.state.capability
    ended = [
        entry
        for entry in case.log.find(kind="trial", digest=case.manifest.digest)
        if entry.statement.predicate["step"] == "concluded"
    ]
    if not ended:
        raise GateRefused(f"trial: none of {name} {case.manifest.version} has been concluded")
    said = ended[-1].statement.predicate
    if said["advice"] != "stop for efficacy":
        raise GateRefused(f"trial: concluded without showing that care is better ({said['advice']})")
    return Subject("trial", ended[-1].leaf), Subject("trial protocol", ended[-1].statement.subjects[0].digest)


def _shadow(case: Case) -> tuple[Subject, ...]:
    """Find a shadow period of this model that was long enough, reachable, matured and adjudicated."""
    assert case.demand.shadow is not None
    model = case.manifest.model_digest
    require_shadow(Course(case.log).of(model), case.demand.shadow)
    last = case.log.read(case.log.numbers(kind="label", digest=model).tolist()[-1:])
    return tuple(Subject("shadow", entry.leaf) for entry in last)


EVIDENCE: Mapping[str, Proof] = {"gate": _gate, "shadow": _shadow, "validation": _validation, "trial": _trial}
"""Every kind of evidence that a policy may name."""


class Stages:
    """Decides whether a release may enter a phase."""

    def __init__(self, log: Log, people: People, path: Path | None = None) -> None:
        """Read the policy at `path`, by default the one that comes with Lifechart."""
        self._log, self._people = log, people
        content = (path or DEFAULT).read_bytes() if (path or DEFAULT).exists() else b""
        self.policy, self.digest = _load(content, str(path or DEFAULT)), hashlib.sha256(content).hexdigest()

    def matter(self, state: State, manifest: Manifest, phase: Phase) -> Matter:
        """Return what there is to sign; raises GateRefused that says which evidence or step is missing."""
        demand = self.policy.of(phase)
        case = Case(self._log, state, manifest, self._log.now(), demand)
        if state.phase not in demand.after:
            raise GateRefused(
                f"{state.capability}: {phase} is entered from {' or '.join(demand.after)}, and it stands in "
                f"{state.phase}; no stage is skipped"
            )
        if demand.days_before:
            _require_days(case, demand)
        subjects: dict[str, Subject] = {}
        for kind in demand.evidence:
            for subject in EVIDENCE[kind](case):
                subjects[subject.name] = subject
        # Whoever signed before the phase was lowered did not sign for raising it again.
        subjects["standing"] = Subject("standing", _standing(case).leaf)
        return Matter(f"enter {phase}", tuple(subjects.values()))

    def require(self, state: State, manifest: Manifest, phase: Phase, signatures: Path) -> dict[str, object]:
        """Return what the statement of the phase says it rests on; raises GateRefused that says what is wanting."""
        demand, what = self.policy.of(phase), self.matter(state, manifest, phase)
        found = approvals(signatures, what, self._people)
        authors = self.authors(manifest)
        require(found, demand.offices, persons=demand.persons, not_by=authors, deed=f"{state.capability}: {what.deed}")
        return {
            "policy": self.digest,
            "evidence": {subject.name: subject.digest for subject in what.subjects},
            "approvals": [{"name": each.name, "office": each.office.value, "digest": each.digest} for each in found],
        }

    def authors(self, manifest: Manifest) -> set[str]:
        """Return the names of those who trained the model, who never sign for it."""
        trained = makers_of(self._log, manifest.model_digest)
        logins = {entry.statement.predicate.get("actor") for entry in trained} - {None, ""}
        return {
            person.name for person in self._people.all().values() if person.login in logins or person.name in logins
        }


def _standing(case: Case) -> Entry:
    """Return the statement by which the release stands where it stands."""
    changes = [each for each in case.state.changes if each.kind != "switch" and each.version == case.state.version]
    return case.log.read([changes[-1].index])[0]


def _require_days(case: Case, demand: Demand) -> None:
    changes = [
        change for change in case.state.changes if change.kind == "phase" and change.version == case.manifest.version
    ]
    entered = datetime.fromisoformat(changes[-1].time.replace("Z", "+00:00"))
    needed = timedelta(days=demand.days_before)
    if case.now - entered < needed:
        raise GateRefused(
            f"{case.state.capability}: in {case.state.phase} since {entered:%Y-%m-%d}; {demand.name} wants "
            f"{demand.days_before:g} days there"
        )


def _load(content: bytes, name: str) -> Policy:
    try:
        policy = Policy.model_validate(tomllib.loads(content.decode()))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise InputError("phases", name, f"TOML with review_by and [[phase]] tables ({error})") from error
    for demand in policy.phase:
        if unknown := sorted(set(demand.evidence) - set(EVIDENCE)):
            raise InputError(f"phases: evidence of {demand.name}", unknown, f"only {sorted(EVIDENCE)}")
    return policy
