"""How sure a forecaster is, held against what came true: coverage of its intervals, and what abstaining gains.

Asked of forecasters that can say it of many prompts at once (core.forecast.Bounded, Situated); of others nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.core.forecast import Bounded, Situated
from lifechart.core.report import Metric
from lifechart.evaluate import abstention, coverage
from lifechart.evaluate.coverage import Asked
from lifechart.evaluate.findings import Scores
from lifechart.evaluate.headline import RECORD
from lifechart.evaluate.metrics import Floats
from lifechart.evaluate.question import Question, Scorer
from lifechart.evaluate.subgroups import subgroups

MOST_PEOPLE = 1000
"""People asked, in the order of their keyed ids: these figures take passes of their own."""
_LEAST_RISK = 1e-7


def metrics(
    question: Question, scorer: Scorer, scores: Scores, names: Mapping[str, str], min_events: int
) -> Iterator[Metric]:
    """Yield the Report's rows, of new onset at the main horizon.

    Outcomes enter with `min_events` occurrences among those asked.
    """
    if not isinstance(scorer, Bounded):
        return
    some = question.owner < MOST_PEOPLE
    prompts = question.prompts.filter(pl.Series(some))
    events = question.events.join(prompts.select("subject_id").unique(), on="subject_id", how="semi")
    main = question.task.main_horizon_days
    bounds = scorer.intervals(events, prompts)[:, :, tuple(scorer.horizons).index(main)].astype(np.float64)
    asked = list(_asked(question, scorer, scores, bounds, some, min_events))
    if not asked:
        return
    weights = question.weights[:, : min(MOST_PEOPLE, question.weights.shape[1])]
    groups = subgroups(events, question.history, prompts, names)
    yield from coverage.metrics(asked, groups, weights, scorer.name, main)
    orders = {"width": _widths(scorer, asked, bounds)}
    if isinstance(scorer, Situated):
        orders["novelty"] = scorer.situate(events, prompts)[1]
        yield from abstention.answered(orders["novelty"], question.owner[some], weights, scorer.name, main)
    yield from abstention.metrics(asked, orders, weights, scorer.name, main)


def _asked(
    question: Question, scorer: Scorer, scores: Scores, bounds: Floats, some: NDArray[np.bool_], min_events: int
) -> Iterator[Asked]:
    main, truth = question.task.main_horizon_days, scores.get(RECORD, {})
    for outcome in question.outcomes:
        rows = question.rows(outcome, main, "new") & some
        sample = question.sample(outcome, main, rows, scores[scorer.name][outcome, main])
        if sample.num_events < min_events:
            continue
        place, mine = scorer.outcomes.index(outcome), rows[some]
        known = truth.get((outcome, main))
        yield Asked(
            outcome,
            mine,
            sample.labels,
            sample.scores,
            bounds[mine, place, 0],
            bounds[mine, place, 1],
            None if known is None else known[rows].astype(np.float64),
            sample.patients,
        )


def _widths(scorer: Scorer, asked: list[Asked], bounds: Floats) -> Floats:
    """Return how wide each prompt's intervals are [P]: the mean over outcomes of the logarithm of high over low."""
    places = [scorer.outcomes.index(each.outcome) for each in asked]
    low, high = (np.maximum(bounds[:, places, side], _LEAST_RISK) for side in (0, 1))
    width: Floats = np.log(high / low).mean(axis=1)
    return width
