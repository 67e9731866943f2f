"""Answers with the released model, in processes of their own: one a core, each with the model in memory.

The web process holds no network. A question goes to whichever worker is free, and all of them look at the shelf before
they answer, so a new release is in use at the next question, without a restart.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from lifechart.core.answer import Answer
from lifechart.core.capability import Capability, Grounds
from lifechart.core.errors import IntegrityError, LifechartError
from lifechart.core.forecast import Forecaster
from lifechart.core.plugs import load
from lifechart.core.report import Report
from lifechart.core.settings import Settings
from lifechart.core.timeline import Timeline
from lifechart.ledger.log import open_log
from lifechart.release.shelf import Shelf, open_shelf
from lifechart.serve import memory

log = logging.getLogger("lifechart.serve")

Loader = Callable[[Path], Forecaster]


@dataclass(frozen=True, slots=True)
class Given:
    """An answer, and which release gave it."""

    answer: Answer
    version: str
    forecaster: str
    """The model's name, as in its Report."""


class Desk:
    """Where questions are answered: the current release of each capability, verified and in memory."""

    def __init__(self, shelf: Shelf, loader: Loader) -> None:
        self._shelf, self._loader = shelf, loader
        self._capabilities = capabilities()
        self._ready: dict[str, tuple[str, str, Grounds]] = {}
        self._loading = threading.Lock()

    def answer(self, name: str, timeline: Timeline, as_of: datetime, names: dict[str, str]) -> Given:
        """Answer for one patient. `names`: what the chart itself calls its codes, over the Report's names.

        Raises IntegrityError, naming the file, if a byte of the release is not the one that was signed; InputError if
        nothing has been released.
        """
        _, version, grounds = self._current(name)
        told = replace(grounds, names={**grounds.names, **names})
        answer = self._capabilities[name].answer(timeline.until(as_of), as_of, told)
        return Given(answer, version, grounds.forecaster.name)

    def _current(self, name: str) -> tuple[str, str, Grounds]:
        manifest = self._shelf.state(name).manifest
        with self._loading:
            ready = self._ready.get(name)
            if ready is None or ready[0] != manifest:
                release = self._shelf.current(name)
                report = Report.load(release.report)
                released = frozenset(release.released)
                grounds = Grounds(self._loader(release.model), report, report.outcome_names, released)
                ready = self._ready[name] = (release.manifest.digest, release.version, grounds)
            return ready


class Predictor:
    """The web process's side: hands questions to workers, and knows the Reports behind the answers."""

    def __init__(self, shelf: Shelf, hire: Callable[[], Executor], answer: Callable[..., Given] | None = None) -> None:
        """`hire` makes the workers; `answer` is what they do, by default at the desk of their process."""
        self._shelf, self._hire, self._answer = shelf, hire, answer or _answer_at_desk
        self.capabilities = capabilities()
        self._workers = hire()
        self._reports: dict[tuple[str, str], Report] = {}

    async def answer(self, name: str, timeline: Timeline, as_of: datetime, names: dict[str, str]) -> Given:
        """Answer for one patient; raises as Desk.answer does."""
        workers, loop = self._workers, asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(workers, self._answer, name, timeline, as_of, names)
        except BrokenExecutor:
            # A worker was killed, as by the system when memory ran out. This question is lost, the next is not.
            if self._workers is workers:
                self._workers = self._hire()
            raise

    async def report(self, name: str, version: str) -> Report:
        """Return the Report of a release, verified when it is first asked for."""
        key = name, version
        if key not in self._reports:
            self._reports[key] = await asyncio.to_thread(self._read_report, name, version)
        return self._reports[key]

    def prepare(self) -> None:
        """Read the Reports of what is on the shelf before anybody asks; faults are said when somebody does."""
        for name in self.capabilities:
            try:
                version = self._shelf.state(name).version
                if version is not None:
                    self._reports[name, version] = self._read_report(name, version)
            except LifechartError as error:
                log.warning("the Report of %s is not ready: %s", name, type(error).__name__)

    def _read_report(self, name: str, version: str) -> Report:
        return Report.load(self._shelf.get(name, version).report)

    def close(self) -> None:
        """Let the running answers finish and stop the workers."""
        self._workers.shutdown(cancel_futures=True)


def capabilities() -> dict[str, Capability]:
    """Return every installed capability by the name that it declares."""
    found = load("lifechart.capabilities", Capability)
    return {plug.declaration.name: plug for plug in found.values() if isinstance(plug, Capability)}


def processes(settings: Settings, loader: Loader | None = None) -> Executor:
    """Return a process a core, started at once, each with a desk of its own. `loader`: by default the network's."""
    num = os.cpu_count() or 1
    # Spawned, not forked: the web process has threads, whose locks a fork would copy as they happen to stand.
    context = multiprocessing.get_context("spawn")
    # Read by a worker as it starts: charts are small, and each worker has one core to itself.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    workers = ProcessPoolExecutor(num, mp_context=context, initializer=_set_up, initargs=(settings, loader))
    for _ in range(num):
        workers.submit(_warm)
    return workers


_desk: Desk | None = None
"""The desk of this process, where it is a worker."""


def _set_up(settings: Settings, loader: Loader | None) -> None:
    global _desk
    # Ctrl-C reaches every process of the terminal; the web process ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if loader is None:
        from lifechart.model import threads
        from lifechart.model.forecaster import load_forecaster

        threads.limit(1)
        loader = load_forecaster
    _desk = Desk(open_shelf(settings, open_log(settings)), loader)


def _end_with_parent() -> None:
    """Wait for the web process to end; a worker that it could not stop, because it was killed, stops itself."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(0)


def _warm() -> None:
    """Load what is on the shelf before anybody asks; whatever is wrong with it is said when somebody does."""
    assert _desk is not None
    for name in capabilities():
        try:
            _desk._current(name)
        except LifechartError as error:
            log.warning("%s is not ready: %s", name, type(error).__name__)
    memory.keep()


def _answer_at_desk(name: str, timeline: Timeline, as_of: datetime, names: dict[str, str]) -> Given:
    """Answer in a worker. What it raises has to survive the way to the other process."""
    assert _desk is not None
    try:
        return _desk.answer(name, timeline, as_of, names)
    except IntegrityError:
        raise
    except LifechartError as error:
        raise LifechartError(str(error)) from None
