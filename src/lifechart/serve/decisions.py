"""What people do with answers: the reasons they may give, and how a decision is kept (ledger first, then database)."""

from __future__ import annotations

from sqlalchemy import func, select

from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.ledger.statement import Subject
from lifechart.serve.audit import Auditor
from lifechart.serve.store import Decision, Store, now

ACCEPTED, DISMISSED = "accepted", "dismissed"
REASONS = {
    "known": "Already known and being managed",
    "unlikely": "Does not fit this person",
    "not-now": "Not what matters at the moment",
    "chart-wrong": "The chart it rests on is wrong",
    "other": "Another reason",
}
"""Why a claim is dismissed. The same list is offered on the page and as override reasons of a card."""

_MAX_COMMENT = 1000


def decide(store: Store, auditor: Auditor, decision: Decision) -> None:
    """Keep a decision; raises InputError if it is none that can be kept, AuditError if the ledger does not take it.

    The comment may name people, so it stays in the database and only its digest goes into the ledger.
    """
    if decision.action not in (ACCEPTED, DISMISSED):
        raise InputError("action", decision.action, f"one of {[ACCEPTED, DISMISSED]}")
    if decision.reason not in REASONS and not (decision.action == ACCEPTED and decision.reason == ""):
        raise InputError("reason", "(not shown)", f"one of {sorted(REASONS)}")
    if len(decision.comment) > _MAX_COMMENT:
        raise InputError("comment", f"{len(decision.comment)} characters", f"at most {_MAX_COMMENT}")
    predicate: dict[str, object] = {
        "capability": decision.capability,
        "outcome": decision.outcome,
        "action": decision.action,
        "reason": decision.reason,
        "user": decision.by,
        "patient": decision.patient,
        "comment": durable.digest_of(decision.comment) if decision.comment else "",
    }
    auditor.decided([Subject("answer", decision.subject)], predicate)
    decision.time = now()
    with store.transaction() as session:
        session.add(decision)


def latest(store: Store, capability: str, patient: str) -> dict[str, Decision]:
    """Return {outcome: the newest decision about it} for one patient (as keyed hash)."""
    query = select(Decision).where(Decision.capability == capability, Decision.patient == patient).order_by(Decision.id)
    with store.transaction() as session:
        return {decision.outcome: decision for decision in session.scalars(query)}


def tally(store: Store, capability: str) -> list[tuple[str, str, str, int]]:
    """Return (outcome, action, reason, count) of all decisions on a capability, the most frequent first."""
    count = func.count()
    query = (
        select(Decision.outcome, Decision.action, Decision.reason, count)
        .where(Decision.capability == capability)
        .group_by(Decision.outcome, Decision.action, Decision.reason)
        .order_by(count.desc())
    )
    with store.transaction() as session:
        return [(outcome, action, reason, number) for outcome, action, reason, number in session.execute(query)]
