"""Net benefit and threshold tables beside their definitions counted out, one prompt at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifechart.evaluate.benefit import FEWEST_ALERTS, actions, cost_per_event
from lifechart.evaluate.metrics import Sample, bootstrap_weights

RNG = np.random.default_rng(3)


def sample(number: int = 300) -> Sample:
    scores = RNG.random(number).round(2)
    return Sample(RNG.random(number) < scores, scores, np.arange(number) // 3)


@given(threshold=st.floats(0.01, 0.9), seed=st.integers(0, 50))
def test_it_counts_what_it_says(threshold: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, number = rng.random(60), 60
    labels = rng.random(60) < 0.4
    (action,) = actions(Sample(labels, scores, np.arange(60)), np.ones((1, 60)), [threshold])
    true = sum(bool(y) and s >= threshold for y, s in zip(labels, scores, strict=True))
    false = sum(not y and s >= threshold for y, s in zip(labels, scores, strict=True))
    odds = threshold / (1 - threshold)
    assert action.net_benefit.value == pytest.approx((true - false * odds) / number)
    assert action.treat_all.value == pytest.approx((labels.sum() - (~labels).sum() * odds) / number)
    assert action.alerts_per_100.value == pytest.approx(100 * (true + false) / number)
    assert action.num_alerts == true + false
    assert action.is_small == (0 < true + false < FEWEST_ALERTS)
    if true:
        assert action.workups_per_event.value == pytest.approx((true + false) / true)
        assert cost_per_event(action, 200.0, 5.0)[0] == pytest.approx(205 * (true + false) / true)


def test_a_resample_is_the_sample_with_its_patients_repeated() -> None:
    whole = sample()
    weights = bootstrap_weights(100, 5, seed=1)
    found = actions(whole, weights, [0.3])[0]
    for number, weight in enumerate(weights[1:]):
        rows = np.repeat(np.arange(300), weight[whole.patients].astype(int))
        redone = Sample(whole.labels[rows], whole.scores[rows], np.arange(len(rows)))
        again = actions(redone, np.ones((1, len(rows))), [0.3])[0]
        for name in ("net_benefit", "sensitivity", "specificity", "precision", "treat_all", "advantage"):
            assert getattr(found, name).replicates[number] == pytest.approx(getattr(again, name).value), name


def test_a_threshold_that_alerts_nobody_has_no_precision() -> None:
    whole = sample()
    (action,) = actions(Sample(whole.labels, whole.scores * 0.9, whole.patients), np.ones((1, 100)), [0.99])
    assert action.net_benefit.value == 0
    assert np.isnan(action.precision.value)
