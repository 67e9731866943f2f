"""Boosted trees: fitted by scikit-learn, kept and read as plain arrays.

How many trees serve is what folds of people not seen say; then they may be grown anew to everybody.
Legend of shapes: P rows, F features, N nodes of all trees, T trees.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from lifechart.model.labelled.folds import Each
from lifechart.model.labelled.target import Scores, Target

Matrix = NDArray[np.float32]

_BLOCK = 512
"""Rows scored at once."""
MOST_COLUMNS, FEWEST_COLUMNS, _MOST_CELLS = 1200, 300, 25_000_000
"""Columns that each fold's trees choose from, those that go with the target most; fewer where there are many rows."""


@dataclass(frozen=True)
class Shape:
    """How trees are grown."""

    max_leaf_nodes: int
    learning_rate: float = 0.05
    max_iter: int = 800
    l2_regularization: float = 20.0
    max_features: float = 0.25
    max_bins: int = 127
    n_iter_no_change: int = 40


SHAPES = {
    "small-trees": Shape(max_leaf_nodes=5, learning_rate=0.06),
    "middle-trees": Shape(max_leaf_nodes=8, learning_rate=0.04, l2_regularization=10.0, max_features=0.3, max_bins=255),
    "large-trees": Shape(max_leaf_nodes=16),
}
_MORE = 1.1
"""How many times as many trees everybody gets as served in the folds, which have fewer people."""
OTHERWISE = "middle-trees"
"""These are fitted in other folds than the rest, and of survival learn what happens up to the horizon alone."""


@dataclass(frozen=True, eq=False)
class Trees:
    """Trees of one or several models; a row's score is the mean over models of `start` and the leaves it falls into.

    A leaf points to itself.
    """

    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    missing_left: NDArray[np.bool_]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float64]
    root: NDArray[np.int32]
    start: NDArray[np.float64]
    """Each model's."""
    depth: NDArray[np.int64]

    def scores(self, features: Matrix) -> Scores:
        """Return the score of each row.  features: [P, F] -> [P]."""
        scores = np.empty(len(features))
        for low in range(0, len(features), _BLOCK):
            scores[low : low + _BLOCK] = self.leaves(features[low : low + _BLOCK]).sum(axis=1)
        return float(self.start.mean()) + scores / len(self.start)

    def leaves(self, features: Matrix) -> Scores:
        """Return what each tree adds to each row.  [P, F] -> [P, T]."""
        node = np.repeat(self.root[None, :], len(features), axis=0)
        rows = np.arange(len(features))[:, None]
        for _ in range(int(self.depth)):
            values = features[rows, self.feature[node]]
            goes_left = np.where(np.isnan(values), self.missing_left[node], values <= self.threshold[node])
            node = np.where(goes_left, self.left[node], self.right[node])
        added: Scores = self.value[node]
        return added

    def columns(self) -> NDArray[np.int64]:
        """Return the features that are split on, rising."""
        return np.unique(self.feature[self.left != np.arange(len(self.left))]).astype(np.int64)

    def moved(self, place: NDArray[np.int64]) -> Trees:
        """Return the same for a matrix in which feature f is column place[f]."""
        inner = self.left != np.arange(len(self.left))
        return replace(self, feature=np.where(inner, place[self.feature], 0).astype(np.int32))

    def first(self, trees: int) -> Trees:
        """Return the same with only the first trees, of one model."""
        assert len(self.start) == 1
        last = int(self.root[trees]) if trees < len(self.root) else len(self.value)
        parts = {each.name: getattr(self, each.name)[:last] for each in fields(self)[:6]}
        return Trees(**parts, root=self.root[:trees], start=self.start, depth=self.depth)

    @classmethod
    def joined(cls, models: list[Trees]) -> Trees:
        """Return one object that scores as the mean of all models."""
        sizes = np.cumsum([0, *(len(each.value) for each in models)])[:-1]
        joined: dict[str, Any] = {}
        for name in ("feature", "threshold", "missing_left", "value", "start"):
            joined[name] = np.concatenate([getattr(each, name) for each in models])
        for name in ("left", "right", "root"):
            moved = [getattr(each, name) + size for each, size in zip(models, sizes, strict=True)]
            joined[name] = np.concatenate(moved).astype(np.int32)
        return cls(**joined, depth=np.max([each.depth for each in models]))


def fit_trees(
    features: Matrix,
    target: Target,
    shape: Shape,
    seed: int,
    unseen: tuple[Matrix, Target] | None = None,
    columns: NDArray[np.int64] | None = None,
) -> Trees:
    """Grow trees until those `unseen` gain nothing for long, or without any, to the shape's number; by scikit-learn.

    `unseen` only says when to stop growing; how many trees are kept is the caller's to say. `columns`: those to choose
    from, by default those that go with the target most.
    """
    if columns is None:
        columns = screened(features, target)
    settings = asdict(shape) | {"random_state": seed, "early_stopping": unseen is not None}
    settings["min_samples_leaf"] = int(np.clip(len(target) // 100, 5, 60))
    told: dict[str, Any] = {}
    wanted: NDArray[Any] = target.event
    if target.exposure is None:
        model = HistGradientBoostingClassifier(**settings)
        if unseen is not None:
            told = {"y_val": unseen[1].event}
    else:
        model, wanted = HistGradientBoostingRegressor(loss="poisson", **settings), target.event / target.exposure
        told = {"sample_weight": target.exposure}
        if unseen is not None:
            assert unseen[1].exposure is not None
            told |= {"y_val": unseen[1].event / unseen[1].exposure, "sample_weight_val": unseen[1].exposure}
    if unseen is not None:
        told["X_val"] = unseen[0][:, columns]
    model.fit(features[:, columns], wanted, **told)
    return _exported(model, columns)


def screened(features: Matrix, target: Target, most: int = MOST_COLUMNS) -> NDArray[np.int64]:
    """Return the columns to choose from, rising: those whose values, or whose absence, go with the target most.

    A column that nobody has, or of one value, is never among them.
    """
    return strongest(features, strength(features, unexplained(target)[:, None])[:, 0], most)


def unexplained(target: Target) -> Scores:
    """Return what came less what the constant score expects.  [P]."""
    return -target.gradient(np.full(len(target), target.start))


def strength(features: Matrix, residual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how strongly each column's ranks, or its absence, go with each residual.  [P, F], [P, R] -> [F, R].

    A row's residual is 0 where it does not count. One pass over the columns serves all residuals.
    """
    found = np.zeros((features.shape[1], residual.shape[1]))
    for column in range(features.shape[1]):
        values = features[:, column]
        missing = np.isnan(values)
        held = ~missing
        if not held.any():
            continue
        rank = np.zeros(len(values))
        rank[held] = _middle_ranks(values[held])
        spread = rank.std()
        if spread > 0:
            found[column] = np.abs(rank @ residual) / spread
        if missing.any():
            share = missing.mean()
            by_absence = np.abs(residual[missing].sum(axis=0)) / np.sqrt(share * (1 - share))
            found[column] = np.maximum(found[column], by_absence)
    return found


def strongest(features: Matrix, by_column: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Return the columns of the greatest strength, rising; fewer where there are many rows.  [P, F], [F] -> [N].

    A column without any value among these rows is left out, whatever its strength among others: it cannot be binned.
    """
    room = min(most, max(_MOST_CELLS // len(features), FEWEST_COLUMNS))
    best = np.argsort(-by_column, kind="stable")[:room]
    best = best[by_column[best] > 0]
    best = best[~np.isnan(features[:, best]).all(axis=0)]
    return np.sort(best) if len(best) else np.array([int(np.argmax(~np.isnan(features).all(axis=0)))])


def _middle_ranks(values: Matrix) -> NDArray[np.float64]:
    """Return ranks about 0, ties sharing the middle of theirs."""
    _, place, number = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(number)
    middle = last - (number - 1) / 2
    found: NDArray[np.float64] = (middle[place] - (len(values) + 1) / 2) / len(values)
    return found


def strengths_in(
    features: Matrix, target: Target, folds: NDArray[np.int64], each: Each, everybody: bool = False
) -> list[NDArray[np.float64]]:
    """Return how strongly each column goes with the target, [F], in the training rows of every fold.

    And at last in all rows, for `everybody`.
    """

    def one(fold: int) -> NDArray[np.float64]:
        inside = folds != fold
        return strength(features[inside], unexplained(target.take(inside))[:, None])[:, 0]

    return each(one, int(folds.max()) + 1 + everybody)


def crossfit(
    features: Matrix,
    target: Target,
    folds: NDArray[np.int64],
    shape: Shape,
    seed: int,
    each: Each,
    strengths: list[NDArray[np.float64]],
    everybody: bool = False,
) -> tuple[Scores, Trees]:
    """Return what each row's fold, which never saw it, scores it; and the trees of all folds, or of everybody.

    `each` runs a function for every fold, side by side if it can. `strengths`: of each column, by `strengths_in`.
    """
    number = int(folds.max()) + 1

    def one(fold: int) -> tuple[Trees, Scores]:
        inside = folds != fold
        unseen = features[~inside], target.take(~inside)
        columns = strongest(features[inside], strengths[fold], MOST_COLUMNS)
        with threadpool_limits(1, user_api="openmp"):
            trees = fit_trees(features[inside], target.take(inside), shape, seed + fold, unseen, columns)
        return trees, trees.start[0] + np.cumsum(trees.leaves(unseen[0]), axis=1)

    made = each(one, number)
    longest = max(path.shape[1] for _, path in made)
    losses = np.zeros(longest)
    for fold, (_, path) in enumerate(made):
        part = target.take(folds == fold)
        # Trees that were not grown would have changed nothing for the better.
        at = [part.loss(path[:, min(place, path.shape[1] - 1)]) for place in range(longest)]
        losses += np.array(at) * len(part)
    best = int(losses.argmin()) + 1
    scores = np.empty(len(target))
    for fold, (_, path) in enumerate(made):
        scores[folds == fold] = path[:, min(best, path.shape[1]) - 1]
    if not everybody:
        return scores, Trees.joined([trees.first(best) for trees, _ in made])
    columns = strongest(features, strengths[-1], MOST_COLUMNS)
    grown = replace(shape, max_iter=max(1, round(_MORE * best)))
    return scores, fit_trees(features, target, grown, seed + number, None, columns)


def _exported(model: Any, columns: NDArray[np.int64]) -> Trees:
    """Read the fitted trees out of scikit-learn. Its predictors are private; a test holds ours to its answers."""
    nodes = [predictors[0].nodes for predictors in model._predictors]
    sizes = np.cumsum([0, *(len(each) for each in nodes)])[:-1]
    joined = np.concatenate(nodes)
    offset = np.repeat(sizes, [len(each) for each in nodes])
    leaf = joined["is_leaf"].astype(bool)
    own = np.arange(len(joined))
    return Trees(
        feature=np.where(leaf, 0, columns[np.where(leaf, 0, joined["feature_idx"])]).astype(np.int32),
        threshold=np.where(leaf, 0.0, joined["num_threshold"]),
        missing_left=joined["missing_go_to_left"].astype(bool),
        left=np.where(leaf, own, joined["left"] + offset).astype(np.int32),
        right=np.where(leaf, own, joined["right"] + offset).astype(np.int32),
        value=joined["value"].astype(np.float64),
        root=sizes.astype(np.int32),
        start=np.asarray(model._baseline_prediction, dtype=np.float64).reshape(1),
        depth=np.int64(joined["depth"].max()),  # type: ignore[arg-type]
    )
