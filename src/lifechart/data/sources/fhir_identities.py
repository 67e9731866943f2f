"""How Patient resources identify people: what is looked for in their notes, and goes nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from lifechart.data.sources import Span, documents
from lifechart.data.sources.documents import Lines

_PATIENT = (b'"resourceType":"Patient"', b'"resourceType": "Patient"')
_NUMBER_TYPES = {"SS": "ssn", "DL": "license", "PPN": "license", "MB": "plan", "NIIP": "plan"}
"""HL7 v2 table 0203 code of an identifier's type -> its type in text; any other is a record number."""
_TELECOM = {"phone": "phone", "fax": "fax", "email": "email", "url": "url", "sms": "phone", "pager": "phone"}


def identifiers(files: list[Path], patients: set[str]) -> dict[str, dict[str, list[str]]]:
    """Return {patient id: {type: values}} of the Patient resources in files; what cannot be read is passed over."""
    found: dict[str, dict[str, list[str]]] = {}
    for resource in _patients(files):
        patient = resource.get("id")
        if isinstance(patient, str) and patient in patients:
            found[patient] = of_patient(resource)
    return found


def of_patient(resource: dict[str, Any]) -> dict[str, list[str]]:
    """Return what identifies a patient, and those whom the record names as their contacts."""
    told: dict[str, list[str]] = {}

    def tell(type_: str, value: Any) -> None:
        if isinstance(value, str) and value.strip():
            told.setdefault(type_, []).append(value.strip())

    for person in (resource, *_listed(resource, "contact")):
        for name in _listed(person, "name"):
            given = " ".join(one for one in name.get("given") or () if isinstance(one, str))
            tell("name", name.get("text") or f"{given} {name.get('family') or ''}")
            tell("name", name.get("family"))
            tell("name", given)
        for contact in _listed(person, "telecom"):
            tell(_TELECOM.get(str(contact.get("system")), "id"), contact.get("value"))
        for address in _listed(person, "address"):
            for line in address.get("line") or ():
                tell("street", line)
            tell("place", address.get("city"))
            tell("zip", address.get("postalCode"))
    for number in _listed(resource, "identifier"):
        kinds = [code.get("code") for code in _listed(number.get("type") or {}, "coding")]
        tell(next((_NUMBER_TYPES[kind] for kind in kinds if kind in _NUMBER_TYPES), "mrn"), number.get("value"))
    return told


def _listed(parent: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = parent.get(name)
    values = value if isinstance(value, list) else [value]
    return [one for one in values if isinstance(one, dict)]


def _patients(files: list[Path]) -> Iterator[dict[str, Any]]:
    for path in files:
        if documents.holds_lines(path):
            try:
                for lines in documents.read_lines(Span(str(path))):
                    yield from _of_lines(lines)
            except (documents.EndsEarly, OSError):
                continue
        else:
            try:
                yield from _resources(documents.read_document(path))
            except (documents.EndsEarly, OSError):
                continue


def _of_lines(lines: Lines) -> Iterator[dict[str, Any]]:
    for line in lines:
        if line and any(mark in line for mark in _PATIENT):
            yield from _resources(line)


def _resources(content: bytes | None) -> Iterator[dict[str, Any]]:
    try:
        resource = orjson.loads(content or b"null")
    except orjson.JSONDecodeError:
        return
    if not isinstance(resource, dict):
        return
    for one in (resource, *(entry.get("resource") for entry in _listed(resource, "entry"))):
        if isinstance(one, dict) and one.get("resourceType") == "Patient":
            yield one
