"""Opponents on real data: boosted trees tuned with care, Cox regression, and a small decoder after Delphi-2M.

Each is fitted to the same rows and returns scores of others; a higher score means more likely, or sooner.
"""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegressionCV
from threadpoolctl import threadpool_limits

from bench._real_data import Question
from lifechart.data.summaries import Summary
from lifechart.model.labelled.target import Baseline, Target
from lifechart.model.labelled.trees import screened

Floats = NDArray[np.float64]
Matrix = NDArray[np.float32]

GRID = (
    {"max_leaf_nodes": 4, "min_samples_leaf": 20, "l2_regularization": 1.0, "max_features": 0.3},
    {"max_leaf_nodes": 8, "min_samples_leaf": 40, "l2_regularization": 10.0, "max_features": 0.3},
    {"max_leaf_nodes": 16, "min_samples_leaf": 20, "l2_regularization": 1.0, "max_features": 0.2},
    {"max_leaf_nodes": 31, "min_samples_leaf": 40, "l2_regularization": 30.0, "max_features": 0.2},
)
"""What the trees' shape is chosen from, by the loss on a fifth of the training subjects."""
_COMMON = {"learning_rate": 0.04, "max_iter": 600, "n_iter_no_change": 30, "max_bins": 255}
_SEEDS = 5
_MANY_ROWS = 30_000
_COX_COLUMNS = 60
_PENALTIES = (0.003, 0.03, 0.3)


@dataclass(frozen=True, eq=False)
class Material:
    """Everything a peer may use of one fold: events of everybody, and labels, features, groups of both sides."""

    events: pl.DataFrame
    question: Question
    train: pl.DataFrame
    test: pl.DataFrame
    groups: NDArray[np.int64]
    """Of the training rows."""
    features: Matrix
    test_features: Matrix
    summary: Summary

    def inner(self) -> NDArray[np.bool_]:
        """Return a fifth of the training groups, to tune on."""
        lot = np.random.default_rng(5).permutation(unique := np.unique(self.groups))
        return np.isin(self.groups, lot[: max(1, len(unique) // 5)])


def tuned_trees(material: Material) -> Floats:
    """Boosted trees on the same summary features: shape by a grid, length by early stopping, five seeds averaged.

    For survival they learn whether the event came within the horizon, on those of whom that is known.
    """
    truth, known = within(material.train, material.question.horizon)
    return _tuned(material, known, Target(truth))


def hazard_trees(material: Material) -> Floats:
    """The same trees for survival with everybody's whole follow-up: counts, the usual cumulative hazard as exposure."""
    days, came = material.train["days"].to_numpy(), material.train["boolean_value"].to_numpy()
    return _tuned(material, np.ones(len(came), dtype=bool), Target(came, Baseline.of(days, came).exposure(days)))


def _tuned(material: Material, known: NDArray[np.bool_], target: Target) -> Floats:
    tuning = material.inner()
    fit, check = known & ~tuning, known & tuning
    seeds = 2 if len(known) > _MANY_ROWS else _SEEDS
    # Of a wide table they get the columns that go with the label most among what they are fitted to, as ours do.
    columns = screened(material.features[known], target.take(known))
    features, test_features = material.features[:, columns], material.test_features[:, columns]

    def tried(shape: dict[str, float]) -> tuple[float, int]:
        settings = _COMMON | shape | {"early_stopping": True, "random_state": 0}
        model = _fitted(settings, features[fit], target.take(fit), (features[check], target.take(check)))
        return float(-np.max(model.validation_score_)), int(np.argmax(model.validation_score_))

    def grown(seed: int, shape: dict[str, float], trees: int) -> Floats:
        # As many more trees as there are more rows than those that the number was found on.
        settings = _COMMON | shape | {"max_iter": max(10, int(trees * 1.1)), "early_stopping": False}
        settings.pop("n_iter_no_change")
        model = _fitted(settings | {"random_state": seed}, features[known], target.take(known), None)
        scores: Floats = model._raw_predict(test_features)[:, 0]
        return scores

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(tried, GRID))
        best = min(range(len(GRID)), key=lambda number: found[number][0])
        made = list(pool.map(lambda seed: grown(seed, GRID[best], found[best][1]), range(seeds)))
    averaged: Floats = np.mean(made, axis=0)
    return averaged


def _fitted(settings: dict[str, Any], features: Matrix, target: Target, check: tuple[Matrix, Target] | None) -> Any:
    if target.exposure is None:
        told = {} if check is None else {"X_val": check[0], "y_val": check[1].event}
        with threadpool_limits(1, user_api="openmp"):
            return HistGradientBoostingClassifier(**settings).fit(_held(features), target.event, **told)
    told = {"sample_weight": target.exposure}
    if check is not None:
        there = check[1]
        assert there.exposure is not None
        told |= {"X_val": check[0], "y_val": there.event / there.exposure, "sample_weight_val": there.exposure}
    model = HistGradientBoostingRegressor(loss="poisson", **settings)
    with threadpool_limits(1, user_api="openmp"):
        return model.fit(_held(features), target.event / target.exposure, **told)


def _held(features: Matrix) -> Matrix:
    # scikit-learn cannot bin a column without any value.
    nothing = np.isnan(features).all(axis=0)
    return np.where(nothing, np.float32(0), features) if nothing.any() else features


def cox(material: Material) -> Floats:
    """Cox regression (lifelines), ridge chosen on the tuning part; medians for missing values, with a mark.

    Skewed columns are taken as logarithms. With many features it gets those that go with the event most.
    """
    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError

    columns = _plainest(material)
    train, test = standardised(material.features[:, columns], material.test_features[:, columns])
    days, came = material.train["days"].to_numpy(), material.train["boolean_value"].to_numpy()
    frame = pd.DataFrame(train).assign(days=np.maximum(days, 0.5), came=came)
    tuning = material.inner()
    best, strength = -np.inf, _PENALTIES[-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for penalty in _PENALTIES:
            try:
                fitted = CoxPHFitter(penalizer=penalty).fit(frame[~tuning], "days", "came")
            except ConvergenceError:
                continue
            score = fitted.score(frame[tuning], scoring_method="log_likelihood")
            if score > best:
                best, strength = score, penalty
        fitted = CoxPHFitter(penalizer=strength).fit(frame, "days", "came")
        scores: Floats = fitted.predict_log_partial_hazard(pd.DataFrame(test)).to_numpy()
    return scores


def _plainest(material: Material) -> NDArray[np.int64]:
    truth, known = within(material.train, material.question.horizon)
    names = material.summary.kept
    plain = [
        number
        for number, name in enumerate(names)
        if name == "age" or name.endswith((":latest", ":count", ":mean")) or ":" not in name
    ]
    residual = truth[known] - truth[known].mean()
    strength = []
    for column in plain:
        values = np.nan_to_num(material.features[known, column], nan=float(np.nanmedian(material.features[:, column])))
        strength.append(abs(float(residual @ (values - values.mean()))) / (values.std() + 1e-9))
    return np.array(plain)[np.argsort(-np.array(strength), kind="stable")[:_COX_COLUMNS]]


def logistic(material: Material) -> Floats:
    """Logistic regression on columns prepared as for Cox, ridge chosen by the loss in five folds of training rows."""
    columns = _plainest(material)
    train, test = standardised(material.features[:, columns], material.test_features[:, columns])
    truth, _ = within(material.train, material.question.horizon)
    fitted = LogisticRegressionCV(
        Cs=np.logspace(-3.5, 0.5, 9), cv=5, scoring="neg_log_loss", max_iter=2000, l1_ratios=(0.0,),
        use_legacy_attributes=False,
    ).fit(train, truth)  # fmt: skip
    scores: Floats = fitted.decision_function(test)
    return scores


def standardised(train: Matrix, test: Matrix) -> tuple[Floats, Floats]:
    """Return both sides' columns, missing values at the middle and marked, skewed ones as logarithms, without twins."""
    made: list[list[Floats]] = [[], []]
    for column in range(train.shape[1]):
        sides = [train[:, column].astype(float), test[:, column].astype(float)]
        held = sides[0][~np.isnan(sides[0])]
        middle, skewed = np.median(held), held.min() >= 0 and held.mean() > 1.3 * np.median(held)
        missing = [np.isnan(side) for side in sides]
        sides = [np.where(gap, middle, side) for gap, side in zip(missing, sides, strict=True)]
        if skewed:
            sides = [np.log(np.maximum(side, 0) + 0.05 * held.mean()) for side in sides]
        mean, spread = sides[0].mean(), sides[0].std() + 1e-9
        for side in (0, 1):
            made[side].append(np.clip((sides[side] - mean) / spread, -5, 5))
            if 0.005 < missing[0].mean() < 0.995:
                made[side].append(missing[side].astype(float))
    train_made, test_made = (np.column_stack(side) for side in made)
    _, kept = np.unique(train_made.round(6), axis=1, return_index=True)
    kept = np.sort([column for column in kept if train_made[:, column].std() > 1e-6])
    return train_made[:, kept], test_made[:, kept]


def within(labels: pl.DataFrame, horizon: float | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return (it came, within the horizon if there is one; that is known), both [P]."""
    came = labels["boolean_value"].to_numpy()
    if horizon is None:
        return came, np.ones(len(came), dtype=bool)
    days = labels["days"].to_numpy()
    return came & (days <= horizon), came | (days >= horizon)
