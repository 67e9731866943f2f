"""One forecaster beside others on the same prompts: paired differences, resampled by patient.

For an adapted model: beside the released one as it came, and beside one that learnt from the local records alone.
New onset at the main horizon; an outcome enters with `headline.MIN_EVENTS` occurrences, whoever forecasts it. One that
a forecaster does not know counts as what knowing nothing is worth: an AUROC of 0.5, and everybody at the same risk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lifechart.core.report import Metric, Report
from lifechart.evaluate.headline import ALL_OUTCOMES, LOCAL, MIN_EVENTS, RELEASED
from lifechart.evaluate.metrics import Estimate, Floats, Sample, ranking
from lifechart.evaluate.question import Question, Scorer

GAINS = ("auroc", "log_loss")
"""What is compared. `log_loss` is a first occurrence's, in nats: less is better. No calibration error: resampling
people only adds to it, so that its interval would lie above it; the loss counts what is ill calibrated."""
_LEAST = 1e-6
_PREFIX, _LESS = "beside:", "_less:"

Scores = Mapping[str, Mapping[tuple[str, int], NDArray[np.float32]]]


@dataclass(frozen=True, eq=False)
class Compared:
    """Means over the outcomes that enter, by forecaster and measure, in every resample alike."""

    names: tuple[str, ...]
    values: Mapping[tuple[str, str], Estimate]
    known: Mapping[str, int]
    """How many of the outcomes each forecasts."""
    outcomes: int
    events: int
    prompts: int
    horizon: int

    def difference(self, measure: str, other: str) -> Estimate:
        """Return the first forecaster's value less another's."""
        mine, theirs = self.values[self.names[0], measure], self.values[other, measure]
        return Estimate(mine.value - theirs.value, mine.replicates - theirs.replicates)

    def metrics(self) -> list[Metric]:
        """Return means and differences as rows of a Report, such as `beside:auroc` and `beside:auroc_less:released`."""
        rows = [self._row(f"{_PREFIX}{measure}", name, each) for (name, measure), each in self.values.items()]
        for other in self.names[1:]:
            for measure in GAINS:
                name = f"{_PREFIX}{measure}{_LESS}{other}"
                rows.append(self._row(name, self.names[0], self.difference(measure, other)))
        return rows

    def _row(self, name: str, forecaster: str, found: Estimate) -> Metric:
        return Metric(
            name, found.value, found.interval(), forecaster, ALL_OUTCOMES, self.horizon,
            num_prompts=self.prompts, num_events=self.events,
        )  # fmt: skip


def table(report: Report) -> list[tuple[str, ...]]:
    """Return a header and rows for a terminal, from a Report whose forecaster was compared; nothing for others."""
    found = {(each.forecaster, each.name): each for each in report.metrics if each.name.startswith(_PREFIX)}
    plain = {key: each for key, each in found.items() if _LESS not in key[1]}
    rows = []
    for name in dict.fromkeys(name for name, _ in plain):
        rows.append((name, *(_cell(found[name, f"{_PREFIX}{measure}"], "") for measure in GAINS)))
    others = dict.fromkeys(name.split(_LESS)[1] for _, name in found if _LESS in name)
    for other in others:
        first = rows[0][0]
        cells = (_cell(found[first, f"{_PREFIX}{measure}{_LESS}{other}"], "+") for measure in GAINS)
        rows.append((f"{first} less {other}", *cells))
    if not rows:
        return []
    some = next(iter(found.values()))
    head = f"new within {some.horizon_days} days, {some.num_events:,} events"
    return [(head, "AUROC", "loss an event"), *rows]


def beside(question: Question, scorers: Sequence[Scorer], scores: Scores, min_events: int = MIN_EVENTS) -> list[Metric]:
    """Return the rows of a Report that compare the first scorer with other models; none where there are none."""
    models = [scorers[0], *(each for each in scorers[1:] if each.name in (RELEASED, LOCAL))]
    found = compare(question, models, scores, min_events) if len(models) > 1 else None
    return [] if found is None else found.metrics()


def compare(
    question: Question,
    scorers: Sequence[Scorer],
    scores: Scores,
    min_events: int = MIN_EVENTS,
) -> Compared | None:
    """Compare the first scorer with the others; None where no outcome has events enough."""
    horizon = question.task.main_horizon_days
    found: dict[tuple[str, str], list[Floats]] = {}
    known = {scorer.name: 0 for scorer in scorers}
    events = prompts = outcomes = 0
    for outcome in question.outcomes:
        rows = question.rows(outcome, horizon, "new")
        blank = question.sample(outcome, horizon, rows, np.zeros(len(rows), np.float32))
        if blank.num_events < min_events or blank.labels.all():
            continue
        outcomes, events, prompts = outcomes + 1, events + blank.num_events, max(prompts, len(blank.labels))
        for scorer in scorers:
            said = scores[scorer.name].get((outcome, horizon))
            known[scorer.name] += said is not None
            everybody = np.full(len(rows), blank.labels.mean(), np.float32)
            sample = question.sample(outcome, horizon, rows, everybody if said is None else said)
            for measure, each in _measured(sample, question.weights).items():
                found.setdefault((scorer.name, measure), []).append(each)
    if not outcomes:
        return None
    means = {key: np.nanmean(np.stack(mine), axis=0) for key, mine in found.items()}
    values = {key: Estimate(float(mean[0]), mean[1:]) for key, mean in means.items()}
    return Compared(tuple(scorer.name for scorer in scorers), values, known, outcomes, events, prompts, horizon)


def _measured(sample: Sample, weights: Floats) -> dict[str, Floats]:
    """Return each measure, [1 + B]."""
    area, _ = ranking(sample, weights)
    risk = np.clip(sample.scores, _LEAST, 1 - _LEAST)
    loss = -np.where(sample.labels, np.log(risk), np.log1p(-risk))
    by_person = np.bincount(sample.patients, weights=loss, minlength=weights.shape[1])
    came = np.bincount(sample.patients, weights=sample.labels, minlength=weights.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        per_event = (weights @ by_person) / (weights @ came)
    per_event[~np.isfinite(per_event)] = np.nan
    return {"auroc": area, "log_loss": per_event}


def _cell(metric: Metric, sign: str) -> str:
    value, interval = f"{metric.value:{sign}.4f}", metric.interval
    return value if interval is None else f"{value} ({interval.low:{sign}.4f} to {interval.high:{sign}.4f})"
