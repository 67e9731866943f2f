"""The mathematics of the scaling study: parabolas through isoFLOP points, power laws, jackknife intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.stats import t as student

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """One budget: a parabola of loss in log parameters, and where it is lowest."""

    budget: float
    best_parameters: float
    best_tokens: float
    best_loss: float
    curvature: float
    within: bool
    """The lowest point lies between the smallest and the largest network that was tried, and the parabola opens up."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


def parabola(budget: float, parameters: Floats, tokens: Floats, loss: Floats) -> Curve:
    """Fit loss = a + b x + c x^2 in x = log10 parameters at one budget (Hoffmann et al. 2022, approach 2).

    The parabola goes through the lowest run and up to two on either side of it: far from there loss is no parabola.
    Tokens at the best size are read off the line of log tokens in log parameters, since the cost of a token is not
    quite proportional to the parameters.
    """
    order = np.argsort(parameters)
    lowest = int(np.argmin(loss[order]))
    near = order[max(0, lowest - 2) : lowest + 3]
    x, tokens, loss = np.log10(parameters[near]), tokens[near], loss[near]
    middle = x.mean()
    c, b, a = np.polyfit(x - middle, loss, 2)
    inside = c > 0
    best = (
        float(np.clip(-b / (2 * c), x.min() - middle, x.max() - middle))
        if inside
        else float((x - middle)[np.argmin(loss)])
    )
    within = bool(inside and x.min() < middle + best < x.max() and abs(-b / (2 * c) - best) < 1e-12)
    slope, level = np.polyfit(x - middle, np.log10(tokens), 1)
    return Curve(
        budget,
        float(10 ** (best + middle)),
        float(10 ** (level + slope * best)),
        float(a + b * best + c * best * best),
        float(c),
        within,
    )


def exponent(budgets: Floats, optima: Floats) -> float:
    """Return k of optima ~ budgets^k, by least squares on the logarithms; NaN with fewer than two."""
    if len(budgets) < 2:
        return float("nan")
    return float(np.polyfit(np.log(budgets), np.log(optima), 1)[0])


@dataclass(frozen=True)
class Surface:
    """loss = floor + a / parameters^alpha + b / tokens^beta (Hoffmann et al. 2022, approach 3)."""

    floor: float
    a: float
    alpha: float
    b: float
    beta: float

    def loss(self, parameters: Floats, tokens: Floats) -> Floats:
        """Return the loss that the surface gives."""
        out: Floats = self.floor + self.a / parameters**self.alpha + self.b / tokens**self.beta
        return out

    @property
    def growth(self) -> float:
        """The exponent of the best number of parameters in the budget, beta / (alpha + beta)."""
        return self.beta / (self.alpha + self.beta)


def surface(parameters: Floats, tokens: Floats, loss: Floats) -> Surface:
    """Fit the surface with a Huber loss from several starts, all five figures positive."""
    n, d = np.log(parameters), np.log(tokens)

    def gap(theta: Floats) -> Floats:
        floor, a, alpha, b, beta = np.exp(theta)
        out: Floats = floor + a * np.exp(-alpha * n) + b * np.exp(-beta * d) - loss
        return out

    best = None
    for alpha in (0.2, 0.5, 0.9):
        for beta in (0.2, 0.5, 0.9):
            spread = max(float(np.ptp(loss)), 1e-6)
            start = np.log(
                [loss.min() * 0.9, spread * np.exp(alpha * n.min()), alpha, spread * np.exp(beta * d.min()), beta]
            )
            low, high = np.log([1e-6, 1e-9, 0.02, 1e-9, 0.02]), np.log([loss.min(), 1e12, 3.0, 1e12, 3.0])
            start = np.clip(start, low + 1e-6, high - 1e-6)
            found = least_squares(gap, start, loss="huber", f_scale=0.01, bounds=(low, high), max_nfev=3000)
            if best is None or found.cost < best.cost:
                best = found
    assert best is not None
    return Surface(*(float(each) for each in np.exp(best.x)))


def jackknife(units: int, figure: Callable[[NDArray[np.int64]], float]) -> Estimate:
    """Leave each unit out in turn; `figure` is told which remain. Interval by Student's t (Efron & Stein 1981)."""
    everything = np.arange(units)
    value = figure(everything)
    left = np.array([figure(np.delete(everything, each)) for each in everything])
    spread = float(np.sqrt((units - 1) / units * np.square(left - left.mean()).sum()))
    reach = float(student.ppf(0.975, units - 1)) * spread
    return Estimate(value, value - reach, value + reach)


def paired(sums: Floats, base: Floats, number: Floats) -> Estimate:
    """Return the mean difference of two runs over the same clusters with a jackknife interval. All [C]."""
    return jackknife(len(number), lambda kept: float((sums[kept] - base[kept]).sum() / number[kept].sum()))
