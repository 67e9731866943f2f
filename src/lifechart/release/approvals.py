"""Signatures of named persons over exact bytes: each a statement of its own, kept beside what it approves.

An approval names what it lets happen (`enter shadow`, `register`) and the digests of everything that this rests on. It
holds for nothing else: another model, another protocol, another phase needs signatures of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lifechart.core import durable
from lifechart.core.errors import GateRefused, InputError, IntegrityError
from lifechart.ledger.keys import Signer
from lifechart.ledger.statement import Envelope, Statement, Subject, sign
from lifechart.release.people import Office, People

_KIND = "approval"


@dataclass(frozen=True, slots=True)
class Matter:
    """What there is to approve: a deed, and the things that it rests on."""

    deed: str
    """As in `enter shadow`."""
    subjects: tuple[Subject, ...]

    @property
    def digest(self) -> str:
        """SHA-256 that stands for the deed and all that it rests on."""
        return durable.digest_of({"deed": self.deed, "subjects": {item.name: item.digest for item in self.subjects}})


@dataclass(frozen=True, slots=True)
class Approval:
    """What one person signed."""

    name: str
    office: Office
    comment: str
    created: str
    digest: str
    """SHA-256 of the signed envelope."""


def approve(
    folder: Path, matter: Matter, signer: Signer, *, office: Office, comment: str, when: datetime | None = None
) -> Path:
    """Sign a matter in an office and keep the signature in `folder`; a second one in that office replaces the first.

    `when`: the time by the ledger's clock; by default the present.
    """
    if not comment.strip():
        raise InputError("approval: comment", comment, "a few words on what was weighed")
    said = Statement(
        _KIND,
        matter.subjects,
        {"name": signer.public.name, "office": office.value, "deed": matter.deed, "comment": comment},
        (when or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
    )
    path = folder / f"{matter.digest[:16]}-{signer.public.id_bytes.hex()}-{office.value}.json"
    durable.write_bytes(path, sign(said, signer).to_bytes())
    return path


def approvals(folder: Path, matter: Matter, people: People) -> list[Approval]:
    """Return the approvals of a matter, oldest first.

    Raises IntegrityError that names the file if one is not by a person who may sign, or approves something else.
    """
    paths = sorted(folder.glob(f"{matter.digest[:16]}-*.json"))
    if not paths:
        return []
    known, verifier = people.all(), people.verifier()
    found = []
    for path in paths:
        envelope = Envelope.of_bytes(path.read_bytes())
        envelope.verify(verifier, str(path))
        statement = envelope.statement()
        signers = {key.name for key_id, _ in envelope.signatures if (key := verifier.key(key_id)) is not None}
        said = statement.predicate
        if statement.kind != _KIND or said.get("name") not in signers:
            raise IntegrityError(f"{path}: not an approval in the name of whoever signed it")
        if Matter(str(said.get("deed")), statement.subjects).digest != matter.digest:
            raise IntegrityError(f"{path}: approves something other than {matter.deed!r} of these exact bytes")
        if said["office"] not in known[said["name"]].offices:
            raise IntegrityError(f"{path}: {said['name']} does not hold the office {said['office']!r}")
        digest = hashlib.sha256(envelope.to_bytes()).hexdigest()
        found.append(Approval(said["name"], Office(said["office"]), said["comment"], statement.created, digest))
    return sorted(found, key=lambda approval: approval.created)


def require(
    found: Sequence[Approval], offices: Collection[Office], *, persons: int, not_by: Collection[str], deed: str
) -> None:
    """Raise GateRefused that says what is wanting unless enough different persons signed in all of these offices.

    `not_by`: names that do not count, such as the author of the model.
    """
    counted = [approval for approval in found if approval.name not in not_by]
    missing = sorted(set(offices) - {approval.office for approval in counted})
    barred = sorted({approval.name for approval in found} & set(not_by))
    if missing:
        without = f" ({', '.join(barred)} made the model, so that signature does not count)" if barred else ""
        raise GateRefused(f"{deed}: wants the signature of {', '.join(missing)}{without}")
    names = {approval.name for approval in counted}
    if len(names) < persons:
        raise GateRefused(f"{deed}: signed by {len(names)} person ({', '.join(sorted(names))}), wants {persons}")
