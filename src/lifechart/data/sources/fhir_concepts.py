"""Finds things within a FHIR resource: elements by their path, statuses, concepts in the forms of every version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lifechart.data.sources import LINKED
from lifechart.data.sources.fhir_mapping import Mapped
from lifechart.data.sources.fhir_rows import UNCODED, Resource, Rows, Unusable, tail

Path = tuple[str, ...]


class Found(NamedTuple):
    """One concept of a resource."""

    concept: int
    """Its number in `Rows.table`."""
    words: str | None = None
    """What stands where there is no code."""
    supplier: str | None = None
    """The resource ("Medication/id") that supplies the code."""


def paths(stated: str) -> tuple[Path, ...]:
    """Return the alternatives of a path as the mapping writes it: `a.b|c` is ((a, b), (c,))."""
    return tuple(tuple(path.split(".")) for path in stated.split("|")) if stated else ()


def walk(value: Any, path: Sequence[str], *, every: bool = False) -> Any:
    """Follow element names down; of a list, the first (or with `every`, a flat list of all)."""
    if len(path) == 1 and not every:  # most are: an element of the resource itself
        only = value.get(path[0])
        return (only[0] if only else None) if isinstance(only, list) else only
    found = [value]
    for step in path:
        found = [inner for item in found if (inner := item.get(step)) is not None]
        found = [item for inner in found for item in (inner if isinstance(inner, list) else [inner])]
    if every:
        return found
    return found[0] if found else None


def status_of(stated: Any) -> str:
    """Return the code that a status element states, whether a code, a boolean or a CodeableConcept."""
    if isinstance(stated, dict):
        codings = stated.get("coding") or [{}]
        return str(codings[0].get("code"))
    return stated if isinstance(stated, str) else str(stated)


def encounter_link(rows: Rows, r: Resource, alternatives: Sequence[Path]) -> str | None:
    """Return "Encounter/id" of the visit that a resource names, if it names one."""
    for path in alternatives:
        for found in walk(r, path, every=True):
            reference = found.get("reference") if isinstance(found, dict) else None
            if reference and ("/" not in reference or "Encounter/" in reference):
                return f"Encounter/{tail(reference, rows.aliases)}"
    return None


def as_concepts(found: list[Any]) -> list[Resource]:
    """Return CodeableConcepts, whether found as such, as Codings, or within a CodeableReference (R5)."""
    concepts = []
    for item in found:
        inner = item.get("concept", item)
        if "coding" in inner or "text" in inner:
            concepts.append(inner)
        elif "code" in inner and not isinstance(inner["code"], (dict, list)):
            concepts.append({"coding": [inner]})
    return concepts


def is_named(concept: Resource) -> bool:
    """Return whether a concept has a coding or words."""
    return bool(concept.get("coding") or concept.get("text"))


def stated_concepts(r: Resource, alternatives: Sequence[Path]) -> list[Resource]:
    """Return the concepts at the first place that has a code, else at the first that has words."""
    worded: list[Resource] = []
    for path in alternatives:
        concepts = [one for one in as_concepts(walk(r, path, every=True)) if is_named(one)]
        if any(one.get("coding") for one in concepts):
            return concepts
        worded = worded or concepts
    return worded


def united(concepts: list[Resource]) -> list[Resource]:
    """Return several names of one thing (a plan's categories, a study's series) as one concept."""
    if len(concepts) < 2:
        return concepts
    codings = [coding for concept in concepts for coding in concept.get("coding") or ()]
    return [{"coding": codings, "text": next((one["text"] for one in concepts if one.get("text")), None)}]


def coded(rows: Rows, concept: Resource, kind: str, type_: str, prefix: str = "") -> Found:
    """Return a concept's number, with its words where it has no code; raises Unusable if it has neither."""
    codings = concept.get("coding")
    if codings:
        return Found(rows.concept(codings, kind, type_, prefix))
    words = concept.get("text")
    if not words or not isinstance(words, str):
        raise Unusable("no code")
    return Found(rows.fixed(f"{prefix}//{UNCODED}" if prefix else UNCODED, None, kind, type_), words)


def supplied(rows: Rows, r: Resource, type_: str, m: Mapped) -> Found | None:
    """Return the concept that another resource supplies: one contained in `r`, or one that is somewhere else."""
    stated = r.get(f"{m.supplier}Reference") or r.get(m.supplier)
    stated = stated.get("reference") if isinstance(stated, dict) else None
    reference = stated.get("reference") if isinstance(stated, dict) else stated
    if not reference:
        return None
    if reference.startswith("#"):
        inside = (item for item in r.get("contained") or () if item.get("id") == reference[1:])
        concepts = stated_concepts(next(inside, {}), (("code",), ("type",)))
        return coded(rows, united(concepts)[0], m.kind, type_, m.prefix) if concepts else None
    supplier = "Medication" if m.supplier == "medication" else "Device"
    code = f"{m.prefix}//{LINKED}" if m.prefix else LINKED
    return Found(rows.fixed(code, None, m.kind, type_), None, f"{supplier}/{tail(reference, rows.aliases)}")
