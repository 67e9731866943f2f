"""Calibration without groups: a smooth curve of observed on forecast risk, and how far it lies from the diagonal.

Local linear regression with tricube weights over the nearest share of the sample (Cleveland 1979), at quantiles of the
forecasts; between them it is interpolated. The integrated calibration index is the mean distance of the curve from the
diagonal over the sample, E50 and E90 its median and 90th percentile (Austin & Steyerberg 2019). Sums are kept per
patient, so each resample of the patients has a curve of its own and the curve has a band.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lifechart.evaluate.metrics import Estimate, Floats, Sample

SPAN = 0.75
"""Share of the sample that each local regression sees."""
NUM_POINTS = 60


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Observed risk as a smooth function of the forecast."""

    forecast: Floats
    """[K] rising."""
    observed: Floats
    """[1 + B, K]: the sample's own curve, then each resample's."""
    index: Estimate
    """Integrated calibration index."""
    median: float
    """E50."""
    ninetieth: float
    """E90."""

    def band(self, level: float = 0.95) -> tuple[Floats, Floats]:
        """Return the pointwise band, [K] each."""
        low, high = np.nanquantile(self.observed[1:], [(1 - level) / 2, (1 + level) / 2], axis=0)
        return low, high


def curve(sample: Sample, weights: Floats, *, span: float = SPAN, num_points: int = NUM_POINTS) -> Curve:
    """Return the smooth calibration curve.  weights: [1 + B, S] of `metrics.bootstrap_weights`.

    Resamples keep the neighbourhoods of the sample, so that only sums change.
    """
    scores, labels = sample.scores, sample.labels.astype(np.float64)
    at = np.unique(np.quantile(scores, np.linspace(0, 1, num_points)))
    observed = np.stack([_local(sample, labels, point, weights, span) for point in at], axis=1)
    observed = np.clip(observed, 0, 1)
    distances = np.abs(_interpolated(scores, at, observed) - scores)
    # Mean over the prompts of each resample: the distances are summed per patient first.
    index = np.array([_mean(row, sample, weight) for row, weight in zip(distances, weights, strict=True)])
    median, ninetieth = np.quantile(distances[0], [0.5, 0.9])
    return Curve(at, observed, Estimate(float(index[0]), index[1:]), float(median), float(ninetieth))


def smooth_at(scores: Floats, labels: Floats, point: float, span: float = SPAN) -> float:
    """Return the local linear fit at one forecast: what `curve` computes, for one sample without resamples."""
    alone = Sample(labels.astype(bool), scores, np.zeros(len(scores), dtype=np.int64))
    return float(_local(alone, labels, point, np.ones((1, 1)), span)[0])


def _local(sample: Sample, labels: Floats, point: float, weights: Floats, span: float) -> Floats:
    """Return the local linear fit at `point` in each resample, [1 + B]."""
    away = np.abs(sample.scores - point)
    neighbours = max(2, int(span * len(away) + 1e-10))
    reach = np.partition(away, neighbours - 1)[neighbours - 1]
    near = np.flatnonzero(away < reach) if reach > 0 else np.flatnonzero(away == 0)
    kernel = (1 - (away[near] / reach) ** 3) ** 3 if reach > 0 else np.ones(len(near))
    shift = sample.scores[near] - point
    owner, num_patients = sample.patients[near], weights.shape[1]

    def total(values: Floats) -> Floats:
        sums: Floats = weights @ np.bincount(owner, weights=kernel * values, minlength=num_patients)
        return sums

    mass, first, second = total(np.ones(len(near))), total(shift), total(shift**2)
    ahead, across = total(labels[near]), total(labels[near] * shift)
    spread = mass * second - first**2
    # Where the neighbours share one forecast there is no slope to fit: their mean stands.
    flat = spread <= 1e-12 * mass**2
    with np.errstate(invalid="ignore", divide="ignore"):
        line = (second * ahead - first * across) / spread
        fitted: Floats = np.where(flat, ahead / mass, line)
    return fitted


def _interpolated(scores: Floats, at: Floats, observed: Floats) -> Floats:
    """Return each curve at each forecast, [1 + B, n]."""
    if len(at) == 1:
        return np.broadcast_to(observed, (len(observed), len(scores)))
    right = np.clip(np.searchsorted(at, scores), 1, len(at) - 1)
    share = (scores - at[right - 1]) / (at[right] - at[right - 1])
    between: Floats = observed[:, right - 1] * (1 - share) + observed[:, right] * share
    return between


def _mean(values: Floats, sample: Sample, weight: Floats) -> float:
    times = weight[sample.patients]
    whole = times.sum()
    return float((values * times).sum() / whole) if whole else float("nan")
