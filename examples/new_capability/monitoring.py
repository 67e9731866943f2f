"""A capability that needs no model: says when a medicine's yearly blood test is overdue."""

from __future__ import annotations

import tomllib
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from lifechart.core.answer import Answer, Claim, Disposition, Evidence, EvidenceKind
from lifechart.core.capability import Declaration, Grounds, Role
from lifechart.core.timeline import Timeline

RULES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["rule"]
MANY_YEARS = timedelta(days=3 * 365)


class Monitoring:
    """Looks for the newest test of each rule's list, for whoever was given one of its medicines."""

    @property
    def declaration(self) -> Declaration:
        """What this capability is for."""
        return Declaration(
            name="monitoring",
            title="Blood tests that are due",
            intended_use="Reminds a clinician of a blood test that a medicine wants. It does not order anything.",
            users=(Role.CLINICIAN, Role.NURSE),
            inputs=("medication", "laboratory"),
            evidence_tasks=(),
            limits=("A test done elsewhere is not known here.",),
        )

    def answer(self, timeline: Timeline, as_of: datetime, grounds: Grounds) -> Answer:
        """Answer for one patient."""
        given = timeline.of_kind("medication")
        if given.is_empty():
            return self._answer(as_of, grounds, Disposition.NEEDS_INFORMATION, reason="No medicine is on record.")
        claims = [claim for rule in RULES if (claim := overdue(timeline, given, rule, as_of))]
        return self._answer(as_of, grounds, Disposition.ANSWERED, tuple(claims))

    def _answer(
        self, as_of: datetime, grounds: Grounds, how: Disposition, claims: tuple[Claim, ...] = (), reason: str = ""
    ) -> Answer:
        digest = grounds.forecaster.digest
        return Answer("monitoring", how, as_of, digest, claims, reason, self.declaration.limits)


def overdue(timeline: Timeline, given: pl.DataFrame, rule: dict, as_of: datetime) -> Claim | None:
    """Return the claim of one rule, or None if the medicine is not taken or the test is recent enough."""
    medicine = given.filter(pl.col("code").is_in(rule["codes"]) & (pl.col("time") > as_of - MANY_YEARS))
    tests = timeline.events.filter(pl.col("code").is_in(rule["tests"]))
    recent = tests.filter(pl.col("time") > as_of - timedelta(days=rule["within_days"]))
    if medicine.is_empty() or not recent.is_empty():
        return None
    latest = medicine.row(-1, named=True)
    evidence = (
        Evidence(EvidenceKind.CHART, latest["reference"], rule["medicine"], latest["time"]),
        Evidence(EvidenceKind.LITERATURE, rule["source"], "how often"),
    )
    return Claim(f"No {rule['test']} in {rule['within_days']} days, though {rule['medicine']} is taken", evidence)


capability = Monitoring()
