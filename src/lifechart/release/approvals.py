"""Signatures of named people over a release: each a statement bound to the manifest's digest, kept with the release."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lifechart.core import durable
from lifechart.core.errors import InputError, IntegrityError
from lifechart.ledger.keys import Signer, Verifier
from lifechart.ledger.statement import Envelope, Statement, Subject, sign
from lifechart.release.manifest import APPROVALS
from lifechart.release.shelf import Release

_KIND = "approval"


@dataclass(frozen=True, slots=True)
class Approval:
    """What one person signed."""

    name: str
    """The name of the key: a person, as the institution registered it."""
    role: str
    comment: str
    created: str


def approve(release: Release, signer: Signer, *, role: str, comment: str) -> Path:
    """Sign a release that was just verified, and keep the signature with it; a second one replaces the first.

    The signer's key stays with the person: only the public half needs to be known where approvals are read.
    """
    for key, value in (("role", role), ("comment", comment)):
        if not value.strip():
            raise InputError(f"approval: {key}", value, "a few words")
    manifest = release.manifest
    subject = Subject(f"{release.capability}/{release.version}", manifest.digest)
    said = Statement(_KIND, (subject,), {"name": signer.public.name, "role": role, "comment": comment})
    path = release.folder / APPROVALS / f"{signer.public.id_bytes.hex()}.json"
    durable.write_bytes(path, sign(said, signer).to_bytes())
    return path


def approvals(release: Release, verifier: Verifier) -> list[Approval]:
    """Return the approvals of a release, oldest first.

    Raises IntegrityError that names the file if one is not by a person whom `verifier` knows, or is of another release.
    """
    found = []
    for path in sorted((release.folder / APPROVALS).glob("*")):
        envelope = Envelope.of_bytes(path.read_bytes())
        envelope.verify(verifier, str(path))
        statement = envelope.statement()
        signers = {key.name for key_id, _ in envelope.signatures if (key := verifier.key(key_id)) is not None}
        said = statement.predicate
        if statement.kind != _KIND or said["name"] not in signers:
            raise IntegrityError(f"{path}: not an approval in the name of whoever signed it")
        if [subject.digest for subject in statement.subjects] != [release.manifest.digest]:
            raise IntegrityError(f"{path}: approves another release than {release.capability}/{release.version}")
        found.append(Approval(said["name"], said["role"], said["comment"], statement.created))
    return sorted(found, key=lambda approval: approval.created)
