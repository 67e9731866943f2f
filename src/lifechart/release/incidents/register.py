"""Incidents from report to closure: each step is a statement, and steps that would hide one are refused.

    incidents = open_incidents(settings, log, shelf)
    incident = incidents.report("wrong-answer", "serious-harm", "...", actor="dr.reyes", answers=[digest])
    incidents.triage(incident.digest, "serious-harm", "...", actor="sam.steward", pause=True)
    incidents.investigate(...); incidents.correct(...); incidents.recall(...); incidents.submitted(...)
    incidents.sign(incident.digest, officer, comment="..."); incidents.close(incident.digest, actor=...)

Nothing is ever taken back; what was wrong is said again, better. No step holds a patient's identity or free text.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lifechart.core.errors import GateRefused, InputError
from lifechart.core.settings import Settings
from lifechart.ledger.keys import Signer
from lifechart.ledger.lineage import makers_of
from lifechart.ledger.log import Log
from lifechart.ledger.statement import Statement, Subject
from lifechart.release.approvals import Matter, approvals, approve, require
from lifechart.release.incidents.book import KIND, Book, Recall
from lifechart.release.incidents.course import Incident, Standing
from lifechart.release.incidents.policy import Policy
from lifechart.release.incidents.recall import Recalls
from lifechart.release.incidents.scope import MOST_ANSWERS, Scope, recipient
from lifechart.release.incidents.words import Words
from lifechart.release.people import Office, People
from lifechart.release.shelf import Shelf

_DIGEST = re.compile(r"[0-9a-f]{64}")
_PAGE = re.compile(r"[A-Za-z0-9/{}_.-]{0,100}")
Clock = Callable[[], datetime]


class Incidents:
    """The incidents of one institution. Threads and processes may share a folder."""

    def __init__(self, folder: Path, log: Log, shelf: Shelf, policy: Policy, clock: Clock | None = None) -> None:
        self.policy, self.clock = policy, clock or log.now
        self._folder, self._log, self._shelf, self._people = folder, log, shelf, People(log)
        self.words = Words(folder / "words")
        self._book = Book(log)
        self.recalls = Recalls(self._book, log, self.words)

    def all(self) -> list[Incident]:
        """Return every incident, oldest first."""
        return list(self._book.read().incidents.values())

    def get(self, name: str) -> Incident:
        """Return an incident by its number or digest; raises InputError if there is none."""
        incidents = self._book.read().incidents
        if name.isdecimal() and len(name) < 10 and 0 < int(name) <= len(incidents):
            return list(incidents.values())[int(name) - 1]
        if name not in incidents:
            raise InputError("incident", name[:64], "the number of an incident")
        return incidents[name]

    def report(
        self,
        problem: str,
        severity: str,
        words: str,
        *,
        actor: str,
        capability: str = "",
        answers: Sequence[str] = (),
        patients: Sequence[str] = (),
        page: str = "",
        occurred: datetime | None = None,
    ) -> Incident:
        """Report a harm or a bad answer.

        `answers`: digests of answers or of their cards; `patients`: keyed hashes; `page`: a route's template, never an
        address; `words`: what happened, kept outside the ledger. Raises InputError.
        """
        self.policy.problem(problem)
        self.policy.severity(severity)
        if not _PAGE.fullmatch(page):
            raise InputError("page", "(not shown)", "the template of a route")
        if occurred is not None and (occurred.tzinfo is None or occurred > self.clock()):
            raise InputError("occurred", occurred.isoformat(), "a time with its zone, not in the future")
        linked = self._linked(answers, patients)
        named = {str(each["capability"]) for each in linked["answers"]}
        if len(named) > 1 or (capability and named - {capability}):
            raise InputError("answers", sorted(named), "answers of one capability")
        digest = self.words.keep("what happened", words)
        try:
            self._say(
                "reported",
                digest,
                actor,
                words=digest,
                problem=problem,
                severity=severity,
                capability=capability or next(iter(named), ""),
                page=page,
                occurred=occurred.isoformat() if occurred else "",
                **linked,
            )
        except BaseException:
            self.words.drop(digest)
            raise
        return self.get(digest)

    def triage(self, name: str, severity: str, words: str, *, actor: str, pause: bool = False) -> Incident:
        """Say how bad it is and why; with `pause`, switch the capability off first, for everybody, at once."""
        self.policy.severity(severity)
        with self._open(name) as incident:
            if pause and not incident.capability:
                raise InputError("pause", True, "an incident that names a capability")
            if pause:
                self._pause(incident, f"of incident {incident.number}", actor)
            facts = {"severity": severity, "paused": pause, "policy": self.policy.digest}
            return self._write("triaged", incident, actor, "why", words, **facts)

    def investigate(self, name: str, cause: str, words: str, *, actor: str) -> Incident:
        """Say what the root cause was; again, when more is known."""
        self.policy.cause(cause)
        with self._open(name) as incident:
            if incident.standing is Standing.REPORTED:
                raise GateRefused(f"incident {incident.number}: triage comes before the root cause")
            return self._write("investigated", incident, actor, "root cause", words, cause=cause)

    def correct(self, name: str, words: str, *, actor: str) -> Incident:
        """Say what was done so that it does not happen again, or why nothing was."""
        with self._open(name) as incident:
            if not incident.cause:
                raise GateRefused(f"incident {incident.number}: the root cause comes before the corrective action")
            return self._write("corrected", incident, actor, "corrective action", words)

    def link(self, name: str, *, actor: str, answers: Sequence[str] = (), patients: Sequence[str] = ()) -> Incident:
        """Link more answers (digests) and patients (keyed hashes)."""
        with self._open(name) as incident:
            linked = self._linked(answers, patients)
            if {each["capability"] for each in linked["answers"]} - {incident.capability}:
                raise InputError("answers", "(other)", f"answers of {incident.capability or 'no capability'}")
            self._say("linked", incident.digest, actor, **linked)
            return self.get(incident.digest)

    def exported(self, name: str, regulator: str, export: str, *, actor: str) -> None:
        """Record that a regulator's fields were written out; `export`: digest of what was written."""
        self.policy.regulator(regulator)
        self._say("exported", self.get(name).digest, actor, regulator=regulator, export=export)

    def submitted(self, name: str, regulator: str, reference: str, *, actor: str) -> Incident:
        """Record that a regulator was told, under the reference that it gave."""
        self.policy.regulator(regulator)
        if not re.fullmatch(r"[\w ./:-]{1,60}", reference):
            raise InputError("reference", "(not shown)", "1 to 60 letters, digits and ./:-")
        with self._open(name) as incident:
            self._say("submitted", incident.digest, actor, regulator=regulator, reference=reference)
            return self.get(incident.digest)

    def recall(self, name: str, scope: Scope, message: str, *, actor: str) -> Recall:
        """Issue a notice to everybody who was shown an answer in scope. `message` must name no patient.

        If the model in scope is the one in use, the capability is switched off first: what is recalled is not shown.
        """
        with self._open(name) as incident:
            if scope.capability != incident.capability:
                raise InputError("recall: capability", scope.capability, f"the incident's, {incident.capability!r}")
            digest = self.words.keep("message", message)
            try:
                if scope.until is None and self._gives_answers(scope):
                    self._pause(incident, "of a recall", actor)
                self._say("recalled", incident.digest, actor, recall=digest, scope=scope.to_json(), words=digest)
            except BaseException:
                self.words.drop(digest)
                raise
            return self.recalls.get(digest)

    def end_recall(self, digest: str, words: str, *, actor: str) -> None:
        """End a recall that not everybody can acknowledge any more, as when somebody has left; says why."""
        recall = self.recalls.get(digest)
        with self._open(recall.incident) as incident:
            if recall.ended is not None:
                raise GateRefused("recall: it has ended already")
            self._write("ended", incident, actor, "why", words, recall=digest)

    def release_scope(self, capability: str, version: str) -> Scope:
        """Return the scope of every answer that the model of a release gave."""
        manifest = self._shelf.state(capability).manifests.get(version)
        if manifest is None:
            raise InputError(
                f"version of {capability}", version, f"one of {[*self._shelf.state(capability).manifests]}"
            )
        said = self._log.find(kind="release", digest=manifest)[0].statement.predicate
        return Scope(capability, model=said["model"])

    def overdue_now(self, incident: Incident) -> list[str]:
        """Return what should have been done about an open incident by now and was not."""
        return incident.overdue(self.policy, self.clock()) if incident.closed is None else []

    def in_use(self, incident: Incident) -> bool:
        """Tell whether the capability that an incident is about is switched on."""
        return not incident.capability or self._shelf.state(incident.capability).on

    def released(self, model: str) -> tuple[int, str] | None:
        """Return the ledger entry and the time at which a model was first released, if it was."""
        found = self._log.find(kind="release", digest=model)
        return (found[0].index, found[0].statement.created) if found else None

    def matter(self, name: str) -> Matter:
        """Return what the safety officer signs: the closing of this incident, after exactly these steps."""
        incident = self.get(name)
        return Matter("close incident", (Subject("incident", incident.digest), Subject("course", incident.course)))

    def sign(self, name: str, signer: Signer, *, comment: str) -> Path:
        """Sign, as safety officer, for an incident to be closed; raises GateRefused while something is wanting."""
        self._require_done(self.get(name))
        office = Office.SAFETY_OFFICER
        return approve(self._approvals, self.matter(name), signer, office=office, comment=comment, when=self.clock())

    def close(self, name: str, *, actor: str) -> Incident:
        """Close an incident on the safety officer's signature over all that was done about it."""
        with self._open(name) as incident:
            self._require_done(incident)
            found = approvals(self._approvals, self.matter(incident.digest), self._people)
            deed = f"incident {incident.number}: closing it after these steps"
            authors = self._authors(incident)
            require(found, (Office.SAFETY_OFFICER,), persons=1, not_by=authors, deed=deed)
            by = next(each for each in found if each.name not in authors)
            approval = {"name": by.name, "office": by.office.value, "digest": by.digest}
            self._say("closed", incident.digest, actor, approval=approval)
            return self.get(incident.digest)

    def reopen(self, name: str, words: str, *, actor: str) -> Incident:
        """Take a closed incident up again, because more is known."""
        with self._locked():
            incident = self.get(name)
            if incident.closed is None:
                raise GateRefused(f"incident {incident.number}: it is open")
            return self._write("reopened", incident, actor, "why", words)

    def _pause(self, incident: Incident, why: str, actor: str) -> None:
        if self._shelf.state(incident.capability).on:
            self._shelf.switch(incident.capability, False, actor=actor, reason=f"Paused because {why}.")

    def _gives_answers(self, scope: Scope) -> bool:
        """Tell whether the model in scope is the one that answers now."""
        state = self._shelf.state(scope.capability)
        if not scope.model or state.version is None:
            return False
        return self.release_scope(scope.capability, state.version).model == scope.model

    def _require_done(self, incident: Incident) -> None:
        wanting = []
        if incident.standing is not Standing.CORRECTED:
            wanting.append(f"it is {incident.standing} and not corrected")
        told = incident.regulator_due(self.policy).keys() - incident.submitted.keys()
        wanting += [f"{regulator} has not been told" for regulator in sorted(told)]
        for digest in incident.recalls:
            recall = self.recalls.get(digest)
            missing = self.recalls.tally(recall).outstanding if recall.ended is None else []
            if missing:
                wanting.append(f"{len(missing)} have not acknowledged its recall")
        if wanting:
            raise GateRefused(f"incident {incident.number}: {'; '.join(wanting)}")

    def _authors(self, incident: Incident) -> set[str]:
        """Return the names of those who trained the models that gave the linked answers."""
        models = set(incident.answers.values())
        trained = [entry for model in models for entry in makers_of(self._log, model)]
        logins = {each.statement.predicate.get("actor") for each in trained}
        return {
            person.name for person in self._people.all().values() if (logins - {None, ""}) & {person.login, person.name}
        }

    def _linked(self, answers: Sequence[str], patients: Sequence[str]) -> dict[str, list[Any]]:
        """Return links as a statement holds them; raises InputError for an answer that was never given."""
        if len(answers) + len(patients) > MOST_ANSWERS:
            raise InputError("links", len(answers) + len(patients), f"at most {MOST_ANSWERS} at a time")
        found = []
        for digest in dict.fromkeys(answers):
            given = self._log.find(kind="answer", digest=digest) if _DIGEST.fullmatch(digest) else []
            if not given:
                raise InputError("answer", "(not known)", "the digest of an answer that was given")
            said = given[-1].statement
            kept = {key: said.predicate[key] for key in ("capability", "model", "patient")}
            found.append({"answer": said.subjects[0].digest, "user": recipient(said.predicate), **kept})
        for patient in patients:
            if not _DIGEST.fullmatch(patient):
                raise InputError("patient", "(not shown)", "a keyed hash of 64 hex digits")
        return {"answers": found, "patients": sorted(set(patients))}

    def _write(self, step: str, incident: Incident, actor: str, key: str, words: str, **said: object) -> Incident:
        digest = self.words.keep(key, words)
        try:
            self._say(step, incident.digest, actor, words=digest, **said)
        except BaseException:
            self.words.drop(digest)
            raise
        return self.get(incident.digest)

    def _say(self, step: str, digest: str, actor: str, **said: object) -> None:
        if not actor:
            raise InputError("actor", actor, "the name of the person or system that does this")
        predicate = {"incident": digest, "step": step, "actor": actor, **said}
        created = self.clock().astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        self._log.append(Statement(KIND, (Subject("incident", digest),), predicate, created))

    @property
    def _approvals(self) -> Path:
        return self._folder / "approvals"

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[Incident]:
        """Give an incident that is not closed, and let nobody else change one meanwhile."""
        with self._locked():
            incident = self.get(name)
            if incident.closed is not None:
                raise GateRefused(f"incident {incident.number}: closed; reopen it to go on")
            yield incident

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def open_incidents(settings: Settings, log: Log, shelf: Shelf) -> Incidents:
    """Open this institution's incidents."""
    return Incidents(settings.home / "incidents", log, shelf, Policy.load(settings.incidents))
