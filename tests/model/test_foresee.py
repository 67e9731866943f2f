"""The verb `futures`: a task's outcome foretold by probabilities and by labelling whole futures, to one answer."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import lifechart.cli  # noqa: F401  (adds the verbs to the root)
from lifechart.cli.root import app
from lifechart.core.errors import InputError
from lifechart.data import shards
from lifechart.evaluate import foretold
from lifechart.evaluate.aces import load_aces
from lifechart.evaluate.realise import realise
from lifechart.model.forecaster import NetworkForecaster
from lifechart.model.foresee import foresee, whole_lives
from lifechart.model.generate import Ask
from tests.model.clinic import SICK, clinic

TASK = """
predicates:
  visit: {code: ENCOUNTER//ambulatory}
  sick: {code: SNOMED//1}
  stroke: {code: {regex: "^SNOMED//2$"}}
  high: {code: LOINC//9-9, value_min: 115}
  worse: {expr: "or(sick, stroke, high)"}
trigger: visit
windows:
  past: {end: trigger, has: {visit: "(5, 5)", sick: "(None, 0)"}, index_timestamp: end}
  target: {start: past.end, end: start + 500d, start_inclusive: false, label: worse}
"""
AT_AN_EVENT = TASK.replace("start + 500d", "start -> visit")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clinic") / "dataset"
    lives = clinic(600, seed=3).with_columns(pl.col("subject_id") * 22_801_763_489_000_003 % (1 << 62))
    shards.write_dataset(folder, lives, {SICK: "Sickness"})
    return folder


def task_file(folder: Path, text: str) -> Path:
    path = folder / "worse.yaml"
    path.write_text(text)
    return path


def test_the_verb_writes_predictions_that_hold(dataset: Path, model_folder: Path, tmp_path: Path) -> None:
    task = task_file(tmp_path, TASK)
    arguments = ["futures", str(model_folder), str(dataset), "--task", str(task), "--keep"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out"), "--futures", "30"])
    assert done.exit_code == 0, done.output
    told = pl.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert told.columns == ["subject_id", "prediction_time", "boolean_value", "predicted_boolean_probability"]
    assert told.height > 30
    known = told.filter(pl.col("boolean_value").is_not_null())
    gap = known["predicted_boolean_probability"].mean() - known["boolean_value"].mean()
    assert abs(gap) < 0.15
    assert pl.read_parquet(tmp_path / "out" / "futures.parquet").height > told.height * 30
    again = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "again"), "--futures", "30"])
    assert again.exit_code == 0
    assert (tmp_path / "again" / "predictions.parquet").read_bytes() == (
        tmp_path / "out" / "predictions.parquet"
    ).read_bytes()


def test_one_definition_labels_records_and_futures(
    forecaster: NetworkForecaster, dataset: Path, tmp_path: Path
) -> None:
    """Labelling whole futures by the task counts exactly those that the generator counted on its way."""
    task = load_aces(task_file(tmp_path, TASK))
    events = shards.read_split(dataset, "held_out")
    asked = foretold.prompts(realise(events, task), 25)
    plan = foretold.plan(task, "scope", None)
    assert (plan.days, plan.gap) == (500.0, 0.0)
    made = foresee(forecaster, events, asked, Ask(futures=12, days=plan.days, targets=plan.targets, seed=1))
    shares = foretold.counted(whole_lives(events, asked, made), asked, task, 12)
    np.testing.assert_allclose(shares, made.futures.hits.mean(axis=1)[:, 0, 0], atol=1e-6)
    assert 0.0 < shares.mean() < 1.0
    assert abs(shares.mean() - made.probability().mean()) < 0.1


def test_windows_that_end_at_events_are_counted(dataset: Path, model_folder: Path, tmp_path: Path) -> None:
    task = task_file(tmp_path, AT_AN_EVENT)
    with pytest.raises(InputError, match="--days"):
        foretold.plan(load_aces(task), "count", None)
    with pytest.raises(InputError, match="--estimator"):
        foretold.plan(load_aces(task), "scope", 800.0)
    done = CliRunner().invoke(
        app,
        ["futures", str(model_folder), str(dataset), "--task", str(task), "--out", str(tmp_path / "out"), "--futures",
         "10", "--estimator", "count", "--days", "800", "--limit", "20"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    told = pl.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert told["predicted_boolean_probability"].is_between(0, 1).all()
    assert told["predicted_boolean_probability"].n_unique() > 1


def test_nothing_after_the_prompt_is_read(forecaster: NetworkForecaster, dataset: Path, tmp_path: Path) -> None:
    task = load_aces(task_file(tmp_path, TASK))
    events = shards.read_split(dataset, "held_out")
    asked = foretold.prompts(realise(events, task), 10)
    past = events.join(asked, on="subject_id").filter(
        pl.col("time").is_null() | (pl.col("time") <= pl.col("prediction_time"))
    )
    ask = Ask(futures=5, days=400.0)
    whole, cut = foresee(forecaster, events, asked, ask), foresee(forecaster, past.select(events.columns), asked, ask)
    assert whole.rows.equals(cut.rows)
