"""Delete and insert curves of a forecaster whose drivers are known."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from lifechart.core.forecast import Driver, Forecast, Forecaster, Interval, Risk
from lifechart.core.timeline import BIRTH, Timeline
from lifechart.evaluate import faithfulness
from lifechart.evaluate.faithfulness import at_random, by_drivers, case_of, curves, first_is_cause

OUTCOME, HORIZON = "SNOMED//1", 365
EFFECTS = {"CODE//0": 1.2, "CODE//1": 0.6, "CODE//2": -0.4}
NOW = datetime(2020, 1, 1)


@dataclass
class Additive:
    """The log cumulative hazard is a sum over the chart's codes; its drivers are the terms, in their true order."""

    honest: bool = True
    name: str = "additive"
    digest: str = "0" * 64
    outcomes: tuple[str, ...] = (OUTCOME,)
    horizons: tuple[int, ...] = (HORIZON,)
    asked: list[int] = field(default_factory=list)

    def risks(self, events: pl.DataFrame, prompts: pl.DataFrame) -> NDArray[np.float32]:
        self.asked.append(prompts.height)
        sums = dict(
            events.with_columns(effect=pl.col("code").replace_strict(EFFECTS, default=0.0))
            .group_by("subject_id")
            .agg(pl.col("effect").sum())
            .iter_rows()
        )
        log_hazard = np.array([-4.0 + sums[each] for each in prompts["subject_id"]])
        return (1 - np.exp(-np.exp(log_hazard)))[:, None, None].astype(np.float32)

    def forecast(self, timeline: Timeline, as_of: datetime) -> Forecast:
        codes = timeline.events["code"].to_list()
        found = [Driver(row, code, EFFECTS[code]) for row, code in enumerate(codes) if code in EFFECTS]
        found.sort(key=lambda each: -abs(each.effect) * (1 if self.honest else -1))
        risk = Risk(OUTCOME, HORIZON, 0.1, Interval(0.0, 1.0), tuple(found))
        return Forecast(timeline.subject_id, as_of, (risk,), 0.5, self.digest)


def life(subject: int) -> Timeline:
    lot = np.random.default_rng(subject)
    rows = [
        {"time": None, "code": "GENDER//female", "kind": "demographic"},
        {"time": datetime(1950, 1, 1), "code": BIRTH, "kind": "demographic"},
    ]
    codes = [*EFFECTS, *(f"OTHER//{n}" for n in range(30))]
    for code in lot.permutation(codes):
        when = datetime(2000, 1, 1) + timedelta(days=float(lot.integers(0, 7000)))
        rows.append({"time": when, "code": str(code), "kind": "condition"})
    return Timeline.of(subject, rows)


@pytest.fixture(scope="module")
def cases() -> list[faithfulness.Case]:
    found = [case_of(Additive(), life(subject), NOW, HORIZON) for subject in range(12)]
    return [case for case in found if case is not None]


def test_the_stand_in_keeps_the_contract() -> None:
    assert isinstance(Additive(), Forecaster)


def test_curves_are_the_sums_of_what_was_taken_out_and_put_in(cases: list[faithfulness.Case]) -> None:
    found = curves(Additive(), cases, {"drivers": by_drivers})
    np.testing.assert_allclose(found.deleted["drivers"], np.tile([1.2, 1.8, 1.4, 1.4, 1.4], (12, 1)), atol=1e-4)
    left = np.abs(1.4 - np.array([1.2, 1.8, 1.4, 1.4, 1.4]))
    np.testing.assert_allclose(found.inserted["drivers"], np.tile(left, (12, 1)), atol=1e-4)


def test_drivers_beat_chance_and_a_wrong_order(cases: list[faithfulness.Case]) -> None:
    backwards = [case_of(Additive(honest=False), life(subject), NOW, HORIZON) for subject in range(12)]
    orders = {"drivers": by_drivers, "random": at_random(1)}
    found = curves(Additive(), cases, orders)
    wrong = curves(Additive(), [case for case in backwards if case is not None], {"drivers": by_drivers})
    gained = found.area("deleted", "drivers", "random").interval()
    assert gained is not None
    assert gained.low > 0.5
    assert found.area("inserted", "drivers", "random").value < -0.3
    assert wrong.area("deleted", "drivers").value < found.area("deleted", "drivers").value


def test_demographics_stay_and_chance_is_the_same_twice(cases: list[faithfulness.Case]) -> None:
    for case in cases:
        rows = at_random(3)(case)
        assert rows == at_random(3)(case)
        assert sorted(rows) == list(range(2, len(case.known)))


def test_a_chart_without_drivers_is_no_case() -> None:
    empty = Timeline.of(1, [{"time": datetime(1950, 1, 1), "code": BIRTH, "kind": "demographic"}])
    assert case_of(Additive(), empty, NOW, HORIZON) is None


def test_the_first_driver_that_raises_is_asked_for() -> None:
    forecast = Additive().forecast(life(1), NOW)
    assert first_is_cause(forecast, OUTCOME, HORIZON, {"CODE//0"}) == (True, True)
    assert first_is_cause(forecast, OUTCOME, HORIZON, {"CODE//1"}) == (False, True)
    assert first_is_cause(forecast, OUTCOME, HORIZON, {"CODE//2"}) == (False, False)
