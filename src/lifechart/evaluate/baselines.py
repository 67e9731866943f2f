"""Boosted trees on counts: the opponent that stands in every results table, itself a Forecaster.

Counts in windows, latest values, ranges and trends of every common code, one histogram-boosted model per outcome and
horizon, stopped early on the tuning patients. On many tasks of structured records nothing beats it (EHRSHOT, Wornow et
al. 2023; MEDS-Tab, Oufattole et al. 2024).

Legend of shapes: P prompts, O outcomes, H horizons, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
import sklearn
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import beta, rankdata
from sklearn.ensemble import HistGradientBoostingClassifier

from lifechart.core import durable
from lifechart.core.forecast import Forecast, Interval, Risk
from lifechart.core.timeline import Timeline
from lifechart.evaluate.features import FeatureSet, Matrix
from lifechart.evaluate.history import History
from lifechart.evaluate.tasks import Labels, Task, draw_prompts, label

NAME = "boosted-trees"
MIN_SUBJECTS = 20
"""A code becomes features if this many training patients hold it."""
MAX_PROMPTS = 120_000
NEGATIVES_PER_POSITIVE, MIN_NEGATIVES = 20, 6_000
"""Rows without the event are thinned to this many, and the forecast odds lowered by as much."""
SCREENED = 250
"""Columns kept for each outcome, by rank correlation with it on the training rows."""
MIN_EVENTS = 20
"""Below this many training events the training rate is the whole model."""
PARAMETERS = {
    "learning_rate": 0.05,
    "max_iter": 400,
    "max_leaf_nodes": 8,
    "min_samples_leaf": 40,
    "l2_regularization": 10.0,
    "max_features": 0.4,
    "n_iter_no_change": 20,
}
FIXED_ITERATIONS = 80
"""Where too few tuning patients have the event to stop by."""
_NEIGHBOURS = 400
_UNUSUAL = 0.005


@dataclass(frozen=True, slots=True, eq=False)
class _Trees:
    """One fitted outcome at one horizon, for those with or without the outcome in their record."""

    rate: float
    negative_share: float
    """Which part of the rows without the event was trained on."""
    columns: NDArray[np.int64]
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


class BoostedTrees:
    """A Forecaster of boosted trees. Built by `fit`."""

    name = NAME

    def __init__(
        self,
        digest: str,
        chosen: FeatureSet,
        usual: tuple[Matrix, NDArray[np.int64]],
        fitted: dict[tuple[str, int, bool], _Trees],
    ) -> None:
        self.digest = digest
        self.outcomes = tuple(dict.fromkeys(outcome for outcome, _, _ in fitted))
        self.horizons = tuple(sorted({horizon for _, horizon, _ in fitted}))
        self._chosen, self._fitted = chosen, fitted
        self._bounds, self._oddities = usual

    @classmethod
    def fit(
        cls,
        train: pl.DataFrame,
        tuning: pl.DataFrame,
        task: Task,
        outcomes: Sequence[str],
        horizons: Sequence[int],
        *,
        seed: int,
        advance: Callable[[float], None] = lambda share: None,
    ) -> BoostedTrees:
        """Fit every outcome at every horizon on prompts drawn from the training patients as the task draws them.

        New onset and recurrence are fitted apart. `advance` is called with the share of the work that is done.
        """
        history, tuning_history = History(train), History(tuning)
        prompts = draw_prompts(train, task, seed, MAX_PROMPTS)
        tuning_prompts = draw_prompts(tuning, task, seed, MAX_PROMPTS // 8)
        chosen = FeatureSet.choose(history, MIN_SUBJECTS)
        features, names = chosen.matrix(history, prompts)
        tuning_features, _ = chosen.matrix(tuning_history, tuning_prompts)
        advance(0.2)
        labels = label(history, prompts, outcomes, horizons)
        tuning_labels = label(tuning_history, tuning_prompts, outcomes, horizons)
        ranks = _ranks(features)
        fitted = {}
        for number, outcome in enumerate(outcomes):
            for step, horizon in enumerate(horizons):
                for recurrent in (False, True):
                    rows = _at_risk(labels, number, step, recurrent)
                    tuning_rows = _at_risk(tuning_labels, number, step, recurrent)
                    fitted[outcome, horizon, recurrent] = _fit_one(
                        (features, ranks, labels.occurred[:, number, step], rows),
                        (tuning_features, tuning_labels.occurred[:, number, step], tuning_rows),
                        seed,
                    )
            advance(0.2 + 0.8 * (number + 1) / len(outcomes))
        bounds = np.nanquantile(_filled(features), [_UNUSUAL, 1 - _UNUSUAL], axis=0).astype(np.float32)
        oddities = np.sort(_num_unusual(tuning_features, bounds))
        procedure = {
            "name": NAME,
            "parameters": PARAMETERS,
            "features": names,
            "train": [history.subjects.tolist(), len(history.times)],
            "fitted": [list(key) for key in fitted],
            "seed": seed,
            "scikit-learn": sklearn.__version__,
        }
        return cls(durable.digest_of(procedure), chosen, (bounds, oddities), fitted)

    def risks(self, events: pl.DataFrame, prompts: pl.DataFrame) -> NDArray[np.float32]:
        """Return probabilities [P, O, H]; where the outcome stands in the record, those of its recurrence."""
        history = History(events)
        features, _ = self._chosen.matrix(history, prompts)
        recorded = label(history, prompts, self.outcomes, self.horizons).recorded
        result = np.empty((prompts.height, len(self.outcomes), len(self.horizons)), np.float32)
        for (outcome, horizon, recurrent), trees in self._fitted.items():
            number = self.outcomes.index(outcome)
            rows = np.flatnonzero(recorded[:, number] == recurrent)
            if len(rows):
                result[rows, number, self.horizons.index(horizon)] = trees.risks(features[rows])
        return result

    def forecast(self, timeline: Timeline, as_of: datetime) -> Forecast:
        """Return every outcome at every horizon for one patient; trees name no drivers."""
        events = timeline.events.with_columns(subject_id=pl.lit(timeline.subject_id, pl.Int64))
        prompts = pl.DataFrame({"subject_id": [timeline.subject_id], "prediction_time": [as_of]})
        history = History(events)
        features, _ = self._chosen.matrix(history, prompts)
        recorded = label(history, prompts, self.outcomes, self.horizons).recorded[0]
        risks = []
        for number, outcome in enumerate(self.outcomes):
            for horizon in self.horizons:
                trees = self._fitted[outcome, horizon, bool(recorded[number])]
                probability = float(trees.risks(features)[0])
                interval = trees.interval(probability)
                risks.append(Risk(outcome, horizon, probability, interval, already_recorded=bool(recorded[number])))
        below = np.searchsorted(self._oddities, _num_unusual(features, self._bounds)[0])
        novelty = float(below / max(len(self._oddities), 1))
        return Forecast(timeline.subject_id, as_of, tuple(risks), novelty, self.digest)


def _at_risk(labels: Labels, outcome: int, horizon: int, recurrent: bool) -> NDArray[np.int64]:
    return np.flatnonzero(labels.known[:, outcome, horizon] & (labels.recorded[:, outcome] == recurrent))


def _fit_one(
    train: tuple[Matrix, Matrix, NDArray[np.bool_], NDArray[np.int64]],
    tuning: tuple[Matrix, NDArray[np.bool_], NDArray[np.int64]],
    seed: int,
) -> _Trees:
    """Fit one outcome: thin the rows without it, screen the columns, boost, stop early on the tuning patients."""
    features, ranks, occurred, rows = train
    tuning_features, tuning_occurred, tuning_rows = tuning
    positive, negative = rows[occurred[rows]], rows[~occurred[rows]]
    rate = (len(positive) + 0.5) / (len(rows) + 1)
    empty = np.empty(0, np.int64)
    if len(positive) < MIN_EVENTS or len(negative) < MIN_EVENTS:
        return _Trees(rate, 1.0, empty, None, np.full(len(tuning_rows), rate), tuning_occurred[tuning_rows])
    share = min(1.0, max(MIN_NEGATIVES, NEGATIVES_PER_POSITIVE * len(positive)) / len(negative))
    sampled = _thinned(rows, occurred, share, seed)
    columns = _screen(ranks[sampled], occurred[sampled])
    validation = {}
    if tuning_occurred[tuning_rows].sum() >= MIN_EVENTS:
        # Thinned alike: the loss that stops the boosting must see the prevalence that the boosting sees.
        thinned = _thinned(tuning_rows, tuning_occurred, share, seed)
        validation = {"X_val": tuning_features[np.ix_(thinned, columns)], "y_val": tuning_occurred[thinned]}
    settings = PARAMETERS if validation else PARAMETERS | {"max_iter": FIXED_ITERATIONS}
    model = HistGradientBoostingClassifier(early_stopping=bool(validation), random_state=seed, **settings)
    model.fit(features[np.ix_(sampled, columns)], occurred[sampled], **validation)
    fitted = _Trees(rate, share, columns, model, np.empty(0), np.empty(0, np.bool_))
    scores = fitted.risks(tuning_features[tuning_rows]) if len(tuning_rows) else np.empty(0)
    order = np.argsort(scores)
    return _Trees(rate, share, columns, model, scores[order], tuning_occurred[tuning_rows][order])


def _thinned(rows: NDArray[np.int64], occurred: NDArray[np.bool_], share: float, seed: int) -> NDArray[np.int64]:
    """Return all rows with the event and a random share of the others, rising."""
    lots = np.random.default_rng(seed).random(len(rows))
    return rows[occurred[rows] | (lots < share)]


def _screen(ranks: Matrix, occurred: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the columns that go with the outcome most, by |rank correlation|, rising."""
    centred = occurred - occurred.mean()
    varies = np.flatnonzero(np.ptp(ranks, axis=0) > 0)
    correlation = np.abs(centred.astype(np.float32) @ ranks[:, varies]) / ranks[:, varies].std(0)
    return np.sort(varies[np.argsort(-correlation, kind="stable")[:SCREENED]])


def _ranks(features: Matrix) -> Matrix:
    """Return each column as ranks from 0 to 1, an absent value ranking in the middle."""
    ranks = np.empty_like(features)
    for column in range(features.shape[1]):
        ranks[:, column] = rankdata(_filled(features[:, column : column + 1])[:, 0]) / len(features)
    return ranks


def _filled(features: Matrix) -> Matrix:
    """Return the features with each absent value replaced by its column's median, 0 where all are absent."""
    medians = [np.median(held) if len(held := column[~np.isnan(column)]) else 0.0 for column in features.T]
    return np.where(np.isnan(features), np.array(medians, np.float32), features)


def _num_unusual(features: Matrix, bounds: Matrix) -> NDArray[np.int64]:
    """Return how many features of each row lie outside what all but 1% of training rows hold.  [P, F] -> [P]."""
    unusual = (features < bounds[0]) | (features > bounds[1])
    return np.asarray(unusual.sum(1))
