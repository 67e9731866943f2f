"""The smooth calibration curve: exact on a straight truth, resampled by patient, and its index where it is known."""

import numpy as np
import pytest

from lifechart.evaluate.metrics import Sample, bootstrap_weights
from lifechart.evaluate.smooth import curve, smooth_at

RNG = np.random.default_rng(8)


def drawn(number: int, miscalibrated: float = 1.0) -> Sample:
    scores = RNG.random(number) * 0.6
    return Sample(RNG.random(number) < scores * miscalibrated, scores, np.arange(number))


def test_a_line_is_found_exactly() -> None:
    scores = np.sort(RNG.random(200))
    for point in (0.1, 0.5, 0.9):
        assert smooth_at(scores, 0.2 + 0.5 * scores, point) == pytest.approx(
            smooth_at(scores, np.ones(200), point) * 0 + 0.2 + 0.5 * point
        )


def test_the_index_is_the_mean_distance() -> None:
    good, poor = drawn(20_000), drawn(20_000, 0.5)
    ones = np.ones((1, 20_000))
    assert curve(good, ones).index.value < 0.01
    assert curve(poor, ones).index.value == pytest.approx(0.15, abs=0.01), "half of the mean forecast of 0.3"
    assert curve(poor, ones).ninetieth == pytest.approx(0.27, abs=0.03)


def test_a_resample_moves_the_curve_as_repeating_its_patients_would() -> None:
    whole = drawn(400)
    weights = bootstrap_weights(400, 3, seed=2)
    found = curve(whole, weights, span=1.0, num_points=5)
    rows = np.repeat(np.arange(400), weights[1].astype(int))
    # With every prompt in each neighbourhood, what differs is only how far the farthest lies.
    again = curve(
        Sample(whole.labels[rows], whole.scores[rows], np.arange(len(rows))), np.ones((1, len(rows))), span=1.0
    )
    middle = np.interp(found.forecast[2], again.forecast, again.observed[0])
    assert found.observed[1, 2] == pytest.approx(middle, abs=0.02)
    low, high = found.band()
    assert (low <= high).all()


def test_one_forecast_for_everybody_has_a_point_for_a_curve() -> None:
    labels = RNG.random(100) < 0.2
    found = curve(Sample(labels, np.full(100, 0.3), np.arange(100)), np.ones((1, 100)))
    assert found.observed[0] == pytest.approx([labels.mean()])
    assert found.index.value == pytest.approx(abs(labels.mean() - 0.3))
