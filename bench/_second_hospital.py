"""A second simulated hospital, unlike the first: other rates, assays, codes, and other habits of ordering tests.

Everything is drawn by lot from the seed. Rates are planted before anybody lives (each process's hazard times a
lognormal factor); assays, codes and orders afterwards, in the de-identified records, where a local laboratory and a
local code system would leave their mark.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from lifechart.core.settings import Settings
from lifechart.data import shards
from lifechart.data.deidentify.structured import load_key
from lifechart.data.ingest import ingest
from lifechart.ledger.log import open_log
from lifechart.simulate.export import export
from lifechart.simulate.hospital import write_truth
from lifechart.simulate.processes import hazards, names

TODAY = date(2025, 1, 1)
RATE_SPREAD = 0.45
"""Standard deviation of the logarithm of each process's factor."""
ASSAYS = (1.1, 0.88, 1.15, 0.92, 1.08)
LOCAL_TESTS, LOCAL_DRUGS = 1 / 8, 1 / 5
"""Shares of the codes that are written in a system of the hospital's own."""
LESS_ORDERED, KEPT = 4, 0.4
"""So many tests have only this share of their results."""


@dataclass(frozen=True)
class Planted:
    """What is otherwise in this hospital."""

    assays: dict[str, float]
    local: dict[str, str]
    less: tuple[str, ...]


@contextmanager
def other_rates(seed: int) -> Iterator[None]:
    """Let every process of the simulated hospital run at a rate of this seed's."""
    table, number = hazards(), len(names().processes)
    shift = np.random.default_rng([seed, 77]).normal(0, RATE_SPREAD, number).astype(np.float32)
    table.age[:, :, :number] += shift
    try:
        yield
    finally:
        hazards.cache_clear()


def records(folder: Path, lives: int, seed: int) -> tuple[pl.DataFrame, Planted]:
    """Return the hospital's de-identified events, and what was planted; kept in `folder`."""
    dataset, settings = folder / "dataset", Settings(home=folder / "home")
    if not (dataset / shards.MANIFEST).exists():
        with other_rates(seed):
            write_truth(folder / "truth", lives, seed, TODAY)
            export(folder / "truth", folder)
        ingest(folder / "fhir", dataset, key=load_key(settings), log=open_log(settings), workers=1)
        for part in ("fhir", "gold"):
            shutil.rmtree(folder / part, ignore_errors=True)
    events = pl.concat([shards.read_split(dataset, split) for split in shards.SPLITS])
    return _planted(events, np.random.default_rng([seed, 78]))


def _planted(events: pl.DataFrame, rng: np.random.Generator) -> tuple[pl.DataFrame, Planted]:
    def codes(*chosen: pl.Expr) -> list[str]:
        found: list[str] = events.filter(*chosen)["code"].unique().sort().to_list()
        rng.shuffle(found)
        return found

    tests, drugs = codes(pl.col("kind") == "laboratory"), codes(pl.col("kind") == "medication")
    renamed = [*tests[: round(LOCAL_TESTS * len(tests))], *drugs[: round(LOCAL_DRUGS * len(drugs))]]
    local = {code: f"LOCAL//{number}" for number, code in enumerate(renamed)}
    measured = pl.col("numeric_value").is_not_null() & pl.col("kind").is_in(["laboratory", "vital"])
    valued = [code for code in codes(measured) if code not in local]
    assays = dict(zip(valued, ASSAYS, strict=False))
    less = tuple(valued[len(ASSAYS) : len(ASSAYS) + LESS_ORDERED])
    dropped = pl.col("code").is_in(less) & pl.Series(rng.random(events.height) >= KEPT)
    factor = pl.col("code").replace_strict(assays, default=1.0, return_dtype=pl.Float64)
    made = events.filter(~dropped).with_columns(
        numeric_value=(pl.col("numeric_value") * factor).cast(pl.Float32), code=pl.col("code").replace(local)
    )
    return made, Planted(assays, local, less)


def part(events: pl.DataFrame, lives: int, asked: int, seed: int, out: Path) -> Path:
    """Write a data set of the first `lives` (by lot) to learn from, a ninth of them to tune on, and `asked` others.

    Those held out are the same whatever `lives` is.
    """
    rng = np.random.default_rng([seed, 79])
    subjects = events["subject_id"].unique().sort().to_numpy().copy()
    rng.shuffle(subjects)
    chosen = np.concatenate([subjects[:lives], subjects[-asked:]])
    tenth = np.concatenate([np.where(np.arange(lives) % 9 == 8, 8, 0), np.full(asked, 9)])
    # The split goes by the identifier, so each gets one that lies in the split wanted.
    number = np.where(np.arange(len(chosen)) < lives, np.arange(len(chosen)), 10**6 + np.arange(len(chosen)) - lives)
    identifier = ((number * 7_919 % 2**20) * 10 + tenth) * 2**32 + number
    to = dict(zip(chosen.tolist(), identifier.tolist(), strict=True))
    mine = events.filter(pl.col("subject_id").is_in(chosen.tolist()))
    shards.write_dataset(out, mine.with_columns(pl.col("subject_id").replace_strict(to, return_dtype=pl.Int64)), {})
    return out
