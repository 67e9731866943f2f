"""A penalised linear score: few positives go furthest here. Ridge, its strength chosen by people not seen.

Legend of shapes: P rows, F scaled features, K folds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from lifechart.model.labelled.folds import Each
from lifechart.model.labelled.target import Scores, Target

Matrix = NDArray[np.float32]

STRENGTHS = (3000.0, 600.0, 120.0, 25.0, 5.0)
"""Of the penalty, strongest first: each fit starts where the last one ended."""
SIZES = (20, 60, 200)
"""Columns that a short score reads: as many of these as are fewer than all."""
_STEPS = 60


@dataclass(frozen=True, eq=False)
class Linear:
    """weight [F], start []: the mean of several fits, which is what the mean of their scores is."""

    weight: NDArray[np.float64]
    start: NDArray[np.float64]

    def scores(self, scaled: Matrix) -> Scores:
        """Return the score of each row.  [P, F] -> [P]."""
        found: Scores = (scaled @ self.weight.astype(np.float32)).astype(np.float64) + float(self.start)
        return found

    @classmethod
    def joined(cls, parts: list[Linear]) -> Linear:
        """Return one object that scores as the mean of all parts."""
        weight = np.mean([each.weight for each in parts], axis=0)
        return cls(weight, np.float64(np.mean([each.start for each in parts])))  # type: ignore[arg-type]


def fit_path(
    scaled: Matrix, target: Target, strengths: tuple[float, ...] = STRENGTHS
) -> list[tuple[NDArray[np.float64], float]]:
    """Return (weight, start) for each strength of the penalty, strongest first."""
    found = []
    state = np.zeros(scaled.shape[1] + 1)
    state[-1] = target.start
    for strength in strengths:

        def loss(state: NDArray[np.float64], strength: float = strength) -> tuple[float, NDArray[np.float64]]:
            weight = state[:-1]
            scores = (scaled @ weight.astype(np.float32)).astype(np.float64) + state[-1]
            gradient = target.gradient(scores)
            by_weight = (gradient.astype(np.float32) @ scaled).astype(np.float64) + strength * weight
            total = target.loss(scores) * len(target) + 0.5 * strength * float(weight @ weight)
            return total / len(target), np.append(by_weight, gradient.sum()) / len(target)

        state = minimize(loss, state, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}).x
        found.append((state[:-1].copy(), float(state[-1])))
    return found


def crossfit(
    scaled: Matrix,
    target: Target,
    folds: NDArray[np.int64],
    each: Each,
    strengths: list[NDArray[np.float64]] | None = None,
    everybody: bool = False,
) -> tuple[Scores, Linear]:
    """Return what each row's fold, which never saw it, scores it, and the mean of all folds' fits, or one to everybody.

    With `strengths` (of the first columns, as each fold's training rows and at last all rows tell them) only the
    strongest few are read; how many is chosen as the penalty is.
    """

    def one(fold: int) -> list[tuple[NDArray[np.float64], float]]:
        inside = folds != fold
        if strengths is None:
            return fit_path(scaled[inside], target.take(inside))
        strongest = np.argsort(-strengths[fold], kind="stable")
        found = []
        for size in (each for each in SIZES if each < len(strongest)):
            columns = strongest[:size]
            for part, start in fit_path(scaled[np.ix_(inside, columns)], target.take(inside)):
                weight = np.zeros(scaled.shape[1])
                weight[columns] = part
                found.append((weight, start))
        return found

    # Nobody is in the last fold: what is fitted without it is fitted to everybody.
    number = int(folds.max()) + 1
    made = each(one, number + everybody)
    scores = np.empty((len(made[0]), len(target)))
    for fold, path in enumerate(made[:number]):
        unseen = scaled[folds == fold]
        for place, (weight, start) in enumerate(path):
            scores[place, folds == fold] = unseen @ weight.astype(np.float32) + start
    best = int(np.argmin([target.loss(each) for each in scores]))
    chosen = made[number:] or made
    fits = [Linear(weight, np.float64(start)) for weight, start in (path[best] for path in chosen)]  # type: ignore[arg-type]
    return scores[best], Linear.joined(fits)
