"""A killed ingest goes on, a full disk leaves nothing half-written, at every single write of a run."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lifechart.core import durable
from lifechart.core.errors import InputError, StorageError
from lifechart.data import ingest as module
from tests.data.samples import patient, resource, take, write

REPLACING = durable.replacing


class Killed(BaseException):
    """What the file system sees of a SIGKILL: nothing is cleaned up."""


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "_BUCKET_BYTES", 12_000)
    lines = [line for n in range(30) for line in (patient(f"p{n}"), resource("Observation", f"o{n}", f"p{n}"))]
    return write(tmp_path / "in" / "all.ndjson", *lines).parent


def files(dataset: Path) -> dict[str, str]:
    return durable.tree_digests(dataset)


def interrupted(monkeypatch: pytest.MonkeyPatch, at: int, how: Callable[[Path], None]) -> list[Path]:
    """Let `how` happen in the write number `at`, when half of it is on disk; return the paths written so far."""
    seen: list[Path] = []

    @contextlib.contextmanager
    def replacing(path: Path) -> Iterator[Path]:
        seen.append(path)
        if len(seen) - 1 != at:
            with REPLACING(path) as aside:
                yield aside
            return
        if how is _full:
            with REPLACING(path) as aside:
                yield aside
                _full(aside)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.1-abc.part")
        yield aside
        aside.write_bytes(aside.read_bytes()[: aside.stat().st_size // 2])
        how(path)

    monkeypatch.setattr(durable, "replacing", replacing)
    return seen


def _die(path: Path) -> None:
    raise Killed(path)


def _full(path: Path) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_killed_at_any_write_the_same_command_gives_the_same_bytes(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = interrupted(monkeypatch, -1, _die)
    take(records, tmp_path / "whole")
    whole = files(tmp_path / "whole")
    assert len(seen) > 30
    stages = {path.parent.name for path in seen}
    assert {"spill", "buckets", "train", "metadata", "dataset"} <= stages
    for number in range(len(seen)):
        out = tmp_path / "out" / str(number)
        out.parent.mkdir(exist_ok=True)
        interrupted(monkeypatch, number, _die)
        with pytest.raises(Killed):
            take(records, out)
        assert not out.exists()
        monkeypatch.setattr(durable, "replacing", REPLACING)
        take(records, out)
        assert files(out) == whole, f"killed while {seen[number].name} was written"
        assert not list(tmp_path.rglob(".*.part"))
        assert not list(out.parent.glob(".*.ingest"))


def test_a_disk_that_fills_up_at_any_write_is_said_and_leaves_nothing_half_written(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = interrupted(monkeypatch, -1, _die)
    take(records, tmp_path / "whole")
    for number in range(len(seen)):
        out = tmp_path / "out" / str(number)
        out.parent.mkdir(exist_ok=True)
        interrupted(monkeypatch, number, _full)
        with pytest.raises(StorageError, match="no space left on the device"):
            take(records, out)
        assert not out.exists()
        assert not list(tmp_path.rglob(".*.part"))
        monkeypatch.setattr(durable, "replacing", REPLACING)
        take(records, out)
        assert files(out) == files(tmp_path / "whole")


_LIMITED = """
import resource, sys
from pathlib import Path
import polars, pyarrow.parquet
from lifechart.core.errors import StorageError
from tests.data.samples import take
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    take(Path(sys.argv[1]), Path(sys.argv[2]))
except StorageError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [200, 1200, 4000])
def test_the_operating_system_refusing_a_write_is_said_too(records: Path, tmp_path: Path, limit: int) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _LIMITED, str(records), str(tmp_path / "out"), str(limit)]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "too large; nothing of it was written" in said
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob(".*.part"))
    assert all(file.stat().st_size <= limit for file in (tmp_path / ".out.ingest").rglob("*") if file.is_file())


def test_killed_when_all_was_done_leaves_no_work_folder(
    records: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rmtree = module.shutil.rmtree

    def dies(path: Path, **_: Any) -> None:
        raise Killed(path)

    monkeypatch.setattr(module.shutil, "rmtree", dies)
    with pytest.raises(Killed):
        take(records, tmp_path / "out")
    monkeypatch.setattr(module.shutil, "rmtree", rmtree)
    assert (tmp_path / "out" / "account.json").exists()
    with pytest.raises(InputError, match="--out"):
        take(records, tmp_path / "out")
    assert not (tmp_path / ".out.ingest").exists()


def test_two_runs_do_not_work_in_one_folder(records: Path, tmp_path: Path) -> None:
    work = tmp_path / ".out.ingest"
    work.mkdir()
    descriptor = os.open(work / "lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="no other ingest"):
            take(records, tmp_path / "out")
    finally:
        os.close(descriptor)
    take(records, tmp_path / "out")
