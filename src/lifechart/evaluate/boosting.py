"""Boosting one outcome at one horizon: thin the rows, screen the columns, fit, stop early, set the odds right.

Legend of shapes: P prompts, F features.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import beta, rankdata
from sklearn.ensemble import HistGradientBoostingClassifier

from lifechart.core.forecast import Interval
from lifechart.data.features import Matrix

Rows = NDArray[np.int64]

NEGATIVES_PER_POSITIVE, MIN_NEGATIVES = 20, 6_000
"""Rows without the event are thinned to this many, and the forecast odds lowered by as much."""
SCREENED = 160
"""Columns kept for each outcome, by rank correlation with it on the training rows."""
MIN_EVENTS = 20
"""Below this many training events the training rate is the whole model."""
PARAMETERS = {
    "learning_rate": 0.05,
    "max_iter": 400,
    "max_leaf_nodes": 8,
    "min_samples_leaf": 100,
    "l2_regularization": 50.0,
    "max_features": 0.4,
    "max_bins": 63,
    "n_iter_no_change": 20,
}
FIXED_ITERATIONS = 80
"""Where too few tuning patients have the event to stop by."""
_NEIGHBOURS = 400


@dataclass(frozen=True, slots=True, eq=False)
class Rowset:
    """Features of some patients' prompts, for one outcome at one horizon."""

    features: Matrix
    """[P, F] of all prompts."""
    occurred: NDArray[np.bool_]
    """[P] the outcome followed."""
    rows: Rows
    """Which prompts count: what followed is known, and the outcome is new (or recurrent) to them."""

    def thinned(self, share: float, seed: int) -> Rows:
        """Return all counting rows with the event and a random share of the others, rising."""
        lots = np.random.default_rng(seed).random(len(self.rows))
        return self.rows[self.occurred[self.rows] | (lots < share)]

    @property
    def num_events(self) -> int:
        """How many counting rows were followed by the outcome."""
        return int(self.occurred[self.rows].sum())


@dataclass(frozen=True, slots=True, eq=False)
class Boosted:
    """One fitted outcome at one horizon, for those with or without the outcome in their record."""

    rate: float
    """Share of the training rows with the event."""
    negative_share: float
    """Which part of the rows without the event was trained on."""
    columns: Rows
    model: HistGradientBoostingClassifier | None
    tuning_scores: NDArray[np.float64]
    """Sorted forecasts for the tuning prompts, with `tuning_labels` in the same order."""
    tuning_labels: NDArray[np.bool_]

    def risks(self, features: Matrix) -> NDArray[np.float64]:
        """Return the probability at each row, set right for the thinning (King & Zeng 2001).  [P, F] -> [P]."""
        if self.model is None:
            return np.full(len(features), self.rate)
        odds = self.model.decision_function(features[:, self.columns])
        risks: NDArray[np.float64] = expit(odds + np.log(self.negative_share))
        return risks

    def interval(self, probability: float) -> Interval:
        """Return the 95% Clopper-Pearson interval of the event's share among tuning prompts given about this risk."""
        place = int(np.searchsorted(self.tuning_scores, probability))
        near = self.tuning_labels[max(0, place - _NEIGHBOURS // 2) : place + _NEIGHBOURS // 2]
        events, others = int(near.sum()), int((~near).sum())
        low = float(beta.ppf(0.025, events, others + 1)) if events else 0.0
        high = float(beta.ppf(0.975, events + 1, others)) if others else 1.0
        return Interval(min(low, probability), max(high, probability))


def boost(train: Rowset, ranks: NDArray[np.uint8], tuning: Rowset, seed: int) -> Boosted:
    """Fit one outcome.  ranks: `ranks_of` the training features, for the screening of columns."""
    num_events, num_others = train.num_events, len(train.rows) - train.num_events
    rate = (num_events + 0.5) / (len(train.rows) + 1)
    if min(num_events, num_others) < MIN_EVENTS:
        flat = np.full(len(tuning.rows), rate)
        return Boosted(rate, 1.0, np.empty(0, np.int64), None, flat, tuning.occurred[tuning.rows])
    share = min(1.0, max(MIN_NEGATIVES, NEGATIVES_PER_POSITIVE * num_events) / num_others)
    sampled = train.thinned(share, seed)
    columns = _screen(ranks[sampled], train.occurred[sampled])
    validation = {}
    if tuning.num_events >= MIN_EVENTS:
        # Thinned alike: the loss that stops the boosting must see the prevalence that the boosting sees.
        thinned = tuning.thinned(share, seed)
        validation = {"X_val": tuning.features[np.ix_(thinned, columns)], "y_val": tuning.occurred[thinned]}
    settings = PARAMETERS if validation else PARAMETERS | {"max_iter": FIXED_ITERATIONS}
    model = HistGradientBoostingClassifier(early_stopping=bool(validation), random_state=seed, **settings)
    model.fit(train.features[np.ix_(sampled, columns)], train.occurred[sampled], **validation)
    fitted = Boosted(rate, share, columns, model, np.empty(0), np.empty(0, np.bool_))
    scores = fitted.risks(tuning.features[tuning.rows]) if len(tuning.rows) else np.empty(0)
    order = np.argsort(scores, kind="stable")
    return Boosted(rate, share, columns, model, scores[order], tuning.occurred[tuning.rows][order])


def _screen(ranks: NDArray[np.uint8], occurred: NDArray[np.bool_]) -> Rows:
    """Return the columns that go with the outcome most, by |rank correlation|, rising."""
    varies = np.flatnonzero(np.ptp(ranks, axis=0) > 0)
    values = ranks[:, varies].astype(np.float32)
    centred = (occurred - occurred.mean()).astype(np.float32)
    correlation = np.abs(centred @ values) / values.std(0)
    return np.sort(varies[np.argsort(-correlation, kind="stable")[:SCREENED]])


def ranks_of(features: Matrix) -> NDArray[np.uint8]:
    """Return each column as ranks from 0 to 255, an absent value ranking with the median.  [P, F] -> [P, F]."""
    ranks = np.empty(features.shape, np.uint8)

    def rank(number: int) -> None:
        column = features[:, number]
        absent = np.isnan(column)
        median = np.median(column[~absent]) if not absent.all() else 0.0
        ranks[:, number] = rankdata(np.where(absent, median, column)) / len(column) * 255

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(rank, range(features.shape[1])))
    return ranks
