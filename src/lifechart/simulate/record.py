"""A record from disk, as the simulator's own monthly events. Only what an export shows is read.

Which process opened an encounter is told by its reason; where an export leaves it out, it can still be told: the
body mass index is measured at routine visits alone, a visit with neither that nor a finding is a follow-up, and a stay
without a condition is an admission for something else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.simulate.events import KIND, NOTHING, Events
from lifechart.simulate.orders import orders
from lifechart.simulate.physiology import physiology
from lifechart.simulate.processes import CLASSES, MONTH_MINUTES, SEXES, VACCINES, names


@dataclass(frozen=True)
class Record:
    """Events of a block of lives by month: those of month t are `events.take(slice(starts[t], starts[t + 1]))`."""

    sex: NDArray[np.int8]
    ancestry: NDArray[np.int8]
    events: Events
    starts: NDArray[np.int64]

    def month(self, step: int) -> Events:
        """Return the events of one month, sorted by row and time."""
        if step + 1 >= len(self.starts):
            return self.events.take(np.zeros(0, np.int64))
        return self.events.take(np.arange(self.starts[step], self.starts[step + 1]))


def read(people: pl.DataFrame, events: pl.DataFrame) -> Record:
    """Turn rows of people.parquet and events.parquet into months. Rows follow the order of `people`."""
    name = names()
    row = pl.DataFrame({"life": people["life"], "row": np.arange(people.height), "birth": people["birth"]})
    frame = events.join(row, on="life", how="inner", maintain_order="left")
    minutes = (frame["time"] - frame["birth"]).dt.total_minutes().to_numpy()
    tables_of = {
        "encounter": CLASSES, "condition": name.conditions, "symptom": name.symptoms,
        "observation": physiology().observations, "medication": name.medications,
        "medication_stop": name.medications, "procedure": name.procedures, "immunization": name.immunizations,
        "allergy": name.allergies, "death": ("death",),
    }  # fmt: skip
    codes = pl.DataFrame(
        [(kind, key, KIND[kind], index) for kind, table in tables_of.items() for index, key in enumerate(table)],
        schema={"kind": pl.String, "key": pl.String, "kind_code": pl.Int8, "key_code": pl.Int16},
        orient="row",
    )
    frame = frame.join(codes, on=["kind", "key"], how="left", maintain_order="left")
    frame = _with_processes(frame)
    step = minutes // MONTH_MINUTES
    raw = Events(
        frame["row"].to_numpy().astype(np.int64),
        (minutes % MONTH_MINUTES + 0.5) / MONTH_MINUTES,
        frame["kind_code"].to_numpy(),
        frame["key_code"].to_numpy(),
        frame["value"].fill_null(np.nan).to_numpy(),
        frame["encounter"].to_numpy().astype(np.int64),
        frame["process"].to_numpy().astype(np.int16),
        (frame["detail"] == "test").to_numpy(),
        frame["eligible"].to_numpy(),
    )
    order = np.argsort(step, kind="stable")
    starts = np.searchsorted(step[order], np.arange(int(step.max(initial=-1)) + 2))
    sex = np.array([SEXES.index(value) for value in people["sex"]], np.int8)
    ancestry = np.array([name.ancestries.index(value) for value in people["ancestry"]], np.int8)
    return Record(sex, ancestry, raw.take(order), starts)


def _with_processes(frame: pl.DataFrame) -> pl.DataFrame:
    """Add `process` (which one opened the encounter; -1: none) and `eligible` (its results may diagnose)."""
    name = names()
    vaccine = {key: name.processes.index(process) for process, key in VACCINES.items()}
    process_of = (
        pl.col("key")
        .first()
        .replace_strict(vaccine, default=name.processes.index("vaccination"), return_dtype=pl.Int64)
    )
    injections = frame.filter(pl.col("kind") == "immunization")
    given = injections.group_by("life", "encounter").agg(process_of.alias("vaccination"))
    processes = {key: index for index, key in enumerate(name.processes)}
    eligible = orders().eligible_K
    visits = (
        frame.filter(pl.col("kind") == "encounter")
        .join(given, on=["life", "encounter"], how="left", maintain_order="left")
        .with_columns(reason=pl.col("detail").replace_strict(processes, return_dtype=pl.Int64))
        .select(
            "life",
            "encounter",
            pl.when(pl.col("detail") == "vaccination").then("vaccination").otherwise("reason").alias("process"),
            ambulatory=pl.col("key") == CLASSES[0],
        )
    )
    may = pl.DataFrame({"process": np.arange(len(eligible)), "may": eligible}).cast({"process": pl.Int64})
    visits = visits.join(may, on="process", how="left", maintain_order="left")
    joined = frame.join(visits, on=["life", "encounter"], how="left", maintain_order="left")
    dead = pl.col("kind") == "death"
    return joined.with_columns(
        pl.when(dead).then(processes["death"]).otherwise(pl.col("process")).fill_null(NOTHING).alias("process"),
        (pl.col("may") & pl.col("ambulatory")).fill_null(False).alias("eligible"),
    )
