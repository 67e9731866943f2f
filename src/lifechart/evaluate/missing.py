"""What a forecast is worth where a record holds less: the same people asked again with a part of their chart left out.

Hospitals differ in what they measure and what reaches the record. What came true is always read from the whole record;
only what the forecaster sees is thinned, and both answers are compared on the same patients in every resample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.core.report import Metric
from lifechart.data.history import microseconds
from lifechart.evaluate.headline import ALL_OUTCOMES
from lifechart.evaluate.metrics import Estimate, Floats, Sample, observed_expected, ranking
from lifechart.evaluate.question import MIN_PEOPLE, Question, Scorer
from lifechart.evaluate.tasks import uniform

LOST, RATIO = "auroc_lost_without_", "observed_expected_without_"
MOST_PEOPLE = 300
"""People asked again, in the order of their keyed ids: a part of the held-out ones, as each scenario takes a pass."""
_MEASURED = ("laboratory", "vital")
_SEED = 11


def _kind(kind: str) -> Callable[[pl.DataFrame], pl.Series]:
    return lambda events: (events["kind"] == kind).fill_null(False)


def _half(events: pl.DataFrame) -> pl.Series:
    """Return the measurements of every second moment, by lot: all that was measured at once comes or stays away."""
    lot = uniform(events["subject_id"].to_numpy(), microseconds(events["time"]), _SEED) < 0.5
    return events["kind"].is_in(_MEASURED).fill_null(False) & pl.Series(lot)


SCENARIOS: Mapping[str, tuple[str, Callable[[pl.DataFrame], pl.Series]]] = {
    "half_of_measurements": ("half of the laboratory results and vital signs, by lot", _half),
    "laboratory": ("any laboratory result", _kind("laboratory")),
    "vital": ("any vital sign", _kind("vital")),
    "medication": ("any medication", _kind("medication")),
}
"""Name -> (what is left out, in words; which events those are)."""


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """One outcome among those asked again: which prompts [P], and the labels' side of their sample."""

    outcome: str
    rows: NDArray[np.bool_]
    sample: Sample


def metrics(
    question: Question, scorer: Scorer, scores: Mapping[tuple[str, int], NDArray[np.float32]], min_events: int
) -> Iterator[Metric]:
    """Yield, for each scenario that the records can show, the mean AUROC lost and the mean observed over expected.

    New onset at the main horizon, over the outcomes with `min_events` occurrences among those asked again.
    """
    if "kind" not in question.events.columns:
        return
    again = question.owner < MOST_PEOPLE
    asked = list(_outcomes(question, scores, again, min_events))
    if not asked:
        return
    main = question.task.main_horizon_days
    prompts = question.prompts.filter(pl.Series(again))
    events = question.events.join(prompts.select("subject_id").unique(), on="subject_id", how="semi")
    for name, (_, left_out) in SCENARIOS.items():
        gone = left_out(events)
        if not gone.any():
            continue
        risks = scorer.risks(events.filter(~gone), prompts)[:, :, scorer.horizons.index(main)]
        lost, ratio = _compare(question, scorer, asked, again, risks)
        counts = (int(again.sum()), sum(each.sample.num_events for each in asked))
        yield _row(LOST + name, lost, scorer.name, main, counts)
        yield _row(RATIO + name, ratio, scorer.name, main, counts)


def _outcomes(
    question: Question,
    scores: Mapping[tuple[str, int], NDArray[np.float32]],
    again: NDArray[np.bool_],
    min_events: int,
) -> Iterator[_Asked]:
    main = question.task.main_horizon_days
    for outcome in question.outcomes:
        rows = question.rows(outcome, main, "new") & again
        sample = question.sample(outcome, main, rows, scores[outcome, main])
        if sample.num_events >= min_events and min(sample.people_with_event, sample.people_without_event) >= MIN_PEOPLE:
            yield _Asked(outcome, rows, sample)


def _compare(
    question: Question, scorer: Scorer, asked: list[_Asked], again: NDArray[np.bool_], risks: NDArray[np.float32]
) -> tuple[Estimate, Estimate]:
    """Return the means over outcomes of (AUROC before less AUROC now, observed over expected now)."""
    lost: list[Floats] = []
    ratio: list[Floats] = []
    whole = np.zeros(len(again), np.float32)
    for each in asked:
        whole[again] = risks[:, scorer.outcomes.index(each.outcome)]
        sample = question.sample(each.outcome, question.task.main_horizon_days, each.rows, whole)
        lost.append(ranking(each.sample, question.weights)[0] - ranking(sample, question.weights)[0])
        ratio.append(observed_expected(sample, question.weights))
    means = (np.mean(lost, axis=0), np.mean(ratio, axis=0))
    first, second = (Estimate(float(mean[0]), mean[1:]) for mean in means)
    return first, second


def _row(name: str, estimate: Estimate, scorer: str, horizon: int, counts: tuple[int, int]) -> Metric:
    return Metric(
        name=name,
        value=estimate.value,
        interval=estimate.interval(),
        forecaster=scorer,
        outcome=ALL_OUTCOMES,
        horizon_days=horizon,
        num_prompts=counts[0],
        num_events=counts[1],
    )
