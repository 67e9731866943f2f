"""The shelf: releases that verify, which of them is current, how far each capability is let out, and the switch.

Files lie under shelf/CAPABILITY/VERSION and never change. Everything that changes is a statement in the ledger, written
before it takes effect; if it cannot be written, nothing has changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lifechart.core import durable
from lifechart.core.capability import Phase
from lifechart.core.errors import GateRefused, InputError, IntegrityError
from lifechart.core.report import Report
from lifechart.core.settings import Settings
from lifechart.ledger.keys import Signer, Verifier
from lifechart.ledger.log import Log, origin_of
from lifechart.ledger.statement import Statement, Subject
from lifechart.release import criteria as demands
from lifechart.release import manifest as manifests
from lifechart.release.approvals import approve
from lifechart.release.case import MODEL, REPORT, Case
from lifechart.release.change_control import Candidate, breaches
from lifechart.release.gate import Pair, Verdict
from lifechart.release.history import History, State
from lifechart.release.manifest import Manifest
from lifechart.release.people import Office, People
from lifechart.release.protocol import Registered
from lifechart.release.stages import Stages

_KEY = "release.pem"


@dataclass(frozen=True, slots=True)
class Release:
    """A release whose every byte has been verified."""

    folder: Path
    manifest: Manifest

    @property
    def capability(self) -> str:
        """What it is a release of."""
        return self.manifest.capability

    @property
    def version(self) -> str:
        """Its number, counted from 1 for each capability."""
        return self.manifest.version

    @property
    def model(self) -> Path:
        """Folder of the model."""
        return self.folder / MODEL

    @property
    def report(self) -> Path:
        """The Report's JSON; its page, if there is one, lies beside it as report.html."""
        return self.folder / REPORT

    @property
    def released(self) -> tuple[Pair, ...]:
        """The (outcome, horizon in days) pairs that may be shown."""
        return self.manifest.released


class Shelf:
    """The releases of one institution. Threads and processes may share a folder."""

    def __init__(
        self, folder: Path, log: Log, verifier: Verifier, stages: Stages, signer: Signer | None = None
    ) -> None:
        """Open a shelf; without a `signer` nothing can be released. `stages` decides who may enter which phase."""
        self.folder, self._log, self._verifier, self._signer = folder, log, verifier, signer
        self._stages = stages
        self._history = History(log)

    def state(self, capability: str) -> State:
        """Return how a capability stands now, from the ledger; cheap enough to be asked for each request."""
        return self.states().get(capability, State(capability))

    def states(self) -> dict[str, State]:
        """Return how every capability stands that was ever released."""
        return self._history.states()

    def phase(self, capability: str) -> Phase:
        """Return how far the current release is let out; `off` while it is switched off."""
        state = self.state(capability)
        return state.phase if state.on else Phase.OFF

    def current(self, capability: str) -> Release:
        """Verify and return the current release.

        Raises InputError if there is none, IntegrityError that names the file if a byte is not as it was signed.
        """
        version = self.state(capability).version
        if version is None:
            raise InputError("capability", capability, "one with a release on the shelf")
        return self.get(capability, version)

    def get(self, capability: str, version: str) -> Release:
        """Verify and return one release; raises as `current` does."""
        known = self.state(capability).manifests
        if version not in known:
            raise InputError(f"version of {capability}", version, f"one of {list(known)}")
        folder = self.folder / capability / version
        manifest = manifests.verify(folder, self._verifier)
        if manifest.digest != known[version]:
            raise IntegrityError(f"{folder / manifests.MANIFEST}: not the manifest that the ledger names")
        return Release(folder, manifest)

    def release(
        self, capability: str, model: Path, report: Path, *, actor: str, reason: str = "", criteria: Path | None = None
    ) -> tuple[Release, Verdict]:
        """Judge a model by its Report and put it on the shelf as the current release, in phase `off`.

        `report`: the JSON that `lifechart evaluate` wrote; its page beside it goes along. `criteria`: a TOML file,
        by default the one that comes with the capability. Raises GateRefused that names what failed, also where the
        ledger does not hold the training and the evaluation of exactly these files; IntegrityError if files differ.
        """
        if self._signer is None:
            raise InputError("release key", None, "the private key that signs releases")
        case = Case.make(self._log, capability, report, criteria or demands.default_path(capability))
        with self._locked():
            version = str(len(self.state(capability).manifests) + 1)
            draft = self.folder / capability / f".{version}.part"
            shutil.rmtree(draft, ignore_errors=True)
            try:
                manifest = case.write(draft, model, version, self._signer)
                folder = _put_in_place(draft, version)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
            self._say("release", capability, version, manifest.digest, "released", actor, reason, case.facts())
        return Release(folder, manifest), case.verdict

    def rollback(self, capability: str, version: str, *, actor: str, reason: str) -> Release:
        """Make an earlier release current again, in the phase that it last stood in; it is verified first."""
        with self._locked():
            release = self.get(capability, version)
            digest = release.manifest.digest
            self._say("release", capability, version, digest, "made current again", actor, _given(reason))
        return release

    def set_phase(self, capability: str, phase: Phase, *, actor: str, reason: str, automatic: bool = False) -> State:
        """Let the current release out to a phase, or take it back.

        `automatic`: decided by monitoring, which may lower a phase and never raise it. Raises GateRefused otherwise,
        for a capability without a release, and where evidence or signatures are wanting (release.stages);
        IntegrityError if the release does not verify when it is raised.
        """
        with self._locked():
            state = self._released(capability)
            facts: dict[str, object] = {}
            if phase.rank > state.phase.rank:
                if automatic:
                    raise GateRefused(f"{capability}: only a person may raise its phase from {state.phase} to {phase}")
                release = self.current(capability)
                facts = self._stages.require(state, release.manifest, phase, release.folder / manifests.APPROVALS)
            assert state.version is not None
            self._say("phase", capability, state.version, state.manifest, phase.value, actor, _given(reason), facts)
        return self.state(capability)

    def approve(self, capability: str, phase: Phase, signer: Signer, *, office: Office, comment: str) -> Path:
        """Sign for the current release to enter a phase, over the digests of all that this rests on.

        Raises GateRefused where evidence is wanting: there is nothing to sign yet.
        """
        release = self.current(capability)
        matter = self._stages.matter(self.state(capability), release.manifest, phase)
        folder = release.folder / manifests.APPROVALS
        return approve(folder, matter, signer, office=office, comment=comment, when=self._log.now())

    def replace(self, capability: str, plan: Registered, *, actor: str) -> tuple[State, list[str]]:
        """Put the current release in its predecessor's place under a registered change plan.

        Inside the plan's envelope it takes up the predecessor's phase; outside, the capability goes back to `shadow`
        at most. Returns the state and every way in which the release lies outside. Raises GateRefused if there is no
        predecessor to replace, or the current release stands in a phase of its own already.
        """
        if plan.protocol.envelope is None or plan.protocol.capability != capability:
            raise InputError("plan", plan.protocol.title, f"a change plan of {capability}")
        with self._locked():
            state = self._released(capability)
            versions = list(state.manifests)
            if state.phase is not Phase.OFF or state.version is None or versions.index(state.version) == 0:
                raise GateRefused(f"{capability}: a new release in phase off replaces an earlier one, and this is none")
            new, old = self.get(capability, state.version), self.get(capability, versions[-2])
            found = breaches(plan.protocol.envelope, self._log, plan.entry.index, _candidate(old), _candidate(new))
            phase = state.phase_of(old.version)
            if found and phase.rank > Phase.SHADOW.rank:
                phase = Phase.SHADOW
            reason = f"outside the change plan: {'; '.join(found)}" if found else "inside the change plan's envelope"
            facts: dict[str, object] = {
                "plan": plan.digest,
                "evidence": {"predecessor": old.manifest.digest, "report": new.manifest.report_digest},
            }
            self._say("phase", capability, new.version, new.manifest.digest, phase.value, actor, reason, facts)
        return self.state(capability), found

    def switch(self, capability: str, on: bool, *, actor: str, reason: str) -> State:
        """Switch a capability off or on at once, whatever its phase."""
        with self._locked():
            state = self._released(capability)
            assert state.version is not None
            self._say("switch", capability, state.version, state.manifest, "on" if on else "off", actor, _given(reason))
        return self.state(capability)

    def _released(self, capability: str) -> State:
        state = self.state(capability)
        if state.version is None:
            raise GateRefused(f"{capability}: nothing has been released")
        return state

    def _say(
        self,
        kind: str,
        capability: str,
        version: str,
        manifest: str,
        what: str,
        actor: str,
        reason: str,
        facts: dict[str, object] | None = None,
    ) -> None:
        if not actor:
            raise InputError("actor", actor, "the name of the person or system that does this")
        predicate = {
            "capability": capability,
            "version": version,
            "what": what,
            "actor": actor,
            "reason": reason,
            **(facts or {}),
        }
        self._log.append(Statement(kind, (Subject(f"{capability}/{version}", manifest),), predicate))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one change happen at a time, so that each is decided on the state that the one before it left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def open_shelf(settings: Settings, log: Log) -> Shelf:
    """Open this institution's shelf; its signing key is made on first use."""
    signer = Signer.open(settings.keys / _KEY, f"{origin_of(settings)}/release")
    stages = Stages(log, People(log), settings.phases)
    return Shelf(settings.shelf, log, Verifier([signer.public]), stages, signer)


def _put_in_place(draft: Path, version: str) -> Path:
    """Make a draft a release folder, durably."""
    folder = draft.with_name(version)
    # What lies here already is no release: the ledger has not heard of it. A run ended before it could say so.
    shutil.rmtree(folder, ignore_errors=True)
    for path in [*draft.rglob("*"), draft]:
        if path.is_dir():
            durable.sync_directory(path)
    draft.replace(folder)
    durable.sync_directory(folder.parent)
    return folder


def _candidate(release: Release) -> Candidate:
    manifest = release.manifest
    return Candidate(
        manifest.capability,
        manifest.version,
        manifest.digest,
        manifest.model_digest,
        Report.load(release.report),
        frozenset(manifest.released),
    )


def _given(reason: str) -> str:
    if not reason.strip():
        raise InputError("reason", reason, "the reason for the change, in a sentence")
    return reason
