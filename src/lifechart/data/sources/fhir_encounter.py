"""Reads an Encounter: its class, what was known when it began, what when it ended, and an inpatient's discharge."""

from __future__ import annotations

from typing import NamedTuple

from lifechart.data.sources.fhir_concepts import Found, as_concepts, coded, paths, stated_concepts, walk
from lifechart.data.sources.fhir_elements import (
    ENCOUNTER_CLASSES,
    ENCOUNTER_END,
    ENCOUNTER_START,
    ENCOUNTER_WITHDRAWN,
    ENCOUNTER_WORDS,
)
from lifechart.data.sources.fhir_rows import Resource, Rows, Unusable

_TYPE, _KIND = "Encounter", "encounter"
_START = tuple((prefix, paths("|".join(places))) for prefix, places in ENCOUNTER_START.items())
_END = tuple((prefix, paths("|".join(places))) for prefix, places in ENCOUNTER_END.items())


class Visit(NamedTuple):
    """What a visit says, whoever it is of and whenever it was."""

    status: str | None
    starts: tuple[Found, ...] = ()
    ends: tuple[Found, ...] = ()


def encounter(rows: Rows, r: Resource) -> str | None:
    """Encounter: append its events; return the status under which it is withdrawn."""
    visit = describe(rows, r)
    if visit.status is not None:
        return visit.status
    number = rows.patient(r["subject"]["reference"])
    period = r.get("period") or r.get("actualPeriod") or {}
    place(rows, visit, number, r.get("id"), period.get("start"), period.get("end"))
    return None


def describe(rows: Rows, r: Resource) -> Visit:
    """Return what is common to many visits: class, reasons, and so on."""
    status: str | None = r.get("status")
    if status in ENCOUNTER_WITHDRAWN:
        return Visit(status)
    kind = _class_of(r)
    starts = [Found(rows.fixed(f"ENCOUNTER//{kind}", f"Encounter: {kind}", _KIND, _TYPE))]
    ends = []
    if kind == "inpatient":
        ends.append(Found(rows.fixed("DISCHARGE//inpatient", "Discharge from an inpatient stay", _KIND, _TYPE)))
    for found, table in ((starts, _START), (ends, _END)):
        for prefix, places in table:
            found += [coded(rows, concept, _KIND, _TYPE, prefix) for concept in stated_concepts(r, places)]
    return Visit(None, tuple(starts), tuple(ends))


def place(rows: Rows, visit: Visit, number: int, identity: str | None, start: str | None, end: str | None) -> None:
    """Append a visit's rows; raises Unusable if it has no start."""
    if not start:
        raise Unusable("no date")
    append, position = rows.rows.append, rows.position
    time = rows.times.get(start) or rows.when(start)
    leaving = (rows.times.get(end) or rows.when(end)) if end and visit.ends else None
    for concept, words, _ in visit.starts:
        append((position, number, identity, concept, time, None, None, words, None))
    for concept, words, _ in visit.ends if leaving is not None else ():
        append((position, number, identity, concept, leaving, None, None, words, None))


def _class_of(r: Resource) -> str:
    """Return the class, whether a Coding (STU3, R4) or a list of CodeableConcepts (R5)."""
    codes = [
        coding["code"]
        for concept in as_concepts(walk(r, ("class",), every=True))
        for coding in concept.get("coding") or ()
        if coding.get("code")
    ]
    known = (ENCOUNTER_CLASSES.get(code) or ENCOUNTER_WORDS.get(code.lower()) for code in codes)
    return next((kind for kind in known if kind), "other")
