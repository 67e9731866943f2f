"""A second clinic: other people, another assay, strokes recorded half as often, and a code of its own."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lifechart.data import shards
from tests.model.clinic import STROKE, TEST, VISIT, clinic

ASSAY = 1.2


def elsewhere(lives: int, seed: int, *, assay: float = ASSAY, strokes: float = 0.5) -> pl.DataFrame:
    """Return the records of another clinic."""
    events = clinic(lives, seed=seed, start=50_000)
    lost = np.random.default_rng(seed).random(lives) > strokes
    unlucky = pl.Series(np.arange(50_000, 50_000 + lives)[lost])
    events = events.filter(~((pl.col("code") == STROKE) & pl.col("subject_id").is_in(unlucky.to_list())))
    visits = events.filter(pl.col("code") == VISIT).with_columns(code=pl.lit("LOCAL//7"), kind=pl.lit("laboratory"))
    scaled = pl.when(pl.col("code") == TEST).then(pl.col("numeric_value") * assay).otherwise("numeric_value")
    both = pl.concat([events.with_columns(numeric_value=scaled.cast(pl.Float32)), visits.gather_every(4)])
    return both.sort("subject_id", "time", nulls_last=False, maintain_order=True)


@pytest.fixture(scope="session")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second clinic as a data set."""
    folder = tmp_path_factory.mktemp("elsewhere") / "dataset"
    events = elsewhere(500, seed=5)
    scattered = events.with_columns(pl.col("subject_id") * 22_801_763_489_000_003 % (1 << 62))
    shards.write_dataset(folder, scattered, {})
    return folder
