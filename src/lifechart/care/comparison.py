"""What is usual for people like this one, and how well the model did on them: rows of the Report, by age and sex."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from lifechart.core.report import EVERYONE, Metric, Report

NEW, RECURRENT = "new", "recurrent"
_BAND = re.compile(r"age=(\d+)(?:-(\d+)|\+)$")


@dataclass(frozen=True, slots=True)
class Comparison:
    """How one outcome went, within one horizon, in one group of the people that the model was examined on."""

    subgroup: str
    """As in core.report.Metric.subgroup."""
    people: str
    """The group in words: "patients aged 65 to 79"."""
    num_prompts: int
    num_events: int
    metrics: dict[str, Metric]
    """Metric name to row."""

    @property
    def usual(self) -> float:
        """The share in whom the outcome occurred (0 to 1)."""
        return self.num_events / self.num_prompts if self.num_prompts else 0.0


class Examined:
    """A Report, indexed for looking people up: a report has tens of thousands of rows, an answer needs a hundred."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.digest = report.digest
        self._groups: dict[tuple[str, str, int, str], dict[str, dict[str, Metric]]] = {}
        for metric in report.metrics:
            key = (metric.forecaster, metric.outcome, metric.horizon_days, metric.onset)
            self._groups.setdefault(key, {}).setdefault(metric.subgroup, {})[metric.name] = metric

    def like(
        self,
        forecaster: str,
        outcome: str,
        horizon_days: int,
        age: float,
        sex: str,
        onset: str = NEW,
        others: Collection[str] = (),
    ) -> list[Comparison]:
        """Return the groups that a person of this age (years) and sex is in, narrowest first, everyone last.

        `others`: further groups that the chart states, as in core.report.stated (`race=White`). Groups that the report
        has no row for are left out; an empty list means that this was not examined.
        """
        groups = self._groups.get((forecaster, outcome, horizon_days, onset), {})
        found = [
            _comparison(subgroup, metrics) for subgroup, metrics in groups.items() if _holds(subgroup, age, sex, others)
        ]
        return sorted(found, key=lambda each: (_breadth(each.subgroup), each.subgroup))

    def row(self, forecaster: str, outcome: str, horizon_days: int, subgroup: str, name: str) -> Metric | None:
        """Return one figure of new onset, if the report has it."""
        return self._groups.get((forecaster, outcome, horizon_days, NEW), {}).get(subgroup, {}).get(name)


_latest: Examined | None = None


def examined(report: Report) -> Examined:
    """Return the index of `report`; the latest one is kept, since a server asks about the same report all day."""
    global _latest
    latest = _latest
    if latest is None or latest.report is not report:
        latest = _latest = Examined(report)
    return latest


def nearest(found: list[Comparison], min_events: int) -> Comparison | None:
    """Return the narrowest group with at least `min_events` outcomes; failing that, everyone; None if not examined."""
    everyone = [each for each in found if each.subgroup == EVERYONE]
    enough = [each for each in found if each.num_events >= min_events]
    return next(iter(enough + everyone), None)


def excess(probability: float, usual: float) -> float:
    """Return how far a forecast stands above what is usual, in nats; negative when below.

    The relative entropy of the forecast against the usual rate, signed. A ratio alone would put one in ten thousand
    against one in a million above one in two against one in four; a difference alone would never show a rare disease.
    """
    p = min(max(probability, 1e-9), 1 - 1e-9)
    q = min(max(usual, 1e-6), 1 - 1e-6)
    divergence = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    return math.copysign(divergence, p - q)


def _comparison(subgroup: str, metrics: dict[str, Metric]) -> Comparison:
    # Every metric of a group rests on the same people; the largest count guards against a row that dropped some.
    largest = max(metrics.values(), key=lambda metric: metric.num_prompts)
    return Comparison(subgroup, _in_words(subgroup), largest.num_prompts, largest.num_events, metrics)


def _parts(subgroup: str) -> Iterator[str]:
    # A cross of attributes may be written with a comma, an ampersand or a plus between them.
    yield from (part for part in re.split(r"[,&;]\s*", subgroup) if part != EVERYONE)


def _breadth(subgroup: str) -> tuple[int, int]:
    parts = list(_parts(subgroup))
    return -len(parts), -sum(part.startswith("age=") for part in parts)


def _holds(subgroup: str, age: float, sex: str, others: Collection[str]) -> bool:
    # A value may itself hold what joins two parts, as "White; Hispanic" does.
    return subgroup in others or all(_part_holds(part, age, sex, others) for part in _parts(subgroup))


def _part_holds(part: str, age: float, sex: str, others: Collection[str]) -> bool:
    if band := _BAND.match(part):
        low, high = band.groups()
        return int(low) <= age < (int(high) + 1 if high else math.inf)
    return part == f"sex={sex}" or part in others


def _in_words(subgroup: str) -> str:
    parts = list(_parts(subgroup))
    if not parts:
        return "everyone examined"
    words = "female patients" if "sex=female" in parts else "male patients" if "sex=male" in parts else "patients"
    for band in filter(None, map(_BAND.match, parts)):
        low, high = band.groups()
        words += f" aged {low} to {high}" if high else f" aged {low} and over"
    for part in parts:
        attribute, _, value = part.partition("=")
        if attribute not in ("age", "sex"):
            words += f" whose {attribute} is recorded as {value}"
    return words
