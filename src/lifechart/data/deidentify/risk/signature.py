"""A reviewer's signature over an assessment: a statement bound to the data set, the figures and the page, byte for
byte.

risk/risk.json, risk.html       what was assessed
risk/signatures/KEYID.json      one signed envelope a reviewer
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

from lifechart.core import durable
from lifechart.core.errors import InputError, IntegrityError
from lifechart.data.deidentify.risk.page import JSON, PAGE
from lifechart.ledger.keys import Signer, Verifier
from lifechart.ledger.statement import Envelope, Statement, Subject, sign

SIGNATURES = "signatures"
_KIND = "risk"


class Ledger(Protocol):
    """Where the statement goes."""

    def append(self, statement: Statement) -> object:
        """Write it durably, or raise AuditError."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What one reviewer signed."""

    name: str
    role: str
    conclusion: str
    created: str


def record(folder: Path, log: Ledger) -> None:
    """Say in the ledger that the assessment in `folder` was made, and of which data set."""
    content = _content(folder)
    figures = {
        row["name"]: {"mean": row["mean"], "smallest": row["smallest"], "verdict": row["verdict"]}
        for row in content["findings"]
    }
    said = _said(content) | {"what": "assessed", "figures": figures}
    log.append(Statement(_KIND, _subjects(folder, content), said))


def sign_page(folder: Path, signer: Signer, log: Ledger, *, role: str, conclusion: str) -> Path:
    """Sign the assessment in `folder` in the name of `signer`, and say so in the ledger; returns the signature's file.

    Raises InputError for words that are missing, IntegrityError if the figures are not those that the page is made of.
    """
    for key, value in (("role", role), ("conclusion", conclusion)):
        if not value.strip():
            raise InputError(f"signature: {key}", value, "a few words")
    content = _content(folder)
    said = _said(content) | {
        "what": "signed",
        "name": signer.public.name,
        "key": signer.public.id,
        "role": role,
        "conclusion": conclusion,
    }
    envelope = sign(Statement(_KIND, _subjects(folder, content), said), signer)
    path = folder / SIGNATURES / f"{signer.public.id_bytes.hex()}.json"
    durable.write_bytes(path, envelope.to_bytes())
    log.append(Statement(_KIND, _subjects(folder, content), said | {"signature": durable.file_digest(path)}))
    return path


def signatures(folder: Path, verifier: Verifier, dataset: str | None = None) -> list[Signature]:
    """Return the signatures over the assessment in `folder`, oldest first.

    Raises IntegrityError that names the file if one is by nobody whom `verifier` knows, in another name, or of other
    bytes than are there; and if the assessment is of another data set than `dataset`, where that is given.
    """
    content = _content(folder)
    if dataset is not None and content["dataset"] != dataset:
        raise IntegrityError(f"{folder / JSON}: assesses another data set")
    there = {subject.name: subject.digest for subject in _subjects(folder, content)}
    found = []
    for path in sorted((folder / SIGNATURES).glob("*.json")):
        envelope = Envelope.of_bytes(path.read_bytes())
        envelope.verify(verifier, str(path))
        statement = envelope.statement()
        names = {key.name for key_id, _ in envelope.signatures if (key := verifier.key(key_id)) is not None}
        said = statement.predicate
        if statement.kind != _KIND or said.get("what") != "signed" or said.get("name") not in names:
            raise IntegrityError(f"{path}: not a signature in the name of whoever signed it")
        for subject in statement.subjects:
            if there.get(subject.name) != subject.digest:
                raise IntegrityError(f"{path}: {subject.name} is not what was signed")
        if said["dataset"] != content["dataset"]:
            raise IntegrityError(f"{path}: signs the assessment of another data set")
        found.append(Signature(said["name"], said["role"], said["conclusion"], statement.created))
    return sorted(found, key=lambda each: each.created)


def _content(folder: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = orjson.loads((folder / JSON).read_bytes())
        digest = content["digest"]
        content["dataset"], content["findings"], content["population"]
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError("FOLDER", str(folder), "a folder that `lifechart risk` wrote") from error
    if durable.digest_of({key: value for key, value in content.items() if key != "digest"}) != digest:
        raise IntegrityError(f"{folder / JSON}: its figures are not those of the digest that it states")
    if not (folder / PAGE).is_file():
        raise IntegrityError(f"{folder / PAGE}: missing")
    return content


def _said(content: dict[str, Any]) -> dict[str, Any]:
    keys = ("dataset", "threshold", "population", "stated", "dates", "code")
    return {key: content[key] for key in keys}


def _subjects(folder: Path, content: dict[str, Any]) -> tuple[Subject, ...]:
    return (Subject("assessment", content["digest"]), Subject(PAGE, durable.file_digest(folder / PAGE)))
