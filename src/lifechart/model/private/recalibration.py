"""Recalibration, intervals and novelty of a private model, from three noisy sums over the tuning split's patients.

A patient counts at most 1 in each: `outcomes` (what came and what was expected, by outcome and by how high the hazard
was, and the loss), `states` (the second moment of the last layer's state), `distances` (how far from the middle he
lies). Shapes: S patients, Q questions, O outcomes, B intervals, Y the state with a constant, H bins of the hazard.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from lifechart.model.calibration import Calibration, with_constant
from lifechart.model.heads import WIDTHS
from lifechart.model.inference import Told
from lifechart.model.private.lot import Lot
from lifechart.model.questions import EDGES, Labels

_COUNT, _PATIENT, _LOSS, _MOST_LOSS = 0.25, 0.3, 0.3, 100.0
"""What an event, a patient and a loss of _MOST_LOSS count in the first sum, before a patient's part is cut to 1."""
_HEIGHTS = np.linspace(-3.0, 3.0, 13)
"""Edges of the bins of the log hazard, beside the outcome's base rate."""
_SLOPE_SPREAD, _COMMON_SPREAD, _OWN_SPREAD = 0.3, 1.0, 0.25
_FAR, _DISTANCE_BINS, _KEPT = 4.0, 64, 501
_LEAST_DOUBT = 0.1
"""Standard error of a log hazard at least, however much was seen."""


@dataclass(frozen=True)
class Recalibrated:
    """What stands beside the weights, and the noisy mean loss of the tuning split."""

    calibration: Calibration
    tuning_loss: float


def recalibrate(
    told: Told, labels: Labels, subject: NDArray[np.int64], num_subjects: int, base: NDArray[np.float32],
    patients: float, noise: float, lot: Lot,
) -> Recalibrated:  # fmt: skip
    """Fit everything from noisy sums. `base` [O, B]: the private base rates; `patients`: trained on, as noise told."""
    centre = base.mean(axis=1).astype(np.float64)
    outcomes = len(centre)
    part = outcome_parts(told, labels, subject, num_subjects, centre)
    total = part.sum(axis=0) + noise * lot.normal(part.shape[1])
    tuned = max(total[0], 1.0) / _PATIENT
    loss = float(np.clip(total[1] / _LOSS / tuned, 0.0, 1.0) * _MOST_LOSS)
    seen, expected = total[2 : 2 + outcomes], total[2 + outcomes : 2 + 2 * outcomes]
    by_height = total[2 + 2 * outcomes :].reshape(2, -1)
    slope = _slope(by_height, noise)
    intercept, doubt = _intercepts(seen, expected, noise)

    second = _noisy_second_moment(with_constant(told.state), subject, num_subjects, noise, lot)
    mean, whitening = _middle(second)
    histogram = distance_parts(told.state, subject, num_subjects, mean, whitening).sum(axis=0)
    histogram = np.maximum(histogram + noise * lot.normal(_DISTANCE_BINS), 0.0)
    calibration = Calibration(
        centre=centre.astype(np.float32),
        intercept=intercept.astype(np.float32),
        slope=np.full(outcomes, slope, dtype=np.float32),
        spread=_spreads(second, np.maximum(seen, noise) / _COUNT / tuned * patients, doubt),
        scale=np.ones(1, dtype=np.float32),
        state_mean=mean.astype(np.float32),
        state_whitening=whitening.astype(np.float32),
        distances=_from_histogram(histogram, np.sqrt(told.state.shape[1])),
    )
    return Recalibrated(calibration, loss)


def outcome_parts(
    told: Told, labels: Labels, subject: NDArray[np.int64], num_subjects: int, centre: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return each patient's part of the first sum [S, 2 + 2 O + 2 H], its norm at most 1; a mean over his questions."""
    until = np.minimum(labels.days_to, labels.observed[:, None])[..., None]
    low, high = np.array(EDGES[:-1]), np.array(EDGES[1:])
    days = labels.days_to[..., None]
    new = ~told.had[..., None]
    exposure = np.clip(until - low, 0.0, np.array(WIDTHS)) * new
    came = (days > low) & (days <= high) & (days <= labels.observed[:, None, None]) & new
    log_hazard = np.clip(told.log_hazard.astype(np.float64), -40.0, 5.0)
    expected = np.exp(log_hazard) * exposure
    bins = np.clip(np.searchsorted(_HEIGHTS, log_hazard - centre[:, None]) - 1, 0, len(_HEIGHTS) - 2)
    question = np.arange(len(subject))[:, None, None]
    cell = np.broadcast_to(question * (len(_HEIGHTS) - 1) + bins, bins.shape).ravel()
    number = len(subject) * (len(_HEIGHTS) - 1)
    heights = [np.bincount(cell, each.ravel(), number).reshape(len(subject), -1) for each in (came, expected)]
    loss = np.clip((expected - np.where(came, log_hazard, 0.0)).sum(axis=(1, 2)) / _MOST_LOSS, 0.0, 1.0)
    rows = np.concatenate([came.sum(axis=2), expected.sum(axis=2), *heights], axis=1) * _COUNT
    rows = np.concatenate([np.full((len(subject), 1), _PATIENT), loss[:, None] * _LOSS, rows], axis=1)
    return _cut(_mean_by(rows, subject, num_subjects))


def distance_parts(
    state: NDArray[np.float32], subject: NDArray[np.int64], num_subjects: int, mean: NDArray[np.float64],
    whitening: NDArray[np.float64],
) -> NDArray[np.float64]:  # fmt: skip
    """Return each patient's histogram of distances from the middle [S, bins], its norm at most 1."""
    distance = np.linalg.norm((state - mean) @ whitening, axis=1) / np.sqrt(state.shape[1])
    place = np.clip((distance / _FAR * _DISTANCE_BINS).astype(np.int64), 0, _DISTANCE_BINS - 1)
    return _cut(_mean_by(np.eye(_DISTANCE_BINS)[place], subject, num_subjects))


def _mean_by(rows: NDArray[np.float64], subject: NDArray[np.int64], num_subjects: int) -> NDArray[np.float64]:
    first, last = (np.searchsorted(subject, np.arange(num_subjects), side) for side in ("left", "right"))
    asked = np.flatnonzero(last > first)
    mean = np.zeros((num_subjects, rows.shape[1]))
    mean[asked] = np.add.reduceat(rows, first[asked], axis=0) / (last - first)[asked, None]
    return mean


def _cut(part: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cut each row to a norm of 1; one that is no number counts nothing."""
    norm = np.linalg.norm(part, axis=1, keepdims=True)
    finite = np.where(np.isfinite(norm), np.nan_to_num(part), 0.0)
    cut: NDArray[np.float64] = finite / np.maximum(np.nan_to_num(norm, posinf=1.0), 1.0)
    return cut


def _slope(by_height: NDArray[np.float64], noise: float) -> float:
    """Return the slope on the log hazard under which what came in each bin is most likely, drawn to 1."""
    seen, expected = by_height / _COUNT
    middle = (_HEIGHTS[1:] + _HEIGHTS[:-1]) / 2
    # A bin whose expectation the noise reaches says nothing of its rate.
    told = expected * _COUNT > 3 * noise
    seen, expected, middle = np.maximum(seen[told], 0.0), expected[told], middle[told]

    def loss(x: NDArray[np.float64]) -> float:
        log_ratio = x[0] + (x[1] - 1) * middle
        fit = (expected * np.exp(log_ratio) - seen * log_ratio).sum()
        return float(fit + 0.5 * (x[0] / _COMMON_SPREAD) ** 2 + 0.5 * ((x[1] - 1) / _SLOPE_SPREAD) ** 2)

    return float(np.clip(minimize(loss, np.array([0.0, 1.0]), method="Nelder-Mead").x[1], 0.3, 2.0))


def _intercepts(
    seen: NDArray[np.float64], expected: NDArray[np.float64], noise: float
) -> tuple[NDArray[np.float64], float]:
    """Return each outcome's intercept, drawn to the common one as far as noise and chance leave it unknown, and how far
    the outcomes' rates scatter beyond those (a standard deviation).
    """
    common = float(np.log(max(seen.sum(), noise) / max(expected.sum(), noise)))
    level = np.maximum((seen + expected * np.exp(common)) / 2, noise)
    own = np.log(np.maximum(seen, noise / 2) / np.maximum(expected, noise / 2)) - common
    variance = (2 * noise**2 + level * _COUNT) / level**2
    trust = _OWN_SPREAD**2 / (_OWN_SPREAD**2 + variance)
    beyond = float(np.average(own**2 - variance, weights=1 / variance**2))
    return common + trust * own, max(_LEAST_DOUBT, np.sqrt(max(beyond, 0.0)))


def _noisy_second_moment(
    y: NDArray[np.float32], subject: NDArray[np.int64], num_subjects: int, noise: float, lot: Lot
) -> NDArray[np.float64]:
    """Return the mean of y y' [Y, Y] over patients, the last element 1, no eigenvalue below what the noise leaves."""
    width = y.shape[1]
    scaled = y.astype(np.float64) / np.sqrt(width)
    outer = np.einsum("qy,qx->qyx", scaled, scaled).reshape(len(y), -1)
    total = _cut(_mean_by(outer, subject, num_subjects)).sum(axis=0)
    total = total + noise * lot.normal(width * width)
    square = total.reshape(width, width)
    values, vectors = np.linalg.eigh((square + square.T) / 2)
    values = np.maximum(values, noise * np.sqrt(width))
    square = (vectors * values) @ vectors.T
    mean: NDArray[np.float64] = square / square[-1, -1]
    return mean


def _middle(second: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean = second[-1, :-1]
    values, vectors = np.linalg.eigh(second[:-1, :-1] - np.outer(mean, mean))
    values = np.maximum(values, max(1e-3, 1e-2 * float(values.max())))
    return mean, vectors / np.sqrt(values)


def _spreads(second: NDArray[np.float64], events: NDArray[np.float64], doubt: float) -> NDArray[np.float32]:
    """Return the root of each outcome's covariance [O, Y, Y]: the inverse of its information, events x second moment.

    What scatters beyond chance, noise in the weights among it, is added to the constant.
    """
    values, vectors = np.linalg.eigh(second)
    spread = np.zeros((len(events), *second.shape), dtype=np.float32)
    for o, number in enumerate(events):
        covariance = (vectors / (np.maximum(values, 1e-9) * max(float(number), 1.0) + 1.0)) @ vectors.T
        covariance[-1, -1] += doubt**2
        spread[o] = np.linalg.cholesky(covariance + 1e-9 * np.eye(len(second)))
    return spread


def _from_histogram(histogram: NDArray[np.float64], unit: float) -> NDArray[np.float32]:
    """Return evenly spaced quantiles of a histogram of distances, for novelty's share of people nearer."""
    filled = np.concatenate([[0.0], np.cumsum(histogram)])
    edges = np.linspace(0.0, _FAR, _DISTANCE_BINS + 1) * unit
    if filled[-1] <= 0:
        return np.linspace(0.0, _FAR * unit, _KEPT, dtype=np.float32)
    return np.interp(np.linspace(0, filled[-1], _KEPT), filled, edges).astype(np.float32)
