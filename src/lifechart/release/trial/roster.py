"""Which trial of a release is running, and whether a participant of it was allotted the intervention."""

from __future__ import annotations

import threading

from lifechart.core.errors import LifechartError
from lifechart.release.protocol import Purpose, Registry
from lifechart.release.trial.conduct import Trial


class Roster:
    """The trials of one institution, kept up with the ledger. Safe for threads."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._seals = 0
        self._trials: list[Trial] = []
        self._arms: dict[tuple[str, str], int] = {}
        """(manifest, participant) to arm: an allotted arm never changes, so it is recomputed once."""

    def allotted(self, manifest: str, participant: str) -> bool:
        """Tell whether this participant is in the intervention arm of the trial that runs on this release."""
        with self._lock:
            trial = self._running(manifest)
            if trial is None:
                return False
            if (manifest, participant) not in self._arms:
                try:
                    self._arms[manifest, participant] = trial.arm(participant)
                except LifechartError:
                    # Not enrolled, or the list cannot be trusted: nothing is shown.
                    return False
            return self._arms[manifest, participant] == 1

    def _running(self, manifest: str) -> Trial | None:
        """Return the trial that was opened on this release and is neither closed nor paused."""
        registry = self._registry
        seals = len(registry.log.find(kind="protocol"))
        if seals != self._seals:
            trials = [each for each in registry.all() if each.protocol.purpose is Purpose.TRIAL]
            self._trials = [Trial(each, registry.folder, registry.log, registry.people) for each in trials]
            self._seals = seals
        for trial in self._trials:
            course = trial.course
            if course.opened is not None and course.manifest == manifest and not course.closed and not course.paused:
                return trial
        return None
