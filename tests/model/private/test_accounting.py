"""Epsilon: golden values of an independent accountant, brackets of another, closed forms, and what must be monotone."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from lifechart.core.errors import InputError
from lifechart.model.private.accounting import Release, compose, epsilon_of, losses_of, noise_for

GOLDEN = [  # dp-accounting 0.6.0: from_gaussian_mechanism(noise, sampling_prob=q).self_compose(times), default grid
    ([Release(1.0, 0.01, 1000)], 1e-5, 1.828243645591767),
    ([Release(0.8, 0.004, 10_000)], 1e-6, 4.0284836231529715),
    ([Release(1.5, 0.02, 3000)], 1e-6, 4.023411202989437),
    ([Release(5.0)], 1e-5, 0.7255217677443166),
    ([Release(0.9, 0.05, 400), Release(6.0, 1.0, 2)], 1e-5, 8.37817543911015),
]


@pytest.mark.parametrize(("series", "delta", "golden"), GOLDEN)
def test_epsilon_agrees_with_an_independent_accountant(series: list[Release], delta: float, golden: float) -> None:
    assert epsilon_of(series, delta) == pytest.approx(golden, abs=2e-5)


def test_epsilon_lies_within_the_bracket_of_privacy_random_variables() -> None:
    prv = pytest.importorskip("prv_accountant", reason="prv-accountant is not installed")
    mechanism = prv.PoissonSubsampledGaussianMechanism(sampling_probability=0.02, noise_multiplier=1.5)
    accountant = prv.PRVAccountant(prvs=mechanism, max_self_compositions=500, eps_error=0.01, delta_error=1e-9)
    low, _, high = accountant.compute_epsilon(delta=1e-6, num_self_compositions=500)
    assert low <= epsilon_of([Release(1.5, 0.02, 500)], 1e-6) <= high


def test_one_gaussian_release_has_the_closed_form() -> None:
    for noise in (0.6, 1.0, 4.0):
        for epsilon in (0.1, 1.0, 3.0):
            low = norm.cdf(0.5 / noise - epsilon * noise)
            exact = low - math.exp(epsilon) * norm.cdf(-0.5 / noise - epsilon * noise)
            assert losses_of(Release(noise), removed=True).delta(epsilon) == pytest.approx(exact, rel=1e-6, abs=1e-13)


def test_composing_gaussians_is_one_gaussian() -> None:
    assert epsilon_of([Release(8.0, 1.0, 16)], 1e-6) == pytest.approx(epsilon_of([Release(2.0)], 1e-6), abs=1e-5)


@settings(max_examples=12, deadline=None)
@given(st.floats(0.7, 5.0), st.floats(0.01, 0.5), st.integers(1, 60), st.sampled_from([1e-5, 1e-7]))
def test_epsilon_rises_with_sampling_and_steps_and_falls_with_noise_and_delta(
    noise: float, sampling: float, times: int, delta: float
) -> None:
    here = epsilon_of([Release(noise, sampling, times)], delta, 1e-3)
    more = 1e-3  # of the grid
    assert epsilon_of([Release(noise * 1.1, sampling, times)], delta, 1e-3) <= here + more
    assert epsilon_of([Release(noise, sampling, times + 5)], delta, 1e-3) >= here - more
    assert epsilon_of([Release(noise, min(1.0, sampling * 1.2), times)], delta, 1e-3) >= here - more
    assert epsilon_of([Release(noise, sampling, times)], delta * 10, 1e-3) <= here + more


@settings(max_examples=10, deadline=None)
@given(st.floats(0.7, 4.0), st.floats(0.01, 1.0), st.booleans())
def test_a_loss_distribution_holds_all_mass_and_both_densities(noise: float, sampling: float, removed: bool) -> None:
    losses = losses_of(Release(noise, sampling), removed=removed)
    assert losses.mass.min() >= 0
    assert losses.mass.sum() + losses.breach == pytest.approx(1.0, abs=1e-12)
    assert (losses.mass * np.exp(-losses.values)).sum() == pytest.approx(1.0, abs=1e-9)


def test_a_coarser_grid_never_promises_more() -> None:
    series = [Release(1.0, 0.05, 200)]
    assert epsilon_of(series, 1e-6, 5e-3) >= epsilon_of(series, 1e-6) - 1e-6


def test_noise_for_spends_what_it_may_and_hardly_less() -> None:
    beside = [Release(9.0)]
    noise = noise_for(2.0, 1e-6, 0.1, 50, beside)
    spent = epsilon_of([Release(noise, 0.1, 50), *beside], 1e-6)
    assert 1.97 < spent <= 2.0
    with pytest.raises(InputError, match="statistics"):
        noise_for(0.3, 1e-6, 0.1, 50, beside)


def test_both_directions_are_accounted() -> None:
    series = [Release(0.7, 0.05, 3)]
    each = {removed: compose(series, removed=removed).epsilon(1e-5) for removed in (True, False)}
    assert each[True] != pytest.approx(each[False], rel=1e-3)
    assert epsilon_of(series, 1e-5) == max(each.values())


@pytest.mark.parametrize("delta", [0.0, 1e-12, 1.0])
def test_a_delta_that_cannot_be_accounted_is_refused(delta: float) -> None:
    with pytest.raises(InputError, match="delta"):
        epsilon_of([Release(1.0)], delta)
