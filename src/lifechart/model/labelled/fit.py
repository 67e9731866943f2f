"""From features and labels to a blend of members, each fitted in folds of whole subjects.

What forecasts is the mean of the folds' fits; but where rows are few for how wide they are, trees and linear scores are
fitted anew to everybody, once folds have said how (docs/decisions/0090).

Legend of shapes: P rows, F features, M members.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lifechart.model.labelled import dense, linear, trees
from lifechart.model.labelled.blend import Blend, fit_blend
from lifechart.model.labelled.folds import folds_of, side_by_side
from lifechart.model.labelled.scaling import Scaling
from lifechart.model.labelled.target import Baseline, Scores, Target

Matrix = NDArray[np.float32]
Member = trees.Trees | linear.Linear | dense.Dense

_DIVISIONS, _FEW_CELLS = 3, 1_000_000
"""Of so few numbers (rows times features) every member is fitted in that many divisions into folds, of more in one."""
_WIDE = 100
"""Columns above which a short linear score of the strongest stands beside the long one."""
_SCARCE = 10
"""Rows a column below which a fifth of the rows counts for more than what the mean of five fits evens out."""
_FEWEST_NEAR = 20
"""Events up to the horizon below which nothing is learnt from those alone."""
_SMOOTHING = 600.0
"""Penalty of the linear score that the baseline hazard of survival is first set right with."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """What forecasts: scaling, members by name, their blend; `baseline` for survival."""

    scaling: Scaling
    members: dict[str, Member]
    blend: Blend
    baseline: Baseline | None

    def scores(self, features: Matrix) -> Scores:
        """Return the blended score of each row.  [P, F] -> [P]."""
        return self.blend.scores(self.by_member(features))

    def by_member(self, features: Matrix) -> Scores:
        """Return each member's score of each row.  [P, F] -> [P, M]."""
        scaled = self.scaling.scaled(features)
        return np.stack(
            [each.scores(features if isinstance(each, trees.Trees) else scaled) for each in self.members.values()],
            axis=1,
        )

    def probabilities(self, scores: Scores, days: float | None) -> Scores:
        """Return the probability of a yes, or for survival of the event within `days`.  [P] -> [P]."""
        found: Scores
        if self.baseline is None:
            found = 1.0 / (1.0 + np.exp(-scores))
        else:
            assert days is not None
            found = -np.expm1(-self.baseline.at(np.array([days]))[0] * np.exp(np.minimum(scores, 12.0)))
        return found


@dataclass(frozen=True, eq=False)
class Unseen:
    """What was said of each training row by those fits that had not seen its subject: scores [P], members' [P, M]."""

    scores: Scores
    members: Scores
    target: Target


def fit(
    features: Matrix,
    subjects: NDArray[np.int64],
    event: NDArray[np.bool_],
    days: Scores | None,
    seed: int,
    advance: Callable[[float, str], None] = lambda share, doing: None,
    horizon: float | None = None,
) -> tuple[Fitted, Unseen]:
    """Fit all members to rows [P] of `subjects`; `days` makes it survival. Raises InputError for too few of a kind.

    The blend is fitted to scores of rows whose subject a member had not seen; so are the figures that `Unseen` gives.
    Of survival with a `horizon` (days), one member learns what happens up to there alone, and the blend serves both:
    who comes early, and the whole order.
    """
    scaling = Scaling.of(features, seed)
    scaled = scaling.scaled(features)
    target = near = Target(event) if days is None else _counted(scaled, event, days)
    if days is not None and horizon is not None and (event & (days <= horizon)).sum() >= _FEWEST_NEAR:
        near = _counted(scaled, event & (days <= horizon), np.minimum(days, horizon))
    names = ["linear", *(["short-linear"] if features.shape[1] > _WIDE else []), "dense", *trees.SHAPES]
    divisions = _DIVISIONS if features.size <= _FEW_CELLS else 1
    everybody = divisions == 1 and len(features) < _SCARCE * features.shape[1]
    parts: list[dict[str, tuple[Scores, Member]]] = []
    for number in range(divisions):

        def doing(place: int, number: int = number) -> None:
            advance((number + place / len(names)) / divisions, names[place])

        folds, others = (folds_of(subjects, event, seed + 2 * number + which) for which in (0, 1))
        drawn = seed + 10 * number
        parts.append(_members(names, features, scaled, (target, near), (folds, others), drawn, everybody, doing))
    stacked = np.stack([np.mean([part[name][0] for part in parts], axis=0) for name in names], axis=1)
    members = {name: _joined([part[name][1] for part in parts]) for name in names}
    blend = fit_blend(stacked, target, near)
    scores = blend.scores(stacked)
    baseline = None if days is None else Baseline.of(days, event, scores)
    advance(1.0, "blend")
    return Fitted(scaling, members, blend, baseline), Unseen(scores, stacked, target)


def _joined(parts: list[Any]) -> Member:
    joined: Member = type(parts[0]).joined(parts)
    return joined


def _members(
    names: list[str],
    features: Matrix,
    scaled: Matrix,
    targets: tuple[Target, Target],
    divided: tuple[NDArray[np.int64], NDArray[np.int64]],
    seed: int,
    everybody: bool,
    doing: Callable[[int], None],
) -> dict[str, tuple[Scores, Member]]:
    """Fit every member in folds; targets and folds are those of most, and those of the trees that differ.

    `everybody`: whether trees and linear scores are then fitted to all rows.
    """
    target, folds = targets[0], divided[0]
    found: dict[str, tuple[Scores, Member]] = {}
    with side_by_side() as each:
        strengths = trees.strengths_in(features, target, folds, each, everybody)
        for place, name in enumerate(names):
            doing(place)
            if name == "dense":
                found[name] = dense.crossfit(scaled, target, folds, seed, each)
            elif name in trees.SHAPES:
                other = name == trees.OTHERWISE
                own = trees.strengths_in(features, targets[1], divided[1], each, everybody) if other else strengths
                way = targets[other], divided[other], trees.SHAPES[name], seed, each, own, everybody
                found[name] = trees.crossfit(features, *way)
            else:
                few = strengths if name == "short-linear" else None
                found[name] = linear.crossfit(scaled, target, folds, each, few, everybody)
    return found


def _counted(scaled: Matrix, event: NDArray[np.bool_], days: Scores) -> Target:
    """Return survival as counts, the baseline set right once for who stays long under observation."""
    first = Target(event, Baseline.of(days, event).exposure(days))
    weight, start = linear.fit_path(scaled, first, (_SMOOTHING,))[0]
    scores = (scaled @ weight.astype(np.float32)).astype(np.float64) + start
    return Target(event, Baseline.of(days, event, scores - scores.mean()).exposure(days))
