"""From de-identified prompts back to lives and true dates, and nowhere without the key."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from lifechart.core.errors import InputError
from lifechart.data.deidentify.dates import offsets
from lifechart.data.deidentify.structured import subject_ids
from lifechart.evaluate import oracle as module
from lifechart.evaluate.headline import LATENT, RECORD
from lifechart.evaluate.oracle import load_oracles

Floats = NDArray[np.float64]
KEY = b"k" * 32
PATIENTS = pl.Series("patient_id", ["pat-a", "pat-b", "pat-c"])


class Asked:
    """Stands where the simulator's oracle does and keeps what it is asked."""

    def __init__(self) -> None:
        self.outcomes = {"SNOMED//44054006": "type_2_diabetes", "MEDS_DEATH": "death"}
        self.prompts = pl.DataFrame()

    def record_risks(
        self, prompts: pl.DataFrame, keys: list[str], horizons: list[int], **_: int
    ) -> NDArray[np.float64]:
        self.prompts = prompts
        return np.full((prompts.height, len(keys), len(horizons)), 0.25)

    def latent_risks(
        self, prompts: pl.DataFrame, keys: list[str], horizons: list[int], **_: int
    ) -> NDArray[np.float64]:
        return np.full((prompts.height, len(keys), len(horizons)), 0.75)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Asked:
    stand_in = Asked()
    monkeypatch.setattr(module.Oracle, "load", classmethod(lambda cls, truth: stand_in))
    pl.DataFrame({"life": [0, 1, 2], "patient_id": PATIENTS}, schema_overrides={"life": pl.Int32}).write_parquet(
        tmp_path / "people.parquet"
    )
    return stand_in


def test_prompts_reach_the_right_life_at_the_true_time(asked: Asked, tmp_path: Path) -> None:
    true_times = [datetime(2011, 5, 6, 23), datetime(1999, 1, 31), datetime(2020, 2, 29), datetime(2020, 3, 1)]
    lives = [2, 0, 1, 1]
    ids, shifts = subject_ids(KEY, PATIENTS), offsets(KEY, PATIENTS)
    prompts = pl.DataFrame(
        {
            "subject_id": [ids[life] for life in lives],
            "prediction_time": [time + shifts[life] for time, life in zip(true_times, lives, strict=True)],
        }
    )
    record, latent = load_oracles(tmp_path, KEY, (365,), (RECORD, LATENT))
    assert (record.name, latent.name) == (RECORD, LATENT)
    table = record.risks(pl.DataFrame(), prompts)
    assert table.shape == (4, 2, 1)
    assert asked.prompts["life"].to_list() == lives
    assert asked.prompts["prediction_time"].to_list() == true_times
    assert (latent.risks(pl.DataFrame(), prompts) == 0.75).all()
    assert record.outcomes == tuple(asked.outcomes)


def test_another_key_leads_nowhere(asked: Asked, tmp_path: Path) -> None:
    prompts = pl.DataFrame(
        {"subject_id": subject_ids(KEY, PATIENTS), "prediction_time": [datetime(2020, 1, 1) + timedelta(1)] * 3}
    )
    (record,) = load_oracles(tmp_path, b"x" * 32, (365,))
    with pytest.raises(InputError, match="3 unknown subjects"):
        record.risks(pl.DataFrame(), prompts)
