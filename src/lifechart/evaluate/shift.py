"""Sequential detection of change with a controlled rate of false alarms: pure mathematics on weekly numbers.

Each stream is standardised by a reference period. An e-detector of Shiryaev-Roberts type (Shin, Ramdas & Rinaldo 2023,
arXiv:2203.03532) bets on every possible week of change: M <- (1 + M) * exp(l * (z - d) - l^2 / 2), averaged over both
directions and several bets l. While the mean of z lies within the tolerance d, E[M] grows by at most 1 a week, so the
weighted sum over any number of streams, however dependent, reaches A in at least A weeks on average. That is the
average run length; no multiplicity is left to correct.

Legend of shapes: K streams, D directions (2), L bets, R reference weeks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from lifechart.core.errors import InputError

Floats = NDArray[np.float64]

BETS = (0.3, 0.6, 1.2, 2.4)
"""Changes, in standard errors of a week, that are looked for."""
CAP = 5.0
"""Standard errors that one week may count for at most: a single freak week is not to raise an alarm by itself."""
CAUTION = 0.4
"""The reference's spread is taken as the upper end of its one-sided interval at this error."""
DOUBT = 1.0
"""The tolerance, in standard errors of the reference's mean: it is itself an estimate."""


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """What K streams were in the reference period. A week's value rests on n observations: variance spread^2/n."""

    mean: Floats
    """[K]."""
    spread: Floats
    """[K] standard deviation of one observation, over-dispersion between weeks included."""
    weight: Floats
    """[K] observations in the whole reference."""

    @classmethod
    def of(cls, values: Floats, counts: Floats, floor: Floats | None = None) -> Baseline:
        """Estimate from reference weeks. `values`, `counts`: [R, K]; a count of 0 is a week without. `floor`: [K] least
        spread, for streams whose variance theory bounds from below. Raises InputError for fewer than 8 weeks."""
        if len(values) < 8:
            raise InputError("reference weeks", len(values), "8 or more")
        weight = counts.sum(0)
        mean = np.where(counts > 0, counts * values, 0.0).sum(0) / np.maximum(weight, 1e-12)
        squares = np.where(counts > 0, counts * (values - mean) ** 2, 0.0).sum(0)
        freedom = np.maximum((counts > 0).sum(0) - 1, 1)
        spread = np.sqrt(squares / chi2.ppf(CAUTION, freedom))
        return cls(mean, np.maximum(spread, 1e-9 if floor is None else floor), weight)

    def standardised(self, values: Floats, counts: Floats) -> Floats:
        """Return z [K] of one week; 0 where it has no observations."""
        z = (values - self.mean) * np.sqrt(counts) / self.spread
        return np.where(counts > 0, z, 0.0)

    def tolerance(self, counts: Floats) -> Floats:
        """Return how far z [K] may lie off for no other reason than that the reference is finite."""
        tolerance: Floats = DOUBT * np.sqrt(counts / np.maximum(self.weight, 1e-12))
        return tolerance


class Detectors:
    """K e-detectors that share one rate of false alarms."""

    def __init__(self, weights: Floats, run_length: float) -> None:
        """Start. `weights`: [K] shares of the budget, normalised here. `run_length`: average weeks to a false alarm."""
        if run_length < 1 or len(weights) == 0 or (weights <= 0).any():
            raise InputError("run_length and weights", (run_length, len(weights)), "at least 1 week, weights above 0")
        self._weights, self.run_length = weights / weights.sum(), run_length
        self._bets = np.array(BETS)
        self._evidence: Floats = np.zeros((len(weights), 2, len(BETS)))

    def update(self, z: Floats, tolerance: Floats, observed: NDArray[np.bool_] | None = None) -> NDArray[np.intp]:
        """Take one week in (z, tolerance, observed: [K]) and return which streams alarm; those start afresh."""
        sides = np.stack([z, -z], axis=1)  # [K, D]
        excess = np.minimum(sides, CAP) - tolerance[:, None]
        factor = np.exp(excess[..., None] * self._bets - self._bets**2 / 2)  # [K, D, L]
        # A week without observations is no bet: it neither gains nor starts a new one.
        here = np.ones(len(z), bool) if observed is None else observed
        self._evidence = np.where(here[:, None, None], (1 + self._evidence) * factor, self._evidence)
        found = np.flatnonzero(self.evidence >= self.run_length)
        self._evidence[found] = 0.0
        return found

    @property
    def evidence(self) -> Floats:
        """[K] weighted e-detectors: an alarm at `run_length`."""
        weighted: Floats = self._weights * self._evidence.mean((1, 2))
        return weighted


def onset(z: Sequence[float]) -> int:
    """Return the position at which a run of weekly z, ending with the alarm, most likely changed.

    >>> onset([0.1, -0.3, 0.2, 3.1, 2.8])
    3
    """
    tail = np.asarray(z)[::-1].cumsum()
    best = int(np.argmax(tail**2 / np.arange(1, len(tail) + 1)))
    return len(tail) - 1 - best


def calibrated_run_length(false_alarms_per_year: float) -> float:
    """Return the average run length in weeks of at most so many false alarms a year.

    >>> calibrated_run_length(0.5)
    104.0
    """
    if not false_alarms_per_year > 0:
        raise InputError("false_alarms_per_year", false_alarms_per_year, "a number above 0")
    return 52.0 / false_alarms_per_year
