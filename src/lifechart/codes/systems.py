"""Short names of code systems, as they stand in `SYSTEM//CODE`, and whatever else records call them.

systems.csv lists the URIs of FHIR (`uri`; further ones `uri2`), OIDs of HL7 v2 and C-CDA, vocabulary ids of OMOP and
the names that hospitals write.
"""

from __future__ import annotations

import csv
from importlib import resources

from lifechart.codes import forms
from lifechart.codes.notation import split

__all__ = ["OMOP_VOCABULARIES", "SYSTEMS", "UNLISTED", "URIS", "join", "named", "split"]

_ROWS = tuple(
    csv.DictReader(resources.files("lifechart.codes").joinpath("systems.csv").read_text(encoding="utf-8").splitlines())
)
SYSTEMS: dict[str, str] = {row["spelling"]: row["system"] for row in _ROWS if row["kind"] == "uri"}
"""FHIR URI to short name. What is not listed is `OTHER`: a local system's URI can name a place or a person."""

URIS: dict[str, str] = {name: uri for uri, name in SYSTEMS.items()}
"""Short name to FHIR URI."""

OMOP_VOCABULARIES: dict[str, str] = {row["spelling"]: row["system"] for row in _ROWS if row["kind"] == "omop"}
"""OMOP vocabulary_id to short name."""

UNLISTED = "OTHER"

_SPELLINGS = {row["spelling"].lower().removeprefix("urn:oid:"): row["system"] for row in _ROWS}


def named(spelling: str) -> str:
    """Return the short name for whatever a record calls a system, or `OTHER`.

    >>> named("urn:oid:2.16.840.1.113883.6.96"), named("icd-10-cm"), named("http://loinc.org/"), named("St Mary's")
    ('SNOMED', 'ICD10CM', 'LOINC', 'OTHER')
    """
    found = SYSTEMS.get(spelling)
    if found is not None:
        return found
    plain = spelling.strip().lower().removeprefix("urn:oid:")
    # SNOMED CT's editions are versions of one system: http://snomed.info/sct/731000124108
    if plain.startswith("http://snomed.info/sct/"):
        return "SNOMED"
    return _SPELLINGS.get(plain) or _SPELLINGS.get(plain.rstrip("/"), UNLISTED)


def join(system: str, code: str) -> str:
    """Return `SYSTEM//CODE` for a system, however called, and a code, in its system's notation (forms.normal).

    >>> join("http://loinc.org", "4548-4"), join("http://hl7.org/fhir/sid/icd-10-cm", "e1165")
    ('LOINC//4548-4', 'ICD10CM//E11.65')
    """
    name = SYSTEMS.get(system) or named(system)
    return f"{name}//{forms.normal(name, code)}"
