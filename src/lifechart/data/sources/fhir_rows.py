"""Rows made of FHIR resources, and what makes them cheap: codings, references and times met before are looked up.

This is the hot path of ingestion and of the live chart, so a row is a tuple and nothing is parsed twice.
"""

from __future__ import annotations

import calendar
from datetime import datetime
from typing import Any

from lifechart.codes import systems
from lifechart.data.sources.fhir_mapping import PREFERRED_SYSTEMS

Resource = dict[str, Any]
Row = tuple[int, int, str | None, int, int | None, float | None, str | None, str | None, str | None]
"""(position, patient, resource id, concept, time in µs, numeric value, unit, text, link)"""
Marks = tuple[str | None, float | None, float | None, str | None]
"""(comparator, low, high, flag): what a record says of a value beside the value, as in ROWS"""
Concept = tuple[str, str | None, str, str]
"""(code, name, kind, resource type)"""
UNCODED = f"{systems.UNLISTED}//*"
"""The code of a concept that a person only described in words; the words stand in text_value."""

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 -- naive wall clock, as everywhere
_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_LONGEST_VERSION = 18
# Digits that an Int64 holds.


class Unusable(Exception):
    """A resource cannot be used; its message is one of a few fixed reasons and holds nothing of the record."""


class Rows:
    """Rows of many resources, and the dictionaries that make them cheap. `position` names the resource at hand."""

    __slots__ = (
        *("aliases", "concepts", "linked", "marks", "patients", "position"),
        *("rows", "table", "texts", "times", "versions"),
    )

    def __init__(self, *, texts: bool) -> None:
        self.texts = texts
        """Whether notes' text is read (a live chart) or held back (a data set)."""
        self.position = 0
        self.rows: list[Row] = []
        self.marks: dict[int, Marks] = {}
        """Of the rows that have any, by their number in `rows`."""
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

    def take_back(self, length: int) -> None:
        """Forget the rows from the `length`-th on."""
        for number in range(length, len(self.rows)):
            self.marks.pop(number, None)
        del self.rows[length:]

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

    def version(self, position: int, updated: Any, version: Any) -> None:
        """Note the version that a resource states, if it does."""
        if updated or version:
            numbered = isinstance(version, str) and version.isdecimal() and len(version) <= _LONGEST_VERSION
            self.versions.append(
                (position, updated if isinstance(updated, str) else None, int(version) if numbered else None)
            )

    def when(self, text: str) -> int:
        """Return the naive wall-clock time in µs; a day, month or year alone counts at its end. Raises Unusable."""
        found = self.times.get(text)
        if found is None:
            # Without fractions and time zone, many texts say the same.
            key = text[:19]
            found = self.times.get(key)
            if found is None:
                found = self.times[key] = moment(key)
            self.times[text] = found
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
    if not code or not isinstance(code, str) or "\n" in code:
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


def microseconds(time: datetime) -> int:
    """Return µs since 1970 of a naive time."""
    since = time - _EPOCH
    return (since.days * 86_400 + since.seconds) * _SECOND + since.microseconds


def moment(text: str) -> int:
    """Return µs since 1970 of a FHIR date or dateTime cut to 19 characters, a partial date counting at its end."""
    try:
        if len(text) == 19:
            return microseconds(datetime.fromisoformat(text))
        if len(text) == 10:
            return microseconds(datetime.fromisoformat(text)) + _DAY - _SECOND
        if len(text) in (4, 7):
            year, month = int(text[:4]), int(text[5:7] or 12)
            last = datetime(year, month, calendar.monthrange(year, month)[1])  # noqa: DTZ001
            return microseconds(last) + _DAY - _SECOND
        if text[10:11] == "T" and text[13:14] == ":":
            return microseconds(datetime.fromisoformat(text[:16]))
    except (ValueError, IndexError):
        pass
    raise Unusable("date not valid")


def midnight(text: str) -> int:
    """Return µs since 1970 of the start of a FHIR date; a partial one counts at its beginning."""
    full = text[:10] + "-01-01"[len(text) - 10 :] if len(text) in (4, 7) else text[:10]
    return moment(full) - _DAY + _SECOND
