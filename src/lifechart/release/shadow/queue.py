"""Where an answer and the record disagree once the time is up, and what somebody found when they looked.

    label(log, seal, opened, happened, ...)            # the statement of what became of a box's claims
    adjudicate(log, answer, outcome, Verdict.RECORD_WRONG, actor=...)

A risk of one in four that did not come true is no error, so what is asked is not whether the model was wrong but
whether the record is: whether it holds everything that happened, and whether what it says happened did.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from lifechart.core.errors import GateRefused, InputError
from lifechart.ledger.log import Log, Receipt
from lifechart.ledger.statement import Statement, Subject
from lifechart.release.shadow.sealing import Opened, Seal

LABEL, ADJUDICATION = "label", "adjudication"
ALERT, ALERT_DAYS = 0.2, 365
"""A risk of so much within so many days counts as an alert: a workload, were it shown."""
LIKELY = 0.5
"""A claim at or above it that did not come true, or one below it that did, is looked at by a human."""


class Verdict(StrEnum):
    """What somebody found who looked at the chart."""

    RECORD_RIGHT = "record-right"
    """It happened, or did not, as the record says."""
    RECORD_WRONG = "record-wrong"
    """The record misses it, or has it and should not."""
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One claim that came out otherwise than it said, and what was found."""

    answer: str
    outcome: str
    horizon_days: int
    probability: float
    happened: bool
    entry: int
    """Ledger entry of the label."""
    verdict: Verdict | None = None


def label(
    log: Log, seal: Seal, opened: Opened, happened: Mapping[str, datetime], *, capability: str, patient: str, read: str
) -> Receipt:
    """State what became of a box's claims. `happened`: outcome to its first time in the chart after the answer.

    `patient`: keyed hash. `read`: when the chart was read that says so, ISO 8601. Raises GateRefused for a second time.
    """
    for entry in log.find(kind=LABEL, digest=seal.digest):
        raise GateRefused(f"answer {seal.answer[:12]}…: labelled already (entry {entry.index})")
    claims = [
        {"outcome": outcome, "probability": probability, "happened": outcome in happened}
        for outcome, probability in sorted(opened.claims.items())
    ]
    lag = log.now() - seal.until
    said = {
        "capability": capability,
        "model": seal.model,
        "patient": patient,
        "horizon_days": seal.horizon_days,
        "due": seal.until.isoformat(),
        "read": read,
        "lag_days": round(lag.total_seconds() / 86_400, 2),
        "claims": claims,
    }
    return log.append(Statement(LABEL, (Subject("answer", seal.answer), Subject("box", seal.digest)), said))


def adjudicate(log: Log, answer: str, outcome: str, horizon_days: int, verdict: Verdict, *, actor: str) -> Receipt:
    """State what somebody found about one disagreement; the last word counts. Raises InputError if there is none."""
    if not actor:
        raise InputError("actor", actor, "the name of whoever looked")
    about = [
        entry
        for entry in log.find(kind=LABEL, digest=answer)
        if entry.statement.predicate["horizon_days"] == horizon_days
        and any(claim["outcome"] == outcome and disagrees(claim) for claim in entry.statement.predicate["claims"])
    ]
    if not about:
        raise InputError("answer", answer[:12], f"one whose claim of {outcome} within {horizon_days} days disagrees")
    said = about[-1].statement.predicate
    stated = {
        "capability": said["capability"],
        "model": said["model"],
        "outcome": outcome,
        "horizon_days": horizon_days,
        "verdict": verdict.value,
        "actor": actor,
    }
    return log.append(Statement(ADJUDICATION, (Subject("answer", answer),), stated))


def num_alerts(claims: Iterable[Mapping[str, Any]]) -> int:
    """Return how many outcomes are alerts (claims: outcome, horizon_days, probability)."""
    return len(
        {each["outcome"] for each in claims if each["horizon_days"] <= ALERT_DAYS and each["probability"] >= ALERT}
    )


def disagrees(claim: Mapping[str, object]) -> bool:
    """Tell whether a claim came out on the other side of `LIKELY` than it said."""
    probability = claim["probability"]
    assert isinstance(probability, float)
    return (probability >= LIKELY) is not claim["happened"]
