"""Appends to the ledger: many in one commit, and one at a time at a clinic's pace on a disk whose fsyncs are slow."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from lifechart.core.settings import Settings
from lifechart.ledger.log import Log, open_log
from lifechart.ledger.statement import Statement, Subject
from lifechart.ledger.verify import verify

RATE = 20.0
FSYNC_SECONDS = 0.004


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


@contextlib.contextmanager
def slow_disk() -> Iterator[None]:
    """Make every fsync of this process take FSYNC_SECONDS longer."""
    real = {name: getattr(os, name) for name in ("fsync", "fdatasync")}

    def slower(sync: Callable[[int], None]) -> Callable[[int], None]:
        def synced(descriptor: int) -> None:
            time.sleep(FSYNC_SECONDS)
            sync(descriptor)

        return synced

    for name, sync in real.items():
        setattr(os, name, slower(sync))
    try:
        yield
    finally:
        for name, sync in real.items():
            setattr(os, name, sync)


def main(quick: bool) -> dict[str, float]:
    """Append, verify, and append at a clinic's pace; print a table and return the figures."""
    scale = 10 if quick else 1
    with tempfile.TemporaryDirectory(prefix="lifechart-bench-") as home:
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
        with slow_disk():
            p50, p99 = np.percentile(paced(log, 600 // scale), [50, 99]) * 1000
        log.close()
    table = Table(
        title=f"Ledger; paced: {RATE:.0f} appends/s, each fsync {FSYNC_SECONDS * 1000:.0f} ms longer than it is"
    )
    for column in ("", "statements/s", "p50 ms", "p99 ms"):
        table.add_column(column, justify="right")
    table.add_row("append_many, 1,000 at a time", f"{bulk:,.0f}", "", "")
    table.add_row("verify", f"{checked:,.0f}", "", "")
    table.add_row("append, paced", f"{RATE:.0f}", f"{p50:.2f}", f"{p99:.2f}")
    Console().print(table)
    metrics = {"append_many_per_s": bulk, "verify_per_s": checked, "append_p50_ms": p50, "append_p99_ms": p99}
    return {name: round(float(value), 3) for name, value in metrics.items()}
