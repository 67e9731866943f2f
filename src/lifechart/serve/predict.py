"""Keeps the released model of each capability in memory, and answers with it off the event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from lifechart.core.answer import Answer
from lifechart.core.capability import Capability, Grounds
from lifechart.core.forecast import Forecaster
from lifechart.core.plugs import load
from lifechart.core.report import Report
from lifechart.core.timeline import Timeline
from lifechart.model import threads
from lifechart.model.forecaster import load_forecaster
from lifechart.release.shelf import Shelf

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Ready:
    """A verified release in memory."""

    version: str
    manifest: str
    """Digest of its manifest: it names the release, whatever is current since."""
    capability: Capability
    grounds: Grounds

    def answer(self, timeline: Timeline, as_of: datetime, names: dict[str, str]) -> Answer:
        """Answer for one patient. `names`: what the chart itself calls its codes, over the model's own names."""
        grounds = replace(self.grounds, names={**self.grounds.names, **names})
        return self.capability.answer(timeline.until(as_of), as_of, grounds)


class Predictor:
    """Answers with what is on the shelf now: a new release is loaded at the next question, without a restart.

    As many questions at once as there are cores, each on one core; the others wait their turn.
    """

    def __init__(self, shelf: Shelf, loader: Callable[[Path], Forecaster] = load_forecaster) -> None:
        self._shelf, self._loader = shelf, loader
        self.capabilities = capabilities()
        self._ready: dict[str, Ready] = {}
        self._loading = threading.Lock()
        threads.limit(1)
        self._threads = ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="predict")

    def ready(self, name: str) -> Ready:
        """Return the current release of a capability, loading it if it changed.

        Raises IntegrityError, naming the file, if a byte of it is not the one that was signed; InputError if nothing
        has been released.
        """
        manifest = self._shelf.state(name).manifest
        ready = self._ready.get(name)
        if ready is None or ready.manifest != manifest:
            with self._loading:
                ready = self._ready.get(name)
                if ready is None or ready.manifest != manifest:
                    ready = self._ready[name] = self._load(name)
        return ready

    async def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Do `work`, which asks a capability, in a thread of its own turn, and wait for it."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def close(self) -> None:
        """Let the running answer finish and stop."""
        self._threads.shutdown()

    def _load(self, name: str) -> Ready:
        release = self._shelf.current(name)
        forecaster = self._loader(release.model)
        report = Report.load(release.report)
        grounds = Grounds(forecaster, report, report.outcome_names, frozenset(release.released))
        return Ready(release.version, release.manifest.digest, self.capabilities[name], grounds)


def capabilities() -> dict[str, Capability]:
    """Return every installed capability by the name that it declares."""
    found = load("lifechart.capabilities", Capability)
    return {plug.declaration.name: plug for plug in found.values() if isinstance(plug, Capability)}
