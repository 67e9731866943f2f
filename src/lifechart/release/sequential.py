"""Group-sequential boundaries by alpha spending: when a trial may stop early, and what that does to its error rates.

Pure mathematics. The score process is a Brownian motion with drift, seen at information fractions t; the probability of
leaving the region of continuation is integrated look by look (Armitage, McPherson & Rowe 1969; Jennison & Turnbull,
Group Sequential Methods, 2000, chapter 19). Spending functions: Lan & DeMets 1983; Hwang, Shih & De Cani 1990.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from lifechart.core.errors import InputError

Floats = NDArray[np.float64]

_NODES = 16
"""Gauss-Legendre nodes a panel; a panel is no wider than half a standard deviation of the next increment."""
_FAR = 9.0
"""Standard deviations beyond which nothing is left (a tail of 1e-19)."""
_NO_BOUND = 38.0
"""A bound that is never crossed; norm.sf of it is still above zero in double precision."""


def _obrien_fleming(alpha: float, fraction: float) -> float:
    return float(2 * norm.sf(norm.isf(alpha / 2) / np.sqrt(fraction)))


def _pocock(alpha: float, fraction: float) -> float:
    return float(alpha * np.log1p((np.e - 1) * fraction))


def _linear(alpha: float, fraction: float) -> float:
    return alpha * fraction


SPENDING: Mapping[str, Callable[[float, float], float]] = {
    "obrien-fleming": _obrien_fleming,
    "pocock": _pocock,
    "linear": _linear,
}
"""How much of the error has been spent by an information fraction in (0, 1]: little at first, evenly in z, evenly."""


@dataclass(frozen=True, slots=True)
class Boundaries:
    """Where a trial stops, in z, one of each a look; z is positive when the intervention does better."""

    fractions: tuple[float, ...]
    """Information fractions, rising, the last one 1."""
    efficacy: tuple[float, ...]
    """Stop for efficacy at or above."""
    futility: tuple[float, ...]
    """Stop for futility at or below; not binding: the efficacy bounds keep the type-I error if it is overruled."""
    harm: tuple[float, ...]
    """Stop for harm at or below."""
    drift: float | None = None
    """E[Z at full information] for which the planned power holds, if a power was planned."""


@dataclass(frozen=True, slots=True)
class Exits:
    """How a trial ends, look by look."""

    upper: tuple[float, ...]
    """Probability of ending at or above the upper bound at each look."""
    lower: tuple[float, ...]
    """Probability of ending at or below the lower bound at each look."""


def spent(name: str, alpha: float, fractions: Sequence[float]) -> tuple[float, ...]:
    """Return the error spent at each look, not cumulated; raises InputError for what cannot be a plan of looks."""
    if name not in SPENDING:
        raise InputError("spending", name, f"one of {sorted(SPENDING)}")
    if not 0 < alpha < 0.5:
        raise InputError("alpha", alpha, "a number between 0 and 0.5, one-sided")
    rising = all(early < late for early, late in pairwise((0.0, *fractions)))
    if not fractions or not rising or abs(fractions[-1] - 1) > 1e-12:
        raise InputError("looks", tuple(fractions), "rising information fractions above 0 that end in 1")
    cumulated = (0.0, *(SPENDING[name](alpha, fraction) for fraction in fractions))
    return tuple(late - early for early, late in pairwise(cumulated))


def efficacy_bounds(alpha: float, fractions: Sequence[float], spending: str = "obrien-fleming") -> tuple[float, ...]:
    """Return the one-sided z bounds that spend `alpha` over the looks; each is exact to about 1e-9."""
    walk = _Walk(0.0)
    bounds: list[float] = []
    for fraction, error in zip(fractions, spent(spending, alpha, fractions), strict=True):
        bound = walk.upper_bound(fraction, error)
        bounds.append(bound)
        walk.step(fraction, -_NO_BOUND, bound)
    return tuple(bounds)


def boundaries(
    alpha: float,
    fractions: Sequence[float],
    *,
    power: float | None = None,
    harm_alpha: float | None = None,
    efficacy: str = "obrien-fleming",
    futility: str = "obrien-fleming",
    harm: str = "pocock",
) -> Boundaries:
    """Return efficacy, futility and harm bounds.

    `alpha`: one-sided type-I error. `power`: with it, a non-binding futility bound spends 1 - power under the drift
    that gives this power at the last look. `harm_alpha`: one-sided error of the harm bound, spent under no effect.
    """
    upper = efficacy_bounds(alpha, fractions, efficacy)
    none = (-_NO_BOUND,) * len(upper)
    hurt = none if harm_alpha is None else tuple(-bound for bound in efficacy_bounds(harm_alpha, fractions, harm))
    if power is None:
        return Boundaries(tuple(fractions), upper, none, hurt)
    vain, drift = _futility(upper, fractions, 1 - power, futility)
    return Boundaries(tuple(fractions), upper, vain, hurt, drift)


def exits(fractions: Sequence[float], upper: Sequence[float], lower: Sequence[float] | None, drift: float) -> Exits:
    """Return how a trial with these z bounds ends when E[Z at full information] is `drift`; both bounds binding."""
    walk = _Walk(drift)
    above, below = [], []
    for look, fraction in enumerate(fractions):
        low = -_NO_BOUND if lower is None else lower[look]
        above.append(walk.above(fraction, upper[look]))
        below.append(walk.below(fraction, low))
        walk.step(fraction, low, upper[look])
    return Exits(tuple(above), tuple(below))


def drift_for(power: float, fractions: Sequence[float], upper: Sequence[float]) -> float:
    """Return E[Z at full information] at which the efficacy bounds are crossed with probability `power`."""
    if not 0 < power < 1:
        raise InputError("power", power, "a number between 0 and 1")
    start = norm.isf(1 - power) + upper[-1]
    found = brentq(lambda drift: sum(exits(fractions, upper, None, drift).upper) - power, 0, 2 * abs(start) + 5)
    return float(found)


def inflation(alpha: float, power: float, fractions: Sequence[float], spending: str = "obrien-fleming") -> float:
    """Return how many times the information of a trial without looks this one needs for the same power."""
    upper = efficacy_bounds(alpha, fractions, spending)
    return float((drift_for(power, fractions, upper) / (norm.isf(alpha) + norm.isf(1 - power))) ** 2)


def _futility(
    upper: tuple[float, ...], fractions: Sequence[float], beta: float, spending: str
) -> tuple[tuple[float, ...], float]:
    """Return lower bounds that spend `beta`, and the drift at which they meet the upper ones at the last look.

    Under that drift a trial that obeys both bounds has power 1 - beta (Pampallona, Tsiatis & Kim 2001).
    """
    errors = spent(spending, beta, fractions)

    def bounds_at(drift: float) -> list[float]:
        walk, found = _Walk(drift), []
        for fraction, error, top in zip(fractions, errors, upper, strict=True):
            bound = min(walk.lower_bound(fraction, error), top)
            found.append(bound)
            walk.step(fraction, bound, top)
        return found

    start = drift_for(1 - beta, fractions, upper)
    drift = brentq(lambda at: bounds_at(at)[-1] - upper[-1] + 1e-10, 0.5 * start, start + 3, xtol=1e-10)
    return (*bounds_at(drift)[:-1], upper[-1]), float(drift)


class _Walk:
    """The density of the score S = Z sqrt(t) among trials that have not stopped, on quadrature nodes."""

    def __init__(self, drift: float) -> None:
        self._drift = drift
        self._fraction = 0.0
        self._nodes: Floats = np.zeros(1)
        self._mass: Floats = np.ones(1)
        """Density times quadrature weight at each node; at the start all of it lies at 0."""

    def above(self, fraction: float, bound: float) -> float:
        """Return the probability of Z >= bound at the next look."""
        return float(self._mass @ norm.sf(self._standardised(fraction, bound)))

    def below(self, fraction: float, bound: float) -> float:
        """Return the probability of Z <= bound at the next look."""
        return float(self._mass @ norm.cdf(self._standardised(fraction, bound)))

    def upper_bound(self, fraction: float, error: float) -> float:
        """Return the bound above which `error` lies at the next look."""
        if error <= 0 or self.above(fraction, -_NO_BOUND) <= error:
            return _NO_BOUND
        return float(brentq(lambda bound: self.above(fraction, bound) - error, -_FAR, _NO_BOUND, xtol=1e-12))

    def lower_bound(self, fraction: float, error: float) -> float:
        """Return the bound below which `error` lies at the next look."""
        if error <= 0:
            return -_NO_BOUND
        if self.below(fraction, _NO_BOUND) <= error:
            return _NO_BOUND
        return float(brentq(lambda bound: self.below(fraction, bound) - error, -_NO_BOUND, _NO_BOUND, xtol=1e-12))

    def step(self, fraction: float, lower: float, upper: float) -> None:
        """Go on to the next look with those between the bounds."""
        spread = np.sqrt(fraction - self._fraction)
        scale = np.sqrt(fraction)
        centre = self._drift * fraction
        low, high = max(lower * scale, centre - _FAR * scale), min(upper * scale, centre + _FAR * scale)
        if high <= low:
            self._nodes, self._mass, self._fraction = np.zeros(1), np.zeros(1), fraction
            return
        nodes, weights = _quadrature(low, high, spread / 2)
        move = (nodes[:, None] - self._nodes[None, :] - self._drift * (fraction - self._fraction)) / spread
        density = norm.pdf(move) @ self._mass / spread
        self._nodes, self._mass, self._fraction = nodes, density * weights, fraction

    def _standardised(self, fraction: float, bound: float) -> Floats:
        ahead = fraction - self._fraction
        standardised: Floats = (bound * np.sqrt(fraction) - self._nodes - self._drift * ahead) / np.sqrt(ahead)
        return standardised


@cache
def _panel() -> tuple[Floats, Floats]:
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return nodes, weights


def _quadrature(low: float, high: float, widest: float) -> tuple[Floats, Floats]:
    """Return Gauss-Legendre nodes and weights over panels no wider than `widest`."""
    edges: Floats = np.linspace(low, high, int(np.ceil((high - low) / widest)) + 1)
    nodes, weights = _panel()
    half: Floats = np.diff(edges)[:, None] / 2
    centre: Floats = (edges[1:] + edges[:-1])[:, None] / 2
    return (centre + half * nodes).ravel(), (half * weights).ravel()
