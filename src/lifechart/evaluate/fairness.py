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

from lifechart.core.errors import InputError
from lifechart.core.forecast import Interval
from lifechart.evaluate import recorded
from lifechart.evaluate.gaps import holm, measure, worse
from lifechart.evaluate.metrics import Estimate, Sample
from lifechart.evaluate.question import MIN_PEOPLE, Question
from lifechart.evaluate.recorded import Mask, Recording
from lifechart.evaluate.subgroups import subgroups

ALPHA = 0.05
"""Chance of any finding at all where there is nothing to find: half for the record, half for the model."""
AND = " & "
METRICS = ("auroc", "observed_expected", "false_negative_rate", "net_benefit")
MARGINS = {"auroc": 0.05, "observed_expected": float(np.log(1.25)), "false_negative_rate": 0.1, "net_benefit": 0.2}
"""Differences that matter: AUROC; log observed/expected; share of events missed; net benefit by the group's rate."""
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
        wrong = {
            each.group: groups[each.group]
            for each, is_found in recordings
            if is_found and each.condition.names(outcome) and each.group in groups
        }
        suspect = np.logical_or.reduce([np.zeros(len(question.owner), np.bool_), *wrong.values()])
        rows = question.rows(outcome, horizon, "new")
        score = scores[outcome, horizon]
        given = (thresholds or {}).get(outcome)
        threshold = float(np.quantile(score[rows], 1 - ALERTED)) if given is None else given
        figures += _figures(question, outcome, score, rows & ~suspect, groups, threshold, NOTHING)
        figures += _figures(question, outcome, score, rows, wrong, threshold, UNJUDGED)
    figures = _holm(figures)
    return Fairness(recordings, figures, len(recordings) + sum(each.verdict != UNJUDGED for each in figures))


def parse_thresholds(texts: Iterable[str]) -> dict[str, float]:
    """Read `OUTCOME=RISK`, such as `SNOMED//44054006=0.05`; raises InputError unless the risk lies between 0 and 1."""
    found = {}
    for text in texts:
        outcome, _, risk = text.rpartition("=")
        try:
            found[outcome] = float(risk)
        except ValueError:
            found[outcome] = float("nan")
        if not outcome or not 0 < found[outcome] < 1:
            raise InputError("threshold", text, "OUTCOME=RISK, a risk between 0 and 1")
    return found


def pairs(groups: Mapping[str, Mask]) -> dict[str, Mask]:
    """Return the groups, and each two of different attributes that have anybody in common."""
    found = dict(groups)
    for (one, ours), (other, theirs) in combinations(groups.items(), 2):
        if one.partition("=")[0] != other.partition("=")[0] and (both := ours & theirs).any():
            found[f"{one}{AND}{other}"] = both
    return found


def _recordings(question: Question, names: Mapping[str, str]) -> list[tuple[Recording, bool]]:
    found: list[Recording] = []
    for shown in recorded.shown(question.events):
        if len(shown.recorded) >= 2 * MIN_PEOPLE:
            groups = pairs(subgroups(question.events, question.history, shown.people, names))
            found += recorded.compare(shown, groups, MIN_PEOPLE)
    fallen = holm([each.p_value for each in found], ALPHA / 2)
    return [(each, fell and each.shortfall >= SHORTFALL) for each, fell in zip(found, fallen, strict=True)]


def _figures(
    question: Question, outcome: str, score: NDArray[np.float32], rows: Mask, groups: Mapping[str, Mask],
    threshold: float, verdict: str,
) -> Iterable[Figure]:  # fmt: skip
    """Yield the figures of every group with enough people among the moments `rows`, beside everybody else there."""
    horizon = question.task.main_horizon_days
    for name, members in groups.items():
        inside = question.sample(outcome, horizon, rows & members, score)
        outside = question.sample(outcome, horizon, rows & ~members, score)
        if min(_fewest(inside), _fewest(outside)) < MIN_PEOPLE:
            continue
        ours, theirs = measure(inside, question.weights, threshold), measure(outside, question.weights, threshold)
        degrees = min(inside.people_with_event, outside.people_with_event) - 1
        for metric in METRICS:
            mine, other = ours.get(metric), theirs.get(metric)
            if mine is None or other is None:
                continue
            difference, p_value = worse(metric, mine, other, float(inside.labels.mean()), degrees)
            value = Estimate(float(mine.values[0]), mine.values[1:])
            yield Figure(
                outcome, name, metric, value.value, value.interval(), float(other.values[0]), difference, p_value,
                threshold, inside.people_with_event, verdict,
            )  # fmt: skip


def _fewest(sample: Sample) -> int:
    return min(sample.people_with_event, sample.people_without_event)


def _holm(figures: Sequence[Figure]) -> list[Figure]:
    """Return the figures with their verdicts; those on labels known to be wrong are not tested."""
    tested = [each for each in figures if each.verdict != UNJUDGED]
    fallen = dict(zip(map(id, tested), holm([each.p_value for each in tested], ALPHA / 2), strict=True))
    return [replace(each, verdict=WORSE) if fallen.get(id(each)) and each.matters else each for each in figures]
