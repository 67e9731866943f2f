"""What risks gain by knowing more: areas under the curve, log likelihood, intervals by bootstrap over people."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BOOTSTRAP = 500
_LEAST = 1e-7
"""A risk is told at least so far from 0 and from 1."""

Floats = NDArray[np.float64]


def drawn(subject: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return how often each prompt's person is drawn [1 + BOOTSTRAP, prompts]: first everybody once."""
    people, owner = np.unique(subject, return_inverse=True)
    counts = np.random.default_rng(1).multinomial(len(people), np.full(len(people), 1 / len(people)), BOOTSTRAP)
    return np.concatenate([np.ones((1, len(people))), counts])[:, owner].astype(np.float32)


def aurocs(came_N: NDArray[np.bool_], score_N: NDArray[np.floating], weight_DN: NDArray[np.float32]) -> Floats:
    """Return the AUROC under each row of weights [D]; ties count half."""
    if not len(came_N):
        return np.full(len(weight_DN), np.nan)
    order = np.argsort(score_N, kind="stable")
    sorted_ = score_N[order]
    starts = np.flatnonzero(np.concatenate([[True], sorted_[1:] != sorted_[:-1]]))
    weight = weight_DN[:, order].astype(np.float64)
    yes = np.add.reduceat(weight * came_N[order], starts, axis=1)
    no = np.add.reduceat(weight * ~came_N[order], starts, axis=1)
    below = np.cumsum(no, axis=1) - no / 2
    pairs = yes.sum(axis=1) * no.sum(axis=1)
    areas: Floats = np.full(len(pairs), np.nan)
    np.divide((yes * below).sum(axis=1), pairs, out=areas, where=pairs > 0)
    return areas


def nats(came_N: NDArray[np.bool_], risk_N: NDArray[np.floating]) -> Floats:
    """Return the log likelihood of what came [N] under risks."""
    risk = np.clip(risk_N.astype(np.float64), _LEAST, 1 - _LEAST)
    return np.where(came_N, np.log(risk), np.log1p(-risk))


def knowing(risk_N: NDArray[np.floating], weighed_N: Floats) -> Floats:
    """Return the risks [N] of somebody who knows what multiplies each rate by exp(weighed), on the whole the same."""
    hazard = -np.log1p(-np.clip(risk_N.astype(np.float64), 0, 1 - _LEAST))
    factor = np.exp(weighed_N)
    known: Floats = -np.expm1(-hazard * factor * (hazard.sum() / max(float((hazard * factor).sum()), 1e-12)))
    return known


def interval(draws: Floats) -> tuple[float, float]:
    """Return the 95% interval of a figure whose first draw is itself; not a number without any draw."""
    told = draws[1:][np.isfinite(draws[1:])]
    low, high = np.percentile(told, (2.5, 97.5)) if len(told) else (np.nan, np.nan)
    return float(low), float(high)
