"""Opens tables (CSV, gzipped CSV, Parquet) as frames of some megabytes, and says which rows were broken, and where.

Large tables are cut into parts that can be read in any order: Parquet by rows, CSV at line ends that lie outside of
quotes. A gzipped CSV cannot be entered in the middle, so it is one part.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from lifechart.data.sources import Span, Unit
from lifechart.data.sources.streams import REPLACEMENT, Part, Unpacked, open_plain

DELIMITED = (".csv", ".tsv", ".txt", ".psv")
PARQUET = ".parquet"
LINE = "line"
"""Column that numbers a frame's rows within their span, from 0, broken rows included."""
UNREADABLE = (pa.ArrowException, OSError, EOFError, zlib.error, ValueError, csv.Error)
"""What reading a table can raise when its bytes are at fault."""

_UNIT_BYTES = 24 << 20
_UNIT_ROWS = 300_000
_WEIGHT = 8
"""A row of a table takes the memory that a FHIR resource of about so many times its length does; ingestion reckons the
size of its buckets in the latter."""
_ROW_BYTES = 80 * _WEIGHT
"""What a row of Parquet stands for: about its length as CSV, so weighed."""
_GZIP_RATIO = 8
_BATCH_ROWS = 250_000
_BLOCK_BYTES = 16 << 20
_DELIMITERS = "\t,;|"
_NULLS = ["", "NULL", "null", "NA", "N/A", "NaN", "nan", "\\N", "None", "#N/A"]


@dataclass(slots=True)
class Piece:
    """Some rows of a table."""

    frame: pl.DataFrame
    """The columns asked for (text from CSV, whatever is stored from Parquet; null where the table lacks one), and
    LINE."""
    lines: int
    """Rows of the span up to here, broken ones included."""
    broken: list[tuple[int, str]] = field(default_factory=list)
    """(line, reason) of the rows that could not be read."""


def is_table(path: Path) -> bool:
    """Return whether a file's name is that of a table."""
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    return plain.suffix.lower() in DELIMITED or path.suffix.lower() == PARQUET


def columns(path: Path) -> list[str]:
    """Return the names of a table's columns as written; empty if it cannot be read."""
    try:
        if path.suffix.lower() == PARQUET:
            return list(pq.read_schema(path).names)
        with open_plain(path) as stream:
            return _header(stream.readline(1 << 20))[0]
    except UNREADABLE:
        return []


def plan(source: str, path: Path, anchor: str, option: str = "") -> list[Unit]:
    """Cut a table into units of some tens of megabytes, the same ones every time."""
    name = str(path)
    if path.suffix.lower() == PARQUET:
        try:
            rows = pq.read_metadata(path).num_rows
        except UNREADABLE:
            return [Unit(source, (Span(name),), path.stat().st_size, anchor, option)]
        cuts = [*range(0, rows, _UNIT_ROWS), rows] if rows else [0, 0]
        spans = [Span(name, low, high) for low, high in pairwise(cuts)]
        return [Unit(source, (span,), (span.stop - span.start) * _ROW_BYTES, anchor, option) for span in spans]
    size = path.stat().st_size
    if path.suffix == ".gz":
        return [Unit(source, (Span(name),), size * _GZIP_RATIO * _WEIGHT, anchor, option)]
    cuts = [0, *_cuts(path, size), size]
    spans = [Span(name, low, high) for low, high in pairwise(cuts)]
    return [Unit(source, (span,), (span.stop - span.start) * _WEIGHT, anchor, option) for span in spans]


def read(span: Span, wanted: list[str]) -> Iterator[Piece]:
    """Yield the rows of a span of a table. Column names match whatever their case.

    Bytes that break off or are no table end the reading with a broken row; nothing is raised.
    """
    path = Path(span.path)
    last = 0
    try:
        pieces = _parquet(path, span, wanted) if path.suffix.lower() == PARQUET else _delimited(path, span, wanted)
        for piece in pieces:
            last = piece.lines
            yield piece
    except UNREADABLE:
        yield Piece(_empty(wanted), last + 1, [(last, "file cannot be read further")])


def _parquet(path: Path, span: Span, wanted: list[str]) -> Iterator[Piece]:
    file = pq.ParquetFile(path)
    found = _matched(list(file.schema_arrow.names), wanted)
    stop = span.stop if span.stop >= 0 else file.metadata.num_rows
    start, lines = 0, 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        low, high = max(span.start - start, 0), min(stop - start, rows)
        start += rows
        if low >= high:
            continue
        at = 0
        for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=list(found.values())):
            part = batch.slice(max(low - at, 0), max(min(high - at, batch.num_rows) - max(low - at, 0), 0))
            at += batch.num_rows
            if part.num_rows:
                # Arrow's view types and dictionaries of others' writers come in as what they stand for.
                frame = _named(pl.DataFrame(part), found, wanted)
                yield Piece(frame.with_row_index(LINE, lines).cast({LINE: pl.Int64}), lines + part.num_rows)
                lines += part.num_rows


def _delimited(path: Path, span: Span, wanted: list[str]) -> Iterator[Piece]:
    opened: Unpacked | Part
    with open_plain(path) as stream:
        first = stream.readline(1 << 20)
        if path.suffix == ".gz":
            opened = Unpacked(path)
        else:
            stream.seek(span.start)
            rest = stream.read(span.stop - span.start if span.stop >= 0 else -1)
            opened = Part(first + rest if span.start else rest)
    names, delimiter = _header(first)
    lines = 0
    for piece in _records(opened, delimiter, _matched(names, wanted), wanted):
        lines = piece.lines
        yield piece
    if opened.early:
        yield Piece(_empty(wanted), lines + 1, [(lines, "gzip ends early")])


def _records(opened: Unpacked | Part, delimiter: str, found: dict[str, str], wanted: list[str]) -> Iterator[Piece]:
    refused: list[int] = []

    def refuse(row: pc.InvalidRow) -> str:
        refused.append(row.number - 2)  # the header is row 1
        return "skip"

    try:
        reader = pc.open_csv(
            opened,
            read_options=pc.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
            parse_options=pc.ParseOptions(
                delimiter=delimiter,
                quote_char=False if delimiter == "\t" else '"',
                invalid_row_handler=refuse,
                newlines_in_values=True,
            ),
            convert_options=pc.ConvertOptions(
                include_columns=list(found.values()),
                column_types=dict.fromkeys(found.values(), pa.string()),
                strings_can_be_null=True,
                null_values=_NULLS,
            ),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV" in str(error):
            return  # a header and nothing below it
        raise
    lines = 0
    for batch in reader:
        stop = lines + batch.num_rows
        broken: list[tuple[int, str]] = []
        refused.sort()
        while refused and refused[0] <= stop:
            broken.append((refused.pop(0), "malformed"))
            stop += 1
        numbers = np.arange(lines, stop)
        if broken:
            numbers = np.setdiff1d(numbers, [line for line, _ in broken], assume_unique=True)
        frame = _named(pl.DataFrame(batch), found, wanted).with_columns(pl.Series(LINE, numbers, dtype=pl.Int64))
        yield _legible(frame, stop, broken) if opened.replaced else Piece(frame, stop, broken)
        lines = stop
    if refused:
        yield Piece(_empty(wanted), lines + len(refused), [(line, "malformed") for line in sorted(refused)])


def _legible(frame: pl.DataFrame, stop: int, broken: list[tuple[int, str]]) -> Piece:
    """Return a piece without the rows in which bytes that are no UTF-8 had to be replaced."""
    spoilt = pl.any_horizontal(pl.col(pl.String).str.contains(REPLACEMENT, literal=True).fill_null(False))
    wrong = [(line, "not UTF-8") for line in frame.filter(spoilt).get_column(LINE)]
    return Piece(frame.filter(~spoilt), stop, broken + wrong)


def _header(line: bytes) -> tuple[list[str], str]:
    """Return the names in a table's first line, and what stands between them."""
    words = line.decode("utf-8-sig").rstrip("\r\n")
    delimiter = max(_DELIMITERS, key=words.count)
    if delimiter not in words:
        delimiter = ","
    return next(csv.reader([words], delimiter=delimiter), []), delimiter


def _matched(names: list[str], wanted: list[str]) -> dict[str, str]:
    """Return {wanted column: its name in the table} of the columns that are there."""
    present = {name.strip().lower(): name for name in reversed(names)}
    found = {name: present[name.lower()] for name in wanted if name.lower() in present}
    if not found:
        raise ValueError("none of the columns")
    return found


def _named(frame: pl.DataFrame, found: dict[str, str], wanted: list[str]) -> pl.DataFrame:
    return frame.select(
        (pl.col(found[name]) if name in found else pl.lit(None, pl.String)).alias(name) for name in wanted
    )


def _empty(wanted: list[str]) -> pl.DataFrame:
    return pl.DataFrame(schema={**dict.fromkeys(wanted, pl.String), LINE: pl.Int64})


def _cuts(path: Path, size: int) -> Iterator[int]:
    """Yield where a CSV can be cut: after a line that ends outside of quotes, every _UNIT_BYTES or so."""
    with open(path, "rb") as stream:
        at = stream.tell()
        while at + _UNIT_BYTES < size:
            block = stream.read(_UNIT_BYTES)
            inside = block.count(b'"') & 1
            more = 0
            while (line := stream.readline(_BLOCK_BYTES)) and more < _UNIT_BYTES:
                more += len(line)
                inside ^= line.count(b'"') & 1
                # A quote that never closes is a stray one: past a unit's size the line's end counts.
                if line.endswith(b"\n") and not inside:
                    break
            at = stream.tell()
            if at < size:
                yield at
