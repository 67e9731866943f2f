"""What FHIR resources are put together from: columns of JSON text, and the constant parts that each code contributes.

A resource is a run of constant text, the few values that differ from row to row, and constant text again. The
constants are serialised once per code; Polars joins them, so that a resource costs about a microsecond.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np
import orjson
import polars as pl

from lifechart.codes.systems import URIS
from lifechart.simulate.identities import hex_ids
from lifechart.simulate.tables import rows

_UCUM = "http://unitsofmeasure.org"
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_ENCOUNTER_STRIDE = 1 << 24
"""Encounters and events of a life are numbered below this, so that life x stride + number never collides."""

SYSTOLIC, DIASTOLIC = "8480-6", "8462-4"
BLOOD_PRESSURE = ("85354-9", "Blood pressure panel with all children optional")
CLASSES = {
    "ambulatory": ("AMB", "ambulatory", "185349003", "Encounter for check up"),
    "emergency": ("EMER", "emergency", "50849002", "Emergency room admission"),
    "inpatient": ("IMP", "inpatient encounter", "32485007", "Hospital admission"),
}
"""Encounter key to its class code and display, and its type in SNOMED CT."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What the resources of one chunk of lives share."""

    seed: int
    now: datetime
    """The export's date: nothing later is in the record."""
    offset: str
    """Offset from UTC, as a dateTime ends."""


def event_ids(seed: int, events: pl.DataFrame, purpose: str = "event") -> pl.Series:
    """Return a resource id for each event (columns life, number)."""
    numbers = events.get_column("life").to_numpy().astype(np.int64) * _ENCOUNTER_STRIDE
    ids = hex_ids(seed, numbers + events.get_column("number").to_numpy(), purpose)
    return pl.Series("id", ids, dtype=pl.String)


def encounter_ids(seed: int, events: pl.DataFrame) -> pl.Series:
    """Return the id of the Encounter that each event (columns life, encounter) belongs to."""
    numbers = events.get_column("life").to_numpy().astype(np.int64) * _ENCOUNTER_STRIDE
    ids = hex_ids(seed, numbers + events.get_column("encounter").to_numpy(), "encounter")
    return pl.Series("visit", ids, dtype=pl.String)


def clock(column: str, offset: str) -> pl.Expr:
    """Return a FHIR dateTime of a naive wall-clock column."""
    return pl.col(column).dt.strftime(f"%Y-%m-%dT%H:%M:%S{offset}")


def piece(value: dict[str, Any]) -> str:
    """Return the members of `value` as JSON without the braces, to be set between others."""
    return orjson.dumps(value).decode()[1:-1]


def coding(*codings: tuple[str, str, str]) -> dict[str, Any]:
    """Return a CodeableConcept of (system's short name, code, display); empty codes are left out."""
    listed = [{"system": URIS[system], "code": code, "display": text} for system, code, text in codings if code]
    return {"coding": listed, "text": codings[0][2]}


def category(system: str, code: str) -> dict[str, Any]:
    """Return a CodeableConcept of an HL7 code system."""
    return {"coding": [{"system": f"{_TERMINOLOGY}/{system}", "code": code}]}


def constants(name: str, constant: Callable[[dict[str, str]], dict[str, Any]]) -> pl.DataFrame:
    """Return key, constant: for each row of a table, the JSON members that the function makes of it, and a comma."""
    found = rows(name)
    made = [piece(constant(row)) + "," for row in found]
    return pl.DataFrame({"key": [row["key"] for row in found], "constant": made})


def lines(resource: str, events: pl.DataFrame, *parts: str | pl.Expr) -> pl.DataFrame:
    """Return life, line: one resource an event, `{"resourceType": …, "id": …, parts…}` and a newline."""
    start = pl.lit(f'{{"resourceType":"{resource}","id":"')
    whole = [start, pl.col("id"), pl.lit('",'), *(pl.lit(part) if isinstance(part, str) else part for part in parts)]
    return events.select("life", "time", line=pl.concat_str([*whole, pl.lit("}\n")]))


def subject(name: str = "subject") -> pl.Expr:
    """Return `"subject":{…},` for the column patient."""
    return pl.concat_str([pl.lit(f'"{name}":{{"reference":"Patient/'), pl.col("patient"), pl.lit('"},')])


def encounter() -> pl.Expr:
    """Return `"encounter":{…},`, or nothing where the event belongs to none."""
    inside = pl.concat_str([pl.lit('"encounter":{"reference":"Encounter/'), pl.col("visit"), pl.lit('"},')])
    return pl.when(pl.col("encounter") >= 0).then(inside).otherwise(pl.lit(""))


def requester() -> pl.Expr:
    """Return `"requester":{…},`: whoever saw the patient, or nothing outside an encounter."""
    inside = pl.concat_str([pl.lit('"requester":{"reference":"Practitioner/'), pl.col("doctor"), pl.lit('"},')])
    return pl.when(pl.col("encounter") >= 0).then(inside).otherwise(pl.lit(""))


def text(name: str, value: pl.Expr, comma: str = ",") -> pl.Expr:
    """Return `"name":"value",` for a column of text that needs no escaping."""
    return pl.concat_str([pl.lit(f'"{name}":"'), value, pl.lit(f'"{comma}')])


def of_table(events: pl.DataFrame, kind: str, coded: pl.DataFrame) -> pl.DataFrame:
    """Return the events of a kind with their constant parts; every key must be in the table."""
    found = events.filter(pl.col("kind") == kind).join(coded, on="key", how="left", maintain_order="left")
    assert not found.get_column("constant").has_nulls(), f"{kind}: a key is not in its table"
    return found


def join_bytes(frames: Iterable[pl.DataFrame]) -> pl.Series:
    """Return the lines of several frames, by life and then time; a life's lines lie together."""
    joined = pl.concat(list(frames))
    return joined.sort("life", "time", maintain_order=True).get_column("line")


@cache
def classes() -> pl.DataFrame:
    """Return key, constant for each sort of encounter."""
    made = []
    for act, display, snomed, kind in CLASSES.values():
        setting = {"system": f"{_TERMINOLOGY}/v3-ActCode", "code": act, "display": display}
        made.append(piece({"class": setting, "type": [coding(("SNOMED", snomed, kind))]}) + ",")
    return pl.DataFrame({"key": list(CLASSES), "constant": made})


@cache
def reasons() -> pl.DataFrame:
    """Return key, reason: why someone came, where that is a diagnosis, a symptom or a procedure."""
    found = {
        row["key"]: piece({"reasonCode": [coding(("SNOMED", row["snomed"], row["display"]))]}) + ","
        for name in ("procedures", "symptoms", "conditions")
        for row in rows(name)
    }
    return pl.DataFrame({"key": list(found), "reason": list(found.values())})


def disposition(code: str, display: str) -> str:
    """Return how an admission ended."""
    coded = {"system": f"{_TERMINOLOGY}/discharge-disposition", "code": code, "display": display}
    return piece({"hospitalization": {"dischargeDisposition": {"coding": [coded]}}}) + ","


def diagnosis(row: dict[str, str]) -> dict[str, Any]:
    """Return the constant part of a Condition that is a diagnosis."""
    kind = "encounter-diagnosis" if row["chronic"] == "0" else "problem-list-item"
    return _condition(
        kind, coding(("SNOMED", row["snomed"], row["display"]), ("ICD10CM", row["icd10cm"], row["display"]))
    )


def symptom(row: dict[str, str]) -> dict[str, Any]:
    """Return the constant part of a Condition that is a symptom."""
    return _condition("encounter-diagnosis", coding(("SNOMED", row["snomed"], row["display"])))


def _condition(kind: str, code: dict[str, Any]) -> dict[str, Any]:
    status = "active" if kind == "problem-list-item" else "resolved"
    return {
        "clinicalStatus": category("condition-clinical", status),
        "verificationStatus": category("condition-ver-status", "confirmed"),
        "category": [category("condition-category", kind)],
        "code": code,
    }


@cache
def measurements() -> pl.DataFrame:
    """Return key, constant, code, unit, range, loinc, panel, low, high of everything that is measured."""
    table_rows = rows("observations")
    codes = [coding(("LOINC", row["loinc"], row["display"])) for row in table_rows]
    categories = [[category("observation-category", row["category"])] for row in table_rows]
    made = [
        piece({"status": "final", "category": kind, "code": code}) + ","
        for kind, code in zip(categories, codes, strict=True)
    ]
    return pl.DataFrame(
        {
            "key": [row["key"] for row in table_rows],
            "constant": made,
            "code": [piece({"code": code}) + "," for code in codes],
            "unit": [piece(_unit(row)) + "}" for row in table_rows],
            "range": [_range(row) for row in table_rows],
            "coded": [_coded(row) for row in table_rows],
            **{name: [row[name] for row in table_rows] for name in ("loinc", "panel", "category")},
            **{name: [float(row[name]) if row[name] else None for row in table_rows] for name in ("low", "high")},
        },
        schema_overrides={"low": pl.Float64, "high": pl.Float64, "coded": pl.List(pl.String)},
    )


def quantity() -> pl.Expr:
    """Return `"valueQuantity":{…},"interpretation":[…],"referenceRange":[…]` of a measurement."""
    flag = (
        pl.when(pl.col("value") < pl.col("low"))
        .then(pl.lit(_flag("L", "Low")))
        .when(pl.col("value") > pl.col("high"))
        .then(pl.lit(_flag("H", "High")))
        .when(pl.col("low").is_not_null() | pl.col("high").is_not_null())
        .then(pl.lit(_flag("N", "Normal")))
        .otherwise(pl.lit(""))
    )
    number = [pl.lit('"valueQuantity":{"value":'), decimal(), pl.lit(","), pl.col("unit"), flag, pl.col("range")]
    concept = pl.col("coded").list.get(pl.col("value").cast(pl.Int32), null_on_oob=True)
    return pl.when(pl.col("coded").is_null()).then(pl.concat_str(number)).otherwise(concept)


def decimal() -> pl.Expr:
    """Return the column value as the shortest decimal that reads back as the same 32-bit number."""
    return pl.col("value").cast(pl.String).str.strip_suffix(".0")


def blood_pressure() -> str:
    """Return the constant part of a blood pressure panel."""
    kind = [category("observation-category", "vital-signs")]
    return piece({"status": "final", "category": kind, "code": coding(("LOINC", *BLOOD_PRESSURE))}) + ","


def panel(row: dict[str, str]) -> dict[str, Any]:
    """Return the constant part of a laboratory's DiagnosticReport."""
    kind = [{"coding": [{"system": f"{_TERMINOLOGY}/v2-0074", "code": "LAB"}]}]
    return {"status": "final", "category": kind, "code": coding(("LOINC", row["loinc"], row["display"]))}


def drugs() -> pl.DataFrame:
    """Return key, constant, status: a course that ends by itself is completed, a lasting drug active."""
    status = ['"status":"active",' if row["chronic"] == "1" else '"status":"completed",' for row in rows("medications")]
    return constants("medications", _drug).with_columns(status=pl.Series(status))


def _drug(row: dict[str, str]) -> dict[str, Any]:
    supply = {"value": float(row["days"]), "unit": "days", "system": _UCUM, "code": "d"}
    return {
        "intent": "order",
        "medicationCodeableConcept": coding(("RxNorm", row["rxnorm"], row["display"])),
        "dispenseRequest": {"expectedSupplyDuration": supply},
    }


def procedure(row: dict[str, str]) -> dict[str, Any]:
    """Return the constant part of a Procedure."""
    return {"status": "completed", "code": coding(("SNOMED", row["snomed"], row["display"]))}


def vaccine(row: dict[str, str]) -> dict[str, Any]:
    """Return the constant part of an Immunization."""
    return {"status": "completed", "vaccineCode": coding(("CVX", row["cvx"], row["display"]))}


def allergy(row: dict[str, str]) -> dict[str, Any]:
    """Return the constant part of an AllergyIntolerance."""
    return {
        "clinicalStatus": category("allergyintolerance-clinical", "active"),
        "verificationStatus": category("allergyintolerance-verification", "confirmed"),
        "type": "allergy",
        "category": [row["category"]],
        "code": coding(("SNOMED", row["snomed"], row["display"])),
    }


def _coded(row: dict[str, str]) -> list[str] | None:
    # "0=266919005=Never smoked tobacco;1=…": the value is the position in the list.
    if not row["values"]:
        return None
    answers = [answer.split("=") for answer in row["values"].split(";")]
    assert [int(position) for position, _, _ in answers] == list(range(len(answers))), row["key"]
    return [piece({"valueCodeableConcept": coding(("SNOMED", code, display))}) for _, code, display in answers]


def _unit(row: dict[str, str]) -> dict[str, Any]:
    return {"unit": row["unit"], "system": _UCUM, "code": row["unit"]}


def _flag(code: str, display: str) -> str:
    system = f"{_TERMINOLOGY}/v3-ObservationInterpretation"
    return "," + piece({"interpretation": [{"coding": [{"system": system, "code": code, "display": display}]}]})


def _range(row: dict[str, str]) -> str:
    bounds = {name: {"value": float(row[name]), **_unit(row)} for name in ("low", "high") if row[name]}
    return "," + piece({"referenceRange": [bounds]}) if bounds else ""
