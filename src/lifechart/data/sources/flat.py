"""Flat records, one a row or a line, under names that differ from house to house: CSV, Parquet or NDJSON.

A source lists the fields that it reads and the names by which they go; a YAML file named as the source's option can say
`columns: {patient: PATNR}` where a hospital has other ones. Columns that no field goes by are not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson
import polars as pl
import yaml

from lifechart.core.errors import InputError
from lifechart.data.sources import ENTRY_BITS, Span, Unit, cells, documents, frames
from lifechart.data.sources.frames import LINE, Piece

Fields = Mapping[str, tuple[str, ...]]
"""Field -> the names of its column, the first that is there counts."""
_LOOK = 1 << 20


@dataclass(slots=True)
class Records:
    """Some records: a frame with a text column a field, `line`; and what was broken."""

    frame: pl.DataFrame
    lines: int
    broken: list[tuple[int, str]]


def is_flat(path: Path) -> bool:
    """Return whether a file's name is that of a table or of NDJSON."""
    return frames.is_table(path) or _holds_lines(path)


def find(path: Path, *beginnings: str) -> list[Path]:
    """Return `path` if it is a file of flat records, or those in the folder whose names begin so, sorted."""
    if path.is_file():
        return [path] if is_flat(path) and _begins(path, beginnings) else []
    return sorted(file for file in path.rglob("*") if file.is_file() and is_flat(file) and _begins(file, beginnings))


def columns(path: Path) -> list[str]:
    """Return the names of a file's columns (of NDJSON, the keys of its first line); empty if it cannot be read."""
    if not _holds_lines(path):
        return frames.columns(path)
    try:
        first = orjson.loads(documents.opening(path).split(b"\n")[0])
    except (orjson.JSONDecodeError, OSError):
        return []
    return list(first) if isinstance(first, dict) else []


def present(path: Path, fields: Fields) -> dict[str, str]:
    """Return {field: its column} of the fields that a file has."""
    there = {name.strip().lower(): name for name in reversed(columns(path))}
    found = {field: next((there[name] for name in names if name in there), None) for field, names in fields.items()}
    return {field: column for field, column in found.items() if column is not None}


def renamed(fields: Fields, option: str, known: Fields | None = None) -> Fields:
    """Return the fields as a hospital's own file names them; raises InputError that names the key.

    `known`: all fields that the file may speak of, where that is more than `fields`.
    """
    if not option:
        return fields
    path = Path(option)
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError("mapping", str(path), "a YAML file") from error
    own = content.get("columns") if isinstance(content, dict) else None
    if not isinstance(own, dict) or not all(isinstance(name, str) for name in own.values()):
        raise InputError(f"{path}: columns", own, f"names of columns for any of {sorted(fields)}")
    if unknown := sorted(set(own) - set(known or fields)):
        raise InputError(f"{path}: columns", unknown, f"any of {sorted(known or fields)}")
    return {field: (own[field].lower(),) if field in own else names for field, names in fields.items()}


def plan(source: str, path: Path, option: str) -> list[Unit]:
    """Cut a file into units."""
    if not _holds_lines(path):
        return frames.plan(source, path, "", option)
    return [Unit(unit.source, unit.spans, unit.size, "", option) for unit in documents.plan(source, [path], "")]


def read(span: Span, fields: Fields) -> Iterator[Records]:
    """Yield the records of a span; nothing is raised."""
    path = Path(span.path)
    known = present(path, fields)
    if not known:
        yield Records(_empty(fields), 1, [(0, "none of the columns")])
    elif _holds_lines(path):
        yield from _lines(span, fields)
    else:
        for piece in frames.read(span, list(known.values())):
            yield _named(piece, fields, known)


def position(frame: pl.DataFrame) -> pl.Expr:
    """Return where each record stands."""
    return pl.col(LINE) * (1 << ENTRY_BITS)


def _named(piece: Piece, fields: Fields, known: dict[str, str]) -> Records:
    expressions = [
        (cells.text(known[field], piece.frame) if field in known else pl.lit(None, pl.String)).alias(field)
        for field in fields
    ]
    return Records(piece.frame.select(*expressions, LINE), piece.lines, piece.broken)


def _lines(span: Span, fields: Fields) -> Iterator[Records]:
    lines = 0
    names = {name: field for field, listed in fields.items() for name in reversed(listed)}
    try:
        for block in documents.read_lines(span):
            found: list[dict[str, object]] = []
            broken: list[tuple[int, str]] = []
            for line in block:
                reason, record = _record(line, names)
                if reason:
                    broken.append((lines, reason))
                elif record is not None:
                    found.append(record | {LINE: lines})
                lines += 1
            yield Records(pl.DataFrame(found, schema=_empty(fields).schema), lines, broken)
    except documents.EndsEarly:
        yield Records(_empty(fields), lines + 1, [(lines, "gzip ends early")])


def _record(line: bytes | None, names: Mapping[str, str]) -> tuple[str, dict[str, object] | None]:
    """Return (what is wrong, {field: text}); neither for an empty line."""
    if line is None:
        return "line too long", None
    if not line.strip():
        return "", None
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return "not JSON", None
    if not isinstance(value, dict):
        return "malformed", None
    record: dict[str, object] = {}
    for key, item in value.items():
        field = names.get(key.strip().lower())
        if field is not None and record.get(field) is None:
            text = (
                item if isinstance(item, str) else None if isinstance(item, dict | list) or item is None else str(item)
            )
            record[field] = (text.strip() or None) if text else None
    return "", record


def _empty(fields: Fields) -> pl.DataFrame:
    return pl.DataFrame(schema={**dict.fromkeys(fields, pl.String), LINE: pl.Int64})


def _holds_lines(path: Path) -> bool:
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    return plain.suffix in documents.LINE_SUFFIXES


def _begins(path: Path, beginnings: tuple[str, ...]) -> bool:
    return path.name.lower().startswith(beginnings)
