"""Where one patient still is: data sets by their membership evidence, and by the ledger the models and releases on
them.

Here a withdrawal takes effect: the register first, so that the next build leaves the patient out whatever happens then;
after that a statement in the ledger, which names the data sets that still hold somebody, and the somebody by a keyed
hash.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifechart.core.errors import IntegrityError
from lifechart.core.settings import Settings
from lifechart.data.consent import fhir, members, standing
from lifechart.data.consent.admission import Admission, admission
from lifechart.data.consent.register import (
    BUILD_PURPOSES,
    CONSENTED,
    WITHDRAWN,
    Decision,
    Register,
    now,
    open_register,
    patient_hash,
)
from lifechart.ledger.log import Log
from lifechart.ledger.statement import Statement, Subject


@dataclass(frozen=True, slots=True)
class Holding:
    """One data set, and whether it holds the patient."""

    dataset: str
    index: int
    """Entry of its ingest statement in the ledger."""
    created: str
    held: bool | None
    """None: it cannot be told, because it was made without evidence of its members, or that is gone."""
    purposes: tuple[str, ...]
    resting: standing.Standing


def evidence_folder(settings: Settings) -> Path:
    """Return where the tokens of data sets' members are kept, under home."""
    return settings.home / "consent" / "members"


def admission_for(
    settings: Settings, log: Log, key: bytes, path: Path, purposes: Sequence[str] | None = None
) -> Admission:
    """Return who may enter a build of the export at `path`, whose own Consent resources are taken into the register."""
    register = open_register(settings, key)
    check(register, log)
    record(register, log, key, evidence_folder(settings), fhir.read_export(path))
    return admission(register, key, settings.consent_policy, tuple(purposes or BUILD_PURPOSES))


def where(log: Log, key: bytes, evidence: Path, patient: str) -> list[Holding]:
    """Return every data set in the ledger that holds the patient or might, oldest first, with what rests on it.

    `patient`: the source's own id. Raises IntegrityError where evidence is not what the ledger's statement is about.
    """
    found = []
    for entry in log.find(kind="ingest"):
        said = entry.statement
        digest = said.subjects[0].digest
        held = _holds(said.predicate, digest, key, evidence, patient)
        if held is not False:
            purposes = tuple(said.predicate.get("consent", {}).get("purposes", BUILD_PURPOSES))
            resting = standing.resting_on(log, digest, int(bool(held)))
            found.append(Holding(digest, entry.index, said.created, held, purposes, resting))
    return found


def _holds(said: dict[str, Any], digest: str, key: bytes, evidence: Path, patient: str) -> bool | None:
    stated = said.get("members")
    file = members.tokens_file(evidence, digest)
    if stated is None or not file.exists():
        return None
    return members.token_of(key, digest, patient) in set(members.read(file, str(stated)))


def record(
    register: Register,
    log: Log,
    key: bytes,
    evidence: Path,
    decisions: Sequence[Decision],
) -> list[Decision]:
    """Record decisions; those that withdraw, or that take a withdrawal back, are told to the ledger. Returns the new
    ones.

    What the ledger does not know yet of a withdrawn patient is said again, so that a run that was cut off can be
    repeated.
    """
    before = {(each.patient, each.purpose): register.stands(each.patient, each.purpose) for each in decisions}
    new = register.add(decisions)
    for patient in dict.fromkeys(each.patient for each in decisions):
        purposes = [each.purpose for each in decisions if each.patient == patient]
        withdrawn = [purpose for purpose in purposes if register.stands(patient, purpose) == WITHDRAWN]
        back = [
            purpose
            for purpose in purposes
            if before[patient, purpose] == WITHDRAWN and register.stands(patient, purpose) == CONSENTED
        ]
        if withdrawn:
            _say(log, register, key, evidence, patient, WITHDRAWN, withdrawn)
        elif back:
            _say(log, register, key, evidence, patient, CONSENTED, back)
    return new


def _say(
    log: Log, register: Register, key: bytes, evidence: Path, patient: str, what: str, purposes: Sequence[str]
) -> None:
    person = patient_hash(key, patient)
    held_by = sorted(
        each.dataset for each in where(log, key, evidence, patient) if each.held and set(each.purposes) & set(purposes)
    )
    said: dict[str, Any] = {"what": what, "purposes": sorted(purposes), "held_by": held_by}
    earlier = [entry.statement.predicate for entry in log.find(kind="withdrawal", digest=person)]
    if earlier and {name: earlier[-1].get(name) for name in said} == said:
        return
    log.append(Statement("withdrawal", (Subject("patient", person),), said | {"register": register.head}))


def check(register: Register, log: Log) -> None:
    """Raise IntegrityError if the register lacks lines that it had when the ledger last heard of a withdrawal."""
    for entry in log.find(kind="withdrawal"):
        if not register.holds_head(entry.statement.predicate["register"]):
            raise IntegrityError(
                f"{register.path}: lines are missing that stood in it at ledger entry {entry.index}; restore it"
            )


def decide(patient: str, purposes: Sequence[str], decision: str, by: str, source: str = "") -> list[Decision]:
    """Return one decision a purpose, made now."""
    moment = now()
    return [Decision(patient, purpose, decision, moment, by, source) for purpose in purposes]
