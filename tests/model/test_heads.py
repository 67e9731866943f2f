"""Hazards, their likelihood under censoring, and competing death, against slow twins."""

import numpy as np
import pytest
import torch

from lifechart.model.heads import (
    NUM_BINS,
    BaseRates,
    HazardHead,
    cumulative_incidence,
    log_base_rates,
    survival_loss,
)
from lifechart.model.questions import EDGES


def hazard_at(log_hazard: np.ndarray, day: float) -> float:
    return float(np.exp(log_hazard[min(np.searchsorted(EDGES[1:], day, side="left"), NUM_BINS - 1)]))


@pytest.mark.parametrize(
    ("days_to", "observed"),
    [(10.0, 400.0), (30.0, 400.0), (200.0, 400.0), (np.inf, 400.0), (500.0, 400.0), (np.inf, 5.0), (2000.0, 9000.0)],
)
def test_survival_loss_is_the_negative_log_likelihood(days_to: float, observed: float) -> None:
    log_hazard = np.array([-5.0, -6.0, -5.5, -7.0])
    until = min(days_to, observed, EDGES[-1])
    grid = np.linspace(0, until, 20_001)
    middle = (grid[1:] + grid[:-1]) / 2
    expected = sum(hazard_at(log_hazard, day) for day in middle) * (until / 20_000)
    if days_to <= min(observed, EDGES[-1]):
        expected -= np.log(hazard_at(log_hazard, days_to))
    loss = survival_loss(
        torch.tensor(log_hazard).view(1, 1, 4), torch.tensor([[days_to]]), torch.tensor([observed]), torch.ones(1, 1)
    )
    assert float(loss) == pytest.approx(expected, rel=1e-3)


def test_cumulative_incidence_agrees_with_simulated_competing_risks() -> None:
    log_hazard = np.log(np.array([[[1e-3] * 4, [4e-3, 2e-3, 1e-3, 5e-4]]], dtype=np.float32))
    rng = np.random.default_rng(0)
    n = 200_000
    death = rng.exponential(1e3, n)
    cumulative = rng.exponential(1.0, n)
    knots = np.concatenate([[0.0], np.cumsum(np.exp(log_hazard[0, 1]) * np.diff(EDGES))])
    onset = np.interp(cumulative, knots, EDGES, right=np.inf)
    incidence = cumulative_incidence(log_hazard, death=0)[0]
    for b, horizon in enumerate(EDGES[1:]):
        assert incidence[1, b] == pytest.approx(((onset <= horizon) & (onset < death)).mean(), abs=4e-3)
        assert incidence[0, b] == pytest.approx(-np.expm1(-1e-3 * horizon), rel=1e-4)


def test_incidence_without_death_is_one_minus_survival_and_rises() -> None:
    log_hazard = np.random.default_rng(1).normal(-6, 2, (50, 3, 4)).astype(np.float32)
    incidence = cumulative_incidence(log_hazard, death=None)
    expected = -np.expm1(-np.cumsum(np.exp(log_hazard) * np.diff(EDGES), axis=2))
    np.testing.assert_allclose(incidence, expected, rtol=1e-4)
    assert (np.diff(incidence, axis=2) >= 0).all()


def test_base_rates_are_events_over_exposure_where_there_are_many() -> None:
    rng = np.random.default_rng(2)
    days_to = rng.exponential(1000.0, (200_000, 1)).astype(np.float32)
    rates = log_base_rates(days_to, np.full(200_000, 1500.0, np.float32), np.ones((200_000, 1), bool))
    np.testing.assert_allclose(np.exp(rates[0]), 1e-3, rtol=0.05)


def test_an_outcome_that_never_comes_has_a_finite_base_rate() -> None:
    rates = log_base_rates(np.full((10, 1), np.inf, np.float32), np.full(10, 100.0, np.float32), np.ones((10, 1), bool))
    assert np.isfinite(rates).all()


@torch.no_grad()
def test_the_mean_of_heads_is_a_head_that_says_their_mean() -> None:
    torch.manual_seed(0)
    base = BaseRates(np.full((3, NUM_BINS), -7.0, np.float32), np.full((3, NUM_BINS), -5.0, np.float32))
    joint = HazardHead(8, 4, 20, 6, base, 0.2)
    members = [joint.member(3), joint.member(3)]
    for each in (joint, *members):
        for parameter in each.parameters():
            parameter.normal_(std=0.3)
        each.eval()
    joint.take_mean(members)
    history = (torch.tensor([0, 3, 19, 7]), torch.tensor([1.0, 0.5, 2.0, 1.0]), torch.tensor([0, 3]))
    features, had = torch.randn(2, 4), torch.tensor([[True, False, False], [False, False, True]])
    said = [each(None, features, history, had)[0] for each in members]
    torch.testing.assert_close(joint(None, features, history, had)[0], torch.stack(said).mean(dim=0))
    assert not torch.allclose(said[0], said[1])
