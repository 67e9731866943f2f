"""The released forecasts bent to local records: a maximum a posteriori fit whose prior is the released model itself.

For each outcome the released log hazard is kept as an offset, and what is added to it is linear in what the head reads:
a shift, a slope on the forecast, a level for each interval, the moment's features, the last layer's state, and those
few columns of the history that the local records demand. Each has a normal prior around nothing, so that without local
evidence the released forecast stands. The problem is convex; Newton's method solves it, without chance.
Legend of shapes: n questions at risk, O outcomes, B intervals, K columns read, P = B + 1 + K parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lifechart.model.adapt.local import Asked
from lifechart.model.calibration import Calibration

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prior:
    """Standard deviations of what may be added, and what a column of the history must show to be read at all."""

    shift: float = 0.6
    slope: float = 0.1
    level: float = 0.05
    feature: float = 0.05
    state: float = 0.02
    column: float = 0.15
    demand: float = 4.0
    """A score test's standard normal deviate that a column has to exceed."""
    most_columns: int = 20
    fewest_people: int = 11
    """Who hold the column: weights on what fewer people have could tell of them."""


@dataclass(frozen=True)
class Bend:
    """What is added to one outcome's calibrated log hazard."""

    levels: Floats
    """[B], the overall shift included."""
    slope: float
    features: Floats
    state: Floats
    columns: NDArray[np.int64]
    weights: Floats


def fit_head(
    asked: Asked, calibration: Calibration, prior: Prior, advance: Callable[[float], None] = lambda share: None
) -> list[Bend]:
    """Fit every outcome's bend to local questions. `calibration` is the released model's."""
    said = calibration.hazards(asked.log_hazard).astype(np.float64)
    off = (said - calibration.centre[:, None] - calibration.intercept[:, None]).astype(np.float64)
    plain = np.concatenate([np.ones((len(said), 1)), asked.features, asked.state], axis=1).astype(np.float64)
    F, Z = asked.features.shape[1], asked.state.shape[1]
    spread = np.repeat([prior.shift, prior.feature, prior.state], [1, F, Z])
    num_outcomes = said.shape[1]
    repeats = _repeats(asked)
    fitted, residual, expected = [], np.zeros(said.shape[:2]), np.zeros(said.shape[:2])
    for o in range(num_outcomes):
        rows, exposure, seen = asked.at_risk(o)
        problem = Problem(said[rows, o], off[rows, o], exposure, seen, plain[rows], repeats)
        x, mean = problem.solve(prior, spread)
        residual[rows, o] = seen.sum(axis=1) - mean
        expected[rows, o] = mean
        fitted.append((problem, rows, x))
        advance(0.5 * (o + 1) / num_outcomes)
    wanted = _demanded(asked, residual, expected, prior, repeats)
    bends = []
    for o, (problem, rows, x) in enumerate(fitted):
        columns = wanted[o]
        if len(columns):
            more = np.asarray(asked.past[rows][:, columns].todense(), dtype=np.float64)
            wider = Problem(*problem.parts, np.concatenate([problem.read, more], axis=1), repeats)
            start = np.concatenate([x, np.zeros(len(columns))])
            x, _ = wider.solve(prior, np.append(spread, np.full(len(columns), prior.column)), start)
        B = said.shape[2]
        features, state, weights = np.split(x[B + 2 :], [F, F + Z])
        bends.append(Bend(x[:B] + x[B + 1], float(x[B]), features, state, columns, weights))
        advance(0.5 + 0.5 * (o + 1) / num_outcomes)
    return bends


@dataclass
class Problem:
    """One outcome's penalised likelihood of piecewise exponential survival. Parameters: [levels B, slope, read K]."""

    said: Floats
    off: Floats
    exposure: Floats
    seen: Floats
    read: Floats
    repeats: float

    @property
    def parts(self) -> tuple[Floats, Floats, Floats, Floats]:
        """All but what is read."""
        return self.said, self.off, self.exposure, self.seen

    def solve(self, prior: Prior, spread: Floats, start: Floats | None = None) -> tuple[Floats, Floats]:
        """Return the parameters and the events expected with them [n]. `spread`: prior deviations of what is read."""
        B = self.said.shape[1]
        weight = 1.0 / np.square(np.concatenate([np.full(B, prior.level), [prior.slope], spread]))
        x = np.zeros(len(weight)) if start is None else start
        value = self._value(x, weight)
        for _ in range(_MOST_STEPS):
            gradient, curvature = self._derivatives(x, weight)
            step = np.linalg.solve(curvature, gradient)
            size = 1.0
            while (found := self._value(x - size * step, weight)) > value and size > 1e-3:
                size /= 2
            if found > value:
                break
            x, gained, value = x - size * step, value - found, found
            if gained < _ENOUGH:
                break
        return x, self._expected(x).sum(axis=1)

    def _linear(self, x: Floats) -> Floats:
        B = self.said.shape[1]
        linear: Floats = self.said + x[:B] + x[B] * self.off + (self.read @ x[B + 1 :])[:, None]
        return linear

    def _expected(self, x: Floats) -> Floats:
        expected: Floats = np.exp(np.minimum(self._linear(x), 5.0)) * self.exposure
        return expected

    def _value(self, x: Floats, weight: Floats) -> float:
        fit = self._expected(x).sum() - (self.seen * self._linear(x)).sum()
        return float(fit / self.repeats + 0.5 * (weight * x * x).sum())

    def _derivatives(self, x: Floats, weight: Floats) -> tuple[Floats, Floats]:
        B, expected = self.said.shape[1], self._expected(x)
        rest = (expected - self.seen) / self.repeats
        sloped = expected * self.off
        gradient = np.concatenate([rest.sum(axis=0), [(rest * self.off).sum()], self.read.T @ rest.sum(axis=1)])
        curvature = np.zeros((len(x), len(x)))
        curvature[np.arange(B), np.arange(B)] = expected.sum(axis=0)
        curvature[B, :B] = curvature[:B, B] = sloped.sum(axis=0)
        curvature[B, B] = (sloped * self.off).sum()
        curvature[B + 1 :, :B] = self.read.T @ expected
        curvature[B + 1 :, B] = self.read.T @ sloped.sum(axis=1)
        curvature[:B, B + 1 :], curvature[B, B + 1 :] = curvature[B + 1 :, :B].T, curvature[B + 1 :, B]
        curvature[B + 1 :, B + 1 :] = (self.read * expected.sum(axis=1)[:, None]).T @ self.read
        return gradient + weight * x, curvature / self.repeats + np.diag(weight)


_MOST_STEPS, _ENOUGH = 12, 1e-3
_SHORTLIST = 60


def _repeats(asked: Asked) -> float:
    """Return how many questions saw each event come: a life is asked many times, and its event happened once."""
    came = (asked.labels.days_to <= np.minimum(asked.labels.observed, 1825.0)[:, None]) & ~asked.had
    owners = asked.subject
    firsts = np.flatnonzero(np.diff(owners, prepend=-1))
    distinct = np.add.reduceat(came.astype(np.int64), firsts, axis=0) > 0
    return max(1.0, float(came.sum()) / max(1.0, float(distinct.sum())))


def _demanded(
    asked: Asked, residual: Floats, expected: Floats, prior: Prior, repeats: float
) -> list[NDArray[np.int64]]:
    """Return, by outcome, the columns of the history whose score test says that what is added so far does not do.

    The test is Rao's, one column at a time, the rest held where it is: first with the model's own variance, which
    shortlists, then with that over people, whose questions are no independent evidence (Lin & Wei, 1989).
    """
    past, (people, owner) = asked.past, np.unique(asked.subject, return_inverse=True)
    holder = np.repeat(owner, np.diff(past.indptr))
    pairs = np.unique(past.indices.astype(np.int64) * len(people) + holder)
    holders = np.bincount(pairs // len(people), minlength=past.shape[1])
    squared = past.copy()
    squared.data = squared.data**2
    score, information = past.T @ residual, squared.T @ expected
    rough = np.abs(score) / np.sqrt(np.maximum(information * repeats, 1e-9))
    rough[holders < prior.fewest_people] = 0.0
    grouped = csr_array((np.ones(len(owner)), (owner, np.arange(len(owner)))))
    by_column = past.tocsc()
    found = []
    for o in range(residual.shape[1]):
        best = np.argsort(-rough[:, o], kind="stable")[:_SHORTLIST]
        best = best[rough[best, o] > prior.demand]
        by_person = grouped @ (np.asarray(by_column[:, best].todense()) * residual[:, o, None])
        deviate = np.abs(by_person.sum(axis=0)) / np.sqrt(np.maximum(np.square(by_person).sum(axis=0), 1e-9))
        order = np.argsort(-deviate, kind="stable")[: prior.most_columns]
        found.append(best[order[deviate[order] > prior.demand]])
    return found
