"""Writes a simulated hospital's truth as an OMOP CDM 5.4 export: tables in CSV or Parquet, with their own small
vocabulary.

    python -m bench._omop_export HOSPITAL OUT [csv|parquet]

It is written from the truth and not from the FHIR export, so that the two sources can be held against each other.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import date, datetime, time
from pathlib import Path

import orjson
import polars as pl

from lifechart.simulate.resources import with_stops
from lifechart.simulate.tables import rows

FIRST_CONCEPT = 1_000_000
GENDERS = {"male": 8507, "female": 8532}
VISITS = {"ambulatory": 9202, "emergency": 9203, "inpatient": 9201}
_CLASSES = {"laboratory": "Lab Test", "vital-signs": "Clinical Observation"}
_EHR = 32817
_NONE = pl.lit(None, pl.Int64)


class Concepts:
    """The concepts that an export uses, numbered as they are met."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, str], int] = {}
        self._rows: list[tuple[int, str, str, str, str]] = []

    def id(self, vocabulary: str, code: str, name: str, class_: str = "") -> int:
        """Return the id of a concept."""
        key = vocabulary, code
        if key not in self._ids:
            self._ids[key] = FIRST_CONCEPT + len(self._ids)
            self._rows.append((self._ids[key], name, vocabulary, class_ or "Undefined", code))
        return self._ids[key]

    def table(self) -> pl.DataFrame:
        """Return the concept table."""
        names = ["concept_id", "concept_name", "vocabulary_id", "concept_class_id", "concept_code"]
        return pl.DataFrame(self._rows, schema=names, orient="row").with_columns(standard_concept=pl.lit("S"))


def export(hospital: Path, out: Path, form: str = "csv") -> dict[str, int]:
    """Write the tables of `hospital` (a folder that `lifechart simulate` made) to `out`; return the rows of each."""
    about = orjson.loads((hospital / "truth" / "truth.json").read_bytes())
    now = datetime.combine(date.fromisoformat(about["today"]), time())
    people = pl.read_parquet(hospital / "truth" / "people.parquet").with_columns(person_id=pl.int_range(pl.len()) + 1)
    events = pl.read_parquet(hospital / "truth" / "events.parquet").sort("life", "time", maintain_order=True)
    # Everything in the record is to the second.
    events = events.with_columns(pl.col("time").dt.truncate("1s"), number=pl.int_range(pl.len()).over("life"))
    joined = events.join(people.select("life", "person_id", "death"), on="life", maintain_order="left")
    visits = joined.filter(pl.col("kind") == "encounter").select("life", "encounter")
    visits = visits.with_columns(visit_occurrence_id=pl.int_range(pl.len()) + 1)
    seen = joined.join(visits, on=["life", "encounter"], how="left", maintain_order="left")
    concepts = Concepts()
    died = people.filter(pl.col("death") <= now).with_columns(pl.col("death").dt.truncate("1s"))
    tables = {
        "person": _person(people),
        "death": died.select("person_id", death_date=pl.col("death").dt.date(), death_datetime="death"),
        **{name: make(seen, concepts, now) for name, make in _MAKERS.items()},
    }
    tables["concept"] = concepts.table()
    out.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        if form == "csv":
            table.write_csv(out / f"{name}.csv", datetime_format="%Y-%m-%d %H:%M:%S")
        else:
            table.write_parquet(out / f"{name}.parquet")
    return {name: table.height for name, table in tables.items()}


def _person(persons: pl.DataFrame) -> pl.DataFrame:
    birth = pl.col("birth").dt
    return persons.select(
        "person_id",
        gender_concept_id=pl.col("sex").replace_strict(GENDERS, return_dtype=pl.Int64),
        year_of_birth=birth.year(),
        month_of_birth=birth.month(),
        day_of_birth=birth.day(),
        race_concept_id=pl.lit(0),
        ethnicity_concept_id=pl.lit(0),
        person_source_value="patient_id",
    )


def _visits(seen: pl.DataFrame, concepts: Concepts, now: datetime) -> pl.DataFrame:
    length = pl.duration(microseconds=(pl.col("value").cast(pl.Float64) * 3.6e9).round(0).cast(pl.Int64))
    left = pl.min_horizontal((pl.col("time") + length).dt.truncate("1s"), "death")
    end = pl.when(left <= now).then(left)
    return seen.filter(pl.col("kind") == "encounter").select(
        "visit_occurrence_id",
        "person_id",
        visit_concept_id=pl.col("key").replace_strict(VISITS, return_dtype=pl.Int64),
        visit_start_date=pl.col("time").dt.date(),
        visit_start_datetime="time",
        visit_end_date=end.dt.date(),
        visit_end_datetime=end,
        visit_type_concept_id=pl.lit(_EHR),
    )


Maker = Callable[[pl.DataFrame, Concepts, datetime], pl.DataFrame]


def _coded(name: str, column: str, vocabulary: str, concepts: Concepts) -> dict[str, int]:
    return {row["key"]: concepts.id(vocabulary, row[column], row["display"]) for row in rows(name)}


def _events(table: str, of: Callable[[Concepts], dict[str, int]], kinds: tuple[str, ...], day: str = "date") -> Maker:
    short = table.split("_")[0]

    def make(seen: pl.DataFrame, concepts: Concepts, now: datetime) -> pl.DataFrame:
        found = seen.filter(pl.col("kind").is_in(kinds))
        codes = of(concepts)
        return found.select(
            "person_id",
            (pl.int_range(pl.len()) + 1).alias(f"{table}_id"),
            pl.col("key").replace_strict(codes, return_dtype=pl.Int64).alias(f"{short}_concept_id"),
            pl.col("time").dt.date().alias(f"{short}_{day}"),
            pl.col("time").alias(f"{short}_{day}time"),
            pl.lit(_EHR).alias(f"{short}_type_concept_id"),
            "visit_occurrence_id",
        )

    return make


def _drugs(seen: pl.DataFrame, concepts: Concepts, now: datetime) -> pl.DataFrame:
    codes = _coded("medications", "rxnorm", "RxNorm", concepts) | {
        f"CVX/{key}": id_ for key, id_ in _coded("immunizations", "cvx", "CVX", concepts).items()
    }
    stopped = with_stops(seen).filter(pl.col("kind").is_in(["medication", "immunization"]))
    drug = pl.when(pl.col("kind") == "immunization").then(pl.lit("CVX/") + pl.col("key")).otherwise("key")
    return stopped.select(
        "person_id",
        drug_exposure_id=pl.int_range(pl.len()) + 1,
        drug_concept_id=drug.replace_strict(codes, return_dtype=pl.Int64),
        drug_exposure_start_date=pl.col("time").dt.date(),
        drug_exposure_start_datetime="time",
        drug_exposure_end_date=pl.coalesce("stop", "time").dt.date(),
        verbatim_end_date=pl.col("stop").dt.date(),
        visit_occurrence_id="visit_occurrence_id",
    )


def _measurements(seen: pl.DataFrame, concepts: Concepts, now: datetime) -> pl.DataFrame:
    listed = [row for row in rows("observations") if not row["values"]]
    ids = {
        row["key"]: concepts.id("LOINC", row["loinc"], row["display"], _CLASSES.get(row["category"], "Survey"))
        for row in listed
    }
    units = {row["key"]: concepts.id("UCUM", row["unit"], row["unit"]) for row in listed if row["unit"]}
    name = pl.col("key")
    found = seen.filter(pl.col("kind") == "observation", name.is_in(list(ids)))
    bounds = {
        bound: name.replace_strict(
            {row["key"]: float(row[bound]) for row in listed if row[bound]}, default=None, return_dtype=pl.Float64
        )
        for bound in ("low", "high")
    }
    return found.select(
        "person_id",
        "visit_occurrence_id",
        measurement_id=pl.int_range(pl.len()) + 1,
        measurement_concept_id=name.replace_strict(ids, return_dtype=pl.Int64),
        measurement_date=pl.col("time").dt.date(),
        measurement_datetime="time",
        measurement_type_concept_id=pl.lit(_EHR),
        operator_concept_id=_NONE,
        value_as_number="value",
        value_as_concept_id=_NONE,
        unit_concept_id=name.replace_strict(units, default=None, return_dtype=pl.Int64),
        range_low=bounds["low"],
        range_high=bounds["high"],
    )


def _observations(seen: pl.DataFrame, concepts: Concepts, now: datetime) -> pl.DataFrame:
    """Return what is answered rather than measured: the value of the truth is the place in the list of answers."""
    listed = [row for row in rows("observations") if row["values"]]
    ids = {row["key"]: concepts.id("LOINC", row["loinc"], row["display"], "Survey") for row in listed}
    answers = {}
    for row in listed:
        for answer in row["values"].split(";"):
            place, code, display = answer.split("=")
            answers[f"{row['key']}={place}"] = concepts.id("SNOMED", code, display)
    found = seen.filter(pl.col("kind") == "observation", pl.col("key").is_in(list(ids)))
    given = pl.col("key") + pl.lit("=") + pl.col("value").cast(pl.Int64).cast(pl.String)
    return found.select(
        "person_id",
        "visit_occurrence_id",
        observation_id=pl.int_range(pl.len()) + 1,
        observation_concept_id=pl.col("key").replace_strict(ids, return_dtype=pl.Int64),
        observation_date=pl.col("time").dt.date(),
        observation_datetime="time",
        observation_type_concept_id=pl.lit(_EHR),
        value_as_concept_id=given.replace_strict(answers, return_dtype=pl.Int64),
    )


_MAKERS: dict[str, Maker] = {
    "visit_occurrence": _visits,
    "condition_occurrence": _events(
        "condition_occurrence",
        lambda c: _coded("conditions", "snomed", "SNOMED", c) | _coded("symptoms", "snomed", "SNOMED", c),
        ("condition", "symptom"),
        "start_date",
    ),
    "procedure_occurrence": _events(
        "procedure_occurrence", lambda c: _coded("procedures", "snomed", "SNOMED", c), ("procedure",)
    ),
    "drug_exposure": _drugs,
    "measurement": _measurements,
    "observation": _observations,
}


if __name__ == "__main__":
    form = sys.argv[3] if len(sys.argv) > 3 else "csv"
    for table, number in export(Path(sys.argv[1]), Path(sys.argv[2]), form).items():
        print(f"{table:24}{number:>12,}")
