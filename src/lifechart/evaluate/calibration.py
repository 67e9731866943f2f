"""Reliability curves: of those told this risk, how many had it?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lifechart.core.forecast import Interval
from lifechart.evaluate.metrics import Estimate, Floats, Sample

MAX_GROUPS = 10
EVENTS_A_GROUP = 11


@dataclass(frozen=True, slots=True)
class Point:
    """One group of prompts with like forecasts."""

    forecast: float
    """Mean probability forecast."""
    observed: float
    """Share in whom the event followed."""
    interval: Interval | None
    """Patient-bootstrap interval of `observed`."""


def reliability(sample: Sample, weights: Floats) -> list[Point]:
    """Return the curve by rising forecast, in groups that each expect the same number of events.

    Equal numbers of *expected events* rather than of prompts put the points where the risk is, and keep every group
    at about ten events or more, so that no point tells of fewer people than a table may.
    """
    num_groups = min(MAX_GROUPS, sample.num_events // EVENTS_A_GROUP)
    if num_groups == 0:
        return []
    order = np.argsort(sample.scores, kind="stable")
    expected = np.cumsum(sample.scores[order])
    group = np.empty(len(order), np.int64)
    group[order] = np.minimum((expected / expected[-1] * num_groups).astype(np.int64), num_groups - 1)
    points = []
    for number in np.unique(group):
        inside = group == number
        patients, width = sample.patients[inside], weights.shape[1]
        size = weights @ np.bincount(patients, minlength=width)
        events = weights @ np.bincount(patients, weights=sample.labels[inside].astype(float), minlength=width)
        share = np.divide(events, size, out=np.full_like(size, np.nan), where=size > 0)
        interval = Estimate(float(share[0]), share[1:]).interval()
        points.append(Point(float(sample.scores[inside].mean()), float(share[0]), interval))
    return points
