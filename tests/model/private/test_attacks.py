"""What an attack's success proves: bounds that hold for randomised response, and what they should catch."""

import math

import numpy as np
import pytest

from lifechart.model.private.attacks import (
    beyond_difficulty,
    gaussian_epsilon,
    gaussian_estimate,
    membership,
    most_refutable,
    one_run_bound,
    refuted_epsilon,
)


def test_randomised_response_is_seldom_refuted_and_nearly_proven() -> None:
    """Guesses right with probability e^eps / (1 + e^eps) are exactly what epsilon allows."""
    rng = np.random.default_rng(0)
    p = 1 / (1 + math.exp(-1.0))
    bounds = [refuted_epsilon(2000, 2000, int(rng.binomial(2000, p)), 0.0, 0.05) for _ in range(200)]
    assert np.mean(np.array(bounds) > 1.0) <= 0.09
    assert np.median(bounds) > 0.85


def test_guessing_proves_nothing_and_knowing_proves_all_that_can_be() -> None:
    rng = np.random.default_rng(1)
    included = rng.random(1000) < 0.5
    assert one_run_bound(rng.normal(size=1000), included, 1e-6) < 0.3
    assert one_run_bound(included + rng.normal(0, 1e-3, 1000), included, 1e-6) == pytest.approx(
        most_refutable(1000, 1e-6), abs=0.3
    )


def test_delta_makes_a_bound_weaker() -> None:
    assert refuted_epsilon(1000, 100, 95, 1e-3, 0.05) < refuted_epsilon(1000, 100, 95, 0.0, 0.05)


def test_the_gaussian_estimate_finds_the_noise_that_was_there() -> None:
    rng = np.random.default_rng(2)
    included = rng.random(4000) < 0.5
    estimate, least = gaussian_estimate(included * 1.5 + rng.normal(size=4000), included, 1e-5)
    assert least < gaussian_epsilon(1.5, 1e-5) < estimate * 1.15
    assert math.isinf(gaussian_estimate(included.astype(float), included, 1e-5)[1])
    assert gaussian_estimate(np.zeros(100), np.arange(100) < 50, 1e-5) == (0.0, 0.0)


def test_gaussian_epsilon_inverts_the_closed_form() -> None:
    # One Gaussian release with noise 2: dp-accounting 0.6.0 and our accountant say 1.55498 for noise 2.5 at 1e-5.
    assert gaussian_epsilon(1 / 2.5, 1e-5) == pytest.approx(1.5549817, abs=1e-4)


def test_membership_has_an_interval_that_covers_chance_where_there_is_nothing_to_find() -> None:
    rng = np.random.default_rng(3)
    found = membership(rng.normal(size=800), rng.normal(size=800), rng)
    assert found.low < 0.5 < found.high
    assert membership(rng.normal(1, 1, 800), rng.normal(size=800), rng).low > 0.7


def test_allowing_for_difficulty_finds_what_the_loss_alone_drowns() -> None:
    rng = np.random.default_rng(4)
    difficulty = rng.gamma(2, 5, (2000, 1))
    member = np.arange(2000) < 1000
    score = -difficulty[:, 0] + 0.8 * member + rng.normal(0, 0.5, 2000)
    plain = membership(score[member], score[~member], rng)
    beyond = beyond_difficulty(score, difficulty, ~member)
    assert membership(beyond[member], beyond[~member], rng).auroc > plain.auroc + 0.2
