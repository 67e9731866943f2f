"""Boosted trees: as good as what is known of the fixture's hazards allows, calibrated, and a Forecaster in full."""

import numpy as np
import polars as pl
import pytest

from lifechart.core.forecast import Forecaster
from lifechart.core.timeline import DEATH, Timeline
from lifechart.data.history import History
from lifechart.evaluate.baselines import BoostedTrees
from lifechart.evaluate.boosting import Rowset
from lifechart.evaluate.metrics import Sample, bootstrap_weights, evaluate
from lifechart.evaluate.question import check_no_look_ahead
from lifechart.evaluate.tasks import default_task, draw_prompts, label
from tests.evaluate.hospital import HEART, INPATIENT, LastValue, events_of

OUTCOMES = (HEART, INPATIENT, DEATH)
TASK = default_task()


@pytest.fixture(scope="module")
def held_out() -> pl.DataFrame:
    return events_of(700, seed=9)


@pytest.fixture(scope="module")
def trees() -> BoostedTrees:
    shares: list[float] = []
    fitted = BoostedTrees.fit(
        events_of(1500, seed=1), events_of(300, seed=2), TASK, OUTCOMES, (365,), seed=0, advance=shares.append
    )
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    return fitted


def test_keeps_the_protocol(trees: BoostedTrees) -> None:
    assert isinstance(trees, Forecaster)
    assert trees.outcomes == OUTCOMES
    assert trees.horizons == (365,)
    assert len(trees.digest) == 64


def test_comes_near_the_best_and_is_calibrated(trees: BoostedTrees, held_out: pl.DataFrame) -> None:
    prompts, history = draw_prompts(held_out, TASK, seed=5), History(held_out)
    labels = label(history, prompts, OUTCOMES, (365,))
    mine, best = trees.risks(held_out, prompts), LastValue().risks(held_out, prompts)
    assert mine.shape == (prompts.height, 3, 1)
    owner, weights = history.owner(prompts["subject_id"].to_numpy()), bootstrap_weights(700, 50, 0)
    for number, (outcome, column) in enumerate(zip(OUTCOMES, (0, 2, 3), strict=True)):
        rows = labels.known[:, number, 0] & ~labels.recorded[:, number]
        found, reachable = (
            evaluate(Sample(labels.occurred[rows, number, 0], scores[rows].astype(float), owner[rows]), weights)
            for scores in (mine[:, number, 0], best[:, column, 2])
        )
        assert found["auroc"].value > reachable["auroc"].value - 0.08, outcome
        assert 0.6 < found["observed_expected"].value < 1.6, outcome


def test_does_not_look_ahead(trees: BoostedTrees, held_out: pl.DataFrame) -> None:
    check_no_look_ahead(trees, held_out, draw_prompts(held_out, TASK, seed=5))


def test_one_patients_forecast_is_the_bulks(trees: BoostedTrees, held_out: pl.DataFrame) -> None:
    prompts = draw_prompts(held_out, TASK, seed=5)
    recorded = label(History(held_out), prompts, OUTCOMES, (365,)).recorded
    row = int(np.flatnonzero(recorded[:, 1])[0])
    subject, asked = prompts.row(row)
    mine = held_out.filter(pl.col("subject_id") == subject).drop("subject_id")
    forecast = trees.forecast(Timeline.of(subject, mine), asked)
    bulk = trees.risks(held_out, prompts)[row, :, 0]
    assert [risk.probability for risk in forecast.risks] == pytest.approx(bulk.tolist(), rel=1e-4)
    assert [risk.already_recorded for risk in forecast.risks] == recorded[row].tolist()
    assert 0 <= forecast.novelty <= 1
    assert all(risk.interval.high - risk.interval.low < 0.6 for risk in forecast.risks)


def test_the_same_seed_gives_the_same_trees(trees: BoostedTrees, held_out: pl.DataFrame) -> None:
    again = BoostedTrees.fit(events_of(1500, seed=1), events_of(300, seed=2), TASK, OUTCOMES, (365,), seed=0)
    assert again.digest == trees.digest
    prompts = draw_prompts(held_out, TASK, seed=5, limit=200)
    np.testing.assert_array_equal(again.risks(held_out, prompts), trees.risks(held_out, prompts))


def test_too_few_events_leave_the_rate(held_out: pl.DataFrame) -> None:
    few = BoostedTrees.fit(events_of(60, seed=1), events_of(20, seed=2), TASK, (HEART,), (30,), seed=0)
    risks = few.risks(held_out, draw_prompts(held_out, TASK, seed=5, limit=100))
    assert len(np.unique(risks)) <= 2  # new onset and recurrence
    assert (risks > 0).all()


def test_thinning_keeps_every_event() -> None:
    occurred = np.arange(1000) % 10 == 0
    kept = Rowset(np.empty((1000, 0), np.float32), occurred, np.arange(1000)).thinned(0.2, seed=0)
    assert occurred[kept].sum() == 100
    assert 130 < (~occurred[kept]).sum() < 230
