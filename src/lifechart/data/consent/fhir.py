"""FHIR Consent as decisions: what a Consent resource of a hospital's export means for the register.

Only what is certain counts as consent; what is in doubt is left out (and, under the policy opt-in, keeps the patient
out), while a refusal is taken at its widest: a Consent that denies without naming purposes denies all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from lifechart.core.errors import InputError
from lifechart.data.consent.register import CONSENTED, PURPOSES, WITHDRAWN, Decision
from lifechart.data.sources import Span, documents

CODES: Mapping[str, tuple[str, ...]] = {
    "HRESCH": ("training", "evaluation", "research"),
    "BIORCH": ("research",),
    "CLINTRCH": ("research",),
    "HSYSADMIN": ("evaluation",),
    "HQUALIMP": ("evaluation",),
    "HLEGAL": (),
    "HSRCH": ("sharing",),
    "TREAT": (),
    "ETREAT": (),
    "HPAYMT": (),
    "HOPERAT": ("training", "evaluation"),
    "HMARKT": ("sharing",),
}
"""Purposes of use (HL7 v3 PurposeOfUse) that a provision can name, and the purposes of ours that they reach. A code
that is not listed reaches nothing when it permits and everything when it denies."""
_RESEARCH_SCOPES = {"research", "patient-privacy"}
_ENDED = {"rejected", "inactive"}
_IGNORED = {"entered-in-error", "draft", "proposed", "not-done", "unknown"}


def decisions_of(resource: Mapping[str, Any]) -> list[Decision]:
    """Return what one Consent resource (R4, R4B, R5 or STU3) decides; nothing if it is about other things or unusable.

    `status` active: its provision permits or denies. `inactive` or `rejected`: whatever it permitted is withdrawn.
    """
    if resource.get("resourceType") != "Consent" or resource.get("status") in _IGNORED:
        return []
    patient = _patient(resource)
    at = _moment(resource.get("dateTime") or resource.get("date"))
    if not patient or not at or not _scoped(resource):
        return []
    made: dict[str, str] = {}
    ended = resource.get("status") in _ENDED
    # An inner provision is an exception to the outer one; of two at one depth the refusal holds.
    for depth, denies, provision in sorted(_provisions(resource), key=lambda each: each[:2]):
        if denies or ended:
            made |= dict.fromkeys(_reached(provision, denies=denies), WITHDRAWN)
        elif depth == 0 or provision.get("purpose"):
            # An inner permission without a purpose is bound to something else: to some data, or some actor.
            made |= dict.fromkeys(_reached(provision, denies=False), CONSENTED)
    source = f"FHIR Consent/{resource['id']}" if resource.get("id") else "FHIR Consent"
    until = _moment((_root(resource).get("period") or {}).get("end")) or ""
    return [
        Decision(patient, purpose, made[purpose], at, "ingest", source, until if made[purpose] == CONSENTED else "")
        for purpose in PURPOSES
        if purpose in made
    ]


def read_export(path: Path) -> list[Decision]:
    """Return the decisions of every Consent resource in a FHIR export (NDJSON or bundles), file by file."""
    if not path.exists():
        raise InputError("PATH", str(path), "a file or folder that exists")
    found: list[Decision] = []
    for file in documents.find_files(path):
        for content in _texts(file):
            if b'"Consent"' in content:
                found += [decision for each in _resources(content) for decision in decisions_of(each)]
    return found


def _texts(file: Path) -> Iterator[bytes]:
    try:
        if documents.holds_lines(file):
            for lines in documents.read_lines(Span(str(file))):
                yield from (line for line in lines if line is not None)
        elif (content := documents.read_document(file)) is not None:
            yield content
    except documents.EndsEarly:
        return


def _resources(content: bytes) -> Iterator[Mapping[str, Any]]:
    try:
        read = orjson.loads(content)
    except orjson.JSONDecodeError:
        return
    if not isinstance(read, dict):
        return
    entries = read.get("entry") if read.get("resourceType") == "Bundle" else [{"resource": read}]
    for entry in entries if isinstance(entries, list) else []:
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if isinstance(resource, dict):
            yield resource


def _patient(resource: Mapping[str, Any]) -> str:
    """Return the patient's id: `patient` in R4, `subject` in R5."""
    reference = (resource.get("patient") or resource.get("subject") or {}).get("reference")
    if not isinstance(reference, str):
        return ""
    return reference.removeprefix("urn:uuid:").rsplit("/", 1)[-1].split("/_history")[0]


def _scoped(resource: Mapping[str, Any]) -> bool:
    """Return whether a Consent is about the use of records: R4 says so in `scope`; where nothing is said, it may be."""
    codings = (resource.get("scope") or {}).get("coding") or []
    codes = {coding.get("code") for coding in codings if isinstance(coding, dict)}
    return not codes or bool(codes & _RESEARCH_SCOPES)


def _root(resource: Mapping[str, Any]) -> Mapping[str, Any]:
    provision = resource.get("provision") or resource.get("except") or {}
    if isinstance(provision, list):
        provision = provision[0] if provision else {}
    return provision if isinstance(provision, dict) else {}


def _provisions(resource: Mapping[str, Any]) -> Iterator[tuple[int, bool, Mapping[str, Any]]]:
    """Yield (depth, whether it denies, provision), root and nested; R5 states the root's kind in `decision`."""
    roots = resource.get("provision") or resource.get("except") or {}
    for root in roots if isinstance(roots, list) else [roots]:
        if not isinstance(root, dict):
            continue
        kind = resource.get("decision") or root.get("type") or "permit"
        waiting: list[tuple[int, bool, Mapping[str, Any]]] = [(0, kind == "deny", root)]
        while waiting:
            depth, denies, provision = waiting.pop(0)
            yield depth, denies, provision
            for inner in provision.get("provision") or []:
                if isinstance(inner, dict):
                    # R5 states no kind: what is nested is an exception to what it stands in.
                    stated = inner.get("type")
                    waiting.append((depth + 1, stated == "deny" if stated else not denies, inner))


def _reached(provision: Mapping[str, Any], *, denies: bool) -> tuple[str, ...]:
    named = [item.get("code") for item in provision.get("purpose") or [] if isinstance(item, dict)]
    if not named:
        return PURPOSES
    unlisted: tuple[str, ...] = PURPOSES if denies else ()
    return tuple(dict.fromkeys(purpose for code in named for purpose in CODES.get(str(code), unlisted)))


def _moment(text: object) -> str | None:
    """Return a FHIR dateTime as ISO 8601 in UTC; a bare date is its first moment, so that what follows it counts."""
    if not isinstance(text, str):
        return None
    padded = text + "-01-01"[len(text) - 4 :] if len(text) in (4, 7) else text
    try:
        moment = datetime.fromisoformat(padded)
    except ValueError:
        return None
    utc = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    return utc.isoformat(timespec="seconds").replace("+00:00", "Z")
