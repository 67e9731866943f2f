"""Whether features tell of onsets beyond what the history expects, and how much: regressions on windows of lives.

Exposures are what the history expects, so each is a Poisson regression (Holford, Biometrics 1980). What a feature tells
is first seen to second order about no effect, as a score test's (Wu et al., AJHG 2011), then by the whole likelihood,
and on people it was not fitted to. Shapes: W windows, F features, G outcomes or families of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Matrix = NDArray[np.float64]

WIDTHS = np.geomspace(1e-3, 3.0, 24)
"""Variances that a prior may have: of the effect on the log hazard of a component's standard deviation."""
STEEPEST = 4.0
"""What is added to a log hazard at most, while it is fitted."""
_ITERATIONS = 8


def evidence(
    features_WF: Matrix, came_W: Matrix, expected_W: Matrix, widths: Matrix = WIDTHS
) -> tuple[float, float, Matrix, Matrix]:
    """Return the log marginal likelihood of features over that without, which of `widths` has the most, effects [F].

    To second order about no effect. The last of the four is the features' mean [F], which is taken out, as is what the
    history gets wrong on the whole: no level is told by them.
    """
    expected_W = levelled(came_W, expected_W)
    middle = expected_W @ features_WF / max(float(expected_W.sum()), 1e-12)
    centred = features_WF - middle
    gradient = centred.T @ (came_W - expected_W)
    size, turn = np.linalg.eigh((centred * expected_W[:, None]).T @ centred)
    size, turned = np.maximum(size, 0.0), turn.T @ gradient
    each = widths[:, None]
    gains = 0.5 * (each * turned**2 / (1 + each * size) - np.log1p(each * size)).sum(axis=1)
    best = int(gains.argmax())
    width = float(widths[best])
    return float(gains[best]), width, turn @ (width * turned / (1 + width * size)), middle


def scores(features_WF: Matrix, came_WG: Matrix, expected_WG: Matrix) -> Matrix:
    """Return each single feature's score for each outcome [F, G], in standard errors; 0 where nothing varies."""
    expected = levelled(came_WG, expected_WG)
    total = np.maximum(expected.sum(axis=0), 1e-12)
    gradient = features_WF.T @ (came_WG - expected)
    spread = np.square(features_WF).T @ expected - np.square(features_WF.T @ expected) / total
    found: Matrix = np.divide(gradient, np.sqrt(np.maximum(spread, 0.0)), out=np.zeros_like(gradient), where=spread > 0)
    return found


def score_by_person(feature_W: Matrix, came_W: Matrix, expected_W: Matrix, subject_W: NDArray[np.int64]) -> float:
    """Return a feature's score in standard errors taken between people: one person's onsets are not independent."""
    expected = levelled(came_W, expected_W)
    centred = feature_W - float(expected @ feature_W) / max(float(expected.sum()), 1e-12)
    _, owner = np.unique(subject_W, return_inverse=True)
    each = np.bincount(owner, weights=centred * (came_W - expected))
    return float(each.sum() / np.sqrt(max(float(np.square(each).sum()), 1e-12)))


def levelled(came: Matrix, expected: Matrix) -> Matrix:
    """Return what was expected, made to agree with what came on the whole ([W], or [W, G] by column)."""
    found: Matrix = expected * (came.sum(axis=0) / np.maximum(expected.sum(axis=0), 1e-12))
    return found


def by_person(values_WG: Matrix, subject_W: NDArray[np.int64]) -> Matrix:
    """Return sums over each person's windows [people, G]."""
    people, owner = np.unique(subject_W, return_inverse=True)
    windows = np.arange(len(subject_W))
    summed = sparse.csr_array((np.ones(len(owner)), (owner, windows)), shape=(len(people), len(owner))) @ values_WG
    return np.asarray(summed)


def serves_others(features_WF: Matrix, came_W: Matrix, expected_W: Matrix, subject_W: NDArray[np.int64]) -> bool:
    """Whether what half of the people teach raises the likelihood of the other half, by more than a standard error."""
    people, owner = np.unique(subject_W, return_inverse=True)
    gained = np.zeros(len(people))
    for half in (0, 1):
        here, there = owner % 2 == half, owner % 2 != half
        if not came_W[here].any() or not came_W[there].any():
            return False
        rate = levelled(came_W[here], expected_W[here])
        _, width, _, middle = evidence(features_WF[here], came_W[here], rate)
        # To second order a strong effect is told too large by far, and would serve nobody.
        effect = regress(features_WF[here] - middle, came_W[here], rate, np.full(features_WF.shape[1], 1.0 / width))
        said = np.clip((features_WF[there] - middle) @ effect, -STEEPEST, STEEPEST)
        rate = levelled(came_W[there], expected_W[there])
        gain = came_W[there] * said - rate * np.expm1(said)
        gained += np.bincount(owner[there], weights=gain, minlength=len(people))
    return float(gained.sum()) > float(np.sqrt(np.square(gained).sum()))


def regress(features_WF: Matrix, came_W: Matrix, expected_W: Matrix, cost_F: Matrix) -> Matrix:
    """Return the weights [F] with the most posterior probability, by Newton's method."""
    rows = np.flatnonzero(expected_W > 0)
    features, came, expected = features_WF[rows], came_W[rows], expected_W[rows]
    weights = np.zeros(features.shape[1])
    for _ in range(_ITERATIONS):
        rate = expected * np.exp(np.clip(features @ weights, -STEEPEST, STEEPEST))
        gradient = features.T @ (came - rate) - cost_F * weights
        step = np.linalg.solve((features * rate[:, None]).T @ features + np.diag(cost_F), gradient)
        weights = weights + step * min(1.0, 2.0 / max(float(np.abs(step).max(initial=0.0)), 1e-9))
        if np.abs(step).max(initial=0.0) < 1e-4:
            break
    return weights
