"""The e-detector: its rate of false alarms, its speed, and the arithmetic that it rests on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifechart.core.errors import InputError
from lifechart.evaluate.shift import BETS, CAP, Baseline, Detectors, calibrated_run_length, onset


def alarms(z: np.ndarray, run_length: float, tolerance: float = 0.0) -> list[int]:
    """Return the weeks in which any of the streams of z [T, K] alarms."""
    detectors = Detectors(np.ones(z.shape[1]), run_length)
    limits = np.full(z.shape[1], tolerance)
    return [week for week, row in enumerate(z) if len(detectors.update(row, limits))]


def slow(z: list[float], tolerance: float) -> float:
    """Return the evidence of one stream by definition: a sum over every week that the change may have come in."""
    total = 0.0
    for side in (1, -1):
        for bet in BETS:
            for start in range(len(z)):
                growth = 1.0
                for value in z[start:]:
                    growth *= np.exp(bet * (min(side * value, CAP) - tolerance) - bet**2 / 2)
                total += growth
    return total / (2 * len(BETS))


@given(st.lists(st.floats(-4, 4), min_size=1, max_size=8), st.floats(0, 1))
def test_the_recursion_is_the_sum_over_every_onset(z: list[float], tolerance: float) -> None:
    detectors = Detectors(np.ones(1), 1e300)
    for value in z:
        detectors.update(np.array([value]), np.array([tolerance]))
    assert detectors.evidence[0] == pytest.approx(slow(z, tolerance), rel=1e-9)


def test_a_false_alarm_comes_no_more_often_than_the_run_length() -> None:
    rng = np.random.default_rng(0)
    weeks = 40_000
    independent = alarms(rng.standard_normal((weeks, 20)), 26)
    assert 0 < len(independent) <= weeks / 26 + 3 * np.sqrt(weeks / 26)
    # The same bound where every stream says the same thing, which undoes any argument from independence.
    same = alarms(np.repeat(rng.standard_normal((weeks, 1)), 20, axis=1), 26)
    assert len(same) <= weeks / 26 + 3 * np.sqrt(weeks / 26)


def test_a_mean_at_the_edge_of_the_tolerance_is_no_cause_for_alarm() -> None:
    rng = np.random.default_rng(1)
    z = rng.standard_normal((40_000, 1)) + 0.3
    assert len(alarms(z, 52, tolerance=0.3)) <= 40_000 / 52
    assert len(alarms(z, 52, tolerance=0.0)) > 40_000 / 52


@pytest.mark.parametrize("side", [1, -1])
def test_a_change_in_either_direction_is_found_soon(side: int) -> None:
    rng = np.random.default_rng(2)
    z = rng.standard_normal((40, 100))
    z[20:, 7] += side * 2.5
    found = alarms(z, 104)
    assert found
    assert 20 < found[0] <= 26


def test_one_freak_week_is_no_alarm() -> None:
    z = np.zeros((10, 20))
    z[5, 3] = 1e6
    assert alarms(z, 104) == []


def test_a_week_without_observations_is_no_bet() -> None:
    with_gap, without = Detectors(np.ones(1), 1e9), Detectors(np.ones(1), 1e9)
    for value in (1.0, 2.0):
        with_gap.update(np.array([value]), np.zeros(1))
        with_gap.update(np.zeros(1), np.zeros(1), np.array([False]))
        without.update(np.array([value]), np.zeros(1))
    assert with_gap.evidence == pytest.approx(without.evidence)


def test_baseline_standardises_by_size_and_covers_overdispersion() -> None:
    rng = np.random.default_rng(3)
    counts = rng.integers(50, 200, (52, 1)).astype(float)
    values = 3 + 2 * rng.standard_normal((52, 1)) / np.sqrt(counts)
    baseline = Baseline.of(values, counts)
    assert baseline.mean[0] == pytest.approx(3, abs=0.15)
    assert 1.7 < baseline.spread[0] < 3
    z = baseline.standardised(np.array([4.0]), np.array([100.0]))
    assert z[0] == pytest.approx((4 - baseline.mean[0]) * 10 / baseline.spread[0])
    assert baseline.standardised(np.array([9.0]), np.array([0.0]))[0] == 0
    wild = Baseline.of(values + rng.standard_normal((52, 1)), counts)
    assert wild.spread[0] > 3 * baseline.spread[0]


def test_too_short_a_reference_and_a_rate_of_none_are_refused() -> None:
    with pytest.raises(InputError, match="8 or more"):
        Baseline.of(np.zeros((7, 1)), np.ones((7, 1)))
    with pytest.raises(InputError, match="above 0"):
        calibrated_run_length(0)


def test_onset_is_where_the_run_began() -> None:
    assert onset([0.0, 0.4, -0.2, -3.0, -2.5, -3.3]) == 3
