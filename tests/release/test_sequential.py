"""Boundaries by alpha spending: golden values, and what simulated trials do under them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, norm

from lifechart.core.errors import InputError
from lifechart.release import sequential
from lifechart.release.sequential import boundaries, drift_for, efficacy_bounds, exits, inflation

QUARTERS = (0.25, 0.5, 0.75, 1.0)


@pytest.mark.parametrize(
    ("alpha", "golden"),
    [
        (0.025, (4.3326, 2.9631, 2.3590, 2.0141)),
        (0.05, (3.74955, 2.53994, 2.01607, 1.72018)),
    ],
)
def test_bounds_equal_the_published_ones(alpha: float, golden: tuple[float, ...]) -> None:
    np.testing.assert_allclose(efficacy_bounds(alpha, QUARTERS), golden, atol=5e-5)


def test_a_trial_without_looks_has_the_usual_bound_and_size() -> None:
    assert efficacy_bounds(0.025, [1.0]) == pytest.approx([norm.isf(0.025)])
    assert inflation(0.025, 0.9, [1.0]) == pytest.approx(1.0)


@pytest.mark.parametrize("spending", sorted(sequential.SPENDING))
@pytest.mark.parametrize("fractions", [QUARTERS, (0.1, 0.15, 1.0), (0.5, 1.0)])
def test_all_of_alpha_and_no_more_is_spent(spending: str, fractions: tuple[float, ...]) -> None:
    bounds = efficacy_bounds(0.025, fractions, spending)
    assert sum(exits(fractions, bounds, None, 0.0).upper) == pytest.approx(0.025, abs=1e-9)


def test_the_integral_agrees_with_the_multivariate_normal() -> None:
    bounds = efficacy_bounds(0.025, QUARTERS)
    fractions = np.array(QUARTERS)
    correlation = np.sqrt(np.minimum.outer(fractions, fractions) / np.maximum.outer(fractions, fractions))
    stays = multivariate_normal(cov=correlation, seed=0).cdf(np.array(bounds))
    assert 1 - stays == pytest.approx(0.025, abs=2e-5)


def test_simulated_trials_keep_error_and_power_and_obey_futility() -> None:
    plan = boundaries(0.025, QUARTERS, power=0.9, harm_alpha=0.05)
    assert plan.drift is not None
    assert plan.futility[-1] == plan.efficacy[-1]
    rng, num = np.random.default_rng(0), 200_000
    walk = rng.standard_normal((num, 4)).cumsum(1) * 0.5
    for drift, wanted, binding in ((0.0, 0.025, False), (plan.drift, 0.9, True)):
        z = (walk + drift * np.array(QUARTERS)) / np.sqrt(QUARTERS)
        ended = np.full(num, 4)
        vain = ended.copy()
        above, below = z >= np.array(plan.efficacy), z <= np.array(plan.futility)
        ended[above.any(1)] = above.argmax(1)[above.any(1)]
        vain[below.any(1)] = below.argmax(1)[below.any(1)]
        wins = above.any(1) & ((ended <= vain) | (not binding))
        assert wins.mean() == pytest.approx(wanted, abs=4 * np.sqrt(wanted * (1 - wanted) / num))


@given(power=st.floats(0.6, 0.97), alpha=st.floats(0.005, 0.1), looks=st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_the_drift_gives_the_power_and_looks_never_come_for_nothing(power: float, alpha: float, looks: int) -> None:
    fractions = [(look + 1) / looks for look in range(looks)]
    bounds = efficacy_bounds(alpha, fractions)
    drift = drift_for(power, fractions, bounds)
    assert sum(exits(fractions, bounds, None, drift).upper) == pytest.approx(power, abs=1e-8)
    assert inflation(alpha, power, fractions) >= 1 - 1e-9


@pytest.mark.parametrize(
    ("alpha", "fractions", "spending", "key"),
    [
        (0.6, [1.0], "pocock", "alpha"),
        (0.025, [0.5], "pocock", "looks"),
        (0.025, [0.5, 0.5, 1.0], "pocock", "looks"),
        (0.025, [], "pocock", "looks"),
        (0.025, [1.0], "haybittle", "spending"),
    ],
)
def test_what_is_no_plan_is_refused(alpha: float, fractions: list[float], spending: str, key: str) -> None:
    with pytest.raises(InputError, match=key):
        efficacy_bounds(alpha, fractions, spending)
