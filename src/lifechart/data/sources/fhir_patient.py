"""Reads a Patient, and the resources that others take their code from: Medication and Device."""

from __future__ import annotations

from lifechart.core.timeline import BIRTH, DEATH
from lifechart.data.sources.fhir_concepts import coded, stated_concepts, united
from lifechart.data.sources.fhir_elements import PATIENT_EXTENSIONS
from lifechart.data.sources.fhir_rows import Resource, Rows, Unusable, code_of, midnight, preferred


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
    _supply(rows, r, codings)
    return None


def device(rows: Rows, r: Resource) -> str | None:
    """Device: gives its code to the records of its use; where it names its patient it is an event, without a date."""
    if r.get("status") == "entered-in-error":
        return "entered-in-error"
    concepts = united(stated_concepts(r, (("type",),)))
    owner = r.get("patient")
    if not concepts:
        raise Unusable("no code")
    if concepts[0].get("coding") and r.get("id"):
        _supply(rows, r, concepts[0]["coding"])
    if owner is not None:
        number = rows.patient(owner["reference"])
        found = coded(rows, concepts[0], "device", "Device")
        rows.rows.append((rows.position, number, r.get("id"), found.concept, None, None, None, found.words, None))
    return None


def _supply(rows: Rows, r: Resource, codings: list[Resource]) -> None:
    coding = preferred(codings)
    rows.linked[f"{r['resourceType']}/{r['id']}"] = (code_of(coding), coding.get("display") or "")
