"""An answer of the capability `risk` as the page shows it: one entry an outcome, with its bar, drivers and evidence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lifechart.care.comparison import Comparison, examined, nearest
from lifechart.care.risk import policy, sex_of
from lifechart.core.answer import Answer, Claim, Evidence, EvidenceKind
from lifechart.core.timeline import Timeline
from lifechart.serve.bedside import Behind
from lifechart.serve.store import Decision

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


def risks(answer: Answer, behind: Behind, timeline: Timeline, decided: dict[str, Decision]) -> list[RiskView]:
    """Return the outcomes in the answer's order."""
    by_outcome: dict[str, list[Claim]] = {}
    for claim in answer.claims:
        if claim.outcome is not None:
            by_outcome.setdefault(claim.outcome, []).append(claim)
    headlines = {outcome: headline(claims) for outcome, claims in by_outcome.items()}
    highest = max((claim.interval.high for claim in headlines.values() if claim.interval), default=0.0)
    scale = next(each for each in _SCALES if each >= min(1.0, highest))
    age, sex = timeline.age_at(answer.as_of) or 0.0, sex_of(timeline) or ""
    views = []
    for outcome, claims in by_outcome.items():
        groups = people_like(behind, age, sex, headlines[outcome])
        usual = nearest(groups, policy()["min_subgroup_events"])
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
            )
        )
    return views


def headline(claims: list[Claim]) -> Claim:
    """Return the claim at the horizon that cards and pages lead with."""
    return min(claims, key=lambda claim: abs((claim.horizon_days or 0) - policy()["headline_days"]))


def people_like(behind: Behind, age: float, sex: str, claim: Claim) -> list[Comparison]:
    """Return how the model did on people of this age and sex, for one claim."""
    assert claim.outcome is not None
    assert claim.horizon_days is not None
    return examined(behind.report).like(behind.forecaster, claim.outcome, claim.horizon_days, age, sex)


def _drivers(claim: Claim) -> tuple[Driver, ...]:
    chart = [each for each in claim.evidence if each.kind is EvidenceKind.CHART and each.effect is not None]
    chart.sort(key=lambda each: -abs(each.effect or 0.0))
    return tuple(_driver(each) for each in chart)


def _driver(evidence: Evidence) -> Driver:
    effect = evidence.effect or 0.0
    strength = "strongly" if abs(effect) >= 0.5 else "clearly" if abs(effect) >= 0.2 else "slightly"
    return Driver(evidence.label, evidence.reference, evidence.time, effect > 0, strength)
