"""Appends to the ledger: many in one commit, and one at a time at a clinic's pace on a disk as slow as you say.

python -m bench ledger [--quick] [--fsync-ms 4]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from lifechart.core.settings import Settings
from lifechart.ledger.log import Log, open_log
from lifechart.ledger.statement import Statement, Subject
from lifechart.ledger.verify import verify

RATE = 20.0


def answer(number: int) -> Statement:
    """Return a statement of the size of a card's audit entry."""
    digest = hashlib.sha256(number.to_bytes(8, "big")).hexdigest()
    claims = [{"outcome": f"SNOMED//{44054006 + i}", "horizon_days": 365, "probability": 0.1 * i} for i in range(6)]
    return Statement("answer", (Subject("answer", digest),), {"patient": digest, "model": digest, "claims": claims})


def paced(log: Log, count: int) -> list[float]:
    """Append at RATE, each from a thread of its own as a server does; return the seconds that each took."""
    seconds: list[float] = []

    def one(number: int) -> None:
        begin = time.perf_counter()
        log.append(answer(number))
        seconds.append(time.perf_counter() - begin)

    threads = []
    for number in range(count):
        threads.append(threading.Thread(target=one, args=(number,)))
        threads[-1].start()
        time.sleep(1 / RATE)
    for thread in threads:
        thread.join()
    return seconds


def slow_disk(milliseconds: float) -> None:
    """Make every fsync of this process take that much longer."""
    for name in ("fsync", "fdatasync"):
        real = getattr(os, name)

        def slower(descriptor: int, real: object = real) -> None:
            time.sleep(milliseconds / 1000)
            assert callable(real)
            real(descriptor)

        setattr(os, name, slower)


def main() -> None:
    """Run the benchmark, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--fsync-ms", type=float, default=4.0, help="added to each fsync in the paced part")
    arguments = parser.parse_args()
    scale = 10 if arguments.quick else 1
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home))
        log = open_log(settings)
        statements = [answer(number) for number in range(40_000 // scale)]
        begin = time.perf_counter()
        for start in range(0, len(statements), 1000):
            log.append_many(statements[start : start + 1000])
        bulk = len(statements) / (time.perf_counter() - begin)
        log.close()
        begin = time.perf_counter()
        found = verify(settings.ledger, log.verifier).require()
        checked = found.size / (time.perf_counter() - begin)
        slow_disk(arguments.fsync_ms)
        p50, p99 = np.percentile(paced(log, 600 // scale), [50, 99]) * 1000
        log.close()
    print(f"append_many      {bulk:10,.0f} statements/s")
    print(f"verify           {checked:10,.0f} statements/s")
    print(f"append, {RATE:.0f}/s, fsync + {arguments.fsync_ms:g} ms: p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    metrics = {"append_many_per_s": bulk, "verify_per_s": checked, "append_p50_ms": p50, "append_p99_ms": p99}
    print(json.dumps({"bench": "ledger", "metrics": {key: round(value, 3) for key, value in metrics.items()}}))


if __name__ == "__main__":
    main()
