"""Sizes and powers beside textbook figures and one another."""

import pytest

from lifechart.core.errors import InputError
from lifechart.release.trial import power


def test_textbook_sizes() -> None:
    # Two means half a standard deviation apart, two-sided 5%, power 80%: 63 in each arm by the normal formula.
    assert power.individual_size(0.5, 1.0, alpha=0.025, power=0.8) == 126
    assert power.individual_size(0.5, 1.0, alpha=0.025, power=0.9) == 170
    assert power.design_effect(20, 0.05) == pytest.approx(1.95)
    assert power.design_effect(20, 0.05, cv=0.5) == pytest.approx(2.2)


def test_enough_clusters_are_enough_and_two_fewer_are_not() -> None:
    number = power.cluster_number(0.25, 1.0, 30, 0.03, alpha=0.025, power=0.8)
    assert power.cluster_power(0.25, 1.0, number, 30, 0.03, alpha=0.025) >= 0.8
    assert power.cluster_power(0.25, 1.0, number - 2, 30, 0.03, alpha=0.025) < 0.8


def test_a_stepped_wedge_of_no_correlation_is_a_comparison_within_periods() -> None:
    # Without a cluster effect the variance is that of least squares with period effects, here by hand: two clusters,
    # two steps, three periods; only the middle one, with one cluster in each arm, tells anything.
    assert power.stepped_wedge_variance(2, 2, 10, 1.0, 0.0) == pytest.approx(2 / 10)


def test_more_of_anything_gives_more_power() -> None:
    powers = [
        power.stepped_wedge_power(0.3, 1.0, number, 4, size, 0.05, alpha=0.025)
        for number, size in ((8, 10), (12, 10), (12, 20), (24, 20))
    ]
    assert powers == sorted(powers)


def test_no_effect_cannot_be_planned_for() -> None:
    with pytest.raises(InputError, match="effect"):
        power.individual_size(0.0, 1.0, alpha=0.025, power=0.8)
    with pytest.raises(InputError, match="multiple"):
        power.stepped_wedge_variance(10, 4, 10, 1.0, 0.05)
