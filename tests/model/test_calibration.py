"""Recalibration and intervals recover what was planted."""

import numpy as np
import pytest

from lifechart.model.calibration import around, interval_scale, last_layer_spread, recalibrate
from lifechart.model.heads import cumulative_incidence
from lifechart.model.inference import Told
from lifechart.model.questions import Labels


def world(n: int, seed: int, bias: float = 0.0, slope: float = 1.0) -> tuple[Told, Labels, np.ndarray]:
    """One question a patient; the true log hazard is -8 + state, and what is told departs from it as asked."""
    rng = np.random.default_rng(seed)
    state = rng.normal(0, 1, (n, 2)).astype(np.float32)
    true = -8.0 + state[:, :1]
    days_to = rng.exponential(np.exp(-true)).astype(np.float32)
    observed = np.full(n, 3000.0, dtype=np.float32)
    told = np.repeat((-8.0 + bias + slope * state[:, :1])[:, :, None], 4, axis=2).astype(np.float32)
    had = np.zeros((n, 1), dtype=bool)
    return (
        Told(told, state, had),
        Labels(np.where(days_to <= observed[:, None], days_to, np.inf), observed, observed, had),
        np.arange(n),
    )


@pytest.mark.parametrize(("bias", "slope"), [(0.4, 1.0), (0.0, 1.4), (-0.5, 0.8)])
def test_recalibration_undoes_bias_and_overconfidence(bias: float, slope: float) -> None:
    told, labels, _ = world(60_000, 0, bias, slope)
    centre, intercept, stretch = recalibrate(told, labels)
    corrected = centre + intercept + stretch * (told.log_hazard[:, 0, 0] - centre)
    np.testing.assert_allclose(corrected, -8.0 + told.state[:, 0], atol=0.15)


def test_few_events_move_recalibration_little() -> None:
    told, labels, _ = world(60, 1, bias=0.0)
    _, _, slope = recalibrate(
        told, Labels(np.full((60, 1), np.inf, np.float32), labels.observed, labels.observed, labels.had)
    )
    assert slope[0] > 0


def test_last_layer_errors_agree_with_refits_on_new_samples() -> None:
    """The sandwich error of a constant hazard is 1 / sqrt(events)."""
    told, labels, subject = world(20_000, 2)
    flat = Told(
        np.full_like(told.log_hazard, np.log(np.exp(told.log_hazard).mean())), np.zeros_like(told.state), told.had
    )
    spread = last_layer_spread(flat, labels, subject)
    events = ((labels.days_to <= labels.observed[:, None]) & (labels.days_to <= 1825)).sum()
    assert np.linalg.norm(spread[0][-1]) == pytest.approx(1 / np.sqrt(events), rel=0.3)


def test_interval_scale_grows_with_the_forecasters_error() -> None:
    scales = []
    for bias in (0.0, 0.6):
        told, labels, subject = world(20_000, 3, bias)
        probability = cumulative_incidence(told.log_hazard, None)
        error = np.full((20_000, 1), 0.1, dtype=np.float32)
        scales.append(interval_scale(probability, error, told.had, labels, subject))
    assert scales[0] < 1.0
    assert scales[1] > 2.0


def test_bounds_hold_the_probability_and_widen_with_the_error() -> None:
    probability = np.array([0.0, 1e-9, 0.01, 0.5, 0.999, 1.0], dtype=np.float32)
    low, high = around(probability, np.float32(0.3))
    wide_low, wide_high = around(probability, np.float32(0.9))
    assert (low <= probability).all()
    assert (probability <= high).all()
    assert (wide_low <= low).all()
    assert (high <= wide_high).all()
