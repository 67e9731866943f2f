"""Figures that leave nobody out whose follow-up was cut short: time-dependent concordance, Brier score with censoring.

The other figures of a Report count a prompt only where its whole window was observed. Here every prompt counts for as
long as it was: the mathematics of `censored`, with a patient's bootstrap weight on each of their prompts. Who dies
without the outcome is observed never to have it; a recurrence is another question and does not enter.

Legend of shapes: P prompts, n of them that count, T horizons, S patients, B resamples (+ 1), E events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lifechart.core.report import Metric
from lifechart.data.history import DAY, MISSING, microseconds
from lifechart.evaluate.findings import Scores, Worth
from lifechart.evaluate.metrics import Estimate, Floats
from lifechart.evaluate.question import Question

CONCORDANCE, BRIER = "concordance", "brier_censored"
_EVENTS_AT_ONCE = 256


@dataclass(frozen=True, slots=True, eq=False)
class FollowUp:
    """How long each of n prompts was followed, in days, and whether the outcome ended that (inf: never to have it)."""

    rows: NDArray[np.bool_]
    """[P] the prompts that count."""
    days: Floats
    had: NDArray[np.bool_]
    patients: NDArray[np.int64]


def follow_up(question: Question, outcome: str) -> FollowUp:
    """Return what is known of a first occurrence after each prompt of those who had none before."""
    number, history = question.outcomes.index(outcome), question.history
    asked = microseconds(question.prompts["prediction_time"])
    death, end = history.deaths[question.owner], history.ends[question.owner]
    stated = (end != MISSING) & ((death == MISSING) | (end > death))
    until = np.where(stated, end, np.maximum(history.last_time()[question.owner], end))
    row = question.labels.occurrence[:, number]
    had = (row >= 0) & (history.times[row] <= until)
    died = ~had & (death != MISSING) & (death <= until)
    days = np.where(had, history.times[row] - asked, until - asked) / DAY
    rows = ~question.labels.recorded[:, number] & (days > 0)
    return FollowUp(rows, np.where(died, np.inf, days)[rows], had[rows], question.owner[rows])


def metrics(question: Question, found: Sequence[Worth], scores: Scores) -> Iterator[Metric]:
    """Yield the rows of every scorer for the outcomes of `found`: concordance up to the last horizon, Brier score."""
    horizons, main = question.horizons, question.task.main_horizon_days
    for each in found:
        follow = follow_up(question, each.outcome)
        for name, table in scores.items():
            estimates: dict[tuple[str, int], Floats] = {}
            if all((each.outcome, horizon) in table for horizon in horizons):
                risks = np.stack([table[each.outcome, horizon][follow.rows] for horizon in horizons], axis=1)
                grid = np.asarray(horizons, np.float64)
                estimates[CONCORDANCE, max(horizons)] = time_dependent(risks, grid, follow, question.weights)
            if (each.outcome, main) in table:
                risk = table[each.outcome, main][follow.rows].astype(np.float64)
                estimates[BRIER, main] = brier(risk, follow, main, question.weights)
            for (metric, horizon), values in estimates.items():
                if np.isfinite(values[0]):
                    yield _row(metric, name, each.outcome, horizon, Estimate(float(values[0]), values[1:]), follow)


def time_dependent(risks: NDArray[np.floating], grid: Floats, follow: FollowUp, weights: Floats) -> Floats:
    """Return the time-dependent C (censored.time_dependent) of risks [n, T] in every resample, [1 + B].

    Events after the last horizon are left out, where the forecast says nothing.
    """
    days, had, patients = follow.days, follow.had, follow.patients
    events = np.flatnonzero(had & (days <= grid[-1]))
    column = np.searchsorted(grid, days[events], side="left")
    good, total = np.zeros(len(weights)), np.zeros(len(weights))
    for start in range(0, len(events), _EVENTS_AT_ONCE):
        some = events[start : start + _EVENTS_AT_ONCE]
        agree = np.zeros((len(some), weights.shape[1]))
        comparable = np.zeros_like(agree)
        for place, (person, at) in enumerate(zip(some, column[start : start + len(some)], strict=True)):
            later = (days > days[person]) | ((days == days[person]) & ~had)
            mine, theirs = risks[person, at], risks[later, at]
            points = (mine > theirs) + 0.5 * (mine == theirs)
            agree[place] = np.bincount(patients[later], points, weights.shape[1])
            comparable[place] = np.bincount(patients[later], minlength=weights.shape[1])
        own = weights[:, patients[some]]
        good += (own * (weights @ agree.T)).sum(axis=1)
        total += (own * (weights @ comparable.T)).sum(axis=1)
    concordance: Floats = np.divide(good, total, out=np.full(len(weights), np.nan), where=total > 0)
    return concordance


def brier(risk: Floats, follow: FollowUp, horizon: float, weights: Floats) -> Floats:
    """Return the Brier score weighted for censoring (censored.brier) at a horizon in every resample, [1 + B]."""
    days, had = follow.days, follow.had
    distinct, place = np.unique(days, return_inverse=True)
    by_horizon = int(np.searchsorted(distinct, horizon, side="right"))
    occurred = had & (days <= horizon)
    known = occurred | (days > horizon)
    error = (occurred - risk) ** 2
    found = np.full(len(weights), np.nan)
    for number, resample in enumerate(weights):
        own = resample[follow.patients]
        if not own.any():
            continue
        left = np.bincount(place, own * ~had, len(distinct))
        at_risk = np.cumsum(np.bincount(place, own, len(distinct))[::-1])[::-1]
        stays = np.append(1.0, np.cumprod(1 - np.divide(left, at_risk, out=np.zeros_like(left), where=at_risk > 0)))
        free = np.where(occurred, stays[place], stays[by_horizon])
        mass = np.divide(own, free, out=np.zeros_like(own), where=known & (free > 0))
        found[number] = (mass * error).sum() / own.sum()
    return found


def _row(metric: str, scorer: str, outcome: str, horizon: int, estimate: Estimate, follow: FollowUp) -> Metric:
    num_events = int((follow.had & (follow.days <= horizon)).sum())
    return Metric(
        name=metric,
        value=estimate.value,
        interval=estimate.interval(),
        forecaster=scorer,
        outcome=outcome,
        horizon_days=horizon,
        num_prompts=len(follow.days),
        num_events=num_events,
    )
