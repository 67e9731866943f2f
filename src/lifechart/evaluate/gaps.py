"""How much worse a group fares than everybody else, past what the forecasts promise: pure mathematics on two samples.

Legend of shapes: n moments, B resamples of the patients (+ 1 for the sample itself).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from lifechart.evaluate.metrics import Floats, Sample, ranking

FEWEST_EXPECTED = 5.0
"""Figures that rest on fewer expected events than this, found or missed, are not compared."""


@dataclass(frozen=True, slots=True, eq=False)
class Measurement:
    """One metric of one sample: as it is, and past what the forecasts promise."""

    values: Floats
    """[1 + B]"""
    excess: Floats
    """[1 + B]: less what the forecasts promise; of observed/expected the logarithm."""
    spread: float
    """Standard deviation of the excess if each forecast were right and each moment a toss of its own."""


def measure(sample: Sample, weights: Floats, threshold: float) -> dict[str, Measurement]:
    """Return what can be measured, by metric; what rests on fewer expected events than FEWEST_EXPECTED is left out."""
    score, labels = sample.scores, sample.labels.astype(np.float64)
    alerted, odds = (score >= threshold).astype(np.float64), threshold / (1 - threshold)
    tosses = score * (1 - score)

    def total(values: Floats) -> Floats:
        summed: Floats = weights @ np.bincount(sample.patients, weights=values, minlength=weights.shape[1])
        return summed

    with np.errstate(invalid="ignore", divide="ignore"):
        size, events, expected = total(np.ones_like(score)), total(labels), total(score)
        area, ratio = ranking(sample, weights)[0], events / expected
        found = {"auroc": Measurement(area, area - promised_auroc(score), 0.0)}
        if expected[0] < FEWEST_EXPECTED:
            return found
        found["observed_expected"] = Measurement(ratio, np.log(ratio), float(np.sqrt(tosses.sum()) / expected[0]))
        promised = total(score * (1 - alerted)) / expected
        caught = float((score * alerted).sum())
        if min(caught, expected[0] - caught) < FEWEST_EXPECTED:
            return found
        missed = total(labels * (1 - alerted)) / events
        spread = float(np.sqrt((tosses * (1 - alerted - promised[0]) ** 2).sum()) / expected[0])
        found["false_negative_rate"] = Measurement(missed, missed - promised, spread)
        benefit = total(alerted * (labels - (1 - labels) * odds)) / size
        promised = total(alerted * (score - (1 - score) * odds)) / size
        spread = float(np.sqrt((tosses * alerted).sum()) * (1 + odds) / size[0])
        found["net_benefit"] = Measurement(benefit, benefit - promised, spread)
        return found


def promised_auroc(score: Floats) -> float:
    """Return the AUROC to be expected if every forecast is right: the model-based concordance of probabilities [n]."""
    levels, place = np.unique(score, return_inverse=True)
    ill = np.bincount(place, weights=score, minlength=len(levels))
    well = np.bincount(place, weights=1 - score, minlength=len(levels))
    below = np.cumsum(well) - well
    return float((ill * (below + 0.5 * well)).sum() / (ill.sum() * well.sum()))


def worse(metric: str, ours: Measurement, theirs: Measurement, rate: float, degrees: int) -> tuple[float, float]:
    """Return how much worse the group fares than the others, and its p-value: paired resamples of the patients.

    Observed/expected is tested on both sides. The spread is the resamples', or the tosses' where that is larger: a
    handful of alerts without an event among them looks surer in resamples than it is. Student's t, with the patients
    with an event less one, bears with few of them.
    """
    difference = (ours.excess - theirs.excess) * (-1.0 if metric in ("auroc", "net_benefit") else 1.0)
    resamples = difference[1:][np.isfinite(difference[1:])]
    value = float(difference[0])
    size = value / rate if metric == "net_benefit" else value
    if not np.isfinite(value) or len(resamples) < 0.9 * (len(difference) - 1) or len(resamples) < 2:
        return size, 1.0
    spread = max(float(resamples.std(ddof=1)), float(np.hypot(ours.spread, theirs.spread)))
    if spread == 0.0:
        return size, 1.0
    tail = float(student.sf(abs(value) / spread, degrees))
    if metric == "observed_expected":
        return size, min(1.0, 2 * tail)
    return size, tail if value > 0 else 1.0 - tail


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
