"""Where the tables of an OMOP export stand: files or folders of parts named after them, or one SQLite database."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl

from lifechart.core.errors import InputError
from lifechart.data.sources import Span, Unit, frames
from lifechart.data.sources.frames import Piece

_PREFIXES = ("", "omop_", "cdm_")
_PART = re.compile(r"([_.-]?\d+)?")
_MAGIC = b"SQLite format 3\0"
_ROWS = 300_000
_BATCH = 100_000
_ROW_BYTES = 640
"""As frames reckons them."""


def is_database(path: Path) -> bool:
    """Return whether `path` is an SQLite file."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def files(root: Path, table: str) -> list[Path]:
    """Return the files of a table, sorted: `measurement.csv`, `MEASUREMENT.csv.gz`, `measurement_01.parquet`, or all
    tables in a folder `measurement/`."""
    if is_database(root):
        return [root] if table in _tables(root) else []
    if not root.is_dir():
        return []
    found: list[Path] = []
    for child in root.iterdir():
        if child.is_dir() and child.name.lower() == table:
            found += [part for part in child.rglob("*") if part.is_file() and frames.is_table(part)]
        elif child.is_file() and frames.is_table(child) and _names(child, table):
            found.append(child)
    return sorted(found)


def units(source: str, root: Path, table: str, anchor: str) -> list[Unit]:
    """Return the units of a table; the option of each is the export's root and the table's name."""
    option = f"{root}\n{table}"
    if is_database(root):
        cuts = spans(root, table)
        return [Unit(source, (span,), (span.stop - span.start) * _ROW_BYTES, anchor, option) for span in cuts]
    return [unit for file in files(root, table) for unit in frames.plan(source, file, anchor, option)]


def spans(root: Path, table: str) -> list[Span]:
    """Return what to read to have a whole table."""
    if not is_database(root):
        return [span for unit in units("", root, table, "") for span in unit.spans]
    if table not in _tables(root):
        return []
    name = _tables(root)[table]
    try:
        with closing(_connect(root)) as connection:
            last = connection.execute(f'SELECT max(rowid) FROM "{name}"').fetchone()[0] or 0
    except sqlite3.Error as error:
        raise InputError(table, type(error).__name__, "an SQLite table with row numbers that can be read") from None
    return [Span(str(root), low, min(low + _ROWS, last)) for low in range(0, last, _ROWS)]


def read(span: Span, table: str, wanted: list[str]) -> Iterator[Piece]:
    """Yield the rows of a span of a table, as frames.read does."""
    path = Path(span.path)
    if not is_database(path):
        yield from frames.read(span, wanted)
        return
    lines = 0
    try:
        for rows, names in _rows(path, span, table, wanted):
            data = {name: [_text(row[at]) for row in rows] for at, name in enumerate(names)}
            frame = pl.DataFrame(data, schema=dict.fromkeys(names, pl.String))
            missing = [pl.lit(None, pl.String).alias(name) for name in wanted if name not in names]
            numbered = frame.with_columns(missing).select(wanted).with_row_index(frames.LINE, lines)
            lines += frame.height
            yield Piece(numbered.cast({frames.LINE: pl.Int64}), lines)
    except (sqlite3.Error, UnicodeDecodeError):
        empty = pl.DataFrame(schema={**dict.fromkeys(wanted, pl.String), frames.LINE: pl.Int64})
        yield Piece(empty, lines + 1, [(lines, "file cannot be read further")])


def _rows(path: Path, span: Span, table: str, wanted: list[str]) -> Iterator[tuple[list[tuple[Any, ...]], list[str]]]:
    name = _tables(path)[table]
    with closing(_connect(path)) as connection:
        present = {row[1].lower(): row[1] for row in connection.execute(f'PRAGMA table_info("{name}")')}
        names = [column for column in wanted if column in present]
        listed = ", ".join(f'"{present[column]}"' for column in names) or "rowid"
        query = f'SELECT {listed} FROM "{name}" WHERE rowid > ? AND rowid <= ? ORDER BY rowid'
        cursor = connection.execute(query, (span.start, span.stop))
        while rows := cursor.fetchmany(_BATCH):
            yield rows, names


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else None if isinstance(value, bytes) else str(value)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)


def _tables(path: Path) -> dict[str, str]:
    try:
        with closing(_connect(path)) as connection:
            rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    except sqlite3.Error:
        return {}
    return {name.lower(): name for (name,) in rows}


def _names(path: Path, table: str) -> bool:
    stem = path.name.lower().split(".")[0]
    return any(
        stem.startswith(prefix + table) and _PART.fullmatch(stem.removeprefix(prefix + table)) for prefix in _PREFIXES
    )
