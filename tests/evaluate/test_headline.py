"""The opening figures: which outcomes enter, and that the comparison is paired."""

import numpy as np
import pytest

from lifechart.evaluate.baselines import NAME as TREES
from lifechart.evaluate.headline import ALL_OUTCOMES, LATENT, MIN_EVENTS, RECORD, Outcome, entering, rows
from lifechart.evaluate.metrics import Estimate


def estimate(value: float, spread: float = 0.0, seed: int = 0) -> Estimate:
    return Estimate(value, value + spread * np.random.default_rng(seed).normal(size=200))


def outcome(model: float, trees: float, oracle: float, events: int = 100, spread: float = 0.0) -> Outcome:
    found = {"net": model, TREES: trees, RECORD: oracle, LATENT: oracle + 0.05}
    return Outcome(1000, events, {name: estimate(value, spread) for name, value in found.items()})


def test_shares_gains_and_means() -> None:
    found = {
        (m.name, m.forecaster, m.outcome): m.value
        for m in rows({"a": outcome(0.8, 0.75, 0.9), "b": outcome(0.7, 0.65, 0.75)}, 365)
    }
    assert found["reachable_share", "net", "a"] == pytest.approx(0.75)
    assert found["reachable_share", "net", ALL_OUTCOMES] == pytest.approx((0.75 + 0.8) / 2)
    assert found["reachable_share", TREES, ALL_OUTCOMES] == pytest.approx((0.625 + 0.6) / 2)
    assert found["auroc_gain", "net", ALL_OUTCOMES] == pytest.approx(0.05)
    assert found["mean_auroc", LATENT, ALL_OUTCOMES] == pytest.approx(0.875)
    assert ("auroc_gain", TREES, ALL_OUTCOMES) not in found
    assert ("reachable_share", LATENT, ALL_OUTCOMES) not in found


def test_a_paired_difference_is_surer_than_its_parts() -> None:
    found = {
        m.name: m.interval for m in rows({"a": outcome(0.8, 0.75, 0.9, spread=0.05)}, 365) if m.outcome == ALL_OUTCOMES
    }
    assert found["auroc_gain"].high - found["auroc_gain"].low < 1e-9
    assert found["mean_auroc"].high - found["mean_auroc"].low > 0.1


def test_rare_and_unpredictable_outcomes_stay_out() -> None:
    estimates = {
        "enters": outcome(0.8, 0.7, 0.9),
        "rare": outcome(0.8, 0.7, 0.9, events=MIN_EVENTS - 1),
        "unpredictable": outcome(0.5, 0.5, 0.55),
        "perhaps unpredictable": outcome(0.6, 0.6, 0.65, spread=0.08),
    }
    estimates["unknown to the oracle"] = Outcome(1000, 100, {"net": estimate(0.8), TREES: estimate(0.7)})
    assert entering(estimates) == ["enters"]
    means = [m for m in rows(estimates, 365) if m.outcome == ALL_OUTCOMES and m.forecaster == "net"]
    assert {m.name for m in means} == {"reachable_share", "auroc_gain", "mean_auroc"}
    assert [m.name for m in rows({"rare": estimates["rare"]}, 365)] == ["auroc_gain"]


def test_without_oracle_or_trees_only_the_mean_is_left() -> None:
    alone = {"a": Outcome(1000, 100, {"net": estimate(0.8)})}
    assert [(m.name, m.value) for m in rows(alone, 365)] == [("mean_auroc", pytest.approx(0.8))]
