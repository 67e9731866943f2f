"""The part of `bench ingest` for OMOP and MEDS: events written a second of one core's time, from tables to shards.

The tables are those of a simulated hospital (_omop_export), repeated for as many hospitals as make the size; MEDS is
the data set that ingesting them makes. Run as `python -m bench._other_sources LIVES ROUNDS`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import orjson

_LIVES, _QUICK_LIVES = 3000, 300
_ROUNDS = 3


class _NoLog:
    """Takes a statement and forgets it."""

    def append(self, statement: object) -> None:
        """Take a statement."""


def measure(quick: bool) -> dict[str, float]:
    """Return omop_events_per_s and meds_events_per_s, measured in a process of their own."""
    environment = os.environ | {"POLARS_MAX_THREADS": "1"}
    lives = _QUICK_LIVES if quick else _LIVES
    command = [sys.executable, "-m", "bench._other_sources", str(lives), str(1 if quick else _ROUNDS)]
    measured = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    figures: dict[str, float] = orjson.loads(measured)
    return figures


def main(lives: int, rounds: int) -> None:
    """Simulate, export, ingest; print the best rates as JSON."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    # Imported after the affinity is set, which their threads inherit.
    from bench._omop_export import export
    from lifechart.data.ingest import ingest
    from lifechart.simulate import hospital

    with tempfile.TemporaryDirectory(prefix="lifechart-bench-") as folder:
        root = Path(folder)
        hospital.simulate(root / "hospital", lives, 0, date(2026, 1, 1), progress=False)
        export(root / "hospital", root / "omop")
        best: dict[str, float] = {}
        for number in range(rounds):
            for source, path in (("omop", root / "omop"), ("meds", root / "omop-0")):
                out = root / f"{source}-{number}"
                start = time.process_time()
                account = ingest(path, out, key=bytes(32), log=_NoLog(), source=source, workers=1, progress=False)
                rate = account.events / (time.process_time() - start)
                best[f"{source}_events_per_s"] = max(best.get(f"{source}_events_per_s", 0.0), rate)
    print(orjson.dumps({name: round(rate) for name, rate in best.items()}).decode())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
