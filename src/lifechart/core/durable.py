"""Files that are whole or absent: write aside, fsync, rename; and the hashes that name them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from lifechart.core.errors import StorageError

_PART = ".part"
_FULL = {errno.ENOSPC: "no space left on the device", errno.EDQUOT: "the quota is spent", errno.EFBIG: "too large"}


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; when the block ends without error it takes `path`'s place, durably.

    After a crash either the old file or the new one is there, never a part of one. Raises StorageError where there is
    no room for it.
    """
    # Random, not only the process's number: two machines that share a file system can have the same.
    aside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{_PART}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        with open(aside, "rb+") as file:
            os.fsync(file.fileno())
        aside.replace(path)
        sync_directory(path.parent)
    except Exception as error:
        why = _full(error)
        if why is None:
            raise
        raise StorageError(f"{path}: {why}; nothing of it was written") from error
    finally:
        aside.unlink(missing_ok=True)


def sweep(directory: Path) -> None:
    """Remove what writers that were killed left beside their files. Nobody may be writing under `directory`."""
    for aside in directory.rglob(f".*{_PART}"):
        aside.unlink(missing_ok=True)


def _full(error: Exception) -> str | None:
    """Return why there is no room, or None if that is not what went wrong."""
    if isinstance(error, OSError) and error.errno is not None:
        return _FULL.get(error.errno)
    # Polars reports what the system said in words of its own error.
    return next((why for number, why in _FULL.items() if f"(os error {number})" in str(error)), None)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with replacing(path) as aside:
        aside.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, whole or not at all."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    write_bytes(path, orjson.dumps(value, option=options))


def sync_directory(directory: Path) -> None:
    """Make renames inside `directory` survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def canonical_json(value: Any) -> bytes:
    """Return the one byte string that stands for `value`: compact, keys sorted. Hash this, never a pretty form."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def digest_of(value: Any) -> str:
    """Return the SHA-256 (64 hex digits) of `value`'s canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 (64 hex digits) of a file, read in chunks."""
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digests(directory: Path) -> dict[str, str]:
    """Return {relative POSIX path: SHA-256} of every file under `directory`, sorted by path."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): file_digest(path) for path in files}
