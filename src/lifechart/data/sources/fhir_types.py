"""Applies the mapping table to one FHIR resource, appending rows; HANDLERS has a function a type.

A handler raises Unusable, or KeyError and its like where an element is missing or of the wrong type; its caller then
takes back what it appended and quarantines the resource.

Reading falls in two: `describe` looks at what resources have in common (status, code, category), `place` at what tells
them apart (whose, when, how much). `fhir_lines` looks descriptions up by their bytes and so makes each only once.
"""

from __future__ import annotations

import base64
import csv
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from lifechart.data.sources.fhir_concepts import (
    Found,
    coded,
    encounter_link,
    paths,
    stated_concepts,
    status_of,
    supplied,
    united,
    walk,
)
from lifechart.data.sources.fhir_encounter import encounter
from lifechart.data.sources.fhir_mapping import MAPPING, Mapped
from lifechart.data.sources.fhir_observation import number_of, observation, unit_of
from lifechart.data.sources.fhir_patient import device, medication, patient
from lifechart.data.sources.fhir_questionnaire import questionnaire_response
from lifechart.data.sources.fhir_rows import Resource, Rows, Unusable

Handler = Callable[[Rows, Resource], str | None]
"""Append the resource's rows; return the status under which it is withdrawn, if it is."""


class Described(NamedTuple):
    """What a resource says, whoever it is about and whenever it was."""

    status: str | None
    """The status under which it is withdrawn."""
    concepts: tuple[Found, ...] = ()
    further: tuple[Found, ...] = ()
    """Concepts that are events of their own, and do not end."""
    may_end: bool = False


class Mapping:
    """One row of the mapping table, made ready: a handler."""

    def __init__(self, type_: str, m: Mapped) -> None:
        self.type, self.m = type_, m
        self.codes = paths(m.code)
        self.times = paths("|".join(m.times))
        self.ends = paths("|".join(m.ends))
        self.patients = tuple(m.patient.split("|"))
        self.encounters = paths(m.encounter)
        self._withdrawn = tuple((path, values) for stated, values in m.withdrawn.items() for path in paths(stated))
        self._also = tuple((prefix, paths(stated)) for prefix, stated in m.also.items())
        self._notes = tuple(m.notes.split(".")) if m.notes else ()
        self.value = tuple(m.value.split(".")) if m.value else ()
        suppliers = {m.supplier, f"{m.supplier}Reference"} if m.supplier else set()
        named = (*self.codes, *(path for path, _ in self._withdrawn), *(p for _, places in self._also for p in places))
        self.described = {"status", *suppliers, *(path[0] for path in named)}
        """The elements that `describe` reads, but for contained resources."""

    def __call__(self, rows: Rows, r: Resource) -> str | None:
        """Append the rows of one resource; return the status under which it is withdrawn."""
        described = self.describe(rows, r)
        if described.status is not None:
            return described.status
        whose = next((found for element in self.patients if (found := r.get(element)) is not None), None)
        if whose is None:
            raise Unusable("no patient")
        number = rows.patient(whose["reference"])
        time = latest(rows, (walk(r, path) for path in self.times))
        link = encounter_link(rows, r, self.encounters) if time is None else None
        finish = None
        if described.may_end:
            finish = next((rows.when(text) for path in self.ends if (text := walk(r, path))), None)
        text = attached(walk(r, self._notes, every=True)) if self._notes and rows.texts else None
        quantity = walk(r, self.value) if self.value else None
        self.place(rows, described, number, r.get("id"), time, link, finish, text, quantity)
        return None

    def describe(self, rows: Rows, r: Resource) -> Described:
        """Return what the resource says; raises Unusable if it names no concept."""
        for path, values in self._withdrawn:
            stated = walk(r, path)
            if stated is not None and (status := status_of(stated)) in values:
                return Described(status)
        m = self.m
        concepts = stated_concepts(r, self.codes)
        if concepts and not m.each:
            concepts = united(concepts)
        found = tuple(coded(rows, one, m.kind, self.type, m.prefix) for one in concepts)
        if m.supplier and (not found or found[0].words):
            other = supplied(rows, r, self.type, m)
            found = (other,) if other else found
        if not found:
            raise Unusable("no code")
        further = tuple(
            coded(rows, one, m.kind, self.type, prefix)
            for prefix, places in self._also
            for one in stated_concepts(r, places)
        )
        return Described(None, found, further, bool(m.ends) and (not m.ended or r.get("status") in m.ended))

    def place(
        self,
        rows: Rows,
        described: Described,
        number: int,
        identity: str | None,
        time: int | None,
        link: str | None,
        finish: int | None,
        text: str | None,
        quantity: Resource | None,
    ) -> None:
        """Append the rows of what was described, at a time (or a visit), for a patient."""
        value = unit = None
        if quantity is not None:
            value, unit = number_of(quantity), unit_of(quantity)
        append, position = rows.rows.append, rows.position
        for coded_as, words, supplier in described.concepts:
            append((position, number, identity, coded_as, time, value, unit, words or text, supplier or link))
            if finish is not None:
                code, name, kind, _ = rows.table[coded_as]
                ended = rows.fixed(f"{self.m.end_prefix}//{code}", name and f"End of: {name}", kind, self.type)
                append((position, number, identity, ended, finish, None, None, words, supplier))
        for coded_as, words, _ in described.further:
            append((position, number, identity, coded_as, time, None, None, words, link))


def latest(rows: Rows, texts: Any) -> int | None:
    """Return the latest of the times that are stated."""
    time: int | None = None
    for text in texts:
        if text:
            at = rows.times.get(text) or rows.when(text)
            if time is None or at > time:
                time = at
    return time


def attached(attachments: list[Resource]) -> str | None:
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
    "QuestionnaireResponse": questionnaire_response,
    "Medication": medication,
    "Device": device,
    **{type_: Mapping(type_, row) for type_, row in MAPPING.items()},
}
"""Resource type -> the function that reads it. A type that is not here is counted and not read."""


@cache
def resource_types() -> frozenset[str]:
    """Return every resource type of STU3, R4, R4B and R5, read or not; a type's name beyond these is not repeated."""
    content = resources.files("lifechart.data.sources").joinpath("fhir_resources.csv").read_text(encoding="utf-8")
    return frozenset(row["type"] for row in csv.DictReader(content.splitlines()))
