"""Real data sets as MEDS rows and labels, read in place from a folder of data that is no part of the project."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.core.settings import Settings
from lifechart.core.timeline import RECORD_END
from lifechart.data import shards
from lifechart.data.history import History
from lifechart.data.ingest import ingest
from lifechart.evaluate.tasks import default_task, draw_prompts, label
from lifechart.ledger.log import open_log

DAY_ZERO = datetime(2005, 1, 1)
"""Stands for everybody's index date where the data count days from it."""
EVENTS: dict[str, Any] = {
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


def nafld(folder: Path) -> DataSet:
    """Olmsted County: at the index date, from what was measured and diagnosed before, what is new afterwards, when."""
    people = pl.read_csv(folder / "nafld" / "nafld1.csv", null_values="NA").rename({"id": "subject_id"})
    people = people.filter(pl.col("futime") > 0).with_columns(group=pl.col("case.id").fill_null(-pl.col("subject_id")))
    zero = pl.lit(DAY_ZERO)
    at = zero + pl.duration(days=pl.col("days"))
    parts = [
        people.select("subject_id", time=zero - pl.duration(days=(pl.col("age") + 0.5) * 365.25),
                      code=pl.lit("MEDS_BIRTH")),
        people.select("subject_id", code=pl.when(pl.col("male") == 1).then(pl.lit("GENDER//male"))
                      .otherwise(pl.lit("GENDER//female"))),
        *(
            people.drop_nulls(name).select("subject_id", time=zero, code=pl.lit(name), numeric_value=name)
            for name in ("weight", "height", "bmi")
        ),
        pl.read_parquet(folder / "nafld" / "nafld2.parquet").select(
            subject_id=pl.col("id").cast(pl.Int64), time=at, code="test", numeric_value=pl.col("value")
        ),
    ]  # fmt: skip
    diagnoses = pl.read_csv(folder / "nafld" / "nafld3.csv").rename({"id": "subject_id"})
    parts.append(diagnoses.select("subject_id", time=at, code="event"))
    questions = [_first_onset(people, diagnoses, None)]
    questions += [
        _first_onset(people, diagnoses, name) for name in ("diabetes", "heart failure", "MI", "stroke", "afib")
    ]
    return DataSet("nafld", pl.concat([rows(part) for part in parts]), questions, 5, only=0)


def _first_onset(people: pl.DataFrame, diagnoses: pl.DataFrame, event: str | None) -> Question:
    if event is None:
        name, told = "death", people.with_columns(days="futime", came=pl.col("status") == 1)
    else:
        name = event.lower().replace(" ", "_").replace("afib", "atrial_fibrillation")
        first = diagnoses.filter(pl.col("event") == event).group_by("subject_id").agg(first=pl.col("days").min())
        told = people.join(first, on="subject_id", how="left").filter(pl.col("first").is_null() | (pl.col("first") > 0))
        came = (pl.col("first") <= pl.col("futime")).fill_null(False)
        told = told.with_columns(days=pl.when(came).then("first").otherwise("futime"), came=came)
        told = _settled_by_death(told, pl.col("status") == 1)
    return _survival(name, told, told["group"].to_numpy(), 5 * 365.25)


def _settled_by_death(told: pl.DataFrame, died: pl.Expr) -> pl.DataFrame:
    """Let `days` of those who died without the event reach to the study's end: it never will come, and that is known.

    (Wolbers et al., Epidemiology 2009.) Were they censored, survivors alone would be known not to have the event by a
    horizon, and age, which kills, would pass for a sign of it.
    """
    return told.with_columns(days=pl.when(died & ~pl.col("came")).then(pl.col("days").max()).otherwise("days"))


def _survival(name: str, told: pl.DataFrame, groups: NDArray[np.int64], horizon: float) -> Question:
    labels = told.select(
        "subject_id",
        prediction_time=pl.lit(DAY_ZERO).cast(pl.Datetime("us")),
        boolean_value="came",
        days=pl.col("days").cast(pl.Float64),
    )
    return Question(name, labels, groups, horizon)


def flchain(folder: Path) -> DataSet:
    """Olmsted County: death after a measurement of serum free light chains."""
    read = pl.read_csv(folder / "flchain.csv", null_values="NA").rename({"rownames": "subject_id"})
    events = _at_zero(read, ["sample.yr", "kappa", "lambda", "flc.grp", "creatinine", "mgus"])
    told = read.with_columns(days="futime", came=pl.col("death") == 1)
    question = _survival("death", told, told["subject_id"].to_numpy(), 5 * 365.25)
    return DataSet("flchain", events, [question], 5)


def mgus2(folder: Path) -> DataSet:
    """Mayo Clinic: death, and progression to a plasma cell malignancy, after a monoclonal gammopathy is found."""
    read = pl.read_csv(folder / "mgus2.csv", null_values="NA").rename({"id": "subject_id"})
    events = _at_zero(read, ["dxyr", "hgb", "creat", "mspike"])
    ids, month = read["subject_id"].to_numpy(), 30.4375
    death = read.with_columns(days=pl.col("futime") * month, came=pl.col("death") == 1)
    progression = read.with_columns(days=pl.col("ptime") * month, came=pl.col("pstat") == 1)
    progression = _settled_by_death(progression, pl.col("death") == 1)
    questions = [_survival("death", death, ids, 5 * 365.25), _survival("progression", progression, ids, 10 * 365.25)]
    return DataSet("mgus2", events, questions, 5)


def _at_zero(read: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    zero = pl.lit(DAY_ZERO)
    parts = [
        read.select("subject_id", time=zero - pl.duration(days=(pl.col("age") + 0.5) * 365.25),
                    code=pl.lit("MEDS_BIRTH")),
        read.select("subject_id", code=pl.lit("SEX"), text_value="sex"),
        *(
            read.drop_nulls(name).select("subject_id", time=zero, code=pl.lit(name), numeric_value=name)
            for name in columns
        ),
    ]  # fmt: skip
    return pl.concat([rows(part) for part in parts])


_PLAIN = ("encounter_id", "patient_nbr", "readmitted", "diag_1", "diag_2", "diag_3", "age")
_NUMBERS = (
    "time_in_hospital", "num_lab_procedures", "num_procedures", "num_medications", "number_outpatient",
    "number_emergency", "number_inpatient", "number_diagnoses",
)  # fmt: skip


def diabetes130(folder: Path) -> DataSet:
    """130 US hospitals: after each stay, back within 30 days or not. Stays have an order but no dates."""
    with tarfile.open(folder / "diabetes130.tar.gz") as archive:
        file = archive.extractfile("diabetes130/dataset_diabetes/diabetic_data.csv")
        assert file is not None
        read = pl.read_csv(file.read(), infer_schema=False)
    read = read.with_columns(pl.col("encounter_id", "patient_nbr").cast(pl.Int64)).sort("patient_nbr", "encounter_id")
    read = read.with_columns(
        subject_id="patient_nbr",
        time=pl.lit(DAY_ZERO) + pl.duration(days=100 * (pl.int_range(pl.len()).over("patient_nbr") + 1)),
    )
    who = ["subject_id", "time"]
    parts = [read.select(*who, code=pl.lit(name), numeric_value=pl.col(name).cast(pl.Float32)) for name in _NUMBERS]
    parts.append(
        read.select(*who, code=pl.lit("age"), numeric_value=pl.col("age").str.extract(r"(\d+)").cast(pl.Float32))
    )
    for name in (each for each in read.columns if each not in (*_PLAIN, *_NUMBERS, *who)):
        told = read.filter(~pl.col(name).is_in(["?", "No", "None"]))
        parts.append(told.select(*who, code=pl.lit(name), text_value=name))
    for name in ("diag_1", "diag_2", "diag_3"):
        told = read.filter(pl.col(name) != "?")
        parts.append(told.select(*who, code="ICD9CM//" + pl.col(name)))
    first = read.filter(pl.col("diag_1") != "?")
    parts.append(first.select(*who, code="PRINCIPAL//" + pl.col("diag_1").str.slice(0, 3)))
    # What came of a stay is known once the next one has begun.
    back = read.with_columns(time=pl.col("time").shift(-1).over("subject_id")).drop_nulls("time")
    parts.append(back.select(*who, code=pl.lit("readmitted"), text_value="readmitted"))
    labels = read.select(
        "subject_id",
        prediction_time=pl.col("time").cast(pl.Datetime("us")),
        boolean_value=pl.col("readmitted") == "<30",
    )
    question = Question("readmission_30d", labels, labels["subject_id"].to_numpy())
    return DataSet("diabetes130", pl.concat([rows(part) for part in parts]), [question], 5, only=0)


_NEW_CONDITIONS = 5
_SYNTHEA_KEY = bytes(32)
"""Nobody to protect: the same ids in every run, so that folds are the same and what was kept of one serves the next."""


def synthea(folder: Path) -> DataSet:
    """Synthea's R4 sample through our own ingest: the conditions with the most new onsets within a year of a visit."""
    with tempfile.TemporaryDirectory(prefix="lifechart-synthea-") as passing:
        work = Path(passing)
        with tarfile.open(folder / "synthea-r4.tar.gz") as archive:
            archive.extractall(work / "fhir", filter="data")
        settings = Settings(home=work / "home")
        ingest(work / "fhir", work / "dataset", key=_SYNTHEA_KEY, log=open_log(settings))
        read = pl.concat([shards.read_split(work / "dataset", split) for split in shards.SPLITS])
    history, prompts = History(read), draw_prompts(read, default_task(), 0)
    is_onset = (pl.col("kind") == "condition") & ~pl.col("code").str.contains(r"^(ABATED|FAMILY|ALLERGY)//|//\*$")
    conditions = read.filter(is_onset)["code"].unique().sort().to_list()
    told = label(history, prompts, conditions, (365,))
    asked = told.known[:, :, 0] & ~told.recorded
    onsets = (told.occurred[:, :, 0] & asked).sum(axis=0)
    questions = []
    for number in np.argsort(-onsets, kind="stable")[:_NEW_CONDITIONS]:
        labels = prompts.with_columns(boolean_value=pl.Series(told.occurred[:, number, 0])).filter(asked[:, number])
        name = conditions[number].rpartition("//")[2]
        questions.append(Question(f"new_{name}", labels, labels["subject_id"].to_numpy()))
    events = read.filter(pl.col("code") != RECORD_END)
    return DataSet("synthea", rows(events), questions, 3)


SETS: dict[str, Callable[[Path], DataSet]] = {
    "physionet2012": physionet2012,
    "nafld": nafld,
    "diabetes130": diabetes130,
    "synthea": synthea,
    "flchain": flchain,
    "mgus2": mgus2,
}
"""Every set, by name."""
