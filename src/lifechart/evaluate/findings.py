"""From forecasts to the rows of a Report: every metric of every forecaster, subgroups, reliability curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lifechart.core.report import EVERYONE, Metric
from lifechart.core.suppression import suppress_counts
from lifechart.evaluate import headline
from lifechart.evaluate.benefit import Action, actions
from lifechart.evaluate.calibration import Point, reliability
from lifechart.evaluate.metrics import Estimate, Sample, evaluate
from lifechart.evaluate.question import MIN_PEOPLE, Question, Scorer
from lifechart.evaluate.smooth import Curve, curve
from lifechart.evaluate.subgroups import subgroups

SUBGROUP_METRICS = ("auroc", "observed_expected", "calibration_slope")
Reportable = list[tuple[str, int, str]]
"""(outcome, horizon, onset) with enough people to report on."""
Curves = dict[tuple[str, int, str], list[Point]]
"""By (outcome, horizon, forecaster), new onset."""

Scores = dict[str, dict[tuple[str, int], NDArray[np.float32]]]


def measure(
    question: Question, scorers: Sequence[Scorer], scores: Scores, reportable: Reportable
) -> tuple[list[Metric], headline.Estimates]:
    """Return every metric of every scorer, and the AUROCs of new onset at the main horizon for the headline."""
    metrics: list[Metric] = []
    estimates: headline.Estimates = {}
    for outcome, horizon, onset in reportable:
        rows = question.rows(outcome, horizon, onset)
        for scorer in scorers:
            if (outcome, horizon) not in scores[scorer.name]:
                continue
            sample = question.sample(outcome, horizon, rows, scores[scorer.name][outcome, horizon])
            found = evaluate(sample, question.weights)
            metrics += _rows(found, sample, scorer.name, outcome, horizon, onset, EVERYONE)
            if onset == "new" and horizon == question.task.main_horizon_days:
                estimates.setdefault(outcome, headline.Outcome(len(sample.labels), sample.num_events, {}))
                estimates[outcome].auroc[scorer.name] = found["auroc"]
    return metrics, estimates


def by_subgroup(
    question: Question,
    forecaster: str,
    scores: dict[tuple[str, int], NDArray[np.float32]],
    reportable: Reportable,
    names: Mapping[str, str],
) -> list[Metric]:
    """Return a few metrics of one forecaster in each subgroup, for new onset at the main horizon.

    A group of few people is withheld, and with it another of the same attribute where everybody's figures less those of
    the other groups would give it back.
    """
    metrics: list[Metric] = []
    groups = subgroups(question.events, question.history, question.prompts, names)
    for outcome, horizon in _main_new(question, reportable):
        rows = question.rows(outcome, horizon, "new")
        samples = {
            name: question.sample(outcome, horizon, rows & members, scores[outcome, horizon])
            for name, members in groups.items()
        }
        told = _told(samples)
        for name, sample in samples.items():
            if name not in told:
                continue
            found = evaluate(sample, question.weights)
            chosen = {metric: found[metric] for metric in SUBGROUP_METRICS if metric in found}
            metrics += _rows(chosen, sample, forecaster, outcome, horizon, "new", name)
    return metrics


def _told(samples: Mapping[str, Sample]) -> set[str]:
    """Return the groups whose figures may be told: enough people on both sides, and none that gives another back."""
    found: set[str] = set()
    for attribute in {name.partition("=")[0] for name in samples}:
        ours = {name: sample for name, sample in samples.items() if name.partition("=")[0] == attribute}
        withs = suppress_counts({name: sample.people_with_event for name, sample in ours.items()})
        withouts = suppress_counts({name: sample.people_without_event for name, sample in ours.items()})
        found |= {name for name in ours if min(withs[name] or 0, withouts[name] or 0) >= MIN_PEOPLE}
    return found


def curves(question: Question, scores: Scores, reportable: Reportable) -> Curves:
    """Return the reliability curves of every forecaster, for new onset at the main horizon."""
    found: Curves = {}
    for outcome, horizon in _main_new(question, reportable):
        rows = question.rows(outcome, horizon, "new")
        for name, table in scores.items():
            if (outcome, horizon) in table:
                sample = question.sample(outcome, horizon, rows, table[outcome, horizon])
                found[outcome, horizon, name] = reliability(sample, question.weights)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Worth:
    """What acting on one outcome's forecasts at the main horizon is worth, and its smooth calibration."""

    outcome: str
    horizon_days: int
    actions: dict[str, list[Action]]
    """By forecaster."""
    curve: Curve
    """The examined model's."""


def worth(question: Question, scores: Scores, reportable: Reportable, model: str, most: int) -> list[Worth]:
    """Return net benefit and smooth calibration of the `most` frequent outcomes, new onset at the main horizon.

    `scores`: the model's and those it is drawn beside.
    """
    samples = {}
    for outcome, horizon in _main_new(question, reportable):
        rows = question.rows(outcome, horizon, "new")
        samples[outcome, horizon] = {
            name: question.sample(outcome, horizon, rows, table[outcome, horizon])
            for name, table in scores.items()
            if (outcome, horizon) in table
        }
    frequent = sorted(samples.items(), key=lambda item: -item[1][model].num_events)[:most]
    return [
        Worth(
            outcome,
            horizon,
            {name: actions(sample, question.weights) for name, sample in by_name.items()},
            curve(by_name[model], question.weights),
        )
        for (outcome, horizon), by_name in frequent
    ]


def worth_metrics(question: Question, found: Worth, scores: Scores, model: str) -> Iterator[Metric]:
    """Yield the Report's rows of one outcome's worth: calibration index and net benefit of the model by threshold."""
    rows = question.rows(found.outcome, found.horizon_days, "new")
    sample = question.sample(found.outcome, found.horizon_days, rows, scores[model][found.outcome, found.horizon_days])
    about = (sample, model, found.outcome, found.horizon_days, "new", EVERYONE)
    estimates = {"ici": found.curve.index}
    for action in found.actions[model]:
        if not action.is_small:
            estimates[f"net_benefit_at_{action.threshold:g}"] = action.net_benefit
            estimates[f"advantage_at_{action.threshold:g}"] = action.advantage
    yield from _rows(estimates, *about)


def _main_new(question: Question, reportable: Reportable) -> Iterator[tuple[str, int]]:
    for outcome, horizon, onset in reportable:
        if onset == "new" and horizon == question.task.main_horizon_days:
            yield outcome, horizon


def _rows(
    found: dict[str, Estimate], sample: Sample, scorer: str, outcome: str, horizon: int, onset: str, subgroup: str
) -> Iterator[Metric]:
    for name, estimate in found.items():
        yield Metric(
            name=name,
            value=estimate.value,
            interval=estimate.interval(),
            forecaster=scorer,
            outcome=outcome,
            horizon_days=horizon,
            onset=onset,
            subgroup=subgroup,
            num_prompts=len(sample.labels),
            num_events=sample.num_events,
        )
