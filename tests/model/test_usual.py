"""The usual level of an age is found, and says nothing where nothing is known."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifechart.model.usual import USUAL_AGES, hats, no_usual, usual_at, usual_levels

KNOTS = np.array([np.arange(0.0, 90.0, 10.0), np.full(9, np.nan)], dtype=np.float32)
BORN = datetime(1900, 1, 1)


def values(of_age: dict[float, float], number: int) -> pl.DataFrame:
    rows = [(1, BORN + timedelta(days=365.25 * age), 0, level) for age, level in of_age.items()] * number
    return pl.DataFrame(rows, schema=["subject_id", "time", "row", "numeric_value"], orient="row")


BIRTHS = pl.DataFrame({"subject_id": [1], "time": [BORN], "code": ["MEDS_BIRTH"]})


def test_a_level_that_rises_with_age_is_usual_at_its_age() -> None:
    usual = usual_levels(values({30.0: 20.0, 60.0: 50.0}, 5_000), BIRTHS, KNOTS)
    found = usual_at(usual, np.array([0, 0]), np.array([30.0, 60.0]))
    np.testing.assert_allclose(found, [2.0, 5.0], atol=0.05)


def test_few_values_are_drawn_to_the_mean_of_their_code() -> None:
    usual = usual_levels(values({30.0: 20.0, 60.0: 50.0}, 5), BIRTHS, KNOTS)
    low, high = usual_at(usual, np.array([0, 0]), np.array([30.0, 60.0]))
    assert 2.5 < low < 3.5 < high < 4.5
    assert usual_at(usual, np.array([0]), np.array([85.0]))[0] == pytest.approx(3.5)


def test_without_values_or_births_the_middle_is_usual() -> None:
    middle = no_usual(2, 9)
    np.testing.assert_array_equal(usual_levels(values({30.0: 20.0}, 50), BIRTHS.clear(), KNOTS), middle)
    np.testing.assert_array_equal(usual_levels(values({30.0: 20.0}, 50), BIRTHS, KNOTS)[1], middle[1])


@given(st.lists(st.floats(-5, 130), min_size=1, max_size=20))
def test_the_basis_and_the_level_agree(years: list[float]) -> None:
    ages = np.array(years)
    usual = np.random.default_rng(0).normal(size=(3, len(USUAL_AGES))).astype(np.float32)
    code = np.arange(len(ages)) % 3
    basis = hats(ages, USUAL_AGES)
    np.testing.assert_allclose(basis.sum(axis=-1), 1.0)
    np.testing.assert_allclose(usual_at(usual, code, ages), (basis * usual[code]).sum(axis=-1), atol=1e-6)
