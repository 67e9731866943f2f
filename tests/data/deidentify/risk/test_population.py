"""Estimates of the population against populations whose truth is known, and against slow twins."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import polars as pl
import pytest

from lifechart.data.deidentify.risk import population as models
from lifechart.data.deidentify.risk.classes import class_sizes, histogram_of

PEOPLE = 100_000
COLUMNS = ("birth", "sex", "zip3", "race", "language")


@cache
def city() -> pl.DataFrame:
    """People with skewed places, races and languages, as in a real city, and ages from 0 to 99."""
    rng = np.random.default_rng(1)
    zips = rng.zipf(1.6, PEOPLE * 3)
    return pl.DataFrame(
        {
            "birth": (100 * rng.beta(1.6, 1.9, PEOPLE)).astype(int),
            "sex": rng.integers(0, 2, PEOPLE),
            "zip3": zips[zips <= 30][:PEOPLE],
            "race": rng.choice(6, PEOPLE, p=[0.7, 0.12, 0.08, 0.06, 0.03, 0.01]),
            "language": rng.choice(12, PEOPLE, p=np.r_[0.85, np.full(11, 0.15 / 11)]),
        }
    )


def sample(columns: int, fraction: float, seed: int = 2) -> tuple[dict[int, int], np.ndarray, np.ndarray]:
    """Histogram of a sample, its class sizes row by row, and those of the same people in the population."""
    whole = class_sizes(city(), COLUMNS[:columns])
    rows = np.random.default_rng(seed).permutation(PEOPLE)[: int(fraction * PEOPLE)]
    sizes = class_sizes(city()[rows], COLUMNS[:columns])
    return histogram_of(sizes), sizes, whole[rows]


# The bounds are the errors that docs/guides/privacy.md states: wide for one in a hundred, upward from one in twenty on.
@pytest.mark.parametrize("columns", [3, 4, 5])
@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.1, 0.3, 0.5])
def test_population_uniqueness_is_near_the_truth_and_errs_upward(columns: int, fraction: float) -> None:
    histogram, _, _ = sample(columns, fraction)
    truth = float((class_sizes(city(), COLUMNS[:columns]) == 1).mean())
    found = models.uniqueness(histogram, PEOPLE)
    assert found.method == ("Pitman" if fraction <= 0.1 else "Zayatz")
    low, high = (0.45, 2.2) if fraction < 0.05 else (0.99, 3.3)
    assert low * truth <= found.share <= high * truth


@pytest.mark.parametrize("columns", [3, 4, 5])
@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.1, 0.3, 0.5])
def test_expected_links_are_near_the_truth(columns: int, fraction: float) -> None:
    histogram, sizes, whole = sample(columns, fraction)
    by_size = models.expected_inverse(histogram, PEOPLE)
    expected = float(np.mean([by_size[int(f)] for f in sizes]))
    truth = float((1 / whole).mean())
    low, high = (0.55, 1.35) if fraction < 0.05 else (0.99, 1.4)
    assert low * truth <= expected <= high * truth


def test_a_data_set_that_is_the_population_is_counted() -> None:
    assert models.uniqueness({1: 30, 2: 10, 50: 1}, 100) == models.Uniqueness("counted", 0.3, 1.0)
    assert models.expected_inverse({1: 30, 2: 35}, 100) == {1: 1.0, 2: 0.5}


def test_nobody_is_unique_where_nobody_is_alone() -> None:
    for method in (models.pitman, models.zayatz, models.uniqueness):
        assert method({2: 10, 5: 4}, 1000).share == 0.0


def test_zayatz_by_hand() -> None:
    """Classes of 1, 1, 2 and 3 (7 records) of 20 people: the hypergeometric chances by binomial coefficients."""
    histogram, n, population = {1: 2, 2: 1, 3: 1}, 7, 20

    def drawn(size: int) -> float:
        return size * math.comb(population - size, n - 1) / math.comb(population, n)

    chance = 2 * drawn(1) / (2 * drawn(1) + drawn(2) + drawn(3))
    found = models.zayatz(histogram, population)
    assert found.of_uniques == pytest.approx(chance)
    assert found.share == pytest.approx(2 * chance / n)


def test_expected_inverse_by_drawing() -> None:
    """The rest of the population drawn one by one from Pitman's urn: the classes grow as the formula says."""
    histogram, population, repeats = {1: 6, 2: 3, 4: 2}, 60, 4000
    alpha, theta = models.fit_pitman(histogram)
    sizes = [size for size, number in histogram.items() for _ in range(number)]
    rng, inverse = np.random.default_rng(3), np.zeros((repeats, len(sizes)))
    for run in range(repeats):
        urn, others = np.array(sizes, float), 0
        for total in range(sum(sizes), population):
            weights = np.append(urn[: len(sizes)] - alpha, theta + alpha * len(sizes) + others)
            chosen = rng.choice(len(weights), p=weights / (theta + total))
            if chosen < len(sizes):
                urn[chosen] += 1
            else:
                others += 1
        inverse[run] = 1 / urn
    by_size = models.expected_inverse(histogram, population)
    for place, size in enumerate(sizes):
        assert inverse[:, place].mean() == pytest.approx(by_size[size], abs=0.02)


def test_pitmans_parameters_are_found_again() -> None:
    alpha, theta, n = 0.4, 50.0, 6000
    rng = np.random.default_rng(4)
    sizes: list[float] = []
    for total in range(n):
        if rng.random() < (theta + alpha * len(sizes)) / (theta + total):
            sizes.append(1.0)
        else:
            weights = np.array(sizes) - alpha
            sizes[int(rng.choice(len(sizes), p=weights / weights.sum()))] += 1
    found_alpha, found_theta = models.fit_pitman(histogram_of(np.repeat(np.array(sizes, int), np.array(sizes, int))))
    assert found_alpha == pytest.approx(alpha, abs=0.08)
    assert found_theta == pytest.approx(theta, rel=0.5)
