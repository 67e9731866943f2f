"""The capability `risk`: what may lie ahead for this person, how sure that is, and what it rests on."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from lifechart.care import alike, red_flags
from lifechart.care.alike import horizon_in_words, in_percent
from lifechart.care.comparison import Comparison, examined, excess, nearest
from lifechart.core.answer import Answer, Claim, Disposition, Evidence, EvidenceKind
from lifechart.core.capability import Declaration, Grounds, Role
from lifechart.core.errors import IntegrityError
from lifechart.core.forecast import Driver, Forecast, Risk
from lifechart.core.timeline import Timeline, limit_of

_POLICY = Path(__file__).with_suffix(".toml")
_SEX = "GENDER//"

DECLARATION = Declaration(
    name="risk",
    title="Risks ahead",
    intended_use=(
        "Shows a clinician the risks of new conditions, admission and death that stand out for one patient, "
        "to prompt a look at the chart. It does not diagnose and does not recommend treatment."
    ),
    users=(Role.CLINICIAN, Role.NURSE),
    inputs=(
        "demographic",
        "encounter",
        "condition",
        "laboratory",
        "vital",
        "medication",
        "procedure",
        "immunization",
        "allergy",
    ),
    evidence_tasks=("new-onset",),
    limits=(
        "A risk is what happened to patients with like charts. It names no cause: treating a driver may not lower it.",
        "A low risk does not rule anything out: symptoms come before forecasts.",
        "What is not in the chart is not known to the model.",
    ),
)


@cache
def policy() -> dict[str, Any]:
    """Return {name: value} of risk.toml."""
    return {name: row["value"] for name, row in tomllib.loads(_POLICY.read_text()).items()}


@dataclass(frozen=True, slots=True)
class _Ranked:
    """One outcome that may be shown: its risks by rising horizon and how far it stands above what is usual."""

    risks: tuple[tuple[Risk, Comparison], ...]
    excess: float


class RiskCapability:
    """Ranks the released outcomes by how far they stand above what is usual for people like this one."""

    @property
    def declaration(self) -> Declaration:
        """What this capability is for."""
        return DECLARATION

    def answer(self, timeline: Timeline, as_of: datetime, grounds: Grounds) -> Answer:
        """Answer for one patient: red flags first, then the outstanding risks, or the reason why there are none.

        Raises IntegrityError if the Report was written about another model than the one that forecasts.
        """
        if grounds.report.model_digest != grounds.forecaster.digest:
            raise IntegrityError("report: examined another model than the one released with it")
        flags = tuple(_flag_claim(each, grounds.names) for each in red_flags.raised(timeline, as_of))
        disposition, reason, forecast = _judge(timeline, as_of, grounds)
        limits = (*DECLARATION.limits, *_cautions(timeline, as_of, forecast))
        claims = tuple(_risk_claims(timeline, as_of, grounds, forecast)) if forecast is not None else ()
        background = tuple(alike.claims(forecast, claims, grounds)) if forecast is not None else ()
        if flags:
            first = "; ".join(claim.text for claim in flags)
            disposition, reason = Disposition.ESCALATED, f"{first}.{' ' + reason if reason else ''}"
        digest = grounds.forecaster.digest
        return Answer("risk", disposition, as_of, digest, flags + claims, reason, limits, background)


capability = RiskCapability()


def sex_of(timeline: Timeline) -> str | None:
    """Return `female`, `male` … as the chart says it, or None."""
    codes = timeline.events.get_column("code")
    return next((code.removeprefix(_SEX) for code in codes if code.startswith(_SEX)), None)


def _judge(timeline: Timeline, as_of: datetime, grounds: Grounds) -> tuple[Disposition, str, Forecast | None]:
    """Decide whether to forecast. The forecast is None exactly when the reason is not empty."""
    if timeline.death is not None and timeline.death <= as_of:
        return Disposition.ABSTAINED, "The chart records that this person has died.", None
    missing = [
        words
        for words, value in (("date of birth", timeline.birth), ("sex", sex_of(timeline)))
        if value in (None, "unknown")
    ]
    num_dated = timeline.events.height - timeline.events.get_column("time").null_count()
    if num_dated < policy()["min_events"]:
        missing.append(f"history (it holds {num_dated} dated entries; at least {policy()['min_events']} are needed)")
    if missing:
        return Disposition.NEEDS_INFORMATION, f"The chart lacks: {', '.join(missing)}.", None
    forecast = grounds.forecaster.forecast(timeline, as_of)
    if forecast.novelty > policy()["abstain_novelty"]:
        reason = (
            f"This chart is more unusual than {_share(forecast.novelty)} of those that the model learned from, "
            "so its forecast cannot be relied on here."
        )
        return Disposition.ABSTAINED, reason, None
    return Disposition.ANSWERED, "", forecast


def _cautions(timeline: Timeline, as_of: datetime, forecast: Forecast | None) -> Iterator[str]:
    if forecast is not None and forecast.novelty > policy()["caution_novelty"]:
        yield (
            f"This chart is more unusual than {_share(forecast.novelty)} of those that the model learned from: "
            "trust these figures less than their intervals say."
        )
    end = timeline.end
    if end is not None and as_of - end > timedelta(days=policy()["stale_days"]):
        yield f"The newest entry in this chart is from {end:%d %b %Y}; the person may have changed since."


def _risk_claims(timeline: Timeline, as_of: datetime, grounds: Grounds, forecast: Forecast) -> Iterator[Claim]:
    age, sex = timeline.age_at(as_of), sex_of(timeline)
    assert age is not None
    assert sex is not None
    shown = _rank(grounds, forecast, age, sex)[: policy()["shown_outcomes"]]
    # The same few events drive most risks at most horizons, so each is read from the chart once.
    positions = {driver.position for ranked in shown for risk, _ in ranked.risks for driver in risk.drivers}
    items = {position: timeline.events.row(position, named=True) for position in positions}
    for ranked in shown:
        for risk, comparison in ranked.risks:
            yield _risk_claim(items, grounds, risk, comparison)


def _rank(grounds: Grounds, forecast: Forecast, age: float, sex: str) -> list[_Ranked]:
    """Return the outcomes that may be shown, the most outstanding first.

    Left out: pairs that the gate did not release, pairs that the Report never examined, and outcomes that are in the
    record already (a recurrence is another question, examined apart).
    """
    report = examined(grounds.report)
    by_outcome: dict[str, list[tuple[Risk, Comparison]]] = {}
    for risk in forecast.risks:
        if risk.already_recorded or (risk.outcome, risk.horizon_days) not in grounds.released:
            continue
        found = report.like(grounds.forecaster.name, risk.outcome, risk.horizon_days, age, sex)
        comparison = nearest(found, policy()["min_subgroup_events"])
        if comparison is not None:
            by_outcome.setdefault(risk.outcome, []).append((risk, comparison))
    ranked = []
    for pairs in by_outcome.values():
        pairs.sort(key=lambda pair: pair[0].horizon_days)
        headline, comparison = min(pairs, key=lambda pair: abs(pair[0].horizon_days - policy()["headline_days"]))
        ranked.append(_Ranked(tuple(pairs), excess(headline.probability, comparison.usual)))
    return sorted(ranked, key=lambda each: -each.excess)


def _risk_claim(items: dict[int, dict[str, Any]], grounds: Grounds, risk: Risk, comparison: Comparison) -> Claim:
    name = grounds.report.outcome_names.get(risk.outcome, risk.outcome)
    text = (
        f"{name} {horizon_in_words(risk.horizon_days)}: {in_percent(risk.probability)} "
        f"({in_percent(risk.interval.low)} to {in_percent(risk.interval.high)}); "
        f"{in_percent(comparison.usual)} is usual for {comparison.people}"
    )
    evidence = [_driver_evidence(items[driver.position], driver, grounds.names) for driver in risk.drivers]
    evidence.append(Evidence(EvidenceKind.MODEL, grounds.forecaster.digest, f"Model {grounds.forecaster.name}"))
    evidence.append(_report_evidence(grounds, comparison))
    return Claim(text, tuple(evidence), risk.probability, risk.interval, risk.outcome, risk.horizon_days)


def _driver_evidence(row: dict[str, Any], driver: Driver, names: dict[str, str]) -> Evidence:
    label = names.get(driver.code, driver.code)
    if row["numeric_value"] is not None:
        label += f" {limit_of(row['text_value'])}{row['numeric_value']:.4g} {row['unit'] or ''}".rstrip()
    # An event that the source gave no resource of its own (a birth date) is a line of the patient's own record.
    return Evidence(EvidenceKind.CHART, row["reference"] or "Patient", label, row["time"], driver.effect)


def _report_evidence(grounds: Grounds, comparison: Comparison) -> Evidence:
    auroc = comparison.metrics.get("auroc")
    label = (
        f"{comparison.num_prompts:,} forecasts examined for {comparison.people}, {comparison.num_events:,} came true"
    )
    if auroc is not None:
        label += f"; AUROC {auroc.value:.2f}"
        if auroc.interval is not None:
            label += f" ({auroc.interval.low:.2f} to {auroc.interval.high:.2f})"
    return Evidence(EvidenceKind.REPORT, f"{examined(grounds.report).digest}#{comparison.subgroup}", label)


def _flag_claim(raised: red_flags.Raised, names: dict[str, str]) -> Claim:
    text = f"{raised.flag.says}: {raised.value:.4g} {raised.unit} at {raised.time:%H:%M on %d %b %Y}"
    chart = Evidence(
        EvidenceKind.CHART, raised.reference or "Patient", names.get(raised.code, raised.code), raised.time
    )
    threshold = Evidence(EvidenceKind.LITERATURE, raised.flag.source, raised.flag.says)
    return Claim(text, (chart, threshold))


def _share(novelty: float) -> str:
    # Rounded down, since "more unusual than 100%" would be more than is known.
    return f"{math.floor(1000 * min(novelty, 0.999)) / 10:g}%"
