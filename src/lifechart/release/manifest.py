"""What a release consists of, byte for byte, signed: an in-toto statement whose subjects are its files.

shelf/risk/3/manifest.json      the signed envelope
shelf/risk/3/model/…            the model's files
shelf/risk/3/report/…           the Report that the gate judged, and its page
shelf/risk/3/criteria.toml      what the gate demanded
shelf/risk/3/approvals/…        signatures of people for phases, added later
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lifechart.core import durable
from lifechart.core.errors import IntegrityError
from lifechart.ledger.keys import Signer, Verifier
from lifechart.ledger.statement import Envelope, Statement, Subject, sign
from lifechart.release.gate import Check, Pair

MANIFEST = "manifest.json"
APPROVALS = "approvals"
KIND = "manifest"
HOUSE_ONLY = ("model/neighbours.npz",)
"""What holds a row for each patient (`lifechart.model.neighbours`): no release leaves the house with it."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of a release; `path` is relative and POSIX."""

    path: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that was decided and measured about one release."""

    capability: str
    version: str
    created: str
    model_digest: str
    report_digest: str
    data_digests: dict[str, str]
    """`train` and `evaluate`: the data sets behind model and Report."""
    protocol_digest: str
    criteria_digest: str
    evidence: dict[str, str]
    """`train` and `evaluate`: leaf hashes of the statements in the ledger that the gate found."""
    checks: tuple[Check, ...]
    released: tuple[Pair, ...]
    """The (outcome, horizon in days) pairs that may be shown."""
    files: tuple[File, ...]
    digest: str = ""
    """SHA-256 of the signed payload; approvals and the ledger name the release by it."""

    def statement(self) -> Statement:
        """Return the manifest as a statement about its files."""
        predicate: dict[str, Any] = asdict(self)
        for key in ("created", "digest", "files"):
            del predicate[key]
        predicate["sizes"] = {file.path: file.size for file in self.files}
        subjects = tuple(Subject(file.path, file.digest) for file in self.files)
        return Statement(KIND, subjects, predicate, self.created)

    @classmethod
    def of_envelope(cls, envelope: Envelope) -> Manifest:
        """Read a manifest; raises IntegrityError if the envelope holds something else."""
        statement = envelope.statement()
        fields = dict(statement.predicate)
        try:
            sizes = fields.pop("sizes")
            fields["files"] = tuple(File(item.name, sizes[item.name], item.digest) for item in statement.subjects)
            fields["checks"] = tuple(Check(**check) for check in fields["checks"])
            fields["released"] = tuple((outcome, horizon) for outcome, horizon in fields["released"])
            digest = hashlib.sha256(envelope.payload).hexdigest()
            manifest = cls(**fields, created=statement.created, digest=digest)
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(f"{MANIFEST}: not the manifest of a release ({error})") from error
        if statement.kind != KIND:
            raise IntegrityError(f"{MANIFEST}: a statement of kind {statement.kind!r}, expected {KIND!r}")
        return manifest


def files_of(folder: Path) -> tuple[File, ...]:
    """Return every file of a release folder but the manifest itself and approvals; raises IntegrityError for a link."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise IntegrityError(f"{name}: a link; a release holds its files itself")
        if path.is_file() and name != MANIFEST and not name.startswith(f"{APPROVALS}/"):
            found.append(File(name, path.stat().st_size, durable.file_digest(path)))
    return tuple(found)


def write(folder: Path, manifest: Manifest, signer: Signer) -> Manifest:
    """Sign a manifest and write it into its release's folder; returns it with its digest."""
    envelope = sign(manifest.statement(), signer)
    durable.write_bytes(folder / MANIFEST, envelope.to_bytes())
    return Manifest.of_envelope(envelope)


def verify(folder: Path, verifier: Verifier, *, handed_over: bool = False) -> Manifest:
    """Return a release's manifest if a trusted key signed it and every byte in the folder is the one that was signed.

    `handed_over`: what stays in the house may be missing. Raises IntegrityError that names the file which was changed,
    is missing, or was added.
    """
    try:
        envelope = Envelope.of_bytes((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise IntegrityError(f"{folder / MANIFEST}: cannot be read ({error.strerror})") from error
    envelope.verify(verifier, str(folder / MANIFEST))
    manifest = Manifest.of_envelope(envelope)
    there = {file.path: file for file in files_of(folder)}
    for file in manifest.files:
        found = there.pop(file.path, None)
        if found is None and handed_over and file.path in HOUSE_ONLY:
            continue
        if found is None:
            raise IntegrityError(f"{folder / file.path}: missing from the release")
        if found != file:
            sizes = f"{found.size} bytes where {file.size} were signed"
            changed = sizes if found.size != file.size else "its content changed"
            raise IntegrityError(f"{folder / file.path}: not the file that was released ({changed})")
    if there:
        raise IntegrityError(f"{folder / min(there)}: not part of the release")
    return manifest
