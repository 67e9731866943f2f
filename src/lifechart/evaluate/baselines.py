"""Boosted trees on counts: the opponent that stands in every results table, itself a Forecaster.

Counts in windows, latest values, ranges and trends of every common code, one histogram-boosted model per outcome and
horizon, stopped early on the tuning patients. On many tasks of structured records nothing beats it (EHRSHOT, Wornow et
al. 2023; MEDS-Tab, Oufattole et al. 2024).

Legend of shapes: P prompts, O outcomes, H horizons, F features.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
import sklearn
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from lifechart.core import durable
from lifechart.core.forecast import Forecast, Risk
from lifechart.core.timeline import Timeline
from lifechart.data.features import FeatureSet, Matrix
from lifechart.data.history import History
from lifechart.evaluate.boosting import PARAMETERS, Boosted, Rowset, boost, ranks_of
from lifechart.evaluate.tasks import Labels, Task, draw_prompts, label

NAME = "boosted-trees"
MIN_SUBJECTS = 20
"""A code becomes features if this many training patients hold it."""
MAX_PROMPTS = 150_000
_UNUSUAL = 0.005

Key = tuple[str, int, bool]
"""Outcome, horizon, and whether it is the recurrence that is forecast."""


class BoostedTrees:
    """A Forecaster of boosted trees. Built by `fit`."""

    name = NAME

    def __init__(self, digest: str, chosen: FeatureSet, norm: _Norm, fitted: dict[Key, Boosted]) -> None:
        self.digest = digest
        self.outcomes = tuple(dict.fromkeys(outcome for outcome, _, _ in fitted))
        self.horizons = tuple(sorted({horizon for _, horizon, _ in fitted}))
        self._chosen, self._norm, self._fitted = chosen, norm, fitted

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
        chosen = FeatureSet.choose(History(train), MIN_SUBJECTS)
        here = _Material.of(train, task, chosen, outcomes, horizons, seed, MAX_PROMPTS)
        advance(0.2)
        there = _Material.of(tuning, task, chosen, outcomes, horizons, seed, MAX_PROMPTS // 8)
        ranks = ranks_of(here.features)
        advance(0.3)
        wanted = list(itertools.product(range(len(outcomes)), range(len(horizons)), (False, True)))
        fitted: dict[Key, Boosted] = {}
        with _pool() as pool:
            results = pool.map(lambda which: boost(here.rowset(*which), ranks, there.rowset(*which), seed), wanted)
            for (number, step, recurrent), result in zip(wanted, results, strict=True):
                fitted[outcomes[number], horizons[step], recurrent] = result
                advance(0.3 + 0.7 * len(fitted) / len(wanted))
        procedure = {
            "name": NAME,
            "parameters": PARAMETERS,
            "features": [chosen.counted, chosen.measured],
            "train": [train["subject_id"].unique().sort().to_list(), train.height],
            "fitted": [list(key) for key in fitted],
            "seed": seed,
            "scikit-learn": sklearn.__version__,
        }
        return cls(durable.digest_of(procedure), chosen, _Norm.of(here.features, there.features), fitted)

    def risks(self, events: pl.DataFrame, prompts: pl.DataFrame) -> NDArray[np.float32]:
        """Return probabilities [P, O, H]; where the outcome stands in the record, those of its recurrence."""
        features, recorded = self._read(events, prompts)
        result = np.empty((prompts.height, len(self.outcomes), len(self.horizons)), np.float32)

        def fill(key: Key) -> None:
            outcome, horizon, recurrent = key
            number = self.outcomes.index(outcome)
            rows = np.flatnonzero(recorded[:, number] == recurrent)
            if len(rows):
                result[rows, number, self.horizons.index(horizon)] = self._fitted[key].risks(features[rows])

        with _pool() as pool:
            list(pool.map(fill, self._fitted))
        return result

    def forecast(self, timeline: Timeline, as_of: datetime) -> Forecast:
        """Return every outcome at every horizon for one patient; trees name no drivers."""
        events = timeline.events.with_columns(subject_id=pl.lit(timeline.subject_id, pl.Int64))
        prompts = pl.DataFrame({"subject_id": [timeline.subject_id], "prediction_time": [as_of]})
        features, recorded = self._read(events, prompts)
        risks = []
        for number, outcome in enumerate(self.outcomes):
            before = bool(recorded[0, number])
            for horizon in self.horizons:
                trees = self._fitted[outcome, horizon, before]
                probability = float(trees.risks(features)[0])
                interval = trees.interval(probability)
                risks.append(Risk(outcome, horizon, probability, interval, already_recorded=before))
        return Forecast(timeline.subject_id, as_of, tuple(risks), self._norm.novelty(features[0]), self.digest)

    def _read(self, events: pl.DataFrame, prompts: pl.DataFrame) -> tuple[Matrix, NDArray[np.bool_]]:
        """Return features [P, F], and which outcomes stand in the record already [P, O]."""
        history = History(events)
        features, _ = self._chosen.matrix(history, prompts)
        return features, label(history, prompts, self.outcomes, self.horizons).recorded


@dataclass(frozen=True, slots=True, eq=False)
class _Material:
    """Prompts of one split, read and labelled."""

    features: Matrix
    labels: Labels

    @classmethod
    def of(
        cls,
        events: pl.DataFrame,
        task: Task,
        chosen: FeatureSet,
        outcomes: Sequence[str],
        horizons: Sequence[int],
        seed: int,
        limit: int,
    ) -> _Material:
        history, prompts = History(events), draw_prompts(events, task, seed, limit)
        features, _ = chosen.matrix(history, prompts)
        return cls(features, label(history, prompts, outcomes, horizons))

    def rowset(self, outcome: int, horizon: int, recurrent: bool) -> Rowset:
        counts = self.labels.known[:, outcome, horizon] & (self.labels.recorded[:, outcome] == recurrent)
        return Rowset(self.features, self.labels.occurred[:, outcome, horizon], np.flatnonzero(counts))


@dataclass(frozen=True, slots=True, eq=False)
class _Norm:
    """What is usual: per feature the range that holds all but 1% of training rows, and how often it is left."""

    bounds: Matrix
    """[2, F]."""
    counts: NDArray[np.int64]
    """Sorted numbers of features outside their range, of the tuning prompts."""

    @classmethod
    def of(cls, train: Matrix, tuning: Matrix) -> _Norm:
        held = [column[~np.isnan(column)] for column in train.T]
        nothing = np.array([-np.inf, np.inf])
        limits = [np.quantile(values, [_UNUSUAL, 1 - _UNUSUAL]) if len(values) else nothing for values in held]
        bounds = np.array(limits, np.float32).T
        outside = (tuning < bounds[0]) | (tuning > bounds[1])
        return cls(bounds, np.sort(outside.sum(1)))

    def novelty(self, features: NDArray[np.float32]) -> float:
        """Return the share of tuning prompts with fewer unusual features than this one.  features: [F]."""
        outside = int(((features < self.bounds[0]) | (features > self.bounds[1])).sum())
        return float(np.searchsorted(self.counts, outside) / max(len(self.counts), 1))


def _pool() -> ThreadPoolExecutor:
    """Return threads that each work on one core: many small fits gain nothing from sharing their loops."""
    return ThreadPoolExecutor(os.cpu_count(), initializer=lambda: threadpool_limits(1, user_api="openmp"))
