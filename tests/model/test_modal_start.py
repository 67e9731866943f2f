"""The convex beginning: what is there enters and is estimated, what is not does not; what one found others try."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import PoissonRegressor

from lifechart.model.modal_evidence import evidence, regress, serves_others
from lifechart.model.modal_start import ENTERS, Onsets, _Fit
from lifechart.model.modal_state import ITEM_WIDTH

Matrix = NDArray[np.float64]


def _drawn(effect: Matrix, windows: int, seed: int, onsets: int) -> tuple[Matrix, Matrix, Matrix, NDArray[np.int64]]:
    """Return features, what came, what was expected without them, and whose window it is."""
    rng = np.random.default_rng(seed)
    subject = np.arange(windows) // 2
    features = rng.standard_normal((windows // 2 + 1, len(effect)))[subject]
    expected = rng.gamma(1.0, onsets / windows, windows)
    factor = np.exp(features @ effect - 0.5 * effect @ effect)
    came = (rng.random(windows) < -np.expm1(-expected * factor)).astype(float)
    return features, came, expected, subject


def test_what_is_there_enters_and_what_is_not_does_not() -> None:
    nothing = np.zeros(32)
    something = nothing.copy()
    something[5] = 0.9
    found = [evidence(*_drawn(something, 6000, seed, 120)[:3]) for seed in range(5)]
    assert all(
        gain > ENTERS and abs(effect[5]) > 3 * np.abs(np.delete(effect, 5)).mean() for gain, _, effect, _ in found
    )
    missed = [_drawn(nothing, 6000, seed, 120) for seed in range(40)]
    entering = [each for each in missed if evidence(*each[:3])[0] > ENTERS and serves_others(*each)]
    assert len(entering) <= 1


def test_a_strong_effect_of_a_trait_that_few_have_enters_by_itself() -> None:
    """Ten times the rate in a fifth of the people: to second order told so large that it would serve nobody."""
    rng = np.random.default_rng(5)
    subject = np.arange(2400) // 6
    trait = (rng.random(400) < 0.2)[subject]
    features = np.stack([(trait - 0.2) / 0.4, rng.standard_normal(400)[subject]], axis=1)
    expected = np.full(2400, 170 / 2400)
    came = (rng.random(2400) < -np.expm1(-expected * np.where(trait, 10.0, 1.0) / 2.8)).astype(float)
    assert evidence(features, came, expected)[0] > 10 * ENTERS
    assert serves_others(features, came, expected, subject)


def test_what_the_history_gets_wrong_on_the_whole_tells_nothing() -> None:
    features, came, expected, _ = _drawn(np.zeros(16), 4000, 1, 200)
    same = evidence(features + 2.0, came, 3.0 * expected)
    np.testing.assert_allclose(same[2], evidence(features, came, expected)[2], atol=1e-8)


@pytest.mark.parametrize("cost", [0.5, 20.0])
def test_weights_are_those_of_a_penalised_poisson_regression(cost: float) -> None:
    effect = np.array([0.5, -0.3, 0.0, 0.0])
    features, came, expected, _ = _drawn(effect, 5000, 2, 400)
    expected = np.maximum(expected, 1e-9)
    twin = PoissonRegressor(alpha=cost / expected.sum(), fit_intercept=False, tol=1e-10, max_iter=1000)
    twin.fit(features, came / expected, sample_weight=expected)
    found = regress(features, came, expected, np.full(4, cost))
    np.testing.assert_allclose(found, twin.coef_, atol=1e-4)


def test_what_the_strongest_components_tell_takes_few_onsets() -> None:
    """25 onsets are too few for a prior on thirty components, and enough for one on the first four."""
    rng = np.random.default_rng(0)
    subject = np.arange(8000) // 4
    state = np.zeros((8000, ITEM_WIDTH))
    state[:, :30] = rng.standard_normal((2000, 30))[subject]
    expected = np.full((8000, 1), 25 / 8000)
    came = rng.random((8000, 1)) < -np.expm1(-expected * np.exp(0.9 * state[:, 2:3] - 0.4))
    onsets = Onsets(subject, came.astype(np.float32), expected.astype(np.float32))
    (term,) = _Fit(state, np.ones((1, 8000), bool), (30,), onsets).alone()[0]
    assert term.basis.shape[1] == 4
    assert evidence(state[:, :30], came[:, 0].astype(float), expected[:, 0])[0] < ENTERS


def test_a_product_that_neither_slot_tells_is_found_and_a_direction_is_shared() -> None:
    """Two slots: outcome 0 follows their product; outcomes 1 and 2 one direction of the first, 2 with few onsets."""
    rng = np.random.default_rng(3)
    windows = 8000
    subject = np.arange(windows) // 4
    state = np.zeros((windows, 2 * ITEM_WIDTH))
    state[:, :30] = rng.standard_normal((windows // 4, 30))[subject]
    state[:, [2, 20]] = state[:, [20, 2]]
    state[:, ITEM_WIDTH] = rng.standard_normal(windows // 4)[subject]
    told = np.stack(
        [1.1 * state[:, 3] * state[:, ITEM_WIDTH] - 0.6, 0.9 * state[:, 20] - 0.4, 0.9 * state[:, 20] - 0.4], 1
    )
    expected = np.tile(np.array([120.0, 300.0, 25.0]) / windows, (windows, 1))
    came = (rng.random((windows, 3)) < -np.expm1(-expected * np.exp(told))).astype(np.float32)
    there = np.ones((2, windows), bool)
    fit = _Fit(state, there, (30, 1), Onsets(subject, came, expected.astype(np.float32)))
    alone = fit.alone()
    assert not alone[0]
    assert alone[1][0].basis.shape[1] == 30
    assert alone[2][0].basis.shape[1] == 1
    products, cost = fit.together(alone)
    by_slot, by_product = fit.final(alone, products, cost)
    assert np.isfinite(cost[0]).any()
    assert np.abs(products[0].one).argmax() == 3
    assert np.flatnonzero(products[0].other).tolist() == [ITEM_WIDTH]
    assert np.corrcoef(state @ by_slot[2], state[:, 20])[0, 1] > 0.9
    assert np.abs(by_product[0]).max() > 0.5
