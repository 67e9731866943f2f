"""The engine for one machine: here and now, or with the help of further processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from typing import Any

from lifechart.data.engines import bars

_LOOK_SECONDS = 0.2


class Processes:
    """Runs tasks in this process and, with more than one worker, in helpers that are started when needed.

    Whoever is free takes the next task, so this process does its share while the helpers still start.
    """

    def __init__(self, workers: int, progress: bool | None) -> None:
        self._helpers = workers - 1
        self._bars = bars(progress)
        self._pool: ProcessPoolExecutor | None = None
        self._taken: Synchronized[int] | None = None

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
        if self._helpers == 0 or len(waiting) == 1:
            for arguments in waiting:
                function(*arguments)
                self._bars.advance(bar)
            return
        taken, pool = self._start()
        taken.value = 0
        helpers = [pool.submit(_help, function, waiting) for _ in range(min(self._helpers, len(waiting) - 1))]
        _share(function, waiting, taken, lambda: self._bars.update(bar, completed=taken.value - len(helpers)))
        while wait(helpers, _LOOK_SECONDS).not_done:
            self._bars.refresh()
        for helper in helpers:
            helper.result()
        self._bars.update(bar, completed=len(waiting))

    def _start(self) -> tuple[Synchronized[int], ProcessPoolExecutor]:
        # Polars must not be forked; and each process has one core to itself, so its own threads only get in the way.
        if self._pool is None or self._taken is None:
            os.environ.setdefault("POLARS_MAX_THREADS", "1")
            context = get_context("spawn")
            self._taken = context.Value("q", 0)
            given: Any = (self._taken,)
            self._pool = ProcessPoolExecutor(self._helpers, mp_context=context, initializer=_join, initargs=given)
        return self._taken, self._pool


_taken: Synchronized[int] | None = None
"""In a helper: how many tasks of this turn have been taken, by whomever."""


def _join(taken: Synchronized[int]) -> None:
    global _taken
    _taken = taken


def _help(function: Callable[..., None], tasks: Sequence[tuple[Any, ...]]) -> None:
    assert _taken is not None
    _share(function, tasks, _taken, lambda: None)


def _share(
    function: Callable[..., None],
    tasks: Sequence[tuple[Any, ...]],
    taken: Synchronized[int],
    after_each: Callable[[], None],
) -> None:
    """Do tasks that nobody else has taken, until there are none; after an error there are none for anybody."""
    try:
        while (number := _take(taken)) < len(tasks):
            function(*tasks[number])
            after_each()
    except BaseException:
        taken.value = len(tasks)
        raise


def _take(taken: Synchronized[int]) -> int:
    with taken.get_lock():
        number: int = taken.value
        taken.value = number + 1
    return number
