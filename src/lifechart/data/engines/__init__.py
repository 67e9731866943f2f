"""Who does the work of an ingest: one contract, one driver a file. The bytes that come out do not depend on which.

An engine calls a function with each of several tuples of arguments and is done when all calls are. It may call one
twice, on two machines even (a node that was given up may still be alive), so a function it is given must be idempotent:
it writes files that are whole or absent (core.durable), and writes the same whoever calls it.

Read `processes` (one machine), then `ray` (several).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lifechart.core.errors import InputError

ENGINES = ("processes", "ray")
"""Names for `--engine`."""


class Engine(Protocol):
    """Runs tasks in order of its own choosing; a context that gives back what it holds."""

    def __enter__(self) -> Self:
        """Start the bars."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        """Stop what still runs."""

    def __call__(self, title: str, function: Callable[..., None], tasks: Iterable[tuple[Any, ...]]) -> None:
        """Call `function` with each tuple of arguments under a bar of this title; raises the first error."""


def open_engine(name: str, *, workers: int, progress: bool | None, address: str = "") -> Engine:
    """Return the engine of this name; raises InputError if there is none.

    `workers`: processes of this machine (for `processes`). `address`: of the cluster (for `ray`). `progress`: show bars
    on stderr; by default if that is a terminal.
    """
    # A driver is imported when it is wanted: Ray alone takes longer to import than a small ingest to run.
    if name == "processes":
        from lifechart.data.engines.processes import Processes

        return Processes(workers, progress)
    if name == "ray":
        from lifechart.data.engines.ray import RayCluster

        return RayCluster(address, progress)
    raise InputError("--engine", name, f"one of {ENGINES}")


def bars(progress: bool | None) -> Progress:
    """Return the bars that every engine shows."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:14}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not (console.is_terminal if progress is None else progress))
