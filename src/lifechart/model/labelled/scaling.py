"""Features on one scale: each by its rank among the training rows, as a normal score; what is missing marked apart.

Where there are few features each stands there a second time as a plain number (skewed ones as logarithms): a rank loses
how far an extreme value lies from the rest.

Legend of shapes: P rows, F features, K knots.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

Matrix = NDArray[np.float32]

_KNOTS = 65
_MOST_ROWS = 20_000
_REACH = 2.5
_RARE = 0.004
_FEW = 300
_FAR = 4.0


@dataclass(frozen=True, eq=False)
class Scaling:
    """knots, scores [F, K]: where each feature's values lie; marked: features whose absence is a column of its own."""

    knots: Matrix
    scores: Matrix
    marked: NDArray[np.int64]
    plain: NDArray[np.float64]
    """[F, 3] of few features: shift before the logarithm (NaN: none), mean, standard deviation; [0, 3] of many."""

    @classmethod
    def of(cls, features: Matrix, seed: int) -> Scaling:
        """Learn it from training rows [P, F], of a large set from a part."""
        if len(features) > _MOST_ROWS:
            features = features[np.random.default_rng(seed).choice(len(features), _MOST_ROWS, replace=False)]
        pairs = [_ranked(features[:, column]) for column in range(features.shape[1])]
        missing = np.isnan(features)
        seen: dict[bytes, int] = {}
        for column in np.flatnonzero((missing.mean(axis=0) > _RARE) & (missing.mean(axis=0) < 1 - _RARE)):
            seen.setdefault(np.packbits(missing[:, column]).tobytes(), int(column))
        knots, scores = (np.stack([pair[side] for pair in pairs]).astype(np.float32) for side in (0, 1))
        plain = [_plainly(features[:, column]) for column in range(features.shape[1]) if features.shape[1] <= _FEW]
        marked = np.array(sorted(seen.values()), dtype=np.int64)
        return cls(knots, scores, marked, np.array(plain, dtype=np.float64).reshape(-1, 3))

    def scaled(self, features: Matrix) -> Matrix:
        """Return [P, F] features as [P, F + plain + marks]: about normal, 0 where missing; marks for that."""
        width = features.shape[1]
        wide = np.empty((len(features), width + len(self.plain) + len(self.marked)), dtype=np.float32)
        for column in range(features.shape[1]):
            placed = np.interp(features[:, column], self.knots[column], self.scores[column])
            wide[:, column] = np.nan_to_num(placed)
        for column, (shift, mean, spread) in enumerate(self.plain):
            values = features[:, column].astype(np.float64)
            if not np.isnan(shift):
                values = np.log(np.maximum(values, 0.0) + shift)
            wide[:, width + column] = np.nan_to_num(np.clip((values - mean) / spread, -_FAR, _FAR))
        wide[:, width + len(self.plain) :] = np.isnan(features[:, self.marked])
        return wide


def _plainly(values: Matrix) -> tuple[float, float, float]:
    """Return the shift before a logarithm (NaN where none is due), the mean and the standard deviation after it."""
    held = values[~np.isnan(values)].astype(np.float64)
    if not len(held):
        return np.nan, 0.0, 1.0
    shift = np.nan
    if held.min() >= 0 and held.mean() > 1.3 * np.median(held) and np.median(held) > 0:
        shift = 0.05 * float(held.mean())
        held = np.log(held + shift)
    return shift, float(held.mean()), max(float(held.std()), 1e-6)


def _ranked(values: Matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return knots and the standardised normal score at each, both [K]; ties share the middle of their ranks."""
    held = np.sort(values[~np.isnan(values)].astype(np.float64))
    if not len(held):
        return np.zeros(_KNOTS), np.zeros(_KNOTS)
    knots = np.unique(np.quantile(held, np.linspace(0, 1, _KNOTS), method="nearest"))
    low, high = np.searchsorted(held, knots, "left"), np.searchsorted(held, knots, "right")
    scores = np.clip(norm.ppf((low + high) / (2 * len(held))), -_REACH, _REACH)
    at = np.interp(held, knots, scores)
    scores = (scores - at.mean()) / max(float(at.std()), 0.1)
    padding = _KNOTS - len(knots)
    # np.interp wants rising knots: the spare ones stand beyond the last, at its score.
    beyond = knots[-1] + np.maximum(abs(knots[-1]), 1.0) * np.arange(1, padding + 1)
    return np.concatenate([knots, beyond]), np.concatenate([scores, np.full(padding, scores[-1])])
