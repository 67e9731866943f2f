"""What a capability says to a person: claims that each carry evidence, or the reason why there are none."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from lifechart.core.errors import InputError
from lifechart.core.forecast import Interval


class Disposition(StrEnum):
    """How a capability left the question."""

    ANSWERED = "answered"
    NEEDS_INFORMATION = "needs_information"
    ABSTAINED = "abstained"
    ESCALATED = "escalated"


class EvidenceKind(StrEnum):
    """What a claim can rest on."""

    CHART = "chart"
    MODEL = "model"
    REPORT = "report"
    LITERATURE = "literature"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that a claim rests on: a chart item, a model's output, a report's row, a publication."""

    kind: EvidenceKind
    reference: str
    """Where to look: "Observation/17", a digest, a citation."""
    label: str
    time: datetime | None = None
    effect: float | None = None
    """For chart items that drove a risk: change of the log cumulative hazard."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement. A claim without evidence cannot be built, nor a probability without an interval."""

    text: str
    evidence: tuple[Evidence, ...]
    probability: float | None = None
    interval: Interval | None = None
    outcome: str | None = None
    horizon_days: int | None = None

    def __post_init__(self) -> None:
        if not self.evidence:
            raise InputError("Claim.evidence", self.evidence, "at least one piece of evidence")
        if self.probability is not None and self.interval is None:
            raise InputError("Claim.interval", None, "an interval, since the claim states a probability")


@dataclass(frozen=True, slots=True)
class Answer:
    """What one capability said of one patient at one time."""

    capability: str
    disposition: Disposition
    as_of: datetime
    model_digest: str
    claims: tuple[Claim, ...] = ()
    reason: str = ""
    """Why the capability did not simply answer; empty when it did."""
    limits: tuple[str, ...] = field(default=())
    background: tuple[Claim, ...] = field(default=())
    """What became of other people, said beside the claims and never in their place: no forecast of this person."""

    def __post_init__(self) -> None:
        if self.disposition is not Disposition.ANSWERED and not self.reason:
            raise InputError("Answer.reason", self.reason, f"a reason, since the disposition is {self.disposition}")

    def to_json(self) -> dict[str, Any]:
        """Return plain data for the log, an API or a page."""
        return asdict(self)
