"""Writes what was answered into the ledger before anybody sees it. If it cannot be written, nothing is shown."""

from __future__ import annotations

import hashlib
import hmac
import os
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lifechart.core import durable
from lifechart.core.answer import Answer
from lifechart.core.errors import AuditError, InputError, LifechartError
from lifechart.core.settings import Settings
from lifechart.core.timeline import Timeline
from lifechart.ledger import lineage
from lifechart.ledger.log import Log, Receipt
from lifechart.ledger.statement import Statement, Subject
from lifechart.release.shadow.queue import num_alerts
from lifechart.release.shadow.sealing import Seals

KEY_FILE = "audit.key"
WHOLE = "answer"
SHADOW = "shadow"
"""As `access.Showing.SHADOW`: an answer that is kept from sight, so its claims are sealed."""
_CARDS = uuid.UUID("5b0c2c1e-4f0b-5a53-9a4e-0f6d5c1f7a11")


class Auditor:
    """The serving side's pen: statements of kinds `answer`, `view` and `feedback`."""

    def __init__(self, log: Log, settings: Settings) -> None:
        self._log, self._settings = log, settings
        self._key = _open_key(settings.keys / KEY_FILE)

    def patient(self, patient_id: str) -> str:
        """Return the keyed hash (64 hex digits) that stands for a patient in the ledger and the database."""
        return hmac.new(self._key, patient_id.encode(), hashlib.sha256).hexdigest()

    def inputs(self, timeline: Timeline) -> str:
        """Return the keyed hash of the events that an answer rests on. Unkeyed, a short chart could be guessed."""
        return hmac.new(self._key, timeline.events.write_ndjson().encode(), hashlib.sha256).hexdigest()

    def answered(
        self,
        answer: Answer,
        timeline: Timeline,
        patient_id: str,
        user: str,
        outlet: str,
        showing: str,
        asker: str = "",
    ) -> str:
        """Record an answer and return its digest; durable when this returns. Raises AuditError if it cannot be.

        The statement holds digests and what was claimed to be how likely, never the chart. Of an answer that is kept
        from sight it holds what the boxes are known by in which its claims are sealed, and none of them.
        """
        digest = answer_digest(answer)
        claims: list[dict[str, Any]] = [
            {"outcome": claim.outcome, "horizon_days": claim.horizon_days, "probability": claim.probability}
            for claim in answer.claims
            if claim.outcome is not None
        ]
        predicate: dict[str, object] = {
            "capability": answer.capability,
            "disposition": answer.disposition.value,
            "model": answer.model_digest,
            "inputs": self.inputs(timeline),
            "patient": self.patient(patient_id),
            "user": user,
            "outlet": outlet,
            "showing": showing,
            "as_of": answer.as_of.isoformat(),
            "claims": claims,
            "background": [
                {"outcome": claim.outcome, "horizon_days": claim.horizon_days, "share": claim.probability}
                for claim in answer.background
                if claim.outcome is not None
            ],
            "cards": {about: card_digest(card_id(digest, about)) for about in abouts(answer)},
        }
        if showing == SHADOW:
            about = {"answer": digest, "model": answer.model_digest, "patient": patient_id, "as_of": answer.as_of}
            predicate |= {"claims": [], "background": [], "cards": {}, "alerts": num_alerts(claims)}
            predicate["sealed"] = self._sealed(about, claims)
        if asker:
            predicate["asker"] = asker
        self._append(Statement("answer", (Subject("answer", digest),), predicate))
        return digest

    def failed(self, capability: str, model: str, user: str, outlet: str, error: BaseException) -> Receipt:
        """Record that a question could not be answered, and by which kind of failure; never what it said."""
        said = {"capability": capability, "model": model, "user": user, "outlet": outlet, "error": type(error).__name__}
        return self._append(Statement("fault", (Subject("model", model),), said))

    def viewed(self, patients: Sequence[str], user: str, outlet: str, what: str) -> Receipt:
        """Record that somebody was shown patients (their ids) without an answer: a chart, or a list of people found."""
        subjects = tuple(Subject("patient", self.patient(patient)) for patient in dict.fromkeys(patients))
        return self._append(Statement("view", subjects, {"user": user, "outlet": outlet, "what": what}))

    def read(self, incident: Subject, patients: Iterable[str], user: str, outlet: str) -> Receipt:
        """Record that somebody read what people wrote of an incident; `patients`: keyed hashes of whom it names."""
        subjects = (incident, *(Subject("patient", patient) for patient in sorted(patients)))
        return self._append(Statement("view", subjects, {"user": user, "outlet": outlet, "what": "incident"}))

    def given(self, digest: str) -> Statement | None:
        """Return the statement of the answer that `digest` names, by its own digest or by one of its cards'."""
        found = self._log.find(kind="answer", digest=digest)
        return found[-1].statement if found else None

    def decided(self, subjects: Sequence[Subject], predicate: dict[str, object]) -> Receipt:
        """Record what somebody did with an answer."""
        return self._append(Statement("feedback", tuple(subjects), dict(predicate)))

    def _sealed(self, about: dict[str, Any], claims: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        try:
            return Seals.open(self._settings).keep(**about, claims=claims, now=self._log.now())
        except (OSError, LifechartError) as error:
            raise AuditError(f"shadow: the answer could not be sealed ({type(error).__name__})") from error

    def _append(self, statement: Statement) -> Receipt:
        try:
            return self._log.append(statement)
        except AuditError:
            raise
        except (OSError, LifechartError) as error:
            raise AuditError(f"ledger: the statement could not be written ({type(error).__name__})") from error


def answer_digest(answer: Answer) -> str:
    """Return the SHA-256 (64 hex digits) that names an answer."""
    return durable.digest_of(answer.to_json())


def abouts(answer: Answer) -> list[str]:
    """Return what an answer's cards are about: each outcome, each red flag by number, and the answer as a whole."""
    outcomes = dict.fromkeys(claim.outcome for claim in answer.claims if claim.outcome is not None)
    flags = [f"flag-{number}" for number in range(sum(claim.outcome is None for claim in answer.claims))]
    return [*outcomes, *flags, WHOLE]


def card_id(digest: str, about: str) -> str:
    """Return the uuid of the card about one thing in the answer that `digest` names."""
    return str(uuid.uuid5(_CARDS, f"{digest}#{about}"))


def card_digest(card: str) -> str:
    """Return the SHA-256 (64 hex digits) by which a card's uuid is found in the ledger."""
    return hashlib.sha256(card.encode()).hexdigest()


def reference_to(digest: str, about: str) -> str:
    """Return what a page or card prints below what it says, so that `lifechart trace` leads from it to its sources."""
    return lineage.reference(card_digest(card_id(digest, about)))


def _open_key(path: Path) -> bytes:
    """Read the key of the patients' hashes, made on first use (32 random bytes, readable by this user alone)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_bytes()
        if len(key) != 32:
            raise InputError(KEY_FILE, f"{len(key)} bytes", "32 bytes") from None
        return key
    with os.fdopen(descriptor, "wb") as file:
        file.write(key := os.urandom(32))
        file.flush()
        os.fsync(file.fileno())
    durable.sync_directory(path.parent)
    return key
