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
    PURPOSES,
    WITHDRAWN,
    Decision,
    Register,
    now,
    open_register,
    patient_hash,
)
from lifechart.ledger.log import Entry, Log
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


def admission_now(settings: Settings, log: Log, key: bytes) -> Admission:
    """Return who may enter a build of other things than an export, such as images."""
    register = open_register(settings, key)
    check(register, log)
    return admission(register, key, settings.consent_policy)


def where(log: Log, key: bytes, evidence: Path, patient: str) -> list[Holding]:
    """Return every data set in the ledger that holds the patient or might, oldest first, with what rests on it.

    `patient`: the source's own id. Raises IntegrityError where evidence is not what the ledger's statement is about.
    """
    found = []
    for made in _made(log, evidence):
        held = made.holds(key, patient)
        if held is not False:
            resting = standing.resting_on(log, made.digest, int(bool(held)))
            found.append(Holding(made.digest, made.entry.index, made.created, held, made.purposes, resting))
    return found


@dataclass(frozen=True, slots=True)
class _Made:
    """A data set that the ledger knows, and the tokens of its members; None where they are not known."""

    entry: Entry
    digest: str
    created: str
    purposes: tuple[str, ...]
    tokens: frozenset[bytes] | None

    def holds(self, key: bytes, patient: str) -> bool | None:
        return None if self.tokens is None else members.token_of(key, self.digest, patient) in self.tokens


def _made(log: Log, evidence: Path) -> list[_Made]:
    """Return every data set in the ledger with its evidence, read once and held against the ledger's root."""
    found = []
    for entry in log.find(kind="ingest"):
        said = entry.statement
        digest, stated = said.subjects[0].digest, said.predicate.get("members")
        file = members.tokens_file(evidence, digest)
        tokens = frozenset(members.read(file, str(stated))) if stated is not None and file.exists() else None
        purposes = tuple(said.predicate.get("consent", {}).get("purposes", BUILD_PURPOSES))
        found.append(_Made(entry, digest, said.created, purposes, tokens))
    return found


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
    if not decisions:
        return []
    before = {purpose: register.standing(purpose) for purpose in PURPOSES}
    new = register.add(decisions)
    now_standing = {purpose: register.standing(purpose) for purpose in PURPOSES}
    made = _made(log, evidence)
    for patient in dict.fromkeys(each.patient for each in decisions):
        purposes = [each.purpose for each in decisions if each.patient == patient]
        withdrawn = [purpose for purpose in PURPOSES if now_standing[purpose].get(patient) == WITHDRAWN]
        back = [
            purpose
            for purpose in purposes
            if before[purpose].get(patient) == WITHDRAWN and now_standing[purpose].get(patient) == CONSENTED
        ]
        if withdrawn:
            _say(log, register, key, made, patient, WITHDRAWN, withdrawn)
        elif back:
            _say(log, register, key, made, patient, CONSENTED, back)
    return new


def reconcile(register: Register, log: Log, key: bytes, evidence: Path) -> int:
    """Tell the ledger of withdrawn patients whom a data set holds that it did not know of; return how many.

    A withdrawal that is recorded while a data set is being made comes too late for that one, and the statement about it
    was written before there was anything to name. So this follows every build.
    """
    standing_now = {purpose: register.standing(purpose) for purpose in PURPOSES}
    patients = sorted({who for each in standing_now.values() for who, what in each.items() if what == WITHDRAWN})
    made = _made(log, evidence) if patients else []
    return sum(
        _say(
            log,
            register,
            key,
            made,
            patient,
            WITHDRAWN,
            [purpose for purpose in PURPOSES if standing_now[purpose].get(patient) == WITHDRAWN],
        )
        for patient in patients
    )


def _say(
    log: Log, register: Register, key: bytes, made: Sequence[_Made], patient: str, what: str, purposes: Sequence[str]
) -> bool:
    """Say in the ledger how a patient stands, unless its last word on the patient is the same."""
    person = patient_hash(key, patient)
    held_by = sorted(each.digest for each in made if set(each.purposes) & set(purposes) and each.holds(key, patient))
    said: dict[str, Any] = {"what": what, "purposes": sorted(purposes), "held_by": held_by}
    earlier = [entry.statement.predicate for entry in log.find(kind="withdrawal", digest=person)]
    if earlier and {name: earlier[-1].get(name) for name in said} == said:
        return False
    log.append(Statement("withdrawal", (Subject("patient", person),), said | {"register": register.head}))
    return True


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
