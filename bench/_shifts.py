"""A simulated hospital replayed in weeks, and the shifts that can be planted in it from a given week on.

Lives are simulated once; each week draws people and one of their encounters from that pool with replacement, so that
nothing shifts unless it is planted. Forecasts are a logistic score of age on the week's records as
they arrive; labels follow from the records as they truly are, and mature four weeks later.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import numpy as np
import polars as pl
from scipy.special import expit

from lifechart.core.timeline import BIRTH
from lifechart.evaluate.signals import Batch
from lifechart.evaluate.subgroups import age_band
from lifechart.simulate import hospital, tables

TODAY = date(2026, 11, 1)
POOL_YEARS = 6
LABEL_WEEKS = 4
OUTCOME = "ENCOUNTER//inpatient"
NEW_DRUG = "RxNorm//2601723"
HBA1C, GLUCOSE = "LOINC//4548-4", "LOINC//2345-7"
NORTH = "site=north"
_SYSTEMS = {"condition": ("SNOMED", "snomed"), "observation": ("LOINC", "loinc"), "medication": ("RxNorm", "rxnorm")}


@dataclass(frozen=True, slots=True)
class Week:
    """One week before a forecast is made: what arrives, and what is true."""

    events: pl.DataFrame
    """Columns as in Batch.events, with `site`; subject_id numbers the visit."""
    true: pl.DataFrame
    """`subject_id`, `risk`: the probability of the outcome."""


Plant = Callable[[Week, np.random.Generator], Week]


@dataclass(frozen=True, slots=True)
class Scenario:
    """Something that changes in the world or upstream, and what the monitor has to say of it."""

    name: str
    plant: Plant
    kind: str
    """Of the alarm that names it."""
    what: str
    """That the alarm must be about."""
    where: str
    weeks: int
    """Within which it is to be found."""
    cause: str
    """How the cause that is named must begin."""
    older: bool = False


class Replay:
    """The pool, and weeks drawn from it."""

    def __init__(self, lives: int, a_week: int, seed: int = 0) -> None:
        self._a_week = a_week
        with tempfile.TemporaryDirectory() as folder:
            hospital.write_truth(Path(folder), lives, seed, TODAY)
            people = pl.read_parquet(Path(folder) / "people.parquet")
            events = pl.read_parquet(Path(folder) / "events.parquet")
        start = datetime(TODAY.year - POOL_YEARS, TODAY.month, TODAY.day)
        events = events.filter((pl.col("time") >= start) & (pl.col("encounter") >= 0))
        self._rows = _as_meds(events).sort("life", "encounter")
        visits = self._rows.select("life", "encounter").unique(maintain_order=True).with_row_index("visit")
        self._rows = self._rows.join(visits, on=["life", "encounter"], maintain_order="left")
        first = self._rows.group_by("visit", maintain_order=True).agg(pl.col("time").min())
        self._visits = visits.join(people, on="life", maintain_order="left").with_columns(
            first["time"], age=(first["time"] - pl.col("birth")).dt.total_days() / 365.25
        )
        self._bounds = np.searchsorted(self._rows["visit"].to_numpy(), np.arange(len(visits) + 1))
        self._age = self._visits["age"].to_numpy()
        self._ancestry = self._visits["ancestry"].to_numpy()

    def week(self, rng: np.random.Generator, older: bool = False) -> Week:
        """Draw a week: a number of visits that itself varies by a tenth. `older`: from an older, other catchment."""
        number = rng.poisson(self._a_week * rng.gamma(100, 1 / 100))
        weight = np.ones(len(self._age))
        if older:
            weight *= np.exp(self._age / 60) * np.where(self._ancestry == "asian", 2.0, 1.0)
        drawn = rng.choice(len(weight), number, p=weight / weight.sum())
        spans = [np.arange(self._bounds[visit], self._bounds[visit + 1]) for visit in drawn]
        owner = np.repeat(np.arange(number), [len(span) for span in spans])
        rows = self._rows[np.concatenate(spans)].with_columns(subject_id=pl.Series(owner, dtype=pl.Int64))
        visits = self._visits[drawn].with_columns(
            subject_id=pl.Series(np.arange(number), dtype=pl.Int64),
            site=pl.Series(np.where(rng.random(number) < 0.5, "north", "south")),
        )
        rows = rows.join(visits.select("subject_id", "site"), on="subject_id", maintain_order="left")
        columns = ["subject_id", "time", "code", "numeric_value", "text_value", "unit", "kind", "site"]
        events = pl.concat([_demographics(visits).select(columns), rows.select(columns)])
        return Week(events, visits.select("subject_id", risk=pl.Series(_truth(self._age[drawn], rng))))


def batches(replay: Replay, weeks: int, seed: int, scenario: Scenario | None = None, at: int = 0) -> Iterator[Batch]:
    """Yield `weeks` batches; from week `at` on the scenario holds."""
    rng = np.random.default_rng(seed)
    waiting: list[pl.DataFrame] = []
    for number in range(weeks):
        planted = scenario is not None and number >= at
        week = replay.week(rng, older=planted and scenario is not None and scenario.older)
        if planted and scenario is not None:
            week = scenario.plant(week, rng)
        made = _forecasts(week.events)
        came = rng.random(week.true.height) < week.true["risk"].to_numpy()
        waiting.append(made.with_columns(label=pl.Series(came)))
        matured = waiting.pop(0) if len(waiting) > LABEL_WEEKS else None
        sites = week.events.select("subject_id", "site").unique("subject_id", maintain_order=True)
        yield Batch(f"week {number:03}", week.events.drop("site"), sites, made, matured)


def _as_meds(events: pl.DataFrame) -> pl.DataFrame:
    """Return the truth's events in a data set's columns and codes."""
    code, unit = {}, {}
    for kind, (system, column) in _SYSTEMS.items():
        for row in tables.rows(f"{kind}s"):
            code[f"{kind}/{row['key']}"] = f"{system}//{row[column]}"
            unit[f"{kind}/{row['key']}"] = row.get("unit") or None
    name = pl.col("kind") + "/" + pl.col("key")
    other = pl.col("kind").str.to_uppercase() + "//" + pl.col("key")
    kinds = {"observation": "laboratory", "symptom": "condition", "medication_stop": "medication"}
    return events.select(
        "life", "encounter", "time",
        code=name.replace_strict(code, default=other, return_dtype=pl.String),
        numeric_value=pl.when(pl.col("kind") == "observation").then("value"),
        # A procedure's side, as an upstream system would send it; which it is does not matter here.
        text_value=pl.when(pl.col("kind") == "procedure").then(
            pl.when(pl.col("time").dt.minute() % 2 == 0).then(pl.lit("left")).otherwise(pl.lit("right"))
        ),
        unit=name.replace_strict(unit, default=None, return_dtype=pl.String),
        kind=pl.col("kind").replace(kinds),
    )  # fmt: skip


def _demographics(visits: pl.DataFrame) -> pl.DataFrame:
    none = {"numeric_value": pl.lit(None, pl.Float32), "text_value": pl.lit(None, pl.String)}
    none |= {"unit": pl.lit(None, pl.String), "kind": pl.lit("demographic")}
    facts = [(BIRTH, pl.col("birth").cast(pl.Datetime("us")))]
    born = visits.select("subject_id", "site", code=pl.lit(facts[0][0]), time=facts[0][1], **none)
    undated = [
        visits.select("subject_id", "site", code=prefix + pl.col(column), time=pl.lit(None, pl.Datetime("us")), **none)
        for prefix, column in ((pl.lit("GENDER//"), "sex"), (pl.lit("RACE//"), "ancestry"))
    ]
    return pl.concat([born, *undated])


def _truth(age: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    risk: np.ndarray = expit(-3.2 + 0.03 * (age - 50) + 0.3 * rng.standard_normal(len(age)))
    return risk


def _forecasts(events: pl.DataFrame) -> pl.DataFrame:
    """Forecast from what arrived: age where the birth can be read, and 50 where not."""
    birth = events.filter(pl.col("code") == BIRTH).group_by("subject_id").agg(birth=pl.col("time").first())
    last = events.filter(pl.col("code") != BIRTH).group_by("subject_id").agg(pl.col("time").max())
    sex = events.filter(pl.col("code").str.starts_with("GENDER//")).group_by("subject_id").agg(pl.col("code").first())
    chart = last.join(birth, on="subject_id", how="left").join(sex, on="subject_id", how="left").sort("subject_id")
    age = ((chart["time"] - chart["birth"]).dt.total_days() / 365.25).fill_null(50.0).to_numpy().astype(float)
    sexes = chart["code"].fill_null("GENDER//unknown").to_list()
    groups = [
        [f"age={age_band(float(np.clip(years, 0, 110)))}", f"sex={code.removeprefix('GENDER//')}"]
        for years, code in zip(age, sexes, strict=True)
    ]
    return chart.select(
        "subject_id",
        outcome=pl.lit(OUTCOME),
        horizon_days=pl.lit(7 * LABEL_WEEKS),
        probability=pl.Series(expit(-3.15 + 0.03 * (age - 50))),
        groups=pl.Series(groups, dtype=pl.List(pl.String)),
    )


def _recode(mapping: dict[str, str]) -> Plant:
    return lambda week, _: Week(week.events.with_columns(pl.col("code").replace(mapping)), week.true)


def _scale(code: str, factor: float, unit: str | None = None, site: str | None = None) -> Plant:
    """Multiply a code's results; `unit`: and say so. `site`: only there."""

    def plant(week: Week, _: np.random.Generator) -> Week:
        here = pl.col("code") == code
        if site is not None:
            here &= pl.col("site") == site
        columns = [pl.when(here).then(pl.col("numeric_value") * factor).otherwise("numeric_value").cast(pl.Float32)]
        if unit is not None:
            columns.append(pl.when(here).then(pl.lit(unit)).otherwise("unit").alias("unit"))
        return Week(week.events.with_columns(columns), week.true)

    return plant


def _new_drug(week: Week, rng: np.random.Generator) -> Week:
    seen = week.events.filter(pl.col("time").is_not_null() & (pl.col("code") != BIRTH)).unique(
        "subject_id", maintain_order=True
    )
    given = seen.filter(pl.Series(rng.random(seen.height) < 0.02)).with_columns(
        code=pl.lit(NEW_DRUG), kind=pl.lit("medication"), numeric_value=pl.lit(None, pl.Float32),
        unit=pl.lit(None, pl.String),
    )  # fmt: skip
    return Week(pl.concat([week.events, given]), week.true)


def _sides_as_letters(week: Week, _: np.random.Generator) -> Week:
    return Week(week.events.with_columns(pl.col("text_value").replace({"left": "L", "right": "R"})), week.true)


def _births_dropped(week: Week, _: np.random.Generator) -> Week:
    """The feed sends an age in years where a date of birth was; the reader has nothing to put there."""
    return Week(week.events.filter(pl.col("code") != BIRTH), week.true)


def _births_as_years(week: Week, _: np.random.Generator) -> Week:
    born = pl.when(pl.col("code") == BIRTH).then(pl.col("time").dt.truncate("1y")).otherwise("time").alias("time")
    return Week(week.events.with_columns(born), week.true)


def _stale(week: Week, _: np.random.Generator) -> Week:
    return Week(week.events, week.true.with_columns((pl.col("risk") * 1.6).clip(0, 1)))


def _unchanged(week: Week, _: np.random.Generator) -> Week:
    return week


_ICD = {f"SNOMED//{row['snomed']}": f"ICD10CM//{row['icd10cm']}" for row in tables.rows("conditions")}
SCENARIOS = (
    Scenario("HbA1c assay reads 10% high", _scale(HBA1C, 1.1), "value", HBA1C, "all", 6, "assay"),
    Scenario("glucose +10% in north", _scale(GLUCOSE, 1.1, site="north"), "value", GLUCOSE, NORTH, 8, "assay"),
    Scenario("a new drug for 2% of visits", _new_drug, "unseen code", "", "all", 6, "new code"),
    Scenario("conditions coded in ICD-10-CM", _recode(_ICD), "unseen code", "", "all", 4, "coding change"),
    Scenario("older people, twice as many Asian", _unchanged, "population", "age", "all", 6, "population", older=True),
    Scenario(
        "sex sent as 1 and 2", _recode({"GENDER//female": "GENDER//2", "GENDER//male": "GENDER//1"}),
        "demographic format", "GENDER", "all", 3, "format change upstream",
    ),
    Scenario(
        "sides sent as L and R", _sides_as_letters, "wording", "procedure", "all", 3, "format change upstream"
    ),
    Scenario("age sent for birth", _births_dropped, "demographic format", BIRTH, "all", 3, "format change upstream"),
    Scenario(
        "birth sent as year alone", _births_as_years, "demographic format", f"{BIRTH} on 1 January", "all", 3,
        "format change upstream",
    ),
    Scenario(
        "glucose in mmol/L, unit says so", _scale(GLUCOSE, 1 / 18.016, "mmol/L"), "result format", GLUCOSE, "all", 3,
        "format change upstream",
    ),
    Scenario("glucose in mmol/L, unit silent", _scale(GLUCOSE, 1 / 18.016), "value", GLUCOSE, "all", 3, "unit"),
    Scenario(
        "outcome 1.6 times as frequent", _stale, "calibration", f"{OUTCOME}@{7 * LABEL_WEEKS}", "all", 16,
        "the model no longer fits",
    ),
)  # fmt: skip
"""Every planted shift, and what has to be said of it within how many weeks of its start."""
