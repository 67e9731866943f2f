"""What the simulated EHR can be asked, and which resources answer: FHIR R4 search, as far as it is declared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from lifechart.core.errors import LifechartError
from lifechart.simulate.ehr_records import Known, Records, Resource, folded

PAGING = ("_count", "_offset")
CONTROL = (*PAGING, "_format")
_REFERENCE = ("patient", "subject")
_TOKENS = {
    "category": "category",
    "clinical-status": "clinicalStatus",
    "status": "status",
    "type": "type",
    "class": "class",
    "code": ("code", "medicationCodeableConcept", "vaccineCode"),
}
"""Search parameter to the element (or the first of several that is there) that it looks at."""
PATIENT_PARAMETERS = ("_id", "name", "family", "given", "identifier", "birthdate", "gender")
CLINICAL_PARAMETERS = ("_id", *_REFERENCE, "encounter", *_TOKENS)
DIRECTORY = ("Practitioner", "Organization", "Location")
"""Types that belong to no patient: read by id alone."""


class BadSearch(LifechartError):
    """A search that this server does not answer; `code` is its FHIR issue type."""

    def __init__(self, message: str, code: str = "not-supported") -> None:
        super().__init__(message)
        self.code = code


def parameters(kind: str) -> tuple[str, ...]:
    """Return the search parameters of a resource type."""
    if kind == "Patient":
        return PATIENT_PARAMETERS
    return ("_id",) if kind in DIRECTORY else CLINICAL_PARAMETERS


def search(records: Records, kind: str, asked: Iterable[tuple[str, str]]) -> list[bytes]:
    """Return the resources that satisfy every parameter, in the order of the export.

    A parameter that is not declared is refused, not passed over: whoever asks must not take an unfiltered list for a
    filtered one. Everything but patients is found by patient or by `_id`. Raises BadSearch.
    """
    wanted = [(name, value) for name, value in asked if name not in CONTROL]
    for name, _ in wanted:
        if name not in parameters(kind):
            raise BadSearch(
                f"{kind}: search parameter {name!r} is not supported; there are {', '.join(parameters(kind))}"
            )
    if kind == "Patient":
        return _patients(records, wanted)
    by_name = dict(wanted)
    patient = next((by_name[name] for name in _REFERENCE if name in by_name), None)
    if patient is not None:
        found = records.of_patient(kind, patient.removeprefix("Patient/"))
    elif "_id" in by_name:
        found = [line for name in by_name["_id"].split(",") if (line := records.read(kind, name)) is not None]
    else:
        raise BadSearch(f"{kind}: got no patient, expected one of patient, subject or _id", "required")
    tests = [_test(name, value) for name, value in wanted if name not in _REFERENCE]
    if not tests:
        return found
    return [line for line in found if _passes(orjson.loads(line), tests)]


def _passes(resource: Resource, tests: Iterable[Callable[[Resource], bool]]) -> bool:
    return all(test(resource) for test in tests)


def _test(name: str, value: str) -> Callable[[Resource], bool]:
    choices = value.split(",")
    if name == "_id":
        return lambda resource: resource["id"] in choices
    if name == "encounter":
        references = {f"Encounter/{choice.removeprefix('Encounter/')}" for choice in choices}
        return lambda resource: _encounter(resource) in references
    elements = _TOKENS[name]
    paths = (elements,) if isinstance(elements, str) else elements
    return lambda resource: any(_token(resource, paths, choice) for choice in choices)


def _encounter(resource: Resource) -> str:
    several = resource.get("context", {}).get("encounter", [])
    inside: Mapping[str, Any] = resource.get("encounter") or next(iter(several), {})
    return str(inside.get("reference", ""))


def _token(resource: Resource, paths: Iterable[str], choice: str) -> bool:
    system, bar, code = choice.rpartition("|")
    for path in paths:
        for has_system, has_code in _codings(resource.get(path)):
            if (not code or code == has_code) and (not bar or system == has_system):
                return True
    return False


def _codings(value: Any) -> list[tuple[str, str]]:
    """Return (system, code) of a code, a Coding, a CodeableConcept or a list of them."""
    if isinstance(value, str):
        return [("", value)]
    if isinstance(value, list):
        return [coding for part in value for coding in _codings(part)]
    if isinstance(value, Mapping):
        return _codings(value["coding"]) if "coding" in value else [(value.get("system", ""), value.get("code", ""))]
    return []


def _patients(records: Records, wanted: list[tuple[str, str]]) -> list[bytes]:
    found = [known for known in records.patients if all(_known(known, name, value) for name, value in wanted)]
    lines = (records.read("Patient", known.id) for known in found)
    return [line for line in lines if line is not None]


def find_patients(records: Records, text: str) -> list[Known]:
    """Return the patients with every word of `text` at the start of a part of their name, or as an identifier."""
    return [known for known in records.patients if _known(known, "name", text) or _known(known, "identifier", text)]


def _known(known: Known, name: str, value: str) -> bool:
    if name == "_id":
        return known.id in value.split(",")
    if name == "name":
        return all(any(part.startswith(word) for part in known.words) for word in folded(value).split())
    if name in ("family", "given"):
        parts = known.family if name == "family" else known.given
        return any(part.startswith(folded(value)) for part in parts)
    if name == "identifier":
        system, bar, number = value.rpartition("|")
        return any(has == number and (not bar or system == of) for of, has in known.identifiers)
    return value == (known.birth_date if name == "birthdate" else known.gender)
