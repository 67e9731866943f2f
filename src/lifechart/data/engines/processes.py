"""The engine for one machine: here and now, or on several processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any

from lifechart.data.engines import bars


class Processes:
    """Runs tasks in order in this process, or, with more than one worker, on a pool that is started when needed."""

    def __init__(self, workers: int, progress: bool | None) -> None:
        self._workers = workers
        self._bars = bars(progress)
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Processes:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._bars.stop()

    def __call__(self, title: str, function: Callable[..., None], tasks: Iterable[tuple[Any, ...]]) -> None:
        """Call `function` with each tuple of arguments; raises the first error."""
        waiting = list(tasks)
        bar = self._bars.add_task(title, total=len(waiting))
        if self._workers == 1 or len(waiting) == 1:
            for arguments in waiting:
                function(*arguments)
                self._bars.advance(bar)
            return
        if self._pool is None:
            self._pool = _pool(self._workers)
        for future in as_completed([self._pool.submit(function, *arguments) for arguments in waiting]):
            future.result()
            self._bars.advance(bar)


def _pool(processes: int) -> ProcessPoolExecutor:
    # Polars must not be forked; and each process has one core to itself, so its own threads would only get in the way.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    return ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
