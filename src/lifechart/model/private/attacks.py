"""Attacks on a model's memory, and what their success proves. Pure arithmetic over scores.

Sources: one-run audits, Steinke, Nasr & Jagielski (NeurIPS 2023); one-shot Gaussian estimates, Andrew et al. (ICLR
2024); membership inference that allows for how hard each person is, Carlini et al. (IEEE S&P 2022).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom, norm

_SHARES = (0.8, 1 / 3, 1 / 10)
"""Shares of the people on whom a guess is made (the coins leave the halves uneven, so never on all); the bound allows
for having tried each."""
_MOST_EPSILON = 40.0


def one_run_bound(
    scores: NDArray[np.float64], included: NDArray[np.bool_], delta: float, confidence: float = 0.95
) -> float:
    """Return the epsilon that is refuted, with `confidence`, by how well scores tell who was in.

    Each person must have been in by his own fair coin. The highest scores are guessed in and the lowest out.
    """
    order = np.argsort(scores, kind="stable")
    best = 0.0
    for share in _SHARES:
        half = max(1, int(len(scores) * share / 2))
        right = int((~included[order[:half]]).sum() + included[order[-half:]].sum())
        chance = (1 - confidence) / len(_SHARES)
        best = max(best, refuted_epsilon(len(scores), 2 * half, right, delta, chance))
    return best


def refuted_epsilon(people: int, guesses: int, right: int, delta: float, chance: float) -> float:
    """Return the largest epsilon under which so many right guesses have a probability below `chance`."""
    if _probability(people, guesses, right, 0.0, delta) >= chance:
        return 0.0
    if _probability(people, guesses, right, _MOST_EPSILON, delta) < chance:
        return _MOST_EPSILON
    found = brentq(lambda e: _probability(people, guesses, right, e, delta) - chance, 0.0, _MOST_EPSILON, xtol=1e-6)
    return float(found)


def _probability(people: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Bound the probability of at least `right` right guesses under (epsilon, delta): their theorem 5.2."""
    p = 1 / (1 + math.exp(-epsilon))
    at_least = float(binom.sf(right - 1, guesses, p))
    number = np.arange(1, right + 1)
    below = np.cumsum(binom.pmf(right - number, guesses, p))
    return min(1.0, at_least + 2 * people * delta * float((below / number).max(initial=0.0)))


def most_refutable(people: int, delta: float, confidence: float = 0.95) -> float:
    """Return the largest epsilon that so many people could refute, every guess made being right."""
    guesses = 2 * int(people * max(_SHARES) / 2)
    return refuted_epsilon(people, guesses, guesses, delta, (1 - confidence) / len(_SHARES))


def gaussian_estimate(
    scores: NDArray[np.float64], included: NDArray[np.bool_], delta: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Return an epsilon estimated from the scores, as if they were normal, and its lower confidence limit.

    No proof, unlike `one_run_bound`, but it does not need as many people as epsilon is high. Infinite where those
    who were out have all but one score: there was no noise.
    """
    those_in, those_out = scores[included], scores[~included]
    scale = max(float(np.abs(scores).max(initial=0.0)), 1e-30)
    spread = float(those_out.std(ddof=1))
    gap = float(those_in.mean() - those_out.mean())
    if spread <= 1e-9 * scale:
        found = math.inf if abs(gap) > 1e-6 * scale else 0.0
        return found, found
    away = gap / spread
    error = math.sqrt(
        (those_in.var(ddof=1) / len(those_in) + spread**2 / len(those_out)) / spread**2 + away**2 / (2 * len(those_out))
    )
    return gaussian_epsilon(away, delta), gaussian_epsilon(away - float(norm.ppf(confidence)) * error, delta)


def gaussian_epsilon(away: float, delta: float) -> float:
    """Return the epsilon at which one Gaussian release whose means lie `away` standard deviations apart is private."""
    if away <= 0:
        return 0.0

    def excess(epsilon: float) -> float:
        low = norm.cdf(away / 2 - epsilon / away)
        return float(low - math.exp(epsilon + norm.logcdf(-away / 2 - epsilon / away)) - delta)

    if excess(0.0) <= 0:
        return 0.0
    return float(brentq(excess, 0.0, away**2 / 2 + 40 * away + 1))


@dataclass(frozen=True)
class Membership:
    """How well members are told from others: AUROC with its 95% interval, and the share found at 1% false alarms."""

    auroc: float
    low: float
    high: float
    found_at_one_percent: float


def membership(
    member: NDArray[np.float64], other: NDArray[np.float64], rng: np.random.Generator, draws: int = 400
) -> Membership:
    """Attack by a score that is high for members; the interval is from bootstrap samples of people."""
    drawn = [_auroc(rng.choice(member, len(member)), rng.choice(other, len(other))) for _ in range(draws)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Membership(_auroc(member, other), float(low), float(high), float((member > np.quantile(other, 0.99)).mean()))


def _auroc(higher: NDArray[np.float64], lower: NDArray[np.float64]) -> float:
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, higher, "left") + np.searchsorted(ordered, higher, "right")
    return float(below.mean() / (2 * len(lower)))


def beyond_difficulty(
    score: NDArray[np.float64], difficulty: NDArray[np.float64], other: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return scores less what is expected of people so hard to forecast, by least squares over those not trained on.

    `difficulty` [N, D]. Divided by the scatter that goes with it, so that people who are hard anyway do not
    drown the rest.
    """
    basis = np.concatenate([np.ones((len(score), 1)), difficulty, difficulty**2], axis=1)
    rest = score - basis @ np.linalg.lstsq(basis[other], score[other], rcond=None)[0]
    scatter = basis @ np.linalg.lstsq(basis[other], np.abs(rest[other]), rcond=None)[0]
    beyond: NDArray[np.float64] = rest / np.maximum(scatter, 0.1 * np.abs(rest[other]).mean() + 1e-12)
    return beyond
