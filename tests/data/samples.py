"""Small FHIR records to test with, and a log that keeps what it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import polars as pl

from lifechart.data import shards
from lifechart.data.account import Account
from lifechart.data.ingest import ingest
from lifechart.ledger.statement import Statement

KEY = bytes(range(32))
LOINC, SNOMED = "http://loinc.org", "http://snomed.info/sct"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
Resource = dict[str, Any]


class Log:
    """Takes statements."""

    def __init__(self) -> None:
        self.statements: list[Statement] = []

    def append(self, statement: Statement) -> None:
        self.statements.append(statement)


def concept(code: str, system: str = SNOMED, display: str | None = None) -> Resource:
    return {"coding": [{"system": system, "code": code, **({"display": display} if display else {})}]}


def patient(id_: str = "p1", **more: Any) -> Resource:
    return {"resourceType": "Patient", "id": id_, "gender": "female", "birthDate": "1960-05-01", **more}


def resource(type_: str, id_: str | None, of: str = "p1", **more: Any) -> Resource:
    """A resource with whatever makes its type complete, dated 2015-06-01."""
    at = "2015-06-01T10:00:00+02:00"
    usual: dict[str, Resource] = {
        "Encounter": {"status": "finished", "class": {"code": "AMB"}, "period": {"start": at}},
        "Condition": {"code": concept("44054006", display="Type 2 diabetes"), "recordedDate": at},
        "Observation": {
            "status": "final",
            "category": [{"coding": [{"code": "laboratory"}]}],
            "code": concept("4548-4", LOINC, "HbA1c"),
            "effectiveDateTime": at,
            "valueQuantity": {"value": 6.5, "unit": "%", "code": "%"},
        },
        "MedicationRequest": {
            "status": "active",
            "intent": "order",
            "medicationCodeableConcept": concept("860975", RXNORM),
            "authoredOn": at,
        },
        "Procedure": {"status": "completed", "code": concept("73761001"), "performedDateTime": at},
    }
    owner = "patient" if type_ in ("Immunization", "AllergyIntolerance", "FamilyMemberHistory", "Device") else "subject"
    found = {"resourceType": type_, owner: {"reference": f"Patient/{of}"}, **usual.get(type_, {}), **more}
    return found if id_ is None else found | {"id": id_}


def write(path: Path, *lines: Resource | bytes) -> Path:
    """Write NDJSON; bytes go in as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join((line if isinstance(line, bytes) else orjson.dumps(line)) + b"\n" for line in lines))
    return path


def take(path: Path, out: Path, **options: Any) -> tuple[Account, pl.DataFrame]:
    """Ingest without hiding rare codes (unless asked to); return the account and all events."""
    settings: dict[str, Any] = {"key": KEY, "log": Log(), "workers": 1, "min_patients": 1, "dates": "year"} | options
    account = ingest(path, out, **settings)
    return account, events(out)


def events(dataset: Path) -> pl.DataFrame:
    return pl.concat([shards.read_split(dataset, split) for split in shards.SPLITS])
