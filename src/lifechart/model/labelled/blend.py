"""How much each member counts: weights of 0 and up that fit best what each said of people it had not seen.

Drawn to equal weights, so that few positives leave the mean of the members, and many find their own way (stacking:
Wolpert 1992; non-negative: Breiman 1996). Legend of shapes: P rows, M members.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from lifechart.model.labelled.target import Scores, Target

_DRAWN = 30.0
"""As many events as this weigh as much as the pull to equal weights does."""


@dataclass(frozen=True, eq=False)
class Blend:
    """weight [M], start []."""

    weight: NDArray[np.float64]
    start: NDArray[np.float64]

    def scores(self, members: Scores) -> Scores:
        """Return the blended score of each row.  [P, M] -> [P]."""
        found: Scores = members @ self.weight + float(self.start)
        return found


def fit_blend(members: Scores, *targets: Target) -> Blend:
    """Fit to members' scores [P, M] of rows that they had not seen, by the mean of the targets' losses."""
    number = members.shape[1]
    centre = members.mean(axis=0)
    spread = float(members.std(axis=0).mean()) or 1.0
    standard = (members - centre) / spread
    rows = len(members)

    def loss(state: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        off = state[:-1] - 1 / number
        scores = standard @ (state[:-1] * spread) + state[-1]
        gradient = np.mean([target.gradient(scores) for target in targets], axis=0)
        total = np.mean([target.loss(scores) for target in targets]) * rows
        total += 0.5 * _DRAWN * spread**2 * float(off @ off)
        by_weight = (gradient @ standard) * spread + _DRAWN * spread**2 * off
        return total / rows, np.append(by_weight, gradient.sum()) / rows

    start = np.append(np.full(number, 1 / number), targets[0].start)
    bounds = [(0.0, None)] * number + [(None, None)]
    state = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    weight = state[:-1]
    return Blend(weight, np.float64(state[-1] - weight @ centre))  # type: ignore[arg-type]
