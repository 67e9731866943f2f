"""What a member learns to score: log odds of a yes, or the log of a hazard relative to the usual one.

Survival is learnt as counts. Under proportional hazards the event indicator, given the cumulative baseline hazard up to
where observation of that row ended, has the likelihood of a Poisson count with that exposure (Holford, Biometrics 1980;
Laird & Olivier, JASA 1981), so that whatever fits counts fits survival, censoring included.
Legend of shapes: P rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]

_LEAST_EXPOSURE = 1e-6
_STEEPEST = 12.0
"""Scores beyond this are cut before they are exponentiated."""


@dataclass(frozen=True, eq=False)
class Target:
    """event [P]: it came; exposure [P]: usual cumulative hazard while it could be seen, None for a plain yes or no."""

    event: NDArray[np.bool_]
    exposure: Scores | None = None

    def __len__(self) -> int:
        return len(self.event)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Target:
        """Return some of the rows."""
        return Target(self.event[rows], None if self.exposure is None else self.exposure[rows])

    @property
    def start(self) -> float:
        """The constant score with the least loss."""
        if self.exposure is None:
            return float(np.log((self.event.sum() + 0.5) / ((~self.event).sum() + 0.5)))
        return float(np.log((self.event.sum() + 0.5) / (self.exposure.sum() + 0.5)))

    def loss(self, scores: Scores) -> float:
        """Return the mean negative log likelihood of scores [P], up to a constant."""
        return float(np.mean(self.losses(scores)))

    def losses(self, scores: Scores) -> Scores:
        """Return each row's negative log likelihood, up to a constant, [P]."""
        scores = np.clip(scores, -_STEEPEST, _STEEPEST)
        expected = np.logaddexp(0.0, scores) if self.exposure is None else self.exposure * np.exp(scores)
        found: Scores = expected - scores * self.event
        return found

    def gradient(self, scores: Scores) -> Scores:
        """Return what is expected less what came, [P]: the derivative of each row's loss."""
        scores = np.clip(scores, -_STEEPEST, _STEEPEST)
        expected = 1.0 / (1.0 + np.exp(-scores)) if self.exposure is None else self.exposure * np.exp(scores)
        difference: Scores = expected - self.event
        return difference


@dataclass(frozen=True, eq=False)
class Baseline:
    """The cumulative hazard of a row with score 0, a step at each of `days` [K]."""

    days: Scores
    hazard: Scores

    @classmethod
    def of(cls, days: Scores, event: NDArray[np.bool_], scores: Scores | None = None) -> Baseline:
        """Estimate it from rows observed for `days` [P] (Breslow; with no scores, Nelson-Aalen)."""
        weight = np.ones(len(days)) if scores is None else np.exp(np.clip(scores, -_STEEPEST, _STEEPEST))
        order = np.argsort(days, kind="stable")
        at_risk = np.cumsum(weight[order][::-1])[::-1]
        times, first = np.unique(days[order], return_index=True)
        events = np.add.reduceat(event[order].astype(float), first)
        hazard = np.cumsum(events / at_risk[first])
        kept = events > 0
        return cls(times[kept], hazard[kept])

    def at(self, days: Scores) -> Scores:
        """Return the cumulative hazard by `days`."""
        place = np.searchsorted(self.days, days, side="right")
        return np.concatenate([[0.0], self.hazard])[place]

    def exposure(self, days: Scores) -> Scores:
        """Return the exposure of rows observed for `days`: never quite nothing."""
        return np.maximum(self.at(days), _LEAST_EXPOSURE)
