"""Applies the mapping table to one FHIR resource: a flat function a type, appending rows.

A function raises Unusable, or KeyError and its like where an element is missing or of the wrong type; its caller then
takes back what it appended and quarantines the resource.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

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
    Mapped,
)
from lifechart.data.sources.fhir_rows import UNCODED, Resource, Rows, Unusable, code_of, midnight, preferred, tail
from lifechart.data.sources.results import as_written, beside

Handler = Callable[[Rows, Resource], str | None]
"""Append the resource's rows; return the status under which it is withdrawn, if it is."""
Found = tuple[int, str | None, str | None]
"""(concept, words where there is no code, Medication that supplies the code)"""


def observation(rows: Rows, r: Resource) -> str | None:
    """Observation: its value, and each component's. Half of all resources are one: the usual case is flat."""
    status: str | None = r.get("status")
    if status in OBSERVATION_WITHDRAWN:
        return status
    reference = r["subject"]["reference"]
    patient = rows.patients.get(reference)
    if patient is None:
        patient = rows.patient(reference)
    try:
        kind = OBSERVATION_KINDS.get(r["category"][0]["coding"][0]["code"], "survey")
    except (KeyError, IndexError):
        kind = "survey"
    text = r.get("effectiveDateTime")
    issued = r.get("issued")
    time = link = None
    if text is not None:
        time = rows.times.get(text[:19]) or rows.when(text)
    if issued is not None:
        later = rows.times.get(issued[:19]) or rows.when(issued)
        if time is None or later > time:
            time = later
    if time is None:
        time, link = _observation_time(rows, r)
    components = r.get("component")
    if components is None:
        _measure(rows, r, r, kind, patient, time, link)
        return None
    for component in components:
        _measure(rows, r, component, kind, patient, time, link)
    if not components or any(key.startswith("value") for key in r):
        _measure(rows, r, r, kind, patient, time, link)
    return None


def _measure(
    rows: Rows, r: Resource, part: Resource, kind: str, patient: int, time: int | None, link: str | None
) -> None:
    concept = part["code"]
    codings = concept.get("coding")
    text: str | None = None
    if codings:
        number = rows.concept(codings, kind, "Observation")
    else:
        text = concept["text"]
        number = rows.fixed(UNCODED, None, kind, "Observation")
    quantity = part.get("valueQuantity")
    if quantity is None:
        _answer(rows, r, part, number, patient, time, text, link)
        return
    value = quantity.get("value")
    if value is not None and not isinstance(value, (int, float)):
        raise Unusable("value is not a number")
    unit = quantity.get("code") or quantity.get("unit")
    if "referenceRange" in part or "interpretation" in part or "comparator" in quantity:
        text = beside(quantity, part) or text
    rows.rows.append((rows.position, patient, r.get("id"), number, time, value, unit, text, link))


def _answer(
    rows: Rows,
    r: Resource,
    part: Resource,
    number: int,
    patient: int,
    time: int | None,
    text: str | None,
    link: str | None,
) -> None:
    """An observation whose value is no quantity: a coded answer becomes part of the code, `QUESTION//ANSWER`."""
    value: float | None = None
    answer = part.get("valueCodeableConcept")
    if answer is not None:
        code, name, kind, type_ = rows.table[number]
        if answer.get("coding") and code != UNCODED:
            coding = preferred(answer["coding"])
            display = f"{name}: {coding.get('display')}" if name and coding.get("display") else None
            number = rows.fixed(f"{code}//{code_of(coding)}", display, kind, type_)
        else:
            text = as_written(answer["text"]) if answer.get("text") else text
    elif "valueString" in part:
        text = as_written(part["valueString"])
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
    status: str | None = r.get("status")
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
            if text:
                at = rows.times.get(text[:19]) or rows.when(text)
                if time is None or at > time:
                    time = at
        if time is None:
            link = _encounter_link(rows, r, m.encounter)
        identity = r.get("id")
        found: list[Found]
        concept = r.get(m.code)
        if isinstance(concept, dict) and (codings := concept.get("coding")):
            found = [(rows.concept(codings, m.kind, type_, m.prefix), None, None)]
        else:
            found = _concepts(rows, r, type_, m)
        words = _attached(_walk(r, m.notes.split("."), every=True)) if m.notes and rows.texts else None
        finish = _finish(rows, r, m, ends) if ends else None
        for coded, text, medication_link in found:
            supplier = medication_link or link
            rows.rows.append((rows.position, number, identity, coded, time, None, None, text or words, supplier))
            if finish is not None:
                code, name, kind, _ = rows.table[coded]
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


def _concepts(rows: Rows, r: Resource, type_: str, m: Mapped) -> list[Found]:
    """Return each concept that a resource names; raises Unusable if there is none."""
    if m.code == "medication":
        return [_drug(rows, r, type_, m)]
    concepts: list[Resource] = []
    for path in m.code.split("|"):
        found = _walk(r, path.split("."), every=True)
        if found:
            concepts = [
                concept if "coding" in concept or "text" in concept else {"coding": [concept]} for concept in found
            ]
            break
    if m.kind != "family_history":
        # A plan's categories and a study's series are one thing; each relative's condition is its own.
        codings = [coding for concept in concepts for coding in concept.get("coding") or ()]
        words = next((concept["text"] for concept in concepts if concept.get("text")), None)
        concepts = [{"coding": codings, "text": words}]
    if not concepts:
        raise Unusable("no code")
    return [_coded(rows, concept, type_, m) for concept in concepts]


def _coded(rows: Rows, concept: Resource, type_: str, m: Mapped) -> Found:
    codings = concept.get("coding")
    if codings:
        return rows.concept(codings, m.kind, type_, m.prefix), None, None
    words = concept.get("text")
    if not words:
        raise Unusable("no code")
    code = f"{m.prefix}//{UNCODED}" if m.prefix else UNCODED
    return rows.fixed(code, None, m.kind, type_), words, None


def _drug(rows: Rows, r: Resource, type_: str, m: Mapped) -> Found:
    concept = r.get("medicationCodeableConcept")
    if concept is None:
        reference = r["medicationReference"]["reference"]
        if not reference.startswith("#"):
            return rows.fixed(LINKED, None, m.kind, type_), None, f"Medication/{tail(reference, rows.aliases)}"
        inside = (item for item in r.get("contained") or () if item.get("id") == reference[1:])
        concept = (next(inside, None) or {}).get("code") or {}
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
