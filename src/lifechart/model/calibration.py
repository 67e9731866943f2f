"""What turns a network's raw hazards into honest probabilities: recalibration, intervals, novelty.

Recalibration and the width of intervals are fitted on the tuning split, the last layer's uncertainty on the training
split. Shapes: Q questions, O outcomes, B intervals of time, Z the last layer's width, Y = Z + 1 with the constant.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from lifechart.core import durable
from lifechart.model.heads import WIDTHS, cumulative_incidence
from lifechart.model.inference import Told
from lifechart.model.questions import EDGES, Labels

Z_95 = 1.959964
_INTERCEPT_SPREAD, _SLOPE_SPREAD = 0.25, 0.15
"""Standard deviations that recalibration's intercepts and slopes are drawn to 0 and 1 with."""
_COMMON_SPREAD = (1.0, 0.3)
"""Likewise for the one intercept and slope that all outcomes share."""
_RIDGE = 20.0
_BINS = 10
_FEWEST_EVENTS = 5.0
TAILS = (-6.5, 3.2)
"""Where 95% of the errors of a log cumulative hazard lie, in spreads of the excess loss: docs/lab-notes/0380."""
NOTHING = 1e-5
"""A lower bound under this is no bound: whoever cannot have an outcome at all is told a tiny risk of it."""
OWN_PART, _MOST_RELATIVE = 0.2, 9.0
"""The part of the squared error that goes with the last layer's own, and how far that may carry it."""
_SCALES = np.geomspace(0.25, 16.0, 61)


@dataclass(frozen=True)
class Calibration:
    """Arrays that stand beside the weights. `spread` [O, Y, Y] is the root of the last layer's covariance."""

    centre: NDArray[np.float32]
    intercept: NDArray[np.float32]
    slope: NDArray[np.float32]
    spread: NDArray[np.float32]
    scale: NDArray[np.float32]
    state_mean: NDArray[np.float32]
    state_whitening: NDArray[np.float32]
    distances: NDArray[np.float32]
    usual_error: NDArray[np.float32] | None = None
    """The last layer's mean squared standard error on the tuning split [O], before `scale`."""
    doubt: NDArray[np.float32] | None = None
    """[O] the excess loss in nats an event (model.doubt); None in a private model, whose patients are not halved."""

    def hazards(self, log_hazard: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return recalibrated log hazards [Q, O, B]."""
        off = log_hazard - self.centre[:, None]
        out: NDArray[np.float32] = self.centre[:, None] + self.intercept[:, None] + self.slope[:, None] * off
        return out

    def errors(self, state: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the standard errors of the log cumulative hazard [Q, O]."""
        state = with_constant(state)
        errors: NDArray[np.float32] = np.linalg.norm(np.einsum("qy,oyx->qox", state, self.spread), axis=2) * self.scale
        return errors

    def bounds(
        self, probability: NDArray[np.float32], state: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the 95% bounds, each [Q, O, B], of probabilities [Q, O, B] that were told from states [Q, Z].

        Where the excess loss is known, the error of a log cumulative hazard has the spread that it implies, larger
        for who is unusual to the last layer, and the tails that errors had on the simulated hospital (TAILS).
        """
        error = self.errors(state)
        if self.doubt is None or self.usual_error is None:
            low, high = around(probability, error[:, :, None])
            return low, high
        relative = np.minimum(np.square(error / self.scale) / self.usual_error, _MOST_RELATIVE)
        spread = np.sqrt(2 * self.doubt * (1 - OWN_PART + OWN_PART * relative))[:, :, None]
        low = moved(probability, TAILS[0] * spread, np.minimum)
        return np.where(low < NOTHING, np.float32(0), low), moved(probability, TAILS[1] * spread, np.maximum)

    def novelty(self, state: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the share of the tuning split's states that lie nearer to their middle [Q]."""
        distance = _distances(state, self.state_mean, self.state_whitening)
        return np.searchsorted(self.distances, distance) / len(self.distances)

    def save(self, path: Path) -> None:
        """Write as NumPy arrays, whole or not at all."""
        with durable.replacing(path) as aside, aside.open("wb") as file:
            arrays = {each.name: getattr(self, each.name) for each in fields(self)}
            np.savez(file, **{name: array for name, array in arrays.items() if array is not None})

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{each.name: arrays[each.name] for each in fields(cls) if each.name in arrays})


def moved(
    probability: NDArray[np.float32], by: NDArray[np.float32], side: Callable[..., NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Return probabilities whose log cumulative hazards lie `by` higher. `side`: np.minimum or np.maximum, so that
    rounding leaves the probability inside.
    """
    bounded = np.clip(probability.astype(np.float64), 1e-12, 1 - 1e-9)
    out = -np.expm1(-np.exp(np.log(-np.log1p(-bounded)) + by))
    return side(out.astype(np.float32), probability)


def around(probability: NDArray[np.float32], error: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """Return the 95% bounds of probabilities whose log cumulative hazards have these standard errors."""
    return moved(probability, -Z_95 * error, np.minimum), moved(probability, Z_95 * error, np.maximum)


def calibrate(
    training: tuple[Told, Labels, NDArray[np.int64]],
    tuning: tuple[Told, Labels, NDArray[np.int64]],
    death: int | None,
    excess: NDArray[np.float32] | None = None,
) -> Calibration:
    """Fit everything. Each of the first two: what was told, what came of it, and whose question it was (sorted).

    `excess`: what `doubt.excess_loss` found; without it intervals are the last layer's alone.
    """
    told, labels, subject = tuning
    centre, intercept, slope = recalibrate(told, labels)
    mean, whitening = _middle(told.state)
    unscaled = Calibration(
        centre, intercept, slope, last_layer_spread(*training), np.ones(1, np.float32), mean, whitening,
        np.sort(_distances(told.state, mean, whitening)),
    )  # fmt: skip
    probability = cumulative_incidence(unscaled.hazards(told.log_hazard), death)
    scale = interval_scale(probability, unscaled.errors(told.state), told.had, labels, subject)
    usual = np.maximum(np.square(unscaled.errors(told.state)).mean(axis=0), 1e-12)
    return replace(
        unscaled,
        scale=np.array([scale], dtype=np.float32),
        usual_error=usual.astype(np.float32),
        doubt=excess,
    )


def recalibrate(told: Told, labels: Labels) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return each outcome's centre, intercept and slope on the log hazard, by penalised likelihood.

    First one intercept and slope for all outcomes, then each outcome's departure from them, drawn to none. A life is
    asked about many times, so an event counts once however many questions saw it come.
    """
    exposure, seen = _exposures(labels, told.had)
    events = seen.sum(axis=2)
    at_risk = exposure.sum(axis=2)
    centre = np.array(
        [
            np.average(told.log_hazard[:, o].mean(axis=1), weights=at_risk[:, o] + 1e-9)
            for o in range(told.log_hazard.shape[1])
        ]
    )
    off = told.log_hazard - centre[:, None]
    repeats = max(1.0, float(events.sum()) / max(1.0, float(_distinct(labels, told.had))))

    def loss(
        x: NDArray[np.float64], spread: tuple[float, float], about: NDArray[np.float64]
    ) -> tuple[float, NDArray[np.float64]]:
        a, b = x.reshape(2, -1)
        eta = centre[:, None] + a[:, None] + b[:, None] * off
        expected = np.exp(eta) * exposure
        rest = expected - seen
        pull_a, pull_b = (a - about[0]) / spread[0] ** 2, (b - about[1]) / spread[1] ** 2
        value = (expected.sum() - (eta * seen).sum()) / repeats
        value += 0.5 * (pull_a * (a - about[0])).sum() + 0.5 * (pull_b * (b - about[1])).sum()
        gradient_a = rest.sum(axis=(0, 2)) / repeats + pull_a
        gradient_b = (rest * off).sum(axis=(0, 2)) / repeats + pull_b
        return float(value), np.concatenate([gradient_a, gradient_b])

    def common(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        many = np.repeat(x, len(centre))
        value, gradient = loss(many, (math.inf, math.inf), np.array([0.0, 1.0]))
        pull = (x - [0.0, 1.0]) / np.square(_COMMON_SPREAD)
        return value + 0.5 * float(pull @ (x - [0.0, 1.0])), gradient.reshape(2, -1).sum(axis=1) + pull

    shared = minimize(common, np.array([0.0, 1.0]), jac=True, method="L-BFGS-B").x
    start = np.repeat(shared, len(centre))
    own = minimize(
        loss, start, args=((_INTERCEPT_SPREAD, _SLOPE_SPREAD), shared), jac=True, method="L-BFGS-B"
    ).x.reshape(2, -1)  # fmt: skip
    return tuple(each.astype(np.float32) for each in (centre, own[0], np.maximum(own[1], 0.2)))  # type: ignore[return-value]


def last_layer_spread(told: Told, labels: Labels, subject: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the root of the covariance [O, Y, Y] of each outcome's last-layer weights.

    The sandwich estimator clustered by patient (Lin & Wei 1989): what refitting the last layer on bootstrap samples of
    patients would converge to, in closed form.
    """
    state = with_constant(told.state).astype(np.float64)
    exposure, seen = _exposures(labels, told.had)
    expected = (np.exp(told.log_hazard) * exposure).sum(axis=2)
    residual = seen.sum(axis=2) - expected
    firsts = np.flatnonzero(np.diff(subject, prepend=-1))
    spread = np.zeros((expected.shape[1], state.shape[1], state.shape[1]), dtype=np.float32)
    for o in range(expected.shape[1]):
        information = (state * expected[:, o : o + 1]).T @ state + _RIDGE * np.eye(state.shape[1])
        scores = np.add.reduceat(state * residual[:, o : o + 1], firsts, axis=0)
        root = np.linalg.cholesky(scores.T @ scores + 1e-9 * np.eye(state.shape[1]))
        solved = np.linalg.solve(information, root)
        spread[o] = solved
    return spread


def interval_scale(
    probability: NDArray[np.float32], error: NDArray[np.float32], had: NDArray[np.bool_], labels: Labels,
    subject: NDArray[np.int64],
) -> float:  # fmt: skip
    """Return the factor on standard errors at which 95% of binned observed rates lie within reach of their forecast.

    Reach is the bin's interval and the sampling error of its observed rate, clustered by patient, in quadrature.
    """
    gaps, reaches, noises = [], [], []
    for o in range(probability.shape[1]):
        for b, horizon in enumerate(EDGES[1:]):
            came = labels.days_to[:, o] <= np.minimum(horizon, labels.observed)
            chosen = np.flatnonzero((labels.window >= horizon) & ~had[:, o])
            risk = probability[chosen, o, b].astype(np.float64)
            number = int(min(_BINS, risk.sum() / _FEWEST_EVENTS))
            if number < 1:
                continue
            low, high = around(probability[chosen, o, b], error[chosen, o])
            width = (high - low).astype(np.float64) / (2 * Z_95)
            for part in np.array_split(np.argsort(risk, kind="stable"), number):
                off = came[chosen][part] - risk[part]
                by_patient = np.bincount(np.unique(subject[chosen][part], return_inverse=True)[1], weights=off)
                gaps.append(abs(off.mean()))
                noises.append(np.sqrt((by_patient**2).sum()) / len(part))
                reaches.append(width[part].mean())
    if not gaps:
        return 1.0
    gap, reach, noise = (np.array(each) for each in (gaps, reaches, noises))
    for scale in _SCALES:
        if (gap <= Z_95 * np.hypot(scale * reach, noise)).mean() >= 0.95:
            return float(scale)
    return float(_SCALES[-1])


def with_constant(state: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the states with a column of ones, [Q, Y]."""
    return np.concatenate([state, np.ones((len(state), 1), dtype=state.dtype)], axis=1)


def _exposures(labels: Labels, had: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return days at risk and whether the event came, both [Q, O, B], first onsets only."""
    until = np.minimum(labels.days_to, labels.observed[:, None])[..., None]
    low, high = np.array(EDGES[:-1]), np.array(EDGES[1:])
    exposure = np.clip(until - low, 0.0, np.array(WIDTHS)) * ~had[..., None]
    days = labels.days_to[..., None]
    seen = (days > low) & (days <= high) & (days <= labels.observed[:, None, None]) & ~had[..., None]
    return exposure, seen


def _distinct(labels: Labels, had: NDArray[np.bool_]) -> int:
    """Count the events behind the labels, each once: seen from rising questions of one life, days_to falls."""
    seen = (labels.days_to <= labels.observed[:, None]) & ~had
    last_view = seen & ~np.concatenate([seen[1:] & (np.diff(labels.observed) < 0)[:, None], np.zeros_like(seen[:1])])
    return int(last_view.sum())


def _middle(state: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    mean = state.mean(axis=0)
    covariance = np.cov(state, rowvar=False) + 1e-3 * np.eye(state.shape[1])
    return mean, np.linalg.inv(np.linalg.cholesky(covariance)).T.astype(np.float32)


def _distances(
    state: NDArray[np.float32], mean: NDArray[np.float32], whitening: NDArray[np.float32]
) -> NDArray[np.float32]:
    distance: NDArray[np.float32] = np.linalg.norm((state - mean) @ whitening, axis=1)
    return distance
