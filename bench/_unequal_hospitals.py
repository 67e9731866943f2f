"""Small simulated hospitals for the fairness bench: their records as MEDS events, and a model that is fair to them.

The model is a plain logistic regression on latest results, age, sex and stated ancestry, fitted once on an unbiased
hospital of other people: it has no reason to be worse for anybody.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from lifechart.codes.systems import URIS, join
from lifechart.core.timeline import BIRTH, DEATH, RECORD_END
from lifechart.data.history import DAY, History, microseconds
from lifechart.evaluate.tasks import Task, default_task, draw_prompts, label
from lifechart.simulate import hospital, tables
from lifechart.simulate.bias import Underdiagnosis, recorded, unrecorded

TODAY = date(2026, 1, 1)
OUTCOMES = (*(join(URIS["SNOMED"], code) for code in ("44054006", "38341003", "709044004", "53741008")), DEATH)
"""Type 2 diabetes, hypertension, chronic kidney disease, coronary disease, death."""
HORIZON = 365
LATEST = {
    "LOINC//4548-4": (5.4, 0.6),
    "LOINC//8480-6": (125.0, 16.0),
    "LOINC//39156-5": (27.0, 5.0),
    "LOINC//98979-8": (90.0, 20.0),
    "LOINC//18262-6": (115.0, 30.0),
}
"""What the model reads (HbA1c, systolic pressure, body mass index, filtration, LDL): a usual value and spread."""
STATED = ("GENDER//male", "RACE//2054-5", "RACE//2028-9", "ETHNICITY//2135-2", "RACE//2131-1")


@dataclass(frozen=True, slots=True, eq=False)
class Lives:
    """The truth of one hospital."""

    people: pl.DataFrame
    events: pl.DataFrame
    seed: int

    def records(self, bias: Underdiagnosis | None = None) -> pl.DataFrame:
        """Return what reaches the record, as MEDS events."""
        happened = self.events
        if bias is not None:
            happened = recorded(happened, unrecorded(self.people, bias, self.seed))
        return _meds(self.people, happened)


def live(lives: int, seed: int) -> Lives:
    """Simulate a hospital, without writing it."""
    blocks = [frames for _, frames in hospital.blocks(lives, seed, TODAY)]
    return Lives(pl.concat([each["people"] for each in blocks]), pl.concat([each["events"] for each in blocks]), seed)


def task() -> Task:
    """Return the protocol of the product with a moment a year, and one horizon."""
    plain = default_task()
    prompts = plain.prompts.model_copy(update={"spacing_days": 365})
    return plain.model_copy(update={"prompts": prompts, "horizons_days": (HORIZON,), "main_horizon_days": HORIZON})


def _meds(people: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    codes = {("death", "death"): DEATH}
    codes |= {("condition", row["key"]): join(URIS["SNOMED"], row["snomed"]) for row in tables.rows("conditions")}
    codes |= {("observation", row["key"]): f"LOINC//{row['loinc']}" for row in tables.rows("observations")}
    codes |= {("encounter", key): f"ENCOUNTER//{key}" for key in ("ambulatory", "emergency", "inpatient")}
    table = pl.DataFrame([(*key, code) for key, code in codes.items()], schema=["kind", "key", "code"], orient="row")
    subject = pl.col("life").cast(pl.Int64).alias("subject_id")
    coded = events.join(table, on=["kind", "key"]).select(subject, "time", "code", "kind", numeric_value="value")
    ancestries = {row["key"]: row for row in tables.rows("ancestries")}

    def stated(code: pl.Expr) -> pl.DataFrame:
        return people.select(
            subject, time=pl.lit(None, pl.Datetime("us")), code=code, kind=pl.lit("demographic"),
            numeric_value=pl.lit(None, pl.Float32),
        )  # fmt: skip

    def dated(when: pl.Expr, code: str, kind: str) -> pl.DataFrame:
        return people.select(
            subject, time=when.cast(pl.Datetime("us")), code=pl.lit(code), kind=pl.lit(kind),
            numeric_value=pl.lit(None, pl.Float32),
        )  # fmt: skip

    race = pl.col("ancestry").replace_strict({key: f"RACE//{row['race']}" for key, row in ancestries.items()})
    origin = pl.col("ancestry").replace_strict(
        {key: f"ETHNICITY//{row['ethnicity']}" for key, row in ancestries.items()}
    )
    parts = [
        coded.cast({"time": pl.Datetime("us")}), dated(pl.col("birth"), BIRTH, "demographic"),
        dated(pl.lit(datetime.combine(TODAY, datetime.min.time())), RECORD_END, "record"),
        stated("GENDER//" + pl.col("sex")), stated(race), stated(origin), stated("LANGUAGE//" + pl.col("language")),
    ]  # fmt: skip
    return pl.concat(parts).sort("subject_id", "time", nulls_last=False)


class Fair:
    """A logistic model of each outcome within a year."""

    name, digest, outcomes, horizons = "logistic", "0" * 64, OUTCOMES, (HORIZON,)

    def __init__(self, models: list[Pipeline]) -> None:
        self._models = models

    @classmethod
    def fit(cls, events: pl.DataFrame, seed: int) -> Fair:
        """Fit on one hospital's records."""
        history = History(events)
        prompts = draw_prompts(events, task(), seed)
        labels = label(history, prompts, OUTCOMES, (HORIZON,))
        table = features(history, prompts)
        models = []
        for number in range(len(OUTCOMES)):
            rows = labels.known[:, number, 0] & ~labels.recorded[:, number]
            model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=400))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                models.append(model.fit(table[rows], labels.occurred[rows, number, 0]))
        return cls(models)

    def risks(self, events: pl.DataFrame, prompts: pl.DataFrame) -> NDArray[np.float32]:
        """Return probabilities [P, O, 1]."""
        table = features(History(events), prompts)
        return np.stack([model.predict_proba(table)[:, 1] for model in self._models], 1)[:, :, None].astype(np.float32)


def features(history: History, prompts: pl.DataFrame) -> NDArray[np.float64]:
    """Return [P, features]: a spline of age, what is stated; of each result the latest, its square, whether any."""
    owner = history.owner(prompts["subject_id"].to_numpy())
    asked = microseconds(prompts["prediction_time"])
    age = (asked - history.births[owner]) / (365.25 * DAY)
    cut, start = history.cut(owner, asked), history.offsets[owner]
    columns = [age, *(np.maximum(age - knot, 0) for knot in (35, 50, 65, 75, 85))]
    for code in STATED:
        has = np.zeros(len(history.subjects))
        has[np.searchsorted(history.offsets, history.rows(code), side="right") - 1] = 1
        columns.append(has[owner])
    male = columns[6]
    columns += [male * np.maximum(age - knot, 0) for knot in (18, 50, 65)]
    for code, (usual, spread) in LATEST.items():
        rows = np.append(history.rows(code), np.iinfo(np.int64).max)
        last = np.searchsorted(rows, cut) - 1
        seen = (last >= 0) & (rows[last] >= start)
        value = np.where(seen, (history.values[np.where(seen, rows[last], 0)] - usual) / spread, 0.0)
        columns += [value, np.maximum(value, 0) ** 2, np.minimum(value, 0) ** 2, seen.astype(float)]
    table: NDArray[np.float64] = np.nan_to_num(np.stack(columns, 1))
    return table
