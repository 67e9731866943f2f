"""Is a model as good for one group as for everybody else, and if it looks worse, is it the model or the record?

First the record is asked (`recorded`): a disease that results show but nobody wrote down makes labels wrong. Then the
model is asked, on labels that are not known to be wrong. A group is set against everybody else on what its own
forecasts promise: within an age band ranking is harder, and where an event is rarer fewer are found at a threshold,
without any fault; so each figure less its expectation under the forecasts is what is compared (for the AUROC the
model-based concordance, van Klaveren et al., Stat Med 35, 2016). A finding takes a difference that matters (MARGINS)
and that stands after Holm's correction over all tests of its family; the record's tests and the model's are two
families that share ALPHA evenly, so that where nothing is wrong a whole table has at most that chance of a finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from lifechart.core.forecast import Interval
from lifechart.evaluate import recorded
from lifechart.evaluate.metrics import Estimate, Floats, Sample, ranking
from lifechart.evaluate.question import MIN_PEOPLE, Question
from lifechart.evaluate.recorded import Mask, Recording
from lifechart.evaluate.subgroups import subgroups

ALPHA = 0.05
"""Chance of any finding at all where there is nothing to find: half for the record, half for the model."""
AND = " & "
METRICS = ("auroc", "observed_expected", "false_negative_rate", "net_benefit")
MARGINS = {"auroc": 0.05, "observed_expected": float(np.log(1.25)), "false_negative_rate": 0.1, "net_benefit": 0.2}
"""Differences that matter: AUROC; log observed/expected; share of events missed; net benefit by the group's own rate."""
SHORTFALL = 0.1
"""Difference that matters in the share recorded."""
ALERTED = 0.1
"""Where no threshold is in use, the one that alerts this share of the moments."""
UNDER_RECORDED, UNJUDGED, WORSE, NOTHING = "under-recorded", "not judged", "worse", ""


@dataclass(frozen=True, slots=True)
class Figure:
    """One metric of one outcome in one group, beside everybody else."""

    outcome: str
    group: str
    """`attribute=value`, or two of them joined by ` & `."""
    metric: str
    value: float
    interval: Interval | None
    others: float
    difference: float
    """How much worse than among the others, after what the forecasts promise: in MARGINS' units, above 0 is worse."""
    p_value: float
    threshold: float
    people_with_event: int
    verdict: str = NOTHING

    @property
    def matters(self) -> bool:
        """Whether the difference is one that matters, whatever chance has to do with it."""
        size = abs(self.difference) if self.metric == "observed_expected" else self.difference
        return size >= MARGINS[self.metric]


@dataclass(frozen=True, slots=True, eq=False)
class Fairness:
    """What was found, and everything that was looked at."""

    recordings: list[tuple[Recording, bool]]
    """Each comparison of the record, and whether it is a finding."""
    figures: list[Figure]
    num_tests: int

    @property
    def under_recorded(self) -> list[Recording]:
        """The findings about the record."""
        return [each for each, is_found in self.recordings if is_found]

    @property
    def worse(self) -> list[Figure]:
        """The findings about the model."""
        return [each for each in self.figures if each.verdict == WORSE]

    def content(self) -> dict[str, object]:
        """Return it as JSON would hold it; counts of few people are left out."""
        rows = [
            {
                "condition": each.condition.condition,
                "group": each.group,
                "shortfall": round(each.shortfall, 2),
                "p_value": each.p_value,
                "verdict": UNDER_RECORDED if is_found else NOTHING,
            }
            for each, is_found in self.recordings
        ]
        figures = [
            {
                "outcome": each.outcome,
                "group": each.group,
                "metric": each.metric,
                "value": each.value,
                "interval": [each.interval.low, each.interval.high] if each.interval else None,
                "others": each.others,
                "difference": each.difference,
                "p_value": each.p_value,
                "threshold": each.threshold,
                "verdict": each.verdict,
            }
            for each in self.figures
        ]
        return {"alpha": ALPHA, "tests": self.num_tests, "record": rows, "model": figures}


Scores = Mapping[tuple[str, int], NDArray[np.float32]]


def examine(
    question: Question,
    scores: Scores,
    outcomes: Sequence[str],
    names: Mapping[str, str],
    thresholds: Mapping[str, float] | None = None,
) -> Fairness:
    """Compare every group that the record states, and every pair of two attributes, with everybody else.

    `scores`: the model's, by (outcome, horizon). `outcomes`: those to look at, new onset at the main horizon. `names`:
    display names of codes. `thresholds`: risk from which somebody acts, by outcome; by default the one that alerts
    ALERTED of the moments. Groups with fewer than MIN_PEOPLE people with and without the event, inside or outside, are
    left out.
    """
    recordings = _recordings(question, names)
    groups = pairs(subgroups(question.events, question.history, question.prompts, names))
    horizon = question.task.main_horizon_days
    figures: list[Figure] = []
    for outcome in outcomes:
        suspect = np.zeros(len(question.owner), np.bool_)
        for each, is_found in recordings:
            if is_found and each.condition.names(outcome) and each.group in groups:
                suspect |= groups[each.group]
        rows = question.rows(outcome, horizon, "new")
        score = scores[outcome, horizon].astype(np.float64)
        given = (thresholds or {}).get(outcome)
        threshold = float(np.quantile(score[rows], 1 - ALERTED)) if given is None else given
        for judged, kept in ((True, rows & ~suspect), (False, rows & suspect)):
            if kept.any():
                figures += _figures(question, outcome, score, rows, kept, groups, threshold, judged)
    figures = _holm(figures)
    return Fairness(recordings, figures, len(recordings) + sum(each.verdict != UNJUDGED for each in figures))


def pairs(groups: Mapping[str, Mask]) -> dict[str, Mask]:
    """Return the groups, and each two of different attributes that have anybody in common."""
    found = dict(groups)
    for (one, ours), (other, theirs) in combinations(groups.items(), 2):
        if one.partition("=")[0] != other.partition("=")[0] and (both := ours & theirs).any():
            found[f"{one}{AND}{other}"] = both
    return found


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Return which hypotheses fall at family-wise level `alpha` (Holm, Scand J Stat 6, 1979).

    >>> holm([0.01, 0.04, 0.03], 0.05)
    [True, False, False]
    """
    order = sorted(range(len(p_values)), key=lambda number: p_values[number])
    fallen = [False] * len(p_values)
    for place, number in enumerate(order):
        if p_values[number] > alpha / (len(order) - place):
            break
        fallen[number] = True
    return fallen


def _recordings(question: Question, names: Mapping[str, str]) -> list[tuple[Recording, bool]]:
    found: list[Recording] = []
    for shown in recorded.shown(question.events):
        if len(shown.recorded) >= 2 * MIN_PEOPLE:
            groups = pairs(subgroups(question.events, question.history, shown.people, names))
            found += recorded.compare(shown, groups, MIN_PEOPLE)
    fallen = holm([each.p_value for each in found], ALPHA / 2)
    return [(each, fell and each.shortfall >= SHORTFALL) for each, fell in zip(found, fallen, strict=True)]


def _figures(
    question: Question, outcome: str, score: Floats, rows: Mask, kept: Mask, groups: Mapping[str, Mask],
    threshold: float, judged: bool,
) -> Iterable[Figure]:  # fmt: skip
    """Yield the figures of every group among `kept` with enough people; unjudged, beside everybody else's labels."""
    horizon = question.task.main_horizon_days
    for name, members in groups.items():
        inside = question.sample(outcome, horizon, kept & members, score)
        outside = question.sample(outcome, horizon, (kept if judged else rows) & ~members, score)
        if min(_fewest(inside), _fewest(outside)) < MIN_PEOPLE:
            continue
        ours, theirs = _measured(inside, question.weights, threshold), _measured(outside, question.weights, threshold)
        degrees = min(inside.people_with_event, outside.people_with_event) - 1
        rate = float(inside.labels.mean())
        for metric in METRICS:
            if not (np.isfinite(ours[metric][0][0]) and np.isfinite(theirs[metric][0][0])):
                continue
            worse, p_value = _worse(metric, ours[metric][1], theirs[metric][1], rate, degrees)
            mine = Estimate(float(ours[metric][0][0]), ours[metric][0][1:])
            yield Figure(
                outcome, name, metric, mine.value, mine.interval(), float(theirs[metric][0][0]), worse, p_value,
                threshold, inside.people_with_event, NOTHING if judged else UNJUDGED,
            )  # fmt: skip


def _fewest(sample: Sample) -> int:
    return min(sample.people_with_event, sample.people_without_event)


def _measured(sample: Sample, weights: Floats, threshold: float) -> dict[str, tuple[Floats, Floats]]:
    """Return, by metric, its value and its value less what the forecasts promise, each [1 + B]."""
    score, labels = sample.scores, sample.labels.astype(np.float64)
    alerted, odds = (score >= threshold).astype(np.float64), threshold / (1 - threshold)

    def total(values: Floats) -> Floats:
        summed: Floats = weights @ np.bincount(sample.patients, weights=values, minlength=weights.shape[1])
        return summed

    with np.errstate(invalid="ignore", divide="ignore"):
        size, events, expected = total(np.ones_like(score)), total(labels), total(score)
        ratio = events / expected
        missed = total(labels * (1 - alerted)) / events
        benefit = total(alerted * (labels - (1 - labels) * odds)) / size
        area = ranking(sample, weights)[0]
        return {
            "auroc": (area, area - promised_auroc(score)),
            "observed_expected": (ratio, np.log(ratio)),
            "false_negative_rate": (missed, missed - total(score * (1 - alerted)) / expected),
            "net_benefit": (benefit, benefit - total(alerted * (score - (1 - score) * odds)) / size),
        }


def promised_auroc(score: Floats) -> float:
    """Return the AUROC to be expected if every forecast is right: the model-based concordance of probabilities [n]."""
    levels, place = np.unique(score, return_inverse=True)
    ill = np.bincount(place, weights=score, minlength=len(levels))
    well = np.bincount(place, weights=1 - score, minlength=len(levels))
    below = np.cumsum(well) - well
    return float((ill * (below + 0.5 * well)).sum() / (ill.sum() * well.sum()))


def _worse(metric: str, ours: Floats, theirs: Floats, rate: float, degrees: int) -> tuple[float, float]:
    """Return how much worse the group fares than the others, and its p-value: paired resamples of the patients.

    Observed/expected is tested on both sides. Student's t with the events' patients less one bears with few of them.
    """
    difference = (ours - theirs) * (-1.0 if metric in ("auroc", "net_benefit") else 1.0)
    if metric == "net_benefit":
        difference = difference / rate
    resamples = difference[1:][np.isfinite(difference[1:])]
    spread = float(resamples.std(ddof=1)) if len(resamples) > 1 else 0.0
    value = float(difference[0])
    if spread == 0.0 or len(resamples) < 0.9 * (len(difference) - 1):
        return value, 1.0
    tail = float(student.sf(abs(value) / spread, degrees))
    if metric == "observed_expected":
        return value, min(1.0, 2 * tail)
    return value, tail if value > 0 else 1.0 - tail


def _holm(figures: Sequence[Figure]) -> list[Figure]:
    """Return the figures with their verdicts; those on labels known to be wrong are not tested."""
    tested = [each for each in figures if each.verdict != UNJUDGED]
    fallen = dict(zip(map(id, tested), holm([each.p_value for each in tested], ALPHA / 2), strict=True))
    return [replace(each, verdict=WORSE) if fallen.get(id(each)) and each.matters else each for each in figures]
