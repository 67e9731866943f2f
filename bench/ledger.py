"""The ledger: durable appends a second, the RFC 6962 vectors, and whether the verifier names each tampering."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench._tampers import TAMPERS, write_log
from lifechart.core.errors import IntegrityError
from lifechart.core.settings import Settings
from lifechart.ledger import merkle as writer
from lifechart.ledger.log import Log, open_log
from lifechart.ledger.statement import Statement, Subject
from lifechart_verify import merkle as verifier

RATE = 20.0
FSYNC_SECONDS = 0.004
APPENDERS, TOGETHER = 4, 500
VECTORS = Path(os.environ.get("LIFECHART_SHARED", "../shared")) / "vectors" / "merkle-rfc6962.tar.gz"


def answer(number: int) -> Statement:
    """Return a statement of the size of a card's audit entry."""
    digest = hashlib.sha256(number.to_bytes(8, "big")).hexdigest()
    claims = [{"outcome": f"SNOMED//{44054006 + i}", "horizon_days": 365, "probability": 0.1 * i} for i in range(6)]
    return Statement("answer", (Subject("answer", digest),), {"patient": digest, "model": digest, "claims": claims})


def appended(log: Log, count: int, together: int, appenders: int) -> float:
    """Append `count` statements from several threads, `together` in a call; return statements a second."""
    shares = [[answer(number) for number in range(start, count, appenders)] for start in range(appenders)]

    def work(share: list[Statement]) -> None:
        for start in range(0, len(share), together):
            log.append_many(share[start : start + together])

    threads = [threading.Thread(target=work, args=(share,)) for share in shares]
    before, begin = log.size, time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begin
    assert log.size - before == count, "every append is there"
    return count / seconds


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


def vectors(archive: Path) -> tuple[int, int]:
    """Return how many of the published Merkle vectors both the writer's and the verifier's code judge rightly, of all.

    Only files under the archive's four folders of vectors count; (0, 0) if it is not there.
    """
    passed = total = 0
    if not archive.exists():
        return passed, total
    with tarfile.open(archive) as files:
        for member in files:
            content = files.extractfile(member) if member.name.endswith(".json") else None
            if content is None:
                continue
            case = json.load(content)
            kind = member.name.split("/")[1]
            total += 1
            passed += all(_refuses(judge, kind, case) == case["wantErr"] for judge in (_by_writer, _by_verifier))
    return passed, total


def _refuses(judge: Callable[..., None], kind: str, case: dict[str, Any]) -> bool:
    hashes = {key: base64.b64decode(case.get(key) or "") for key in ("leafHash", "root", "root1", "root2")}
    try:
        judge(kind, case, hashes, [base64.b64decode(step) for step in case["proof"] or ()])
    except (IntegrityError, verifier.ProofError):
        return True
    return False


def _by_writer(kind: str, case: dict[str, Any], hashes: dict[str, bytes], proof: list[bytes]) -> None:
    leaf, root, roots = hashes["leafHash"], hashes["root"], (hashes["root1"], hashes["root2"])
    if kind == "inclusion":
        writer.verify_inclusion(leaf, case["leafIdx"], case["treeSize"], proof, root)
    elif kind == "subtreeinclusion":
        writer.verify_subtree_inclusion(leaf, case["leafIdx"], (case["start"], case["end"]), proof, root)
    elif kind == "consistency":
        writer.verify_consistency(case["size1"], case["size2"], proof, *roots)
    else:
        writer.verify_subtree_consistency((case["start"], case["end"]), case["size"], proof, *roots)


def _by_verifier(kind: str, case: dict[str, Any], hashes: dict[str, bytes], proof: list[bytes]) -> None:
    leaf, root, roots = hashes["leafHash"], hashes["root"], (hashes["root1"], hashes["root2"])
    if kind == "inclusion":
        verifier.check_inclusion(leaf, case["leafIdx"], case["treeSize"], proof, root)
    elif kind == "subtreeinclusion":
        verifier.check_subtree_inclusion(leaf, case["leafIdx"], case["start"], case["end"], proof, root)
    elif kind == "consistency":
        verifier.check_consistency(case["size1"], case["size2"], proof, *roots)
    else:
        verifier.check_subtree_consistency(case["start"], case["end"], case["size"], proof, *roots)


def tampers(home: Path) -> list[tuple[str, str, bool]]:
    """Tamper with copies of a log and run the verifier on each, as a process; return (how, its message, named so)."""
    original = write_log(home / "original")
    if _verified(original).returncode:
        raise RuntimeError("the verifier finds an undamaged log damaged")
    found = []
    for number, tamper in enumerate(TAMPERS):
        copy = home / str(number)
        shutil.copytree(original.parent, copy)
        tamper.do(copy / "ledger")
        ran = _verified(copy / "ledger")
        lines = [line for line in ran.stdout.splitlines() if re.match(f"{tamper.kind}: .*{tamper.message}", line)]
        found.append((tamper.name, (lines or ["not named"])[0], ran.returncode == 1 and bool(lines)))
    return found


def _verified(folder: Path) -> subprocess.CompletedProcess[str]:
    home = folder.parent
    command = [sys.executable, "-m", "lifechart_verify", folder, "--key", home / "key", "--earlier", home / "earlier"]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)


def main(quick: bool) -> dict[str, float]:
    """Append, judge the vectors, tamper; print tables and return the figures."""
    scale = 10 if quick else 1
    console = Console()
    with tempfile.TemporaryDirectory(prefix="lifechart-bench-") as folder:
        home = Path(folder)
        settings = Settings(home=home)
        with open_log(settings) as log:
            together = appended(log, 40_000 // scale, TOGETHER, APPENDERS)
            alone = appended(log, 8_000 // scale, 1, 32)
        begin = time.perf_counter()
        arguments = [settings.ledger, "--key", settings.keys / "ledger.pub"]
        subprocess.run(
            [sys.executable, "-m", "lifechart_verify", *map(str, arguments)], check=True, capture_output=True
        )
        checked = log.size / (time.perf_counter() - begin)
        with slow_disk(), open_log(settings) as log:
            p50, p99 = np.percentile(paced(log, 600 // scale), [50, 99]) * 1000
        table = Table(
            title=f"Ledger; paced: {RATE:.0f} appends/s, each fsync {FSYNC_SECONDS * 1000:.0f} ms longer than it is"
        )
        for column in ("", "statements/s", "p50 ms", "p99 ms"):
            table.add_column(column, justify="right")
        table.add_row(f"append_many of {TOGETHER}, {APPENDERS} threads", f"{together:,.0f}", "", "")
        table.add_row("append of 1, 32 threads", f"{alone:,.0f}", "", "")
        table.add_row("append of 1, paced", f"{RATE:.0f}", f"{p50:.2f}", f"{p99:.2f}")
        table.add_row("lifechart-verify", f"{checked:,.0f}", "", "")
        console.print(table)
        passed, total = vectors(VECTORS)
        console.print(f"RFC 6962 vectors judged rightly by writer and verifier: {passed} of {total}")
        caught = tampers(home / "tampers")
    table = Table("Tampering", "What the separate verifier says of it", title="Copies of a log of 700 entries")
    for name, message, named in caught:
        table.add_row(name, message if named else f"[red]{message}[/red]")
    Console(width=160).print(table)
    return {
        "appends_per_s": round(together, 1),
        "vectors_passed": passed,
        "vectors_total": total,
        "tampers_caught": sum(named for _, _, named in caught),
        "tampers_total": len(caught),
    }
