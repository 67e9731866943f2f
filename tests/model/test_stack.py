"""Trees on top of the network: kept where they help, gone where they do not, and one digest with it."""

import shutil
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest

from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.core.forecast import Forecaster
from lifechart.core.settings import Settings
from lifechart.core.timeline import Timeline
from lifechart.data import shards
from lifechart.ledger.log import Log, open_log
from lifechart.model import stack
from lifechart.model.checkpoint import CONFIG, model_digest
from lifechart.model.forecaster import load_forecaster
from lifechart.model.labelled.target import Target
from lifechart.model.labelled.trees import fit_trees
from tests.model.clinic import clinic


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stack") / "dataset"
    people = clinic(400, seed=1).with_columns(pl.col("subject_id") * 22_801_763_489_000_003 % (1 << 62))
    shards.write_dataset(folder, people, {})
    return folder


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return open_log(Settings(home=tmp_path / "home"))


@pytest.fixture
def model(model_folder: Path, dataset: Path, tmp_path: Path) -> Path:
    shutil.copytree(model_folder, tmp_path / "model")
    config = orjson.loads((tmp_path / "model" / CONFIG).read_bytes())
    digest = {"data_digest": shards.dataset_digest(dataset)}
    durable.write_json(tmp_path / "model" / CONFIG, config | digest)
    return tmp_path / "model"


def test_trees_are_kept_where_the_network_errs_and_not_where_it_is_right() -> None:
    rng = np.random.default_rng(0)
    features, subject = rng.normal(size=(4000, 5)).astype(np.float32), np.arange(4000)
    hazard = np.full(4000, 0.2)

    def grown_on(true: np.ndarray) -> tuple:
        when = rng.exponential(1 / (hazard * true))
        target = Target(when < 1, hazard * np.minimum(when, 1))
        half = np.arange(4000) < 2000
        trees = fit_trees(features[half], target.take(half), stack._SHAPE, 0, (features[~half], target.take(~half)))
        return stack._chosen(trees, features[~half], target.take(~half), subject[~half])

    kept, gain = grown_on(np.exp(1.2 * features[:, 0]))
    assert kept is not None
    assert gain > 0.05
    assert np.corrcoef(kept.scores(features), features[:, 0])[0, 1] > 0.8
    outcomes = [grown_on(np.ones(4000))[1] for _ in range(8)]
    assert np.mean([gain > 0 for gain in outcomes]) <= 0.4
    assert max(outcomes) < 0.02


def test_a_stacked_model_is_one_forecaster(
    model: Path, dataset: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, before = load_forecaster(model), model_digest(model)
    monkeypatch.setattr(stack, "_chosen", lambda grown, *_: (grown.first(6), 0.1))
    monkeypatch.setattr(stack, "FEWEST_EVENTS", 20)
    result = stack.add_stack(model, dataset, seed=0, log=log)
    assert result.kept
    assert result.digest == model_digest(model) != before
    assert log.find(kind="train", digest=result.digest)
    stacked = load_forecaster(model)
    assert isinstance(stacked, Forecaster)
    assert stacked.digest == result.digest
    events = shards.read_split(dataset, "held_out")
    middle = events.filter(pl.col("time").is_not_null()).group_by("subject_id").agg(pl.col("time").median())
    prompts = middle.select("subject_id", prediction_time=pl.col("time").cast(pl.Datetime("us"))).sort("subject_id")
    risks = stacked.risks(events, prompts)
    assert (np.diff(risks, axis=2) >= 0).all(), "horizons stay ordered"
    assert np.abs(risks - plain.risks(events, prompts)).max() > 1e-4
    past = events.join(prompts, on="subject_id").filter(
        pl.col("time").is_null() | (pl.col("time") <= pl.col("prediction_time"))
    )
    np.testing.assert_allclose(stacked.risks(past.select(events.columns), prompts), risks, atol=1e-6)
    subject, moment = prompts.row(3)
    chart = Timeline.of(subject, events.filter(pl.col("subject_id") == subject).drop("subject_id"))
    said = stacked.forecast(chart, moment)
    one = np.array([[said.risk(o, h).probability for h in stacked.horizons] for o in stacked.outcomes])
    np.testing.assert_allclose(one, risks[3], atol=2e-5)
    (model / "stack.npz").write_bytes(b"other")
    assert model_digest(model) != result.digest
    with pytest.raises(InputError, match=r"stack\.npz"):
        load_forecaster(model)


def test_only_the_model_s_own_data_and_only_once(model: Path, dataset: Path, log: Log, tmp_path: Path) -> None:
    other = clinic(60, seed=5).with_columns(pl.col("subject_id") * 22_801_763_489_000_003 % (1 << 62))
    shards.write_dataset(tmp_path / "other", other, {})
    with pytest.raises(InputError, match="the data set that the model was trained on"):
        stack.add_stack(model, tmp_path / "other", seed=0, log=log)
    config = orjson.loads((model / CONFIG).read_bytes())
    durable.write_json(model / CONFIG, config | {"stack": {"summary": {}, "gains": {}}})
    (model / "stack.npz").write_bytes(b"")
    with pytest.raises(InputError, match="without a stack"):
        stack.add_stack(model, dataset, seed=0, log=log)
