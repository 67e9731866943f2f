"""Applies the mapping table to one FHIR resource: a flat function a shape, appending rows to columns-to-be.

The hot path of ingestion and of the live chart alike, so it builds no object a row: a row is a tuple, a coding seen before
is one dictionary look-up, and a time is parsed once however many rows share it.
"""

from __future__ import annotations

import base64
import calendar
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from lifechart.codes import systems
from lifechart.core.timeline import BIRTH, DEATH
from lifechart.data.sources import LINKED
from lifechart.data.sources.fhir_mapping import (
    ENCOUNTER_CLASSES,
    ENCOUNTER_WITHDRAWN,
    ENCOUNTER_WORDS,
    MAPPING,
    OBSERVATION_KINDS,
    OBSERVATION_WITHDRAWN,
    PATIENT_EXTENSIONS,
    PREFERRED_SYSTEMS,
    Mapped,
)

Resource = dict[str, Any]
Row = tuple[int, int, str | None, int, int | None, float | None, str | None, str | None, str | None]
"""(position, patient, resource id, concept, time in µs, numeric value, unit, text, link)"""
Concept = tuple[str, str | None, str, str]
"""(code, name, kind, resource type)"""
Handler = Callable[["Rows", Resource], str | None]
"""Append the resource's rows; return the status under which it is withdrawn, if it is."""

UNCODED = f"{systems.UNLISTED}//*"
"""The code of a concept that a person only described in words; the words stand in text_value."""

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 -- naive wall clock, as everywhere
_MICROSECOND = timedelta(microseconds=1)
_SECOND = 1_000_000
_DAY = 86_400 * _SECOND


class Unusable(Exception):
    """A resource cannot be used; its message is one of a few fixed reasons and holds nothing of the record."""


class Rows:
    """Rows of many resources, and the dictionaries that make them cheap. `position` names the resource at hand."""

    __slots__ = ("aliases", "concepts", "linked", "patients", "position", "rows", "table", "texts", "times", "versions")

    def __init__(self, *, texts: bool) -> None:
        self.texts = texts
        """Whether notes' text is read (a live chart) or held back (a data set)."""
        self.position = 0
        self.rows: list[Row] = []
        self.patients: dict[str, int] = {}
        """Reference as written -> number of the patient; the ids are `patient_ids()`."""
        self.concepts: dict[tuple[str | None, ...], int] = {}
        self.table: list[Concept] = []
        self.times: dict[str, int] = {}
        self.versions: list[tuple[int, str | None, int | None]] = []
        """(position, lastUpdated, versionId) of the resources that state them."""
        self.linked: dict[str, tuple[str, str]] = {}
        self.aliases: dict[str, str] = {}
        """fullUrl -> id, for bundles whose entries are referred to by another name than their id."""

    def patient_ids(self) -> list[str]:
        """Return the id of each patient number."""
        return [tail(reference, self.aliases) for reference in self.patients]

    def patient(self, reference: str) -> int:
        """Return the number of a referenced patient; raises Unusable for any other subject."""
        found = self.patients.get(reference)
        if found is None:
            if reference.startswith("#") or ("/" in reference and "Patient/" not in reference):
                raise Unusable("subject is not a patient")
            found = self.patients[reference] = len(self.patients)
        return found

    def when(self, text: str) -> int:
        """Return the naive wall-clock time in µs; a day, month or year alone counts at its end. Raises Unusable."""
        key = text[:19]
        found = self.times.get(key)
        if found is None:
            found = self.times[key] = moment(key)
        return found

    def fixed(self, code: str, name: str | None, kind: str, type_: str) -> int:
        """Return the number of a concept that the mapping itself names."""
        key = (code, name, kind, type_)
        found = self.concepts.get(key)
        if found is None:
            found = self.concepts[key] = len(self.table)
            self.table.append(key)
        return found

    def concept(self, codings: list[Resource], kind: str, type_: str, prefix: str = "") -> int:
        """Return the number of the concept that one of `codings` names; raises Unusable if none has a code."""
        coding = codings[0] if len(codings) == 1 else preferred(codings)
        key = (type_, kind, prefix, coding.get("system"), coding.get("code"), coding.get("display"))
        found = self.concepts.get(key)
        if found is None:
            code = code_of(coding)
            found = self.concepts[key] = len(self.table)
            self.table.append((f"{prefix}//{code}" if prefix else code, coding.get("display"), kind, type_))
        return found


def code_of(coding: Resource) -> str:
    """Return `SYSTEM//CODE` of a coding; raises Unusable if it has no code."""
    code = coding.get("code")
    if not code or not isinstance(code, str):
        raise Unusable("no code")
    return systems.join(coding.get("system") or "", code)


def preferred(codings: list[Resource]) -> Resource:
    """Return the coding whose system comes first in PREFERRED_SYSTEMS, else is listed, else stands first."""
    by_system = {coding.get("system"): coding for coding in reversed(codings) if coding.get("code")}
    for system in (*PREFERRED_SYSTEMS, *systems.SYSTEMS):
        if system in by_system:
            return by_system[system]
    if not codings:
        raise Unusable("no code")
    return codings[0]


def tail(reference: str, aliases: dict[str, str]) -> str:
    """Return the id that a reference ends in.

    >>> tail("https://ehr.example/fhir/Patient/17/_history/3", {}), tail("urn:uuid:5c1a", {})
    ('17', '5c1a')
    """
    if reference in aliases:
        return aliases[reference]
    return reference.split("/_history/")[0].rsplit("/", 1)[-1].removeprefix("urn:uuid:")


def moment(text: str) -> int:
    """Return µs since 1970 of a FHIR date or dateTime cut to 19 characters, a partial date counting at its end."""
    try:
        if len(text) == 19:
            return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND
        if len(text) == 10:
            return (datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND + _DAY - _SECOND
        if len(text) in (4, 7):
            year, month = int(text[:4]), int(text[5:7] or 12)
            last = datetime(year, month, calendar.monthrange(year, month)[1])  # noqa: DTZ001
            return (last - _EPOCH) // _MICROSECOND + _DAY - _SECOND
        if text[10:11] == "T" and text[13:14] == ":":
            return (datetime.fromisoformat(text[:16]) - _EPOCH) // _MICROSECOND
    except (ValueError, IndexError):
        pass
    raise Unusable("date not valid")


def midnight(text: str) -> int:
    """Return µs since 1970 of the start of a FHIR date; a partial one counts at its beginning."""
    full = text[:10] + "-01-01"[len(text) - 10 :] if len(text) in (4, 7) else text[:10]
    return moment(full) - _DAY + _SECOND


def observation(rows: Rows, r: Resource) -> str | None:
    """Observation: its value, and each component's."""
    status = r.get("status")
    if status in OBSERVATION_WITHDRAWN:
        return status
    patient = rows.patient(r["subject"]["reference"])
    try:
        kind = OBSERVATION_KINDS.get(r["category"][0]["coding"][0]["code"], "survey")
    except (KeyError, IndexError):
        kind = "survey"
    text = r.get("effectiveDateTime")
    time = rows.when(text) if text else None
    issued = r.get("issued")
    if issued is not None:
        later = rows.when(issued)
        if time is None or later > time:
            time = later
    link = None
    if time is None:
        time, link = _observation_time(rows, r)
    components = r.get("component")
    if components:
        for component in components:
            _measure(rows, r, component, kind, patient, time, link)
        if not any(key.startswith("value") for key in r):
            return None
    _measure(rows, r, r, kind, patient, time, link)
    return None


def _measure(
    rows: Rows, r: Resource, part: Resource, kind: str, patient: int, time: int | None, link: str | None
) -> None:
    quantity = part.get("valueQuantity")
    if quantity is None:
        _answer(rows, r, part, kind, patient, time, link)
        return
    value = quantity.get("value")
    if value is not None and not isinstance(value, (int, float)):
        raise Unusable("value is not a number")
    concept = part["code"]
    codings = concept.get("coding")
    number, text = (rows.concept(codings, kind, "Observation"), None) if codings else _in_words(rows, concept, kind)
    unit = quantity.get("code") or quantity.get("unit")
    rows.rows.append((rows.position, patient, r.get("id"), number, time, value, unit, text, link))


def _in_words(rows: Rows, concept: Resource, kind: str) -> tuple[int, str | None]:
    words = concept.get("text")
    if not words:
        raise Unusable("no code")
    return rows.fixed(UNCODED, None, kind, "Observation"), words


def _answer(
    rows: Rows, r: Resource, part: Resource, kind: str, patient: int, time: int | None, link: str | None
) -> None:
    """An observation whose value is no quantity: a coded answer becomes part of the code, `QUESTION//ANSWER`."""
    concept = part["code"]
    codings = concept.get("coding")
    number, text = (rows.concept(codings, kind, "Observation"), None) if codings else _in_words(rows, concept, kind)
    value: float | None = None
    answer = part.get("valueCodeableConcept")
    if answer is not None:
        if answer.get("coding") and codings:
            code, name, _, _ = rows.table[number]
            coding = preferred(answer["coding"])
            display = f"{name}: {coding.get('display')}" if name and coding.get("display") else None
            number = rows.fixed(f"{code}//{code_of(coding)}", display, kind, "Observation")
        else:
            text = answer.get("text") or text
    elif "valueString" in part:
        text = part["valueString"]
    elif "valueInteger" in part:
        value = part["valueInteger"]
    elif "valueBoolean" in part:
        value = float(part["valueBoolean"])
    rows.rows.append((rows.position, patient, r.get("id"), number, time, value, None, text, link))


def _observation_time(rows: Rows, r: Resource) -> tuple[int | None, str | None]:
    period = r.get("effectivePeriod") or {}
    text = r.get("effectiveInstant") or period.get("end") or period.get("start")
    return (rows.when(text), None) if text else (None, _encounter_link(rows, r, "encounter"))


def _encounter_link(rows: Rows, r: Resource, element: str) -> str | None:
    found = _walk(r, element.split("."))
    reference = found.get("reference") if isinstance(found, dict) else None
    return f"Encounter/{tail(reference, rows.aliases)}" if reference else None


def encounter(rows: Rows, r: Resource) -> str | None:
    """Encounter: its class at the start of its period, and an inpatient stay's discharge at the end."""
    status = r.get("status")
    if status in ENCOUNTER_WITHDRAWN:
        return status
    patient = rows.patient(r["subject"]["reference"])
    code = r["class"]["code"]
    kind = ENCOUNTER_CLASSES.get(code) or ENCOUNTER_WORDS.get(code.lower(), "other")
    period = r.get("period") or {}
    start, end = period.get("start"), period.get("end")
    if not start:
        raise Unusable("no date")
    number = rows.fixed(f"ENCOUNTER//{kind}", f"Encounter: {kind}", "encounter", "Encounter")
    leaving = end and kind == "inpatient" and rows.when(end)
    rows.rows.append((rows.position, patient, r.get("id"), number, rows.when(start), None, None, None, None))
    if leaving:
        number = rows.fixed("DISCHARGE//inpatient", "Discharge from an inpatient stay", "encounter", "Encounter")
        rows.rows.append((rows.position, patient, r.get("id"), number, leaving, None, None, None, None))
    return None


def patient(rows: Rows, r: Resource) -> str | None:
    """Patient: birth, death, and the few demographic facts that the mapping allows."""
    identity = r["id"]
    number = rows.patient(f"Patient/{identity}")
    facts: list[tuple[str, str | None, str, int | None]] = []
    if r.get("birthDate"):
        facts.append((BIRTH, "Birth", "demographic", midnight(r["birthDate"])))
    gender = r.get("gender")
    gender = gender if gender in ("female", "male", "other") else "unknown"
    facts.append((f"GENDER//{gender}", gender.capitalize(), "demographic", None))
    for extension in r.get("extension") or ():
        label = PATIENT_EXTENSIONS.get(extension.get("url"))
        for part in (extension.get("extension") or ()) if label else ():
            if part.get("url") == "ombCategory" and part["valueCoding"].get("code"):
                coding = part["valueCoding"]
                facts.append((f"{label}//{coding['code']}", coding.get("display"), "demographic", None))
    for spoken in (r.get("communication") or ())[:1]:
        for coding in (spoken["language"].get("coding") or ())[:1]:
            facts.append((f"LANGUAGE//{coding['code'].split('-')[0].lower()}", None, "demographic", None))
    postal = next((a["postalCode"] for a in r.get("address") or () if a.get("postalCode")), "")
    if postal[:5].isdigit() and len(postal) >= 5:
        facts.append((f"ZIP3//{postal[:3]}", None, "demographic", None))
    if r.get("deceasedDateTime"):
        facts.append((DEATH, "Death", "death", rows.when(r["deceasedDateTime"])))
    for code, name, kind, time in facts:
        concept = rows.fixed(code, name, kind, "Patient")
        rows.rows.append((rows.position, number, identity, concept, time, None, None, None, None))
    return None


def medication(rows: Rows, r: Resource) -> str | None:
    """Medication: gives its code to the resources that refer to it."""
    codings = (r.get("code") or {}).get("coding")
    if not codings:
        raise Unusable("no code")
    coding = preferred(codings)
    rows.linked[f"Medication/{r['id']}"] = (code_of(coding), coding.get("display") or "")
    return None


def mapped(type_: str, m: Mapped) -> Handler:
    """Return the function that reads one type of the mapping table."""
    times = [path.split(".") for path in m.times]
    ends = [path.split(".") for path in m.ends]
    withdrawn = tuple(m.withdrawn.items())

    def read(rows: Rows, r: Resource) -> str | None:
        for element, values in withdrawn:
            stated = r.get(element)
            if stated is not None and (status := _status(stated)) in values:
                return status
        number = rows.patient(r[m.patient]["reference"])
        time = link = None
        for path in times:
            text = r.get(path[0]) if len(path) == 1 else _walk(r, path)
            if text and (time is None or rows.when(text) > time):
                time = rows.when(text)
        if time is None:
            link = _encounter_link(rows, r, m.encounter)
        identity = r.get("id")
        found = _concepts(rows, r, type_, m)
        words = _attached(_walk(r, m.notes.split("."), every=True)) if m.notes and rows.texts else None
        finish = _finish(rows, r, m, ends)
        for concept, text, medication_link in found:
            supplier = medication_link or link
            rows.rows.append((rows.position, number, identity, concept, time, None, None, text or words, supplier))
            if finish is not None:
                code, name, kind, _ = rows.table[concept]
                ended = rows.fixed(f"{m.end_prefix}//{code}", name and f"End of: {name}", kind, type_)
                rows.rows.append((rows.position, number, identity, ended, finish, None, None, text, medication_link))
        return None

    return read


def _finish(rows: Rows, r: Resource, m: Mapped, ends: list[list[str]]) -> int | None:
    if m.ended and r.get("status") not in m.ended:
        return None
    for path in ends:
        if text := _walk(r, path):
            return rows.when(text)
    return None


def _concepts(rows: Rows, r: Resource, type_: str, m: Mapped) -> list[tuple[int, str | None, str | None]]:
    """Return (concept, words where there is no code, linked Medication) of each concept a resource names."""
    if m.code == "medication":
        return [_drug(rows, r, type_, m)]
    concepts: list[Resource] = []
    for path in m.code.split("|"):
        found = _walk(r, path.split("."), every=True)
        if found:
            concepts = [concept if "coding" in concept or "text" in concept else {"coding": [concept]} for concept in found]
            break
    if m.kind != "family_history":
        # A plan's categories and a study's series are one thing; each relative's condition is its own.
        codings = [coding for concept in concepts for coding in concept.get("coding") or ()]
        words = next((concept["text"] for concept in concepts if concept.get("text")), None)
        concepts = [{"coding": codings, "text": words}]
    return [_coded(rows, concept, type_, m) for concept in concepts] or _refuse()


def _refuse() -> list[tuple[int, str | None, str | None]]:
    raise Unusable("no code")


def _coded(rows: Rows, concept: Resource, type_: str, m: Mapped) -> tuple[int, str | None, str | None]:
    codings = concept.get("coding")
    if codings:
        return rows.concept(codings, m.kind, type_, m.prefix), None, None
    words = concept.get("text")
    if not words:
        raise Unusable("no code")
    code = f"{m.prefix}//{UNCODED}" if m.prefix else UNCODED
    return rows.fixed(code, None, m.kind, type_), words, None


def _drug(rows: Rows, r: Resource, type_: str, m: Mapped) -> tuple[int, str | None, str | None]:
    concept = r.get("medicationCodeableConcept")
    if concept is None:
        reference = r["medicationReference"]["reference"]
        if not reference.startswith("#"):
            return rows.fixed(LINKED, None, m.kind, type_), None, f"Medication/{tail(reference, rows.aliases)}"
        inside = (item for item in r.get("contained") or () if item.get("id") == reference[1:])
        concept = next(inside, {}).get("code") or {}
    return _coded(rows, concept, type_, m)


def _status(stated: Any) -> str:
    """Return the code that a status element states, whether a code, a boolean or a CodeableConcept."""
    if isinstance(stated, dict):
        codings = stated.get("coding") or [{}]
        return str(codings[0].get("code"))
    return stated if isinstance(stated, str) else str(stated)


def _walk(value: Any, path: list[str], *, every: bool = False) -> Any:
    """Follow element names down; of a list, the first (or with `every`, a flat list of all)."""
    found = [value]
    for step in path:
        found = [inner for item in found if (inner := item.get(step)) is not None]
        found = [item for inner in found for item in (inner if isinstance(inner, list) else [inner])]
    if every:
        return found
    return found[0] if found else None


def _attached(attachments: list[Resource]) -> str | None:
    """Return the plain text of a note's attachments, or None."""
    texts = [
        base64.b64decode(attachment["data"]).decode("utf-8", errors="replace")
        for attachment in attachments
        if attachment.get("data") and str(attachment.get("contentType", "text/plain")).startswith("text/plain")
    ]
    return "\n\n".join(texts) or None


HANDLERS: dict[str, Handler] = {
    "Patient": patient,
    "Encounter": encounter,
    "Observation": observation,
    "Medication": medication,
    **{type_: mapped(type_, row) for type_, row in MAPPING.items()},
}
"""Resource type -> the function that reads it. A type that is not here is counted and not read."""
