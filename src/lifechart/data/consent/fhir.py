"""FHIR Consent as decisions: what a Consent resource of a hospital's export means for the register.

Only what is certain counts as consent; what is in doubt is left out (and, under the policy opt-in, keeps the patient
out), while a refusal is taken at its widest: a Consent that denies without naming purposes denies all of them.
"""

from __future__ import annotations

import gzip
import zlib
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
_MARK = b'"Consent"'
_CHUNK = 8 << 20
_RESEARCH_SCOPES = {"research", "patient-privacy"}
_ENDED = {"rejected", "inactive"}
_IGNORED = {"entered-in-error", "draft", "proposed", "not-done", "unknown"}


def decisions_of(resource: Mapping[str, Any]) -> list[Decision]:
    """Return what one Consent resource (R4, R4B, R5 or STU3) decides; nothing if it is about other things or unusable.

    `status` active: its provision permits or denies. `inactive` or `rejected`: whatever it permitted is withdrawn.
    """
    status = str(resource.get("status"))
    if resource.get("resourceType") != "Consent" or status in _IGNORED:
        return []
    patient = _patient(resource)
    at = _moment(resource.get("dateTime") or resource.get("date"))
    if not patient or not at or not _scoped(resource):
        return []
    made: dict[str, str] = {}
    ended = status in _ENDED
    # An inner provision is an exception to the outer one; of two at one depth the refusal holds.
    for depth, denies, provision in sorted(_provisions(resource), key=lambda each: each[:2]):
        if denies or ended:
            made |= dict.fromkeys(_reached(provision, denies=denies), WITHDRAWN)
        elif depth == 0 or provision.get("purpose"):
            # An inner permission without a purpose is bound to something else: to some data, or some actor.
            made |= dict.fromkeys(_reached(provision, denies=False), CONSENTED)
    source = f"FHIR Consent/{resource['id']}" if isinstance(resource.get("id"), str) else "FHIR Consent"
    first = next(iter(_dicts(resource.get("provision") or resource.get("except"))), {})
    until = _moment(_dict(first.get("period")).get("end")) or ""
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
        for content in _texts(file) if _mentions(file) else ():
            if _MARK in content:
                found += [decision for each in _resources(content) for decision in decisions_of(each)]
    return found


def _mentions(file: Path) -> bool:
    """Return whether a file has the word at all: most of an export has not, and need not be taken apart for it."""
    rest = b""
    try:
        with gzip.open(file) if file.suffix == ".gz" else open(file, "rb") as stream:
            while chunk := stream.read(_CHUNK):
                if _MARK in chunk or _MARK in rest + chunk[: len(_MARK)]:
                    return True
                rest = (rest + chunk[-len(_MARK) :])[-len(_MARK) :]
    except (OSError, EOFError, zlib.error):
        # What can still be read of it is, and the source says what is wrong with it.
        return True
    return False


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
    reference = _dict(resource.get("patient") or resource.get("subject")).get("reference")
    if not isinstance(reference, str):
        return ""
    return reference.split("/_history")[0].removeprefix("urn:uuid:").rsplit("/", 1)[-1]


def _scoped(resource: Mapping[str, Any]) -> bool:
    """Return whether a Consent is about the use of records: R4 says so in `scope`; where nothing is said, it may be."""
    codes = {str(coding.get("code")) for coding in _dicts(_dict(resource.get("scope")).get("coding"))}
    return not codes or bool(codes & _RESEARCH_SCOPES)


def _dict(value: object) -> Mapping[str, Any]:
    """Return an element that should be one object, and an empty one where it is something else."""
    return value if isinstance(value, dict) else {}


def _dicts(value: object) -> list[Mapping[str, Any]]:
    """Return an element that may be one object or a list of them."""
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, dict)]


def _provisions(resource: Mapping[str, Any]) -> Iterator[tuple[int, bool, Mapping[str, Any]]]:
    """Yield (depth, whether it denies, provision), root and nested; R5 states the root's kind in `decision`."""
    # A Consent without a provision speaks by its status alone.
    for root in _dicts(resource.get("provision") or resource.get("except") or {}):
        kind = resource.get("decision") or root.get("type") or "permit"
        waiting: list[tuple[int, bool, Mapping[str, Any]]] = [(0, kind == "deny", root)]
        while waiting:
            depth, denies, provision = waiting.pop(0)
            yield depth, denies, provision
            for inner in _dicts(provision.get("provision")):
                # R5 states no kind: what is nested is an exception to what it stands in.
                stated = inner.get("type")
                waiting.append((depth + 1, stated == "deny" if stated else not denies, inner))


def _reached(provision: Mapping[str, Any], *, denies: bool) -> tuple[str, ...]:
    named = [item.get("code") for item in _dicts(provision.get("purpose"))]
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
