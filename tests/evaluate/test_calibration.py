"""Reliability curves: right on calibrated forecasts, off on distorted ones, and never of few people."""

import numpy as np
from scipy.special import expit

from lifechart.evaluate.calibration import MAX_GROUPS, reliability
from lifechart.evaluate.metrics import Sample, bootstrap_weights

WEIGHTS = bootstrap_weights(500, 200, 0)


def sample_of(seed: int, n: int = 6000, distortion: float = 1.0) -> Sample:
    random = np.random.default_rng(seed)
    truth = expit(random.normal(-2.5, 1, n))
    return Sample(random.random(n) < truth, truth**distortion, random.integers(0, 500, n))


def test_calibrated_forecasts_lie_within_their_intervals() -> None:
    points = [point for seed in range(20) for point in reliability(sample_of(seed), WEIGHTS)]
    inside = np.mean([point.forecast in point.interval for point in points])
    assert 0.90 <= inside <= 0.99


def test_overstated_forecasts_do_not() -> None:
    points = reliability(sample_of(0, distortion=0.5), WEIGHTS)
    assert all(point.forecast > point.interval.high for point in points)


def test_groups_rise_and_expect_alike() -> None:
    sample = sample_of(1)
    points = reliability(sample, WEIGHTS)
    assert len(points) == MAX_GROUPS
    forecasts = [point.forecast for point in points]
    assert forecasts == sorted(forecasts)


def test_few_events_make_few_groups_and_very_few_none() -> None:
    labels = np.zeros(600, bool)
    labels[:25] = True
    random = np.random.default_rng(0)
    assert len(reliability(Sample(labels, random.random(600), np.arange(600) % 500), WEIGHTS)) == 2
    labels[9:] = False
    assert reliability(Sample(labels, random.random(600), np.arange(600) % 500), WEIGHTS) == []
