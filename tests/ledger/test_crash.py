"""A kill between any two writes, a torn write, a failing disk, many writers: nothing acknowledged is ever lost."""

import errno
import itertools
import multiprocessing
import os
import pathlib
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifechart.core.errors import AuditError, IntegrityError
from lifechart.core.settings import Settings
from lifechart.ledger import log as log_module
from lifechart.ledger.keys import Signer, Verifier
from lifechart.ledger.log import Log, open_log
from lifechart.ledger.statement import Statement, Subject
from lifechart_verify.audit import verify as audit
from lifechart_verify.findings import Verification
from lifechart_verify.notes import Key

SIGNER = Signer.generate("lifechart/test")
VERIFIER = Verifier([SIGNER.public])


def verify(folder: Path, verifier: Verifier = VERIFIER) -> Verification:
    """Check with the separate verifier; a log that is not sound fails the test."""
    found = audit(folder, Key.parse(verifier.lines[0]))
    assert found.sound, str(found)
    return found


def statement(number: int) -> Statement:
    return Statement("train", (Subject("thing", f"{number:064x}"),), {"number": number})


def open_test_log(folder: Path) -> Log:
    return Log(folder, "lifechart/test", VERIFIER, SIGNER)


def scenario(folder: Path, acknowledge: Callable[[int], None]) -> None:
    """Appends, publications that fill tiles, and a rotation of the journal."""
    log = open_test_log(folder)
    log._publish_in_background = lambda: None  # type: ignore[method-assign]
    acknowledge(log.append(statement(0)).size)
    log.publish()
    acknowledge(log.append_many([statement(number) for number in range(1, 254)])[-1].size)
    log.publish()
    acknowledge(log.append_many([statement(number) for number in range(254, 270)])[-1].size)
    log_module._JOURNAL_BYTES = 1
    log.publish()
    acknowledge(log.append(statement(270)).size)


def killed_before_write(folder: Path, deadline: int, part: bool) -> bool:
    """Run the scenario in a child that dies at its step number `deadline`, or half-way in write number `deadline`.

    Returns whether it lived to the end.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    count = itertools.count(1)
    receipts = os.open(folder.parent / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    real_write = os.write

    def deadly(holder: Any, name: str) -> None:
        real = getattr(holder, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if (not part or name in ("write", "write_bytes")) and next(count) == deadline:
                if part:
                    real(args[0], args[1][: len(args[1]) // 2])
                os._exit(9)
            return real(*args, **kwargs)

        setattr(holder, name, wrapper)

    # A kill loses nothing that was written, so dying before an fsync is dying after the write before it.
    for name in ("write", "ftruncate", "mkdir"):
        deadly(os, name)
    for name in ("write_bytes", "replace", "unlink"):
        deadly(pathlib.Path, name)
    deadly(shutil, "rmtree")
    try:
        scenario(folder, lambda size: real_write(receipts, f"{size}\n".encode()) and None)
        os._exit(0)
    except BaseException:
        os._exit(1)


@pytest.mark.parametrize("part", [False, True], ids=["before", "half-way"])
def test_a_kill_between_any_two_writes_loses_nothing_acknowledged(tmp_path: Path, part: bool) -> None:
    deaths = 0
    for deadline in itertools.count(1):
        folder = tmp_path / str(deadline) / "ledger"
        folder.parent.mkdir()
        lived = killed_before_write(folder, deadline, part)
        acknowledged = folder.parent / "acknowledged"
        promised = max(map(int, acknowledged.read_text().split()), default=0)
        log = open_test_log(folder)
        assert log.size >= promised, f"write {deadline}"
        assert verify(folder).size == log.size
        size = log.size
        assert log.append(statement(10_000)).index == size
        log.close()
        found = verify(folder)
        assert (found.size, found.published) == (size + 1, size + 1)
        shutil.rmtree(folder.parent)
        if lived:
            break
        deaths += 1
    assert deaths > (15 if part else 35), "the scenario writes more often than this"


def test_a_journal_cut_at_any_byte_opens_and_verifies(tmp_path: Path) -> None:
    log = open_test_log(tmp_path / "whole")
    log._publish_in_background = lambda: None  # type: ignore[method-assign]
    ends = []
    for number in range(3):
        log.append(statement(number))
        ends.append((tmp_path / "whole/journal").stat().st_size)
    whole = (tmp_path / "whole/journal").read_bytes()
    for cut in range(16, len(whole), 7):
        folder = tmp_path / "cut"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "journal").write_bytes(whole[:cut])
        survivors = sum(end <= cut for end in ends)
        again = open_test_log(folder)
        assert again.size == survivors
        torn = cut - max([16, *(end for end in ends if end <= cut)])
        kept = list((folder / "torn").iterdir()) if torn else []
        assert [len(path.read_bytes()) for path in kept] == ([torn] if torn else [])
        assert verify(folder).size == survivors


def test_blocks_that_never_reached_the_disk_count_as_torn(tmp_path: Path) -> None:
    log = open_test_log(tmp_path)
    log._publish_in_background = lambda: None  # type: ignore[method-assign]
    log.append(statement(0))
    end = (tmp_path / "journal").stat().st_size
    log.append(statement(1))
    content = (tmp_path / "journal").read_bytes()
    for hole in (slice(end, len(content)), slice(end + 100, end + 200)):
        damaged = bytearray(content)
        damaged[hole] = bytes(hole.stop - hole.start)
        (tmp_path / "journal").write_bytes(damaged)
        assert open_test_log(tmp_path).size == 1
        assert verify(tmp_path).size == 1


def test_a_failing_disk_refuses_and_leaves_the_log_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_test_log(tmp_path)
    log.append(statement(0))
    log.close()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", full)
        with pytest.raises(AuditError, match="No space left"):
            log.append(statement(1))
    assert log.append(statement(2)).index == 1
    assert [entry.statement.predicate["number"] for entry in log.entries()] == [0, 2]
    log.close()
    assert verify(tmp_path).size == 2


def test_threads_share_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first of eight appends is on its way to the disk, the other seven gather; one more fsync takes them."""
    log = open_test_log(tmp_path)
    log._publish_in_background = lambda: None  # type: ignore[method-assign]
    syncs: list[int] = []
    real = os.fdatasync

    def slow(descriptor: int) -> None:
        syncs.append(descriptor)
        while len(syncs) == 1 and len(log._queue) < 7:
            time.sleep(0.001)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow)
    receipts: list[tuple[int, str]] = []

    def work(worker: int) -> None:
        receipt = log.append(statement(worker))
        receipts.append((receipt.index, receipt.leaf))

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(syncs) == 2
    assert sorted(receipts) == [(entry.index, entry.leaf) for entry in log.entries()]
    assert verify(tmp_path).size == 8


def test_many_threads_lose_nothing(tmp_path: Path) -> None:
    log = open_test_log(tmp_path)
    receipts: list[tuple[int, str]] = []

    def work(worker: int) -> None:
        for number in range(40):
            receipt = log.append(statement(worker * 1000 + number))
            receipts.append((receipt.index, receipt.leaf))

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert sorted(receipts) == [(entry.index, entry.leaf) for entry in log.entries()]
    assert verify(tmp_path).size == 320


def _append_some(home: Path, worker: int) -> None:
    log = open_log(Settings(home=home))
    for number in range(150):
        log.append(statement(worker * 1000 + number))
        if number % 40 == 0:
            log.publish()
    log.close()


def test_processes_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "_JOURNAL_BYTES", 50_000)  # inherited through fork: journals change under writers
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_append_some, args=(tmp_path, worker)) for worker in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    settings = Settings(home=tmp_path)
    log = open_log(settings)
    numbers = [entry.statement.predicate["number"] for entry in log.entries()]
    assert sorted(numbers) == sorted(worker * 1000 + number for worker in range(3) for number in range(150))
    assert verify(settings.ledger, log.verifier).size == 450


@pytest.mark.parametrize("restored", [True, False])
def test_an_open_log_notices_that_its_checkpoint_was_taken_back(tmp_path: Path, restored: bool) -> None:
    log = open_test_log(tmp_path)
    log.append(statement(0))
    earlier = log.checkpoint()
    log.append_many([statement(number) for number in range(1, 300)])
    log.publish()
    log.append(statement(300))
    log.close()
    if restored:
        (tmp_path / "checkpoint").write_text(earlier)
    else:
        (tmp_path / "checkpoint").unlink()
    log.append(statement(301))
    with pytest.raises(IntegrityError, match="taken back from 301 entries"):
        log.publish()


def test_an_open_log_notices_that_history_was_taken_back(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    log = open_test_log(folder)
    log.append(statement(0))
    log.close()
    shutil.copytree(folder, tmp_path / "backup")
    log.append_many([statement(number) for number in range(1, 5)])
    log.close()
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "backup", folder)
    with pytest.raises(AuditError, match="taken back"):
        log.append(statement(9))
    with pytest.raises(IntegrityError, match="taken back"):
        log.refresh()
