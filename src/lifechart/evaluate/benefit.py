"""What acting on a forecast is worth: net benefit and the table that a clinic reads before it picks a threshold.

Net benefit weighs true alerts against false ones at the odds of the threshold (Vickers & Elkin 2006): whoever acts from
a risk of t on says that one true alert is worth (1 - t) / t false ones. Alerting everybody and nobody are the two
policies to beat. Counts per 100 prompts say what it means for the work on a ward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lifechart.core.forecast import Interval
from lifechart.evaluate.metrics import Estimate, Floats, Sample

THRESHOLDS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
"""Risks from which one might act."""
FEWEST_ALERTS = 11
"""A share of fewer alerts than this is not printed: a small cell."""


@dataclass(frozen=True, slots=True)
class Action:
    """What follows if somebody acts on every forecast at or above a threshold."""

    threshold: float
    net_benefit: Estimate
    """True alerts a prompt, less false ones at the threshold's odds."""
    treat_all: Estimate
    """The net benefit of acting on everybody; of acting on nobody it is 0."""
    alerts_per_100: Estimate
    sensitivity: Estimate
    """Share of those who had the event that were alerted."""
    specificity: Estimate
    precision: Estimate
    """Share of the alerted who had the event."""
    workups_per_event: Estimate
    """Alerted people to be worked up for each one who has the event: 1 / precision."""
    num_alerts: int

    @property
    def advantage(self) -> Estimate:
        """Net benefit over the better of the two policies that need no forecast."""
        best = np.maximum(self.treat_all.replicates, 0.0)
        value = self.net_benefit.value - max(self.treat_all.value, 0.0)
        return Estimate(value, self.net_benefit.replicates - best)

    @property
    def is_small(self) -> bool:
        """Whether so few are alerted that shares of them are withheld."""
        return 0 < self.num_alerts < FEWEST_ALERTS


def actions(sample: Sample, weights: Floats, thresholds: Sequence[float] = THRESHOLDS) -> list[Action]:
    """Return one row a threshold.  weights: [1 + B, S] of `metrics.bootstrap_weights`.

    Acting is at or above the threshold. A share of nobody is NaN.
    """
    num_patients = weights.shape[1]

    def total(chosen: np.ndarray) -> Floats:
        counts: Floats = weights @ np.bincount(sample.patients[chosen], minlength=num_patients).astype(np.float64)
        return counts

    everyone = total(np.ones(len(sample.labels), dtype=bool))
    events = total(sample.labels)
    found = []
    for threshold in thresholds:
        alerted = sample.scores >= threshold
        true, alerts = total(alerted & sample.labels), total(alerted)
        odds = threshold / (1 - threshold)
        precision = _share(true, alerts)
        found.append(
            Action(
                threshold,
                _estimate((true - (alerts - true) * odds) / everyone),
                _estimate((events - (everyone - events) * odds) / everyone),
                _estimate(100 * alerts / everyone),
                _estimate(_share(true, events)),
                _estimate(_share(everyone - events - (alerts - true), everyone - events)),
                _estimate(precision),
                _estimate(_share(np.ones_like(precision), precision)),
                int(alerts[0]),
            )
        )
    return found


def cost_per_event(action: Action, per_workup: float, per_alert: float = 0.0) -> tuple[float, Interval | None]:
    """Return what finding one event costs at this threshold, with its interval, in the unit of the two costs."""
    per = action.workups_per_event
    return per.value * (per_workup + per_alert), Estimate(
        per.value * (per_workup + per_alert), per.replicates * (per_workup + per_alert)
    ).interval()


def _estimate(columns: Floats) -> Estimate:
    return Estimate(float(columns[0]), columns[1:])


def _share(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
