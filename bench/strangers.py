"""How well labels of one's own are learnt on cohorts that nothing here was built with, beside trees, Cox and logistic.

Thirty clinical cohorts of SurvSet (Drysdale 2022): what was known of each person at one time, and what became of them.
Two questions of each: when (survival), and whether within the horizon, the median time to an event, asked of those of
whom that is known. Three folds, each held out in turn; scores and verdicts as in `model_accuracy`.

BENCH_STRANGERS_DIR is the folder of SurvSet's pickles: `pip download --no-deps SurvSet==0.2.11`, unpack the wheel,
`SurvSet/resources/pickles`. A pickle runs code when it is read: take it from nowhere else. BENCH_ACCURACY_DIR,
BENCH_ACCURACY_FOLDS and BENCH_ACCURACY_SETS are as in `model_accuracy`. `--quick` is two cohorts, one fold of each.
"""

from __future__ import annotations

import os
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import torch

from bench._real_data import DAY_ZERO, DataSet, Question, rows
from bench._real_peers import cox, hazard_trees, logistic, tuned_trees
from bench.model_accuracy import Peer, judged
from lifechart.core.errors import InputError

COHORTS = (
    "whas500", "GBSG2", "prostate", "pbc", "Pbc3", "follic", "uis", "colon", "LeukSurv", "actg", "TRACE", "rott2",
    "Framingham", "grace", "vlbw", "ova", "cost", "dataOvarian1", "phpl04K8a", "zinc", "dataDIVAT2",
    "Aids2", "smarto", "nwtco", "dataDIVAT3", "dataDIVAT1", "rdata", "rhc", "Dialysis", "support2",
)  # fmt: skip
"""Every clinical cohort of SurvSet with one row a person, 250 people and four columns or more, but those that stand in
`model_accuracy` and those of thousands of expressed genes."""
PEERS = {
    "tuned-trees": Peer(tuned_trees),
    "logistic": Peer(logistic, timed=False),
    "hazard-trees": Peer(hazard_trees, timed=True),
    "cox": Peer(cox, timed=True),
}
_MIDDLE = 1000.0
"""Days: the cohorts tell time in days, weeks, months or years, so each is stretched to this median follow-up."""


def main(quick: bool) -> dict[str, float]:
    """Run every cohort, print the tables, and return the figures."""
    torch.set_num_threads(1)
    folder = Path(os.environ.get("BENCH_STRANGERS_DIR", ""))
    chosen = [name for name in os.environ.get("BENCH_ACCURACY_SETS", "").split(",") if name] or list(COHORTS)
    for name in chosen:
        if not (folder / f"{name}.pickle").is_file():
            raise InputError("BENCH_STRANGERS_DIR", str(folder), f"a folder that holds {name}.pickle of SurvSet")
    chosen, folds = (chosen[:2], 1) if quick else (chosen, int(os.environ.get("BENCH_ACCURACY_FOLDS", "0")) or None)
    return judged({name: partial(cohort, folder, name) for name in chosen}, PEERS, folds)


def cohort(folder: Path, name: str) -> DataSet:
    """Read one cohort: each column an event of that code, numbers as values and classes as text."""
    people = pd.read_pickle(folder / f"{name}.pickle").query("time > 0").drop_duplicates("pid")
    subject, came = np.arange(1, len(people) + 1), people["event"].to_numpy() > 0
    days = people["time"].to_numpy(dtype=np.float64)
    days = np.maximum(days * _MIDDLE / np.median(days), 0.01)
    parts = []
    for column in people.columns:
        kind, _, code = column.partition("_")
        if kind == "num":
            told = pl.Series("numeric_value", pd.to_numeric(people[column], errors="coerce").to_numpy(dtype=np.float64))
            parts.append(pl.DataFrame([told.fill_nan(None)]).with_columns(subject_id=subject, code=pl.lit(code)))
        elif kind == "fac":
            words = [None if pd.isna(each) or str(each) == "nan" else str(each) for each in people[column]]
            text = pl.Series("text_value", words, dtype=pl.String)
            parts.append(pl.DataFrame([text]).with_columns(subject_id=subject, code=pl.lit(code)))
    events = pl.concat([rows(part.drop_nulls().with_columns(time=pl.lit(DAY_ZERO))) for part in parts])
    labels = pl.DataFrame({"subject_id": subject, "boolean_value": came, "days": days}).with_columns(
        prediction_time=pl.lit(DAY_ZERO + timedelta(hours=1)).cast(pl.Datetime("us"))
    )
    horizon = float(np.median(days[came]))
    within = pl.col("boolean_value") & (pl.col("days") <= horizon)
    known = labels.filter(within | (pl.col("days") >= horizon)).with_columns(boolean_value=within).drop("days")
    return DataSet(name, events, [
        Question("when", labels, labels["subject_id"].to_numpy(), horizon),
        Question("within", known, known["subject_id"].to_numpy()),
    ], 3)  # fmt: skip
