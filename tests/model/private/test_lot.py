"""Chance: normal, uniform and Poisson as they should be, and never twice the same."""

import numpy as np
import pytest
from scipy.stats import kstest

from lifechart.model.private.lot import Lot

KEY = bytes(range(32))


def test_numbers_are_distributed_as_promised() -> None:
    lot = Lot(KEY)
    assert kstest(lot.normal(50_001), "norm").pvalue > 1e-3
    uniform = lot.uniform(50_000)
    assert kstest(uniform, "uniform").pvalue > 1e-3
    assert uniform.min() > 0
    assert uniform.max() < 1


def test_sampling_is_poisson() -> None:
    """Each is in by its own coin: sizes scatter as a binomial's, and pairs are together as often as chance has it."""
    lot, people, q, draws = Lot(KEY), 200, 0.1, 4000
    drawn = np.zeros((draws, people), dtype=bool)
    for row in drawn:
        row[lot.sample(people, q)] = True
    sizes = drawn.sum(axis=1)
    assert sizes.mean() == pytest.approx(people * q, rel=0.02)
    assert sizes.var() == pytest.approx(people * q * (1 - q), rel=0.15)
    assert drawn.mean(axis=0).std() == pytest.approx(np.sqrt(q * (1 - q) / draws), rel=0.3)
    together = (drawn[:, :-1] & drawn[:, 1:]).mean()
    assert together == pytest.approx(q * q, rel=0.1)
    assert np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1] == pytest.approx(0.0, abs=0.06)


def test_nobody_draws_the_same_again_without_the_key() -> None:
    assert not np.array_equal(Lot().normal(8), Lot().normal(8))
    assert np.array_equal(Lot(KEY).normal(8), Lot(KEY).normal(8))
