"""What makes an append durable: one file of batches, each batch entries and the signed head that they lead to.

A batch is written with one write and one fsync, and is the commit: tiles are made from it afterwards. The file begins
with an id of 16 random bytes, by which a process notices that another has put a new journal in its place. Layout of a
batch, integers big-endian: magic, first index (8 bytes), CRC-32 of the body (4), bytes of the bundle (4), bytes of the
note (4), CRC-32 of all that (4); then the body: bundle, note.
"""

from __future__ import annotations

import os
import secrets
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lifechart.core import durable
from lifechart.core.errors import IntegrityError
from lifechart.ledger import tiles

_MAGIC = b"LCJ1"
_HEADER = struct.Struct(">4sQIII")
_CHECK = struct.Struct(">I")
_HEAD_BYTES = _HEADER.size + _CHECK.size
_ID_BYTES = 16
NO_ID = bytes(_ID_BYTES)
"""In place of the id of a journal that is not there."""
_UNWRITTEN = bytes(32)
"""Statements are text, so a run of zeros in a batch is a place that a power cut kept from the disk."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries that were committed together, from index `start`, and the checkpoint note of the tree they end."""

    start: int
    entries: tuple[bytes, ...]
    note: str

    @property
    def end(self) -> int:
        """Size of the tree after this batch."""
        return self.start + len(self.entries)

    def to_bytes(self) -> bytes:
        """Return the batch as it stands in the file."""
        bundle, note = tiles.pack(self.entries), self.note.encode()
        header = _HEADER.pack(_MAGIC, self.start, zlib.crc32(bundle + note), len(bundle), len(note))
        return header + _CHECK.pack(zlib.crc32(header)) + bundle + note


@dataclass(frozen=True, slots=True)
class Reading:
    """What a journal holds from some offset on."""

    id: bytes
    batches: tuple[Batch, ...]
    end: int
    """Offset behind the last whole batch."""
    torn: int
    """Bytes behind it: an append that was cut off before it was acknowledged."""


def identify(path: Path) -> tuple[bytes, int]:
    """Return a journal's id and length; (NO_ID, 0) if there is none."""
    try:
        with open(path, "rb") as file:
            return _id_of(file), os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return NO_ID, 0


def read(path: Path, offset: int = 0) -> Reading:
    """Read the batches from `offset` on; raises IntegrityError for a batch that was whole once and is not now."""
    try:
        with open(path, "rb") as file:
            journal_id = _id_of(file)
            file.seek(max(offset, _ID_BYTES))
            offset = file.tell()
            content = file.read()
    except FileNotFoundError:
        return Reading(NO_ID, (), 0, 0)
    batches, position = [], 0
    while position < len(content):
        batch, size = _parse(content, position, f"{path.name} at byte {offset + position}")
        if batch is None:
            break
        batches.append(batch)
        position += size
    return Reading(journal_id, tuple(batches), offset + position, len(content) - position)


def append(path: Path, batch: Batch) -> int:
    """Add a batch durably and return its length; on an error the file is as long as before. Raises OSError."""
    content = batch.to_bytes()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        before = os.fstat(descriptor).st_size
        try:
            written = os.write(descriptor, content)
            if written != len(content):
                raise OSError(f"{path.name}: {written} of {len(content)} bytes written")
            os.fdatasync(descriptor)
        except OSError:
            os.ftruncate(descriptor, before)
            raise
    finally:
        os.close(descriptor)
    return len(content)


def set_aside_torn(path: Path, reading: Reading, folder: Path) -> None:
    """Cut an unfinished append off the journal, but keep its bytes in `folder`: nothing is ever thrown away unseen."""
    with open(path, "rb+") as file:
        file.seek(reading.end)
        durable.write_bytes(folder / f"{reading.id.hex()}-{reading.end}", file.read())
        file.truncate(reading.end)
        os.fsync(file.fileno())


def rewrite(path: Path, batches: Sequence[Batch]) -> None:
    """Put a new journal with these batches in the place of what is there, whole or not at all."""
    durable.write_bytes(path, secrets.token_bytes(_ID_BYTES) + b"".join(batch.to_bytes() for batch in batches))


def _id_of(file: BinaryIO) -> bytes:
    journal_id = file.read(_ID_BYTES)
    if len(journal_id) != _ID_BYTES:
        raise IntegrityError(f"journal: got {len(journal_id)} bytes, expected at least the {_ID_BYTES} of its id")
    return journal_id


def _parse(content: bytes, position: int, where: str) -> tuple[Batch | None, int]:
    """Return one batch and its length; None for an unfinished one, which only the last can be."""
    head = content[position : position + _HEAD_BYTES]
    if len(head) < _HEAD_BYTES or not content[position:].strip(b"\0"):
        return None, 0
    magic, start, checksum, bundle_bytes, note_bytes = _HEADER.unpack_from(head)
    if magic != _MAGIC or _CHECK.unpack_from(head, _HEADER.size)[0] != zlib.crc32(head[: _HEADER.size]):
        raise IntegrityError(f"{where}: the head of a batch was altered after it was written")
    size = _HEAD_BYTES + bundle_bytes + note_bytes
    body = content[position + _HEAD_BYTES : position + size]
    if len(body) < bundle_bytes + note_bytes:
        return None, 0
    if zlib.crc32(body) != checksum:
        if position + size == len(content) and _UNWRITTEN in body:
            return None, 0
        raise IntegrityError(f"{where}: a batch was altered after it was written")
    try:
        return Batch(start, tuple(tiles.unpack(body[:bundle_bytes])), body[bundle_bytes:].decode()), size
    except ValueError as error:
        raise IntegrityError(f"{where}: {error}") from error
