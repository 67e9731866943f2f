"""The best reachable forecast where the truth is known: the oracles of the simulated hospital, as scorers.

The oracles know lives and true dates; a data set knows keyed subject ids and shifted dates. Whoever holds the
institution's de-identification key can lead from one to the other, and nobody else.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.core.errors import InputError
from lifechart.data.deidentify.dates import offsets
from lifechart.data.deidentify.structured import subject_ids
from lifechart.evaluate.headline import RECORD
from lifechart.simulate.oracle import Oracle

DRAWS = 16
"""Futures simulated for each prompt, averaged over intensities. Doubling them moves most AUROCs by less than 0.005."""


class OracleScorer:
    """`record-oracle` knows what the record shows, `latent-oracle` all that the simulator does."""

    def __init__(self, name: str, oracle: Oracle, lives: pl.DataFrame, horizons: Sequence[int], draws: int) -> None:
        self.name = name
        self.outcomes = tuple(oracle.outcomes)
        self.horizons = tuple(horizons)
        self._oracle, self._lives, self._draws = oracle, lives, draws

    def risks(self, events: pl.DataFrame, prompts: pl.DataFrame) -> NDArray[np.float32]:
        """Return probabilities [prompts, outcomes, horizons]. The oracle reads its own record; `events` is not used."""
        asked = prompts.join(self._lives, on="subject_id", how="left", maintain_order="left")
        if asked["life"].null_count():
            raise InputError(
                "truth", f"{asked['life'].null_count()} unknown subjects", "the lives behind this data set"
            )
        asked = asked.select("life", prediction_time=pl.col("prediction_time") - pl.col("offset"))
        keys = list(self._oracle.outcomes.values())
        ask = self._oracle.record_risks if self.name == RECORD else self._oracle.latent_risks
        return ask(asked, keys, self.horizons, draws=self._draws, workers=os.cpu_count() or 1)


def load_oracles(
    truth: Path, key: bytes, horizons: Sequence[int], names: Sequence[str] = (RECORD,), draws: int = DRAWS
) -> list[OracleScorer]:
    """Load oracles of a simulated hospital. `truth`: its truth/ folder; `key`: the de-identification key."""
    people = pl.read_parquet(truth / "people.parquet", columns=["life", "patient_id"])
    lives = people.select("life").with_columns(
        subject_id=subject_ids(key, people["patient_id"]), offset=offsets(key, people["patient_id"])
    )
    oracle = Oracle.load(truth)
    return [OracleScorer(name, oracle, lives, horizons, draws) for name in names]
