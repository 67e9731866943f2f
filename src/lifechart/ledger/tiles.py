"""The published tree on disk, laid out as C2SP tlog-tiles: tile/LEVEL/INDEX and tile/entries/INDEX, 256 wide.

Everything here can be served by any web server as it stands. A tile is written once, whole or not at all; partial
tiles (`.p/WIDTH`) stay until the full tile is there.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Sequence
from pathlib import Path

from lifechart.core import durable
from lifechart.core.errors import IntegrityError
from lifechart.ledger import merkle

WIDTH = 256
MAX_ENTRY_BYTES = 65_535
_LEVEL_BITS = 8
_ENTRIES = "entries"
_LENGTH = struct.Struct(">H")


class TileMissing(IntegrityError):
    """A tile or bundle that the tree needs is not there."""


def path_of(kind: str, index: int, width: int = WIDTH) -> str:
    """Return the path of a tile; `kind` is its level or `entries`.

    >>> path_of("0", 1234067, 5)
    'tile/0/x001/x234/067.p/5'
    """
    groups = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        groups.append(f"x{index % 1000:03d}")
    return "/".join(["tile", kind, *reversed(groups)]) + ("" if width == WIDTH else f".p/{width}")


def pack(entries: Sequence[bytes]) -> bytes:
    """Return a bundle: each entry behind its length, two bytes big-endian."""
    return b"".join(_LENGTH.pack(len(entry)) + entry for entry in entries)


def unpack(bundle: bytes) -> list[bytes]:
    """Return a bundle's entries; raises ValueError if it ends within one."""
    entries, position = [], 0
    while position < len(bundle):
        if position + 2 > len(bundle):
            raise ValueError("the bundle ends within a length")
        (length,) = _LENGTH.unpack_from(bundle, position)
        position += 2 + length
        if position > len(bundle):
            raise ValueError("the bundle ends within an entry")
        entries.append(bundle[position - length : position])
    return entries


class Tiles:
    """The tiles and bundles of one log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def hashes(self, level: int, index: int, width: int) -> list[bytes]:
        """Return the first `width` hashes of a tile; raises TileMissing or IntegrityError that name the file."""
        name, content = self._read(str(level), index, width)
        if len(content) % merkle.HASH_BYTES or len(content) < width * merkle.HASH_BYTES:
            raise IntegrityError(f"{name}: got {len(content)} bytes, expected {width} hashes of 32")
        return [content[at : at + merkle.HASH_BYTES] for at in range(0, width * merkle.HASH_BYTES, merkle.HASH_BYTES)]

    def entries(self, index: int, width: int) -> list[bytes]:
        """Return the first `width` entries of a bundle; raises TileMissing or IntegrityError that name the file."""
        name, content = self._read(_ENTRIES, index, width)
        try:
            entries = unpack(content)
        except ValueError as error:
            raise IntegrityError(f"{name}: {error}") from error
        if len(entries) < width:
            raise IntegrityError(f"{name}: got {len(entries)} entries, expected {width}")
        return entries[:width]

    def reader(self, size: int) -> merkle.NodeReader:
        """Return a reader of the tree of `size` leaves, for proofs and edges."""

        def node(level: int, index: int) -> bytes:
            tile_level, height = divmod(level, _LEVEL_BITS)
            first = index << height
            tile, start = divmod(first, WIDTH)
            hashes = self.hashes(tile_level, tile, width_of(size, tile_level, tile))
            return merkle.root(hashes[start : start + (1 << height)])

        return node

    def grow(self, size: int, entries: Sequence[bytes], leaves: Sequence[bytes]) -> None:
        """Write the tiles that a tree of `size` leaves needs when it grows by `entries` with their leaf hashes.

        What was there stays readable throughout; a second call after a crash writes the same bytes again.
        """
        start = size - size % WIDTH
        bundle = (self.entries(size // WIDTH, size % WIDTH) if size % WIDTH else []) + list(entries)
        for offset in range(0, len(bundle), WIDTH):
            chunk = bundle[offset : offset + WIDTH]
            self._write(_ENTRIES, (start + offset) // WIDTH, len(chunk), pack(chunk))
        level, fresh = 0, list(leaves)
        while fresh:
            index, kept = divmod(size, WIDTH)
            row = (self.hashes(level, index, kept) if kept else []) + fresh
            fresh = []
            for offset in range(0, len(row), WIDTH):
                tile = row[offset : offset + WIDTH]
                self._write(str(level), index + offset // WIDTH, len(tile), b"".join(tile))
                if len(tile) == WIDTH:
                    fresh.append(merkle.root(tile))
            level, size = level + 1, index

    def drop_partial(self, before: int, size: int) -> None:
        """Remove partial tiles whose full tile became part of the tree while it grew from `before` to `size`."""
        level = 0
        while before != size:
            for index in range(before // WIDTH, size // WIDTH):
                for kind in (str(level), _ENTRIES) if level == 0 else (str(level),):
                    full = self.folder / path_of(kind, index)
                    shutil.rmtree(full.with_name(full.name + ".p"), ignore_errors=True)
            level, before, size = level + 1, before // WIDTH, size // WIDTH

    def _read(self, kind: str, index: int, width: int) -> tuple[str, bytes]:
        for name in dict.fromkeys((path_of(kind, index, width), path_of(kind, index))):
            try:
                return name, (self.folder / name).read_bytes()
            except FileNotFoundError:
                continue
        raise TileMissing(f"{path_of(kind, index, width)}: missing, expected {width} of a tile's {WIDTH} places")

    def _write(self, kind: str, index: int, width: int, content: bytes) -> None:
        path = self.folder / path_of(kind, index, width)
        fresh = [folder for folder in path.parents if not folder.exists()]
        durable.write_bytes(path, content)
        for folder in fresh:
            durable.sync_directory(folder.parent)


def width_of(size: int, level: int, index: int) -> int:
    """Return how many hashes tile `index` of `level` holds in a tree of `size` leaves."""
    return max(0, min(WIDTH, (size >> (_LEVEL_BITS * level)) - index * WIDTH))
