"""How well each outcome can be forecast at all: the AUROC of both oracles for new onset, on prompts at random times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import rankdata

from lifechart.simulate.futures import ADMISSION, DEATH
from lifechart.simulate.oracle import Oracle, Report

ADULT_DAYS = 6575


@dataclass(frozen=True)
class Ceiling:
    """One outcome."""

    outcome: str
    """Its key in the simulator's tables."""
    num_prompts: int
    num_events: int
    expected: float
    """Events that the record oracle expects."""
    record_auroc: float
    latent_auroc: float


def ceilings(
    truth: Path, today: date, *, lives: int = 3000, horizon_days: int = 365, draws: int = 8, workers: int = 1,
    seed: int = 0, report: Report | None = None,
) -> list[Ceiling]:  # fmt: skip
    """Score both oracles of a hospital simulated until `today`, one prompt a life at a random adult time.

    The time does not depend on the death, and its horizon ends before `today`. New onset only: people with the outcome
    before are left out, but for admissions. Outcomes that never or always came are left out.
    """
    oracle = Oracle.load(truth)
    prompts = _prompts(oracle.people.head(lives), today, horizon_days, seed)
    keys = tuple(oracle.outcomes.values())
    record = oracle.record_risks(prompts, keys, (horizon_days,), draws=draws, workers=workers, report=report)
    latent = oracle.latent_risks(prompts, keys, (horizon_days,), draws=draws, workers=workers, report=report)
    before, after = _history(truth, prompts, keys, horizon_days)
    found = []
    for index, key in enumerate(keys):
        new = ~before[:, index] | (key == ADMISSION)
        came = after[new, index]
        if 0 < came.sum() < len(came):
            risks = record[new, index, 0], latent[new, index, 0]
            scores = [auroc(came, risk) for risk in risks]
            found.append(Ceiling(key, len(came), int(came.sum()), float(risks[0].sum()), *scores))
    return found


def auroc(came: NDArray[np.bool_], risk: NDArray[np.float32]) -> float:
    """Return the area under the ROC curve: the chance that a case is ranked above another (Mann-Whitney)."""
    cases = int(came.sum())
    return float((rankdata(risk)[came].sum() - cases * (cases + 1) / 2) / (cases * (len(came) - cases)))


def _prompts(people: pl.DataFrame, today: date, horizon_days: int, seed: int) -> pl.DataFrame:
    last = datetime.combine(today, time()) - timedelta(days=horizon_days)
    adult = people.with_columns(first=pl.col("birth") + timedelta(days=ADULT_DAYS)).filter(pl.col("first") < last)
    share = pl.Series(np.random.default_rng(seed).random(adult.height))
    waited = (pl.lit(last) - pl.col("first")).dt.total_days() * share
    asked = adult.with_columns(prediction_time=pl.col("first") + pl.duration(days=waited.cast(pl.Int64)))
    alive = pl.col("death").is_null() | (pl.col("death") > pl.col("prediction_time"))
    return asked.filter(alive).select("life", "prediction_time")


def _history(
    truth: Path, prompts: pl.DataFrame, keys: Sequence[str], horizon_days: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each outcome stands before each prompt, and whether it comes within the horizon: [P, O] each."""
    kinds = {DEATH: "death", ADMISSION: "encounter"}
    wanted = pl.DataFrame(
        {"kind": [kinds.get(key, "condition") for key in keys], "key": list(keys), "outcome": np.arange(len(keys))}
    )
    events = pl.read_parquet(truth / "events.parquet", columns=["life", "time", "kind", "key"])
    rows = events.join(wanted, on=["kind", "key"]).join(prompts.with_row_index("prompt"), on="life")
    tables = []
    past = pl.col("time") <= pl.col("prediction_time")
    soon = ~past & (pl.col("time") <= pl.col("prediction_time") + timedelta(days=horizon_days))
    for which in (past, soon):
        table = np.zeros((prompts.height, len(keys)), np.bool_)
        picked = rows.filter(which)
        table[picked["prompt"].to_numpy(), picked["outcome"].to_numpy()] = True
        tables.append(table)
    return tables[0], tables[1]
