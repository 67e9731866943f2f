"""The measured parts of `bench ingest`, each in a process of its own, bound to its cores before a thread starts.

python -m bench._ingest_one_core rates FOLDER ROUNDS OUT      orjson and ingestion in turn; the data set goes to OUT
python -m bench._ingest_one_core once FOLDER PROCESSES        one ingestion: seconds, peak memory, events
"""

from __future__ import annotations

import os
import resource
import shutil
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


def _ingested(folder: Path, out: Path, workers: int) -> tuple[int, int]:
    """Ingest; return (resources, events)."""
    from lifechart.data.ingest import ingest  # imported after the affinity is set, which its threads inherit

    account = ingest(folder, out, key=bytes(32), log=_NoLog(), workers=workers, progress=False)
    return account.total, account.events


def rates(folder: Path, rounds: int, dataset: Path) -> dict[str, float]:
    """Parse and ingest in turn on one core; return the best rates of each."""
    best: dict[str, float] = {}

    def timed(name: str, run: Callable[[], int]) -> int:
        core, clock = time.process_time(), time.perf_counter()
        resources = run()
        for key, seconds in ((name, time.process_time() - core), (f"{name}_clock", time.perf_counter() - clock)):
            best[key] = min(best.get(key, seconds), seconds)
        return resources

    resources = 0
    for _ in range(rounds):
        resources = timed("orjson", lambda: _parse(folder))
        shutil.rmtree(dataset, ignore_errors=True)
        taken = timed("ingest", lambda: _ingested(folder, dataset, 1)[0])
        assert taken == resources
    size = sum(path.stat().st_size for path in folder.iterdir())
    return {name: resources / seconds for name, seconds in best.items()} | {"resources": resources, "bytes": size}


def once(folder: Path, processes: int) -> dict[str, float]:
    """Ingest once; return core and clock seconds, events, and the peak of the largest process in MB."""
    core, clock = time.process_time(), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="lifechart-bench-") as out:
        _, events = _ingested(folder, Path(out) / "dataset", processes)
    own, theirs = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "core": time.process_time() - core,
        "clock": time.perf_counter() - clock,
        "events": events,
        "peak": max(own.ru_maxrss, theirs.ru_maxrss) / 1024,
    }


def main(part: str, folder: Path, number: int, rest: list[str]) -> None:
    """Measure one part and print it as JSON."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, set(cores[:1] if part == "rates" else cores[:number]))
    figures = rates(folder, number, Path(rest[0])) if part == "rates" else once(folder, number)
    print(orjson.dumps(figures).decode())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
