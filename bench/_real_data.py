"""Real data sets as MEDS rows and labels, read in place from a folder of data that is no part of the project."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

DAY_ZERO = datetime(2005, 1, 1)
"""Stands for everybody's index date where the data count days from it."""
EVENTS = {
    "subject_id": pl.Int64,
    "time": pl.Datetime("us"),
    "code": pl.String,
    "numeric_value": pl.Float32,
    "text_value": pl.String,
}


@dataclass(frozen=True, eq=False)
class Question:
    """One task: whom, when, what came true (and after how many days, for survival)."""

    name: str
    labels: pl.DataFrame
    groups: NDArray[np.int64]
    """[P] whoever shares one never stands on both sides of a split."""
    horizon: float | None = None
    """Days: of survival, at which AUROC is computed too."""


@dataclass(frozen=True, eq=False)
class DataSet:
    """Events in MEDS and the tasks put to them; `folds` of which each is held out in turn, or the one that is."""

    name: str
    events: pl.DataFrame
    questions: list[Question]
    folds: int
    only: int | None = None
    """Hold out this fold alone, where one is large enough."""


def rows(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a frame with exactly the columns EVENTS."""
    return frame.select(
        (pl.col(name) if name in frame.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in EVENTS.items()
    )


def physionet2012(folder: Path) -> DataSet:
    """PhysioNet Challenge 2012 set-a: 48 hours in an ICU, then death in hospital or not."""
    parts, outcomes = [], b""
    with tarfile.open(folder / "physionet2012-set-a.tar.gz") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is None:
                continue
            if member.name.endswith("Outcomes-a.txt"):
                outcomes = file.read()
            elif Path(member.name).stem.isdigit():
                body = file.read().partition(b"\n")[2].replace(b"\n", f",{Path(member.name).stem}\n".encode())
                parts.append(body)
    read = pl.read_csv(
        b"".join(parts), has_header=False, new_columns=["clock", "code", "value", "subject_id"],
        schema_overrides={"clock": pl.String, "value": pl.Float32},
    )  # fmt: skip
    hour, minute = (pl.col("clock").str.split(":").list.get(place).cast(pl.Int64) for place in (0, 1))
    fixed = pl.col("code").is_in(["Age", "Gender", "Height", "ICUType"]) & (hour + minute == 0)
    absent = (pl.col("value") < 0) & ~pl.col("code").eq("Temp")
    is_text = pl.col("code").is_in(["Gender", "ICUType"])
    events = (
        read.filter(~pl.col("code").is_in(["RecordID", ""]) & ~absent)
        .with_columns(time=pl.when(~fixed).then(pl.lit(DAY_ZERO) + pl.duration(hours=hour, minutes=minute)))
        .with_columns(
            numeric_value=pl.when(~is_text).then("value"),
            text_value=pl.when(is_text).then(pl.col("value").cast(pl.Int64).cast(pl.String)),
        )
    )
    told = pl.read_csv(io.BytesIO(outcomes)).filter(pl.col("RecordID").is_in(read["subject_id"].unique().implode()))
    labels = told.select(
        subject_id=pl.col("RecordID"),
        prediction_time=pl.lit(DAY_ZERO + timedelta(hours=48)).cast(pl.Datetime("us")),
        boolean_value=pl.col("In-hospital_death") == 1,
    ).sort("subject_id")
    return DataSet("physionet2012", rows(events), [Question("mortality", labels, labels["subject_id"].to_numpy())], 5)
