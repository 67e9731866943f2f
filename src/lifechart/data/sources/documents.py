"""Opens JSON files of records: NDJSON by byte range, whole documents, plain or gzipped; says where each item stood."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

import orjson

from lifechart.data.sources import Span, Unit

LINE_SUFFIXES = (".ndjson", ".jsonl")
SUFFIXES = (*LINE_SUFFIXES, ".json")
UNFINISHED = ".export.json"
"""Lies in a folder while a bulk export into it is not finished."""
UNIT_BYTES = 64 << 20
"""A unit holds about this much; its rows take about as much memory again."""
MAX_LINE = 64 << 20
"""A longer line is quarantined unread."""
MAX_DOCUMENT = 512 << 20
"""A document must fit in memory whole; a larger one is quarantined unread (Bulk NDJSON has no such bound)."""
_CHUNK = 256 << 10
# Small enough to stay in a core's own cache from the reading to the parsing.
_SNIFF = 1 << 16
_PACKED = (".gz", ".bgz")

Lines = list[bytes | None]
"""Lines of a file without their ends; None: longer than MAX_LINE."""


class EndsEarly(Exception):
    """A gzip stream stops before its end."""


def find_files(path: Path) -> list[Path]:
    """Return the JSON and NDJSON files under `path` (or `path` itself), sorted by relative name."""
    if path.is_file():
        return [path] if _stem(path).suffix in SUFFIXES else []
    found = (child for child in path.rglob("*") if _stem(child).suffix in SUFFIXES and child.is_file())
    return sorted(found, key=lambda child: child.relative_to(path).as_posix())


def holds_lines(path: Path) -> bool:
    """Return whether a file is NDJSON: by its name, or because its first line is JSON by itself."""
    if _stem(path).suffix in LINE_SUFFIXES:
        return True
    try:
        with _open(path) as stream:
            first = stream.readline(_SNIFF)
            while first and not first.strip():
                first = stream.readline(_SNIFF)
            more = bool(stream.read(1))
    except (OSError, EOFError, zlib.error):
        return False
    if len(first) == _SNIFF:
        return first.startswith(b'{"resourceType":"') and not first.startswith(b'{"resourceType":"Bundle"')
    try:
        orjson.loads(first)
    except orjson.JSONDecodeError:
        return False
    return more


def plan(source: str, files: list[Path], anchor: str) -> list[Unit]:
    """Divide files into units: small ones together in order, large NDJSON cut into byte ranges."""
    units: list[Unit] = []
    spans: list[Span] = []
    size = 0

    def close() -> None:
        nonlocal spans, size
        if spans:
            units.append(Unit(source, tuple(spans), size, anchor))
        spans, size = [], 0

    for path in files:
        total = path.stat().st_size
        if size and size + total > UNIT_BYTES:
            close()
        if total > UNIT_BYTES and path.suffix != ".gz" and holds_lines(path):
            starts = range(0, total, UNIT_BYTES)
            ranges = [Span(str(path), start, min(start + UNIT_BYTES, total)) for start in starts]
            units.extend(Unit(source, (span,), span.stop - span.start, anchor) for span in ranges)
        else:
            spans.append(Span(str(path)))
            size += total
    close()
    return units


def read_lines(span: Span) -> Iterator[Lines]:
    """Yield the lines of `read_blocks`, without their ends."""
    for block, too_long in read_blocks(span):
        lines: Lines = list(block.split(b"\n"))
        if block.endswith(b"\n"):
            lines.pop()
        if too_long:
            lines[-1] = None
        yield lines


def read_blocks(span: Span) -> Iterator[tuple[bytes, bool]]:
    """Yield the lines that begin within a span, some hundred kilobytes of whole lines at a time, ends included.

    With each: whether its last line is longer than MAX_LINE, and so is not all there.

    Raises EndsEarly after the last whole block of a truncated gzip file.
    """
    with _open(Path(span.path)) as stream:
        budget = -1
        if span.start:
            stream.seek(span.start - 1)
            _skip_line(stream)
        if span.stop >= 0:
            budget = span.stop - stream.tell()
            if budget <= 0:
                return
        yield from _blocks(stream, budget)


def _blocks(stream: BufferedReader | gzip.GzipFile, budget: int) -> Iterator[tuple[bytes, bool]]:
    early = False
    while budget:
        block, early = fill(stream, _CHUNK if budget < 0 else min(_CHUNK, budget))
        if not block:
            break
        budget = budget if budget < 0 else budget - len(block)
        too_long = False
        if not block.endswith(b"\n") and not early:
            try:
                rest = stream.readline(MAX_LINE)
                too_long = len(rest) == MAX_LINE and not rest.endswith(b"\n")
                taken = len(rest) + (_skip_line(stream) if too_long else 0)
            except (EOFError, zlib.error, gzip.BadGzipFile):
                rest, taken, early = b"", 0, True
            block += rest
            budget = budget if budget < 0 else max(0, budget - taken)
        yield block, too_long
        if early:
            break
    if early:
        raise EndsEarly


def fill(stream: BufferedReader | gzip.GzipFile, want: int) -> tuple[bytes, bool]:
    """Read up to `want` bytes; True with what there was when a gzip stream breaks off."""
    if isinstance(stream, BufferedReader):
        return stream.read(want), False
    parts: list[bytes] = []
    have = 0
    try:
        while have < want and (part := stream.read1(want - have)):
            parts.append(part)
            have += len(part)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return b"".join(parts), True
    return b"".join(parts), False


def _skip_line(stream: BufferedReader | gzip.GzipFile) -> int:
    skipped = 0
    while part := stream.readline(MAX_LINE):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped


def read_document(path: Path) -> bytes | None:
    """Return a whole file, unpacked; None if it is larger than MAX_DOCUMENT. Raises EndsEarly."""
    if path.stat().st_size > MAX_DOCUMENT:
        return None
    try:
        with _open(path) as stream:
            content = stream.read(MAX_DOCUMENT + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise EndsEarly from error
    return content if len(content) <= MAX_DOCUMENT else None


def _stem(path: Path) -> Path:
    return path.with_suffix("") if path.suffix in _PACKED else path


def _open(path: Path) -> BufferedReader | gzip.GzipFile:
    return gzip.open(path, "rb") if path.suffix in _PACKED else open(path, "rb")


def opening(path: Path) -> bytes:
    """Return the first kilobytes of a file, unpacked; empty if it cannot be unpacked."""
    try:
        with _open(path) as stream:
            return stream.read(_SNIFF)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return b""
