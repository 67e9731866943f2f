"""Concordance and Brier score with censoring: beside pairs counted out, and where nobody is censored."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score

from lifechart.evaluate import censored


def people(seed: int, number: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random(number).round(1), rng.integers(1, 15, number).astype(float), rng.random(number) < 0.6


def slow_concordance(risk: np.ndarray, times: np.ndarray, events: np.ndarray, factor: np.ndarray) -> float:
    good = total = 0.0
    for i in np.flatnonzero(events):
        for j in range(len(times)):
            if times[j] > times[i] or (times[j] == times[i] and not events[j]):
                total += factor[i]
                good += factor[i] * (1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0)
    return good / total


@given(seed=st.integers(0, 200))
def test_harrell_counts_pairs(seed: int) -> None:
    risk, times, events = people(seed)
    assert censored.harrell(risk, times, events) == pytest.approx(
        slow_concordance(risk, times, events, np.ones(len(times)))
    )


@given(seed=st.integers(0, 50))
def test_uno_weights_them_by_the_censoring(seed: int) -> None:
    risk, times, events = people(seed)
    distinct, stays = censored.kaplan_meier(times, ~events)
    free = censored.step(distinct, stays, times, before=True)
    factor = np.where((times < 12) & (free > 0), 1 / np.clip(free, 1e-12, None) ** 2, 0)
    assert censored.uno(risk, times, events, until=12) == pytest.approx(slow_concordance(risk, times, events, factor))


def test_risks_in_proportion_have_harrells_concordance_at_every_time() -> None:
    risk, times, events = people(1)
    grid = np.arange(1.0, 16)
    proportional = 1 - np.exp(-risk[:, None] * grid)
    assert censored.time_dependent(proportional, grid, times, events) == pytest.approx(
        censored.harrell(risk, times, events)
    )


def test_without_censoring_they_are_the_plain_figures() -> None:
    rng = np.random.default_rng(2)
    times, risk = rng.exponential(5, 500), rng.random(500)
    events, horizon = np.ones(500, dtype=bool), 4.0
    assert censored.brier(risk, times, events, horizon) == pytest.approx(brier_score_loss(times <= horizon, risk))
    assert censored.auroc(risk, times, events, horizon) == pytest.approx(roc_auc_score(times <= horizon, risk))


def test_weights_undo_the_censoring() -> None:
    rng = np.random.default_rng(3)
    number = 40_000
    risk = rng.random(number)
    times, limits = rng.exponential(1 / (0.05 + 0.3 * risk)), rng.exponential(6, number)
    events, observed = times <= limits, np.minimum(times, limits)
    truth = np.ones(number, dtype=bool)
    forecast = 1 - np.exp(-(0.05 + 0.3 * risk) * 3)
    assert censored.auroc(forecast, observed, events, 3) == pytest.approx(
        censored.auroc(forecast, times, truth, 3), abs=0.01
    )
    assert censored.brier(forecast, observed, events, 3) == pytest.approx(
        censored.brier(forecast, times, truth, 3), abs=0.005
    )


@given(seed=st.integers(0, 30))
def test_weights_count_people_more_than_once(seed: int) -> None:
    risk, times, events = people(seed, 25)
    often = np.random.default_rng(seed).integers(0, 3, 25).astype(float)
    rows = np.repeat(np.arange(25), often.astype(int))
    if not events[rows].any() or len(set(times[rows])) < 2:
        return
    for figure in (censored.harrell, lambda *a, **k: censored.brier(*a, 7.0, **k)):
        weighted, repeated = figure(risk, times, events, weights=often), figure(risk[rows], times[rows], events[rows])
        assert weighted == pytest.approx(repeated, nan_ok=True)
