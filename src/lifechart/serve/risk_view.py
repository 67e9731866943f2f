"""An answer of the capability `risk` as the page shows it: one entry an outcome, with its bar, drivers and evidence."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from lifechart.care.comparison import Comparison, examined, nearest
from lifechart.care.risk import policy, sex_of
from lifechart.core.answer import Answer, Claim, Evidence, EvidenceKind
from lifechart.core.report import Metric, stated
from lifechart.core.timeline import Timeline
from lifechart.serve.bedside import Behind
from lifechart.serve.store import Decision

_ALL_OUTCOMES, _HELD = "*", ("true_risk_in_interval", "frequency_in_interval")
"""Names of a Report's rows (evaluate.coverage)."""
_SCALES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Driver:
    """A chart item that moved a risk."""

    label: str
    reference: str
    time: datetime | None
    raises: bool
    strength: str


@dataclass(frozen=True, slots=True)
class RiskView:
    """One outcome."""

    outcome: str
    name: str
    headline: Claim
    horizons: tuple[Claim, ...]
    usual: Comparison
    groups: tuple[Comparison, ...]
    """People like this one, narrowest first."""
    drivers: tuple[Driver, ...]
    scale: float
    """Right end of the bar (0 to 1), the same for every outcome on the page."""
    decision: Decision | None
    alike: Claim | None
    """What became of the people most like this one, if it may be told."""
    held: dict[str, Metric]
    """By subgroup: how often intervals held what they should, over all outcomes."""

    @property
    def times_usual(self) -> float:
        """How many times the usual rate the risk is."""
        assert self.headline.probability is not None
        return self.headline.probability / max(self.usual.usual, 1e-6)

    def at(self, probability: float) -> str:
        """Return where a probability stands on the bar, as an SVG percentage."""
        return f"{min(100.0, 100 * probability / self.scale):.2f}%"


def flags(answer: Answer) -> list[Claim]:
    """Return the red flags, which come before any risk."""
    return [claim for claim in answer.claims if claim.outcome is None]


def risks(
    answer: Answer,
    behind: Behind,
    timeline: Timeline,
    decided: dict[str, Decision],
    names: Mapping[str, str] | None = None,
) -> list[RiskView]:
    """Return the outcomes in the answer's order.  names: what the chart calls its codes, for the groups it states."""
    by_outcome: dict[str, list[Claim]] = {}
    for claim in answer.claims:
        if claim.outcome is not None:
            by_outcome.setdefault(claim.outcome, []).append(claim)
    headlines = {outcome: headline(claims) for outcome, claims in by_outcome.items()}
    highest = max((claim.interval.high for claim in headlines.values() if claim.interval), default=0.0)
    scale = next(each for each in _SCALES if each >= min(1.0, highest))
    age, sex = timeline.age_at(answer.as_of) or 0.0, sex_of(timeline) or ""
    others = groups_stated(timeline, names or {})
    alike = {claim.outcome: claim for claim in answer.background if claim.outcome is not None}
    views = []
    for outcome, claims in by_outcome.items():
        groups = people_like(behind, age, sex, headlines[outcome], others)
        # What is usual is said by age and sex alone, as the answer did.
        usual = nearest([each for each in groups if each.subgroup not in others], policy()["min_subgroup_events"])
        if usual is None:
            continue
        name = behind.report.outcome_names.get(outcome, outcome)
        views.append(
            RiskView(
                outcome,
                name,
                headlines[outcome],
                tuple(claims),
                usual,
                tuple(groups),
                _drivers(headlines[outcome]),
                scale,
                decided.get(outcome),
                alike.get(outcome),
                _held(behind, headlines[outcome], groups),
            )
        )
    return views


def headline(claims: list[Claim]) -> Claim:
    """Return the claim at the horizon that cards and pages lead with."""
    return min(claims, key=lambda claim: abs((claim.horizon_days or 0) - policy()["headline_days"]))


def people_like(behind: Behind, age: float, sex: str, claim: Claim, others: Collection[str] = ()) -> list[Comparison]:
    """Return how the model did on people of this age and sex, and in the `others` of their groups, for one claim."""
    assert claim.outcome is not None
    assert claim.horizon_days is not None
    report = examined(behind.report)
    return report.like(behind.forecaster, claim.outcome, claim.horizon_days, age, sex, others=others)


def groups_stated(timeline: Timeline, names: Mapping[str, str]) -> frozenset[str]:
    """Return the Report's subgroups that the chart's undated entries put a person in, but for sex."""
    undated = timeline.events.head(timeline.events.get_column("time").null_count()).get_column("code")
    found = (stated(code, names) for code in undated)
    return frozenset(each for each in found if each is not None and not each.startswith("sex="))


def _held(behind: Behind, claim: Claim, groups: list[Comparison]) -> dict[str, Metric]:
    """Return by subgroup the best figure that the Report has of its intervals: of true risks, else of frequencies."""
    report, found = examined(behind.report), {}
    for group in groups:
        for name in _HELD:
            row = report.row(behind.forecaster, _ALL_OUTCOMES, claim.horizon_days or 0, group.subgroup, name)
            if row is not None:
                found[group.subgroup] = row
                break
    return found


def _drivers(claim: Claim) -> tuple[Driver, ...]:
    chart = [each for each in claim.evidence if each.kind is EvidenceKind.CHART and each.effect is not None]
    chart.sort(key=lambda each: -abs(each.effect or 0.0))
    return tuple(_driver(each) for each in chart)


def _driver(evidence: Evidence) -> Driver:
    effect = evidence.effect or 0.0
    strength = "strongly" if abs(effect) >= 0.5 else "clearly" if abs(effect) >= 0.2 else "slightly"
    return Driver(evidence.label, evidence.reference, evidence.time, effect > 0, strength)
