"""Figures with censoring in every resample are those of `censored` on the resample; who counts, and for how long."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from lifechart.core.timeline import BIRTH, DEATH, RECORD_END
from lifechart.data.history import DAY
from lifechart.evaluate import censored, followed
from lifechart.evaluate.followed import FollowUp
from lifechart.evaluate.metrics import bootstrap_weights
from lifechart.evaluate.question import ask
from lifechart.evaluate.tasks import default_task
from tests.evaluate.hospital import GOUT, HEART, HORIZONS, LastValue, events_of

GRID = np.array([30.0, 90.0, 365.0, 1825.0])


def drawn(seed: int) -> tuple[FollowUp, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    n, patients = 300, 60
    days = np.round(random.exponential(900, n)) + 1
    had = random.random(n) < 0.4
    days = np.where(~had & (random.random(n) < 0.1), np.inf, days)
    risks = np.sort(np.round(random.random((n, 4)), 2), axis=1)
    follow = FollowUp(np.ones(n, np.bool_), days, had, random.integers(0, patients, n))
    return follow, risks, bootstrap_weights(patients, 5, seed)


@pytest.mark.parametrize("seed", range(4))
def test_every_resample_is_the_slow_way_on_it(seed: int) -> None:
    follow, risks, weights = drawn(seed)
    fast_c = followed.time_dependent(risks, GRID, follow, weights)
    fast_b = followed.brier(risks[:, 2], follow, 365, weights)
    counted = follow.had & (follow.days <= GRID[-1])
    for number, resample in enumerate(weights):
        own = resample[follow.patients]
        slow_c = censored.time_dependent(risks, GRID, np.where(follow.had & ~counted, 1e9, follow.days), counted, own)
        assert fast_c[number] == pytest.approx(slow_c, abs=1e-9)
        slow_b = censored.brier(risks[:, 2], follow.days, follow.had, 365, own)
        assert fast_b[number] == pytest.approx(slow_b, abs=1e-9)


def test_who_counts_and_for_how_long() -> None:
    events = events_of(200)
    question = ask(events, LastValue(), default_task(), None, 2, 0)
    for outcome in (HEART, GOUT):
        follow = followed.follow_up(question, outcome)
        number = question.outcomes.index(outcome)
        assert not question.labels.recorded[follow.rows, number].any()
        for step, horizon in enumerate(HORIZONS):
            known = question.labels.known[follow.rows, number, step]
            occurred = question.labels.occurred[follow.rows, number, step]
            # Where the window was observed whole, both ways of counting say the same.
            assert ((follow.had & (follow.days <= horizon))[known] == occurred[known]).all()
            assert (follow.days[known & ~occurred] >= horizon - 1e-6).all()
    dead = events.filter(pl.col("code") == DEATH).height
    assert dead
    assert np.isinf(followed.follow_up(question, GOUT).days).any()
    assert events.filter(pl.col("code").is_in([BIRTH, RECORD_END])).height
    assert DAY == 86_400_000_000
