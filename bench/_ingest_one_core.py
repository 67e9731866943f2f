"""The measured part of `bench ingest`, in a process of its own: bound to one core before anything starts a thread."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson


class _NoLog:
    """Takes a statement and forgets it: the log's own cost is measured elsewhere."""

    def append(self, statement: object) -> None:
        """Take a statement."""


def _parse(folder: Path) -> int:
    resources = 0
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            for line in file:
                orjson.loads(line)
                resources += 1
    return resources


def main(folder: Path, rounds: int) -> None:
    """Parse and ingest in turn; print the best rates of each as JSON."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from lifechart.data.ingest import ingest  # imported after the affinity is set, which its threads inherit

    best: dict[str, float] = {}

    def timed(name: str, run: Callable[[], int]) -> int:
        core, clock = time.process_time(), time.perf_counter()
        resources = run()
        for key, seconds in ((name, time.process_time() - core), (f"{name}_clock", time.perf_counter() - clock)):
            best[key] = min(best.get(key, seconds), seconds)
        return resources

    def ingested(out: str) -> int:
        return ingest(folder, Path(out) / "dataset", key=bytes(32), log=_NoLog(), workers=1, progress=False).total

    resources = 0
    for _ in range(rounds):
        resources = timed("orjson", lambda: _parse(folder))
        with tempfile.TemporaryDirectory(prefix="lifechart-bench-") as out:
            taken = timed("ingest", lambda out=out: ingested(out))  # type: ignore[misc]
        assert taken == resources
    size = sum(path.stat().st_size for path in folder.iterdir())
    rates = {name: resources / seconds for name, seconds in best.items()}
    print(orjson.dumps(rates | {"resources": resources, "bytes": size}).decode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
