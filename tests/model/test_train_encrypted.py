"""A model is the same whether its data set was encrypted, and an evaluation reads an encrypted data set too."""

from dataclasses import replace
from pathlib import Path

import pytest

from lifechart.core.errors import AccessDenied
from lifechart.core.settings import Settings
from lifechart.data import shards
from lifechart.data.vault import encryption, keys
from lifechart.evaluate import examine
from lifechart.ledger.log import open_log
from lifechart.ledger.trace import trace
from lifechart.model import train as training
from lifechart.model.forecaster import load_forecaster
from tests.model.clinic import SICK, clinic
from tests.model.conftest import TINY
from tests.model.test_train import scattered


def test_the_same_model_from_an_encrypted_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECHART_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(training, "size_named", lambda name: replace(TINY, epochs=1))
    recipient = keys.make(tmp_path / "home" / "keys" / "vault.key")
    shards.write_dataset(tmp_path / "plain", scattered(clinic(400, seed=1)), {SICK: "Sickness"})
    with open_log(Settings(home=tmp_path / "home")) as log:
        made = encryption.encrypt(tmp_path / "plain", tmp_path / "locked", [recipient], log=log)
        models = [
            training.train(tmp_path / name, tmp_path / f"model-{name}", size="xs", seed=3, log=log, device="cpu")
            for name in ("plain", "locked")
        ]
        assert models[0].digest == models[1].digest
        report = examine.examine(
            tmp_path / "locked",
            load_forecaster(models[1].model),
            tmp_path / "report",
            log=log,
            baselines=False,
            bootstrap=20,
        )
        assert report.data_digest == made.dataset
        assert made.dataset in trace(log, report.digest).nodes
        # What is written beside the data set tells nothing of its events.
        assert not [path for path in tmp_path.glob("model-locked/**/*") if path.suffix in (".parquet", ".arrow")]
        monkeypatch.setenv("LIFECHART_HOME", str(tmp_path / "elsewhere"))
        keys.make(tmp_path / "elsewhere" / "keys" / "vault.key")
        with pytest.raises(AccessDenied, match="no key in"):
            training.train(tmp_path / "locked", tmp_path / "model-x", size="xs", seed=3, log=log, device="cpu")
