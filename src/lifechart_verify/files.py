"""The files of a log: checkpoint, tiles of hashes and bundles of entries (C2SP tlog-tiles), and the journal."""

from __future__ import annotations

import contextlib
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

WIDTH = 256
CHECKPOINT, JOURNAL, TORN, COSIGNED = "checkpoint", "journal", "torn", "cosigned"
_HEADER = struct.Struct(">4sQIII")


class Missing(Exception):
    """A file that the log needs is not there."""


class Broken(Exception):
    """A file is there, but its content is not laid out as it should be."""


def name_of(kind: str, index: int) -> str:
    """Return the path of a full tile; `kind` is its level, or `entries`."""
    digits = f"{index:03d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    return "/".join(["tile", kind, *(f"x{group}" for group in groups[:-1]), groups[-1]])


def _read(folder: Path, kind: str, index: int, width: int) -> bytes:
    name = name_of(kind, index)
    for path in [f"{name}.p/{width}"] * (width < WIDTH) + [name]:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return (folder / path).read_bytes()
    raise Missing(f"{name}: missing, expected {width} of a tile's {WIDTH} places")


def hashes(folder: Path, level: int, index: int, width: int) -> list[bytes]:
    """Return the first `width` hashes of a tile; raises Missing or Broken."""
    content = _read(folder, str(level), index, width)
    if len(content) % 32 or not width * 32 <= len(content) <= WIDTH * 32:
        raise Broken(f"{name_of(str(level), index)}: got {len(content)} bytes, expected {width} hashes of 32")
    return [content[at : at + 32] for at in range(0, width * 32, 32)]


def entries(folder: Path, index: int, width: int) -> list[bytes]:
    """Return the first `width` entries of a bundle, or as many as there are; raises Missing or Broken."""
    return unpack(_read(folder, "entries", index, width), name_of("entries", index))[:width]


def unpack(bundle: bytes, name: str) -> list[bytes]:
    """Return the entries of a bundle, each behind its length in two bytes; raises Broken."""
    found: list[bytes] = []
    at = 0
    while at < len(bundle):
        end = at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        if end > len(bundle) or at + 2 > len(bundle):
            raise Broken(f"{name}: cannot be taken apart into entries behind entry {len(found)} of the file")
        found.append(bundle[at + 2 : end])
        at = end
    return found


def stored(folder: Path) -> int:
    """Return how many entries the bundles hold by their names, whatever the checkpoint says."""
    most, root = 0, folder / "tile" / "entries"
    for path in root.rglob("*") if root.is_dir() else ():
        if not path.is_file() or path.name.startswith("."):
            continue
        parts = path.relative_to(root).as_posix().removesuffix(f".p/{path.name}").replace("x", "").replace("/", "")
        width = path.name if path.parent.name.endswith(".p") else str(WIDTH)
        if parts.isdecimal() and width.isdecimal():
            most = max(most, int(parts) * WIDTH + int(width))
    return most


@dataclass(frozen=True)
class Batch:
    """Entries of the journal from index `start` on, and the signed note of the log that they end."""

    start: int
    entries: list[bytes]
    note: str

    @property
    def end(self) -> int:
        """Entries that the log has after this batch."""
        return self.start + len(self.entries)


def journal(folder: Path) -> tuple[list[Batch], int]:
    """Return the journal's batches, and the bytes of an append that was cut off behind them; raises Broken."""
    path = folder / JOURNAL
    if not path.is_file():
        return [], 0
    content, at, batches = path.read_bytes(), 16, []
    if len(content) < at:
        raise Broken(f"{JOURNAL}: got {len(content)} bytes, expected at least the 16 of its id")
    while at < len(content):
        where, rest = f"{JOURNAL} at byte {at}", content[at:]
        if len(rest) < _HEADER.size + 4 or not rest.strip(b"\0"):
            break
        magic, start, check, bundle, note = _HEADER.unpack_from(rest)
        if magic != b"LCJ1" or int.from_bytes(rest[24:28], "big") != zlib.crc32(rest[:24]):
            raise Broken(f"{where}: the head of a batch was altered after it was written")
        body = rest[28 : 28 + bundle + note]
        last = len(rest) == 28 + bundle + note
        if len(body) < bundle + note or (zlib.crc32(body) != check and last and bytes(32) in body):
            break
        if zlib.crc32(body) != check:
            raise Broken(f"{where}: a batch was altered after it was written")
        batches.append(Batch(start, unpack(body[:bundle], where), body[bundle:].decode(errors="replace")))
        at += 28 + bundle + note
    return batches, len(content) - at
