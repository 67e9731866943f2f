"""How a private run spends its epsilon: noise of every release, settled before any record is read."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from lifechart.core.errors import InputError
from lifechart.model.private.accounting import SMALLEST_DELTA, Release, epsilon_of, noise_for
from lifechart.model.private.statistics import Noises

DELTA = 1e-6
"""Of a promise that names none: the chance that it is broken altogether."""
SAMPLING, STEPS = 0.1, 150
"""Of each step's Poisson sample, and how many steps; chosen on simulated records (docs/lab-notes), not on one's own."""
CLIP = 10.0
_STATISTICS = 0.12
"""Share of the budget (of the inverse variance) that the statistics take, and each statistic's share of that."""
_NAMES, _SCALES, _RATES = 0.5, 0.25, 0.25
_THRESHOLD = 0.1
"""Share of delta that the threshold of names takes."""


@dataclass(frozen=True)
class Plan:
    """What a patient is promised, and by which noise. `epsilon` infinite: no noise at all, for audits and benches."""

    epsilon: float
    delta: float
    sampling: float
    steps: int
    clip: float
    noise: float
    """Of each step's clipped sum, in multiples of `clip`."""
    statistics: Noises
    tuning: float
    """Of each of the three sums over the tuning split."""

    @property
    def spent(self) -> tuple[float, float]:
        """Epsilon spent on a patient of the training split, and of the tuning split, recomputed from the noise."""
        if math.isinf(self.epsilon):
            return math.inf, math.inf
        told = self.statistics
        series = [Release(each) for each in (told.names, told.scales, told.rates)]
        series.append(Release(self.noise, self.sampling, self.steps))
        return epsilon_of(series, self.delta - told.delta), epsilon_of([Release(self.tuning, 1.0, 3)], self.delta)

    def predicate(self) -> dict[str, Any]:
        """Return what the ledger's statement, the configuration and the model card say of it."""
        training, tuning = self.spent
        return {
            "epsilon": self.epsilon,
            "delta": self.delta,
            "spent": {"train": training, "tuning": tuning},
            "unit": "one patient's whole record, added or removed",
            "covers": "weights, vocabulary, value scales, outcomes, base rates, calibration, novelty, tuning loss",
            "does_not_cover": "the ledger's counts of the data set, reports on held-out patients, this run's time",
            "mechanism": "Poisson-sampled clipped sums and whole sums, with Gaussian noise",
            "accountant": "privacy loss distributions, connected dots",
            **{key: value for key, value in asdict(self).items() if key not in ("epsilon", "delta")},
        }


def plan(epsilon: float, delta: float = DELTA, sampling: float = SAMPLING, steps: int = STEPS) -> Plan:
    """Return the plan that spends at most `epsilon` at `delta` on any patient of either split.

    A patient is in one split alone, whoever else is there, so what the tuning split tells costs the others nothing.
    Raises InputError for an epsilon or delta that makes no promise.
    """
    if not epsilon > 0:
        raise InputError("--epsilon", epsilon, "a number above 0")
    if not SMALLEST_DELTA * 10 <= delta <= 1e-3:
        raise InputError("--delta", delta, f"between {SMALLEST_DELTA * 10} and 0.001, and below one in the patients")
    if math.isinf(epsilon):
        tiny = 1e-6
        return Plan(epsilon, delta, sampling, steps, math.inf, 0.0, Noises(tiny, tiny, tiny, delta), tiny)
    rest = delta * (1 - _THRESHOLD)
    once = noise_for(epsilon, rest, 1.0, 1)
    whole = once / math.sqrt(_STATISTICS)
    names, scales, rates = (whole / math.sqrt(part) for part in (_NAMES, _SCALES, _RATES))
    told = Noises(names, scales, rates, delta * _THRESHOLD)
    beside = [Release(each) for each in (told.names, told.scales, told.rates)]
    noise = noise_for(epsilon, rest, sampling, steps, beside)
    return Plan(epsilon, delta, sampling, steps, CLIP, noise, told, noise_for(epsilon, delta, 1.0, 3))
