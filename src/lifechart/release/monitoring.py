"""What follows from an alarm: a statement of what shifted, and the phase lowered where the policy says so.

Monitoring lowers, never raises. The statement is written before the phase changes, and a run that was cut off in
between is made good by the next one; an alarm on which a person has acted since is left alone.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lifechart.core import durable
from lifechart.core.capability import Phase
from lifechart.core.errors import InputError
from lifechart.ledger.log import Entry, Log
from lifechart.ledger.statement import Statement, Subject
from lifechart.release.history import State
from lifechart.release.shelf import Shelf

ACTOR = "monitoring"
DEFAULT = Path(__file__).with_name("monitoring.toml")


@dataclass(frozen=True, slots=True)
class Alarm:
    """One stream that left what the reference period showed."""

    week: str
    """The batch that raised it."""
    since: str
    """The batch from which it most likely holds."""
    kind: str
    """As in a policy's actions."""
    what: str
    """A code, a demographic, an outcome."""
    where: str
    """`all`, or a subgroup as `site=north`."""
    before: float
    """In the reference, in natural units."""
    after: float
    """Since then."""
    said: str
    """The same in words."""

    @property
    def digest(self) -> str:
        """What this alarm is known by: its stream and week."""
        return durable.digest_of([self.week, self.kind, self.what, self.where])


class Action(BaseModel):
    """What an alarm of one kind does."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    lower_to: Phase | None = None
    why: str


class Policy(BaseModel):
    """How an institution monitors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    review_by: date
    false_alarms_per_year: float = Field(gt=0, le=52)
    reference_weeks: int = Field(ge=8)
    min_people: int = Field(ge=5, description="smaller cells are neither followed nor written down")
    action: tuple[Action, ...]

    def lower_to(self, kind: str) -> Phase | None:
        """Return the phase that an alarm of this kind lowers to, or None."""
        return next((action.lower_to for action in self.action if action.kind == kind), None)


def load(path: Path | None = None) -> tuple[Policy, str]:
    """Return a policy and its digest, by default the one that comes with Lifechart; raises InputError."""
    source = path or DEFAULT
    content = source.read_bytes() if source.exists() else b""
    try:
        policy = Policy.model_validate(tomllib.loads(content.decode()))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise InputError("monitoring policy", str(source), f"TOML as in release/monitoring.toml ({error})") from error
    kinds = [action.kind for action in policy.action]
    if doubled := sorted({kind for kind in kinds if kinds.count(kind) > 1}):
        raise InputError("monitoring policy: action", doubled, "one action a kind")
    return policy, hashlib.sha256(content).hexdigest()


def respond(
    log: Log, shelf: Shelf, capability: str, alarms: Sequence[Alarm], *, policy: Policy, digest: str, cause: str = ""
) -> State:
    """State alarms about a capability's current release, and lower its phase as the policy says; return the state.

    `digest`: the policy's. `cause`: what most likely lies behind them together. Alarms that were stated before are not
    stated again. Raises GateRefused if nothing was released.
    """
    state = shelf.state(capability)
    subject = Subject(f"{capability}/{state.version}", state.manifest)
    target, because = state.phase, ""
    for alarm in alarms:
        lower = policy.lower_to(alarm.kind)
        entry = _stated(log, capability, alarm)
        if entry is None:
            said = {
                "capability": capability,
                "version": state.version,
                **asdict(alarm),
                "cause": cause,
                "policy": digest,
                "lower_to": lower.value if lower else None,
            }
            log.append(Statement("alarm", (Subject("alarm", alarm.digest), subject), said))
        elif any(change.kind in ("phase", "release") and change.index > entry.index for change in state.changes):
            continue
        if lower is not None and lower.rank < target.rank:
            target, because = lower, alarm.said
    if target is not state.phase:
        reason = f"{cause}: {because}" if cause else because
        state = shelf.set_phase(capability, target, actor=ACTOR, reason=reason, automatic=True)
    return state


def _stated(log: Log, capability: str, alarm: Alarm) -> Entry | None:
    found = log.find(kind="alarm", digest=alarm.digest)
    return next((entry for entry in found if entry.statement.predicate["capability"] == capability), None)
