"""From a data set to a model folder and a statement, by seed."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch

from lifechart.core.errors import InputError
from lifechart.core.settings import Settings
from lifechart.data import shards
from lifechart.ledger.log import Log, open_log
from lifechart.model import threads
from lifechart.model import train as training
from lifechart.model.forecaster import load_forecaster
from lifechart.model.train import RESUME, train
from tests.model.clinic import SICK, clinic
from tests.model.conftest import TINY


def scattered(events: pl.DataFrame) -> pl.DataFrame:
    """Give people identifiers that lie anywhere, as keyed ones do: splits go by them."""
    return events.with_columns(pl.col("subject_id") * 22_801_763_489_000_003 % (1 << 62))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clinic") / "dataset"
    shards.write_dataset(folder, scattered(clinic(400, seed=1)), {SICK: "Sickness"})
    return folder


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return open_log(Settings(home=tmp_path / "home"))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "size_named", lambda name: replace(TINY, epochs=1))


def test_it_writes_a_model_that_forecasts_and_says_so_in_the_ledger(dataset: Path, log: Log, tmp_path: Path) -> None:
    result = train(dataset, tmp_path / "model", size="xs", seed=3, log=log)
    forecaster = load_forecaster(tmp_path / "model")
    assert forecaster.digest == result.digest
    events = shards.read_split(dataset, "held_out")
    prompts = events.drop_nulls("time").group_by("subject_id").agg(prediction_time=pl.col("time").min())
    assert forecaster.risks(events, prompts).shape == (prompts.height, len(result.outcomes), 4)
    (entry,) = log.entries()
    assert entry.statement.subjects[0].digest == result.digest
    assert entry.statement.predicate["dataset"] == shards.dataset_digest(dataset)
    assert not (tmp_path / "model" / RESUME).exists()
    assert result.events > 0


def test_the_same_seed_gives_the_same_bytes(dataset: Path, log: Log, tmp_path: Path) -> None:
    one, two = (train(dataset, tmp_path / name, size="xs", seed=3, log=log).digest for name in ("a", "b"))
    assert one == two
    assert train(dataset, tmp_path / "c", size="xs", seed=4, log=log).digest != one


def test_an_unknown_size_is_refused(dataset: Path, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(InputError, match="xs, s, m, l"):
        train(dataset, tmp_path / "model", size="xxl", seed=0, log=log)


def test_a_data_set_without_outcomes_is_refused(log: Log, tmp_path: Path) -> None:
    few = clinic(30, seed=1).filter(~pl.col("kind").is_in(["condition", "death"]))
    shards.write_dataset(tmp_path / "few", few, {})
    with pytest.raises(InputError, match="20 people"):
        train(tmp_path / "few", tmp_path / "model", size="xs", seed=0, log=log)


def test_small_networks_use_one_core_and_put_back_what_was_set() -> None:
    before = torch.get_num_threads()
    with threads.suited_to(64):
        assert torch.get_num_threads() == 1
    with threads.suited_to(threads.SMALL_WIDTH + 1):
        assert torch.get_num_threads() == before
    assert torch.get_num_threads() == before
