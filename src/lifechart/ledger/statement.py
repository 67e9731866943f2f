"""Signed sentences about data sets, models, reports, releases and answers: in-toto Statement v1 in DSSE envelopes."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from lifechart.core import durable
from lifechart.core.errors import InputError, IntegrityError
from lifechart.ledger.keys import Signer, Verifier

PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATE_ROOT = "https://lifechart.example/predicate/"
_VERSION = "/v1"

KINDS: Mapping[str, str] = {
    "extract": "records were taken from a source system; the files are subjects behind the extract itself",
    "transform": "what is done to records on their way into a data set: parameters, code and tables",
    "ingest": "a data set was made from an extract by a transform",
    "combine": "data sets were joined into one, whose events say which of them they came from",
    "contribution": "how much each source of a data set contributed to what a model is worth, by capability",
    "encrypt": "a data set was encrypted, or its key wrapped for one more recipient",
    "decrypt": "a plain copy was made of an encrypted data set",
    "key-release": "the key of a data set was released to an attested workload, or refused",
    "deidentify": "images were de-identified, apart from a data set",
    "train": "a model was trained on a data set",
    "adapt": "a released model was adapted to local records, without those that it was trained on",
    "train-tagger": "a tagger of identifiers in free text was trained on marked texts",
    "evaluate": "a report was made of a model",
    "manifest": "what a release consists of, file by file; kept with it rather than in the log",
    "release": "a release of a capability was put on the shelf, or an earlier one made current again",
    "hand-over": "a release was handed to another institution, without what stays in the house",
    "phase": "a capability entered a phase",
    "switch": "a capability was switched off or on",
    "person": "somebody may sign for the institution, in these offices and with this key, or no longer",
    "approval": "a named person approved something, on exact bytes; kept with it",
    "protocol": "a protocol was registered or amended, which seals it",
    "validation": "a protocol was carried out, and what came of it",
    "trial": "a step of a randomised trial",
    "alarm": "monitoring found that something had shifted: what, since when, and which phase it lowers to",
    "document": "documents were written from the evidence of a release",
    "view": "a chart or a list of patients was shown without an answer; patients stand in it as keyed hashes",
    "answer": "an answer was given about a patient, who stands in it as a keyed hash",
    "fault": "a question was asked that could not be answered, and the kind of failure",
    "label": "what became of answers that were kept from sight, opened when their time was up",
    "adjudication": "somebody said whether an answer or the record was wrong where the two disagree",
    "feedback": "a user accepted or dismissed an answer",
    "incident": "a step from the report of a harm or bad answer to its closure, or of a recall; no patient is named",
    "withdrawal": "a patient, who stands in it as a keyed hash, withdrew consent or gave it again",
    "retention": "something was deleted because its time had passed",
    "risk": "the re-identification risk of a data set was assessed, or a reviewer signed the assessment",
    "privacy-audit": "a model was attacked to see what it remembers of single patients, and what that proves",
}
"""Every kind of statement, and what it says. Each is a predicate type of its own."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


def predicate_type(kind: str) -> str:
    """Return the URI that stands for a kind of statement."""
    return f"{_PREDICATE_ROOT}{kind}{_VERSION}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Subject:
    """A thing that a statement is about: its name and SHA-256 (64 lower-case hex digits)."""

    name: str
    digest: str

    def __post_init__(self) -> None:
        if not _SHA256.fullmatch(self.digest):
            raise InputError("Subject.digest", self.digest, "a SHA-256 as 64 lower-case hex digits")
        if not self.name:
            raise InputError("Subject.name", self.name, "a name")


@dataclass(frozen=True, slots=True)
class Statement:
    """One sentence. `predicate` is plain JSON; where it names what the subjects rest on, it does so by digest.

    Put no identifier of a patient in it: the log is kept for ever and read by auditors.
    """

    kind: str
    subjects: tuple[Subject, ...]
    predicate: dict[str, Any]
    created: str = field(default_factory=_now)
    """Date and time, ISO 8601, UTC."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError("Statement.kind", self.kind, f"one of {sorted(KINDS)}")
        if not self.subjects:
            raise InputError("Statement.subjects", self.subjects, "at least one subject")
        if "created" in self.predicate:
            raise InputError("Statement.predicate", "created", "no such key: it is a field of the statement")

    def payload(self) -> bytes:
        """Return the in-toto Statement as canonical JSON; raises InputError if the predicate is not plain JSON."""
        try:
            return durable.canonical_json(
                {
                    "_type": _STATEMENT_TYPE,
                    "subject": [{"name": item.name, "digest": {"sha256": item.digest}} for item in self.subjects],
                    "predicateType": predicate_type(self.kind),
                    "predicate": {"created": self.created, **self.predicate},
                }
            )
        except TypeError as error:
            raise InputError("Statement.predicate", type(self.predicate).__name__, f"plain JSON ({error})") from error

    @classmethod
    def of_payload(cls, payload: bytes) -> Statement:
        """Read an in-toto Statement; raises IntegrityError if it is not one of ours."""
        try:
            content = orjson.loads(payload)
            kind = content["predicateType"].removeprefix(_PREDICATE_ROOT).removesuffix(_VERSION)
            subjects = tuple(Subject(item["name"], item["digest"]["sha256"]) for item in content["subject"])
            predicate = content["predicate"]
            return cls(kind, subjects, predicate, predicate.pop("created"))
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, InputError) as error:
            raise IntegrityError(f"statement: not an in-toto statement of this project ({error})") from error


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload and who signed it (DSSE v1)."""

    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]
    """(key id, signature) each."""
    payload_type: str = PAYLOAD_TYPE

    def to_bytes(self) -> bytes:
        """Return the envelope as canonical JSON."""
        return durable.canonical_json(
            {
                "payload": base64.b64encode(self.payload).decode(),
                "payloadType": self.payload_type,
                "signatures": [
                    {"keyid": key_id, "sig": base64.b64encode(signature).decode()}
                    for key_id, signature in self.signatures
                ],
            }
        )

    @classmethod
    def of_bytes(cls, content: bytes) -> Envelope:
        """Read an envelope without judging its signatures; raises IntegrityError if it is malformed."""
        try:
            fields = orjson.loads(content)
            signatures = tuple(
                (str(item["keyid"]), base64.b64decode(item["sig"], validate=True)) for item in fields["signatures"]
            )
            return cls(base64.b64decode(fields["payload"], validate=True), signatures, fields["payloadType"])
        except (orjson.JSONDecodeError, KeyError, TypeError, binascii.Error) as error:
            raise IntegrityError(f"envelope: not a DSSE envelope ({error})") from error

    def verify(self, verifier: Verifier, what: str) -> None:
        """Check that a trusted key signed this, and no trusted key's signature is wrong; raises IntegrityError."""
        content = encode(self.payload_type, self.payload)
        trusted = [pair for pair in self.signatures if verifier.key(pair[0]) is not None]
        if not trusted:
            signers = [key_id for key_id, _ in self.signatures]
            raise IntegrityError(f"{what}: signed by {signers}, expected one of {sorted(verifier.ids)}")
        for key_id, signature in trusted:
            verifier.check(key_id, signature, content, what)

    def statement(self) -> Statement:
        """Read the payload as a statement of this project."""
        if self.payload_type != PAYLOAD_TYPE:
            raise IntegrityError(f"envelope: payload type {self.payload_type!r}, expected {PAYLOAD_TYPE!r}")
        return Statement.of_payload(self.payload)


def sign(statement: Statement, *signers: Signer) -> Envelope:
    """Return the statement in an envelope that each signer signed."""
    payload = statement.payload()
    content = encode(PAYLOAD_TYPE, payload)
    return Envelope(payload, tuple((signer.public.id, signer.sign(content)) for signer in signers))


def encode(payload_type: str, payload: bytes) -> bytes:
    """Return what DSSE signs: its pre-authentication encoding, which keeps type and payload from running together."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
