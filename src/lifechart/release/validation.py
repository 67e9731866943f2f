"""Carries a registered validation protocol out: the Report it asked for, held against its own criteria, once."""

from __future__ import annotations

from dataclasses import dataclass

from lifechart.core.errors import GateRefused, InputError
from lifechart.core.report import Report
from lifechart.ledger.log import Log
from lifechart.ledger.statement import Statement, Subject
from lifechart.release.criteria import Criteria
from lifechart.release.gate import Verdict, judge
from lifechart.release.protocol import Purpose, Registered, Registry


@dataclass(frozen=True, slots=True)
class Validated:
    """What came of a validation."""

    met: bool
    reasons: tuple[str, ...]
    """Why it was not met."""
    verdict: Verdict


def prepare(registry: Registry, original: str, data: str) -> Registered:
    """Return the protocol if it may be carried out on these data; call this before anybody looks at them.

    Raises GateRefused where it is not registered, not a validation, or the data were evaluated outside of it.
    """
    registered = registry.get(original)
    if registered.protocol.purpose is not Purpose.VALIDATION:
        raise InputError("protocol", registered.protocol.title, "the protocol of a validation")
    registry.require_unseen(registered, data)
    return registered


def conclude(log: Log, registry: Registry, registered: Registered, report: Report, *, actor: str) -> Validated:
    """Hold the report against the protocol and state what came of it; met or not, it stands in the ledger.

    Raises GateRefused unless the ledger has this report as the evaluation that the protocol asked for.
    """
    protocol = registered.protocol
    made = [
        entry
        for entry in log.find(kind="evaluate", digest=report.digest)
        if entry.statement.predicate.get("registered") == registered.original
    ]
    if not made or made[-1].index < registered.entry.index:
        raise GateRefused(
            f"validation: the ledger holds no evaluation of these data under protocol {registered.original[:16]}… "
            f"after its seal (entry {registered.entry.index})"
        )
    registry.require_unseen(registered, report.data_digest)
    people = int(made[-1].statement.predicate["people"])
    criteria = Criteria(protocol.capability, protocol.date.date().isoformat(), protocol.criteria, registered.digest)
    verdict = judge(report, criteria)
    reasons = tuple(str(check) for check in verdict.refusals)
    if people < protocol.min_patients:
        reasons += (f"{people} patients, the protocol asks for {protocol.min_patients}",)
    most = max((row.num_events for row in report.metrics), default=0)
    if most < protocol.min_events:
        reasons += (f"{most} events at most, the protocol asks for {protocol.min_events}",)
    said = {
        "protocol": registered.original,
        "sealed": registered.digest,
        "stage": protocol.stage,
        "model": report.model_digest,
        "report": report.digest,
        "data": report.data_digest,
        "people": people,
        "met": not reasons,
        "reasons": list(reasons),
        "pairs_met": len(verdict.released),
        "actor": actor,
    }
    log.append(Statement("validation", (Subject("report", report.digest),), said))
    return Validated(not reasons, reasons, verdict)
