"""Reads FHIR resources from lines, documents or memory into rows, and says what became of each one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any

import orjson
import polars as pl

from lifechart.data.sources import (
    ENTRY_BITS,
    KEPT,
    NOT_MAPPED,
    QUARANTINED,
    ROWS,
    WITHDRAWN,
    Batch,
    Fault,
    documents,
)
from lifechart.data.sources.fhir_lines import LineReader, line_readers
from lifechart.data.sources.fhir_rows import Resource, Rows, Unusable
from lifechart.data.sources.fhir_types import HANDLERS, resource_types

UNKNOWN = "(unknown)"
"""The type of what could not be read far enough to tell."""
_OPENING, _SPACED_OPENING = b'{"resourceType":"', b'{"resourceType": "'
_STEP = 1 << ENTRY_BITS
_LONGEST_TYPE = 64
_LINE_ENDS = b"}\r"


@cache
def unread_types() -> frozenset[str]:
    """Return the resource types that are known and not mapped."""
    return resource_types() - HANDLERS.keys() - {"Bundle"}


@dataclass(slots=True)
class _Lines:
    """The lines of one type: how they are read fast (None: not at all), and how many were."""

    type: str
    read: LineReader | None
    number: int = 0


_NO_OPENING: tuple[bytes, _Lines | None] = (b"\n", None)
# Opens no line.


class Reader:
    """Turns resources into rows and says what became of each. One for a unit, or for a chart."""

    def __init__(self, *, texts: bool = False) -> None:
        self.rows = Rows(texts=texts)
        self._kept = dict.fromkeys(HANDLERS, 0)
        self._others: Counter[tuple[str, str]] = Counter()
        self.withdrawn: Counter[tuple[str, str]] = Counter()
        self.faults: list[Fault] = []
        self.starts: list[int] = []
        self.lines = 0
        self._by_type: dict[bytes, _Lines] = {}
        # Filled by the first line of NDJSON: a live chart is read without.

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """(type, outcome) -> resources read since the last `take`."""
        found = self._others + Counter({(type_, KEPT): number for type_, number in self._kept.items()})
        for lines in self._by_type.values():
            if lines.number:
                found[lines.type, KEPT if lines.read else NOT_MAPPED] += lines.number
        return found

    def resource(self, r: Any, position: int) -> None:
        """Read one resource, or the resources of one bundle."""
        try:
            type_ = r["resourceType"]
            handler = HANDLERS.get(type_)
        except (TypeError, KeyError):
            self._fault(position, UNKNOWN, "not a resource")
            return
        if handler is None:
            if type_ == "Bundle":
                self._bundle(r, position)
            else:
                self._others[type_ if type_ in resource_types() else UNKNOWN, NOT_MAPPED] += 1
            return
        rows = self.rows
        rows.position = position
        before = len(rows.rows)
        try:
            if not isinstance(r.get("id"), (str, NoneType)):
                raise Unusable("id is not a string")
            status = handler(rows, r)
            if (meta := r.get("meta")) is not None:
                rows.version(position, meta.get("lastUpdated"), meta.get("versionId"))
        except Unusable as error:
            rows.take_back(before)
            self._fault(position, type_, str(error))
        except (KeyError, TypeError, AttributeError, ValueError, IndexError, OverflowError):
            rows.take_back(before)
            self._fault(position, type_, "malformed")
        else:
            if status is None:
                self._kept[type_] += 1
            else:
                self._withdrawn(type_, status)

    def block(self, block: bytes, too_long: bool) -> None:
        """Read whole lines of NDJSON; with `too_long`, the last of them is not all there.

        A line of a type that is not mapped is counted and neither copied nor parsed; a line whose opening names a type
        that can be is read the fast way; every other is parsed whole.
        """
        if not self._by_type:
            self._prepare()
        at, end, position, rows = 0, len(block), self.lines << ENTRY_BITS, self.rows
        find, opens = block.find, block.startswith
        opening, lines = _NO_OPENING
        while at < end:
            stop = find(b"\n", at)
            stop = end if stop < 0 else stop
            if too_long and stop >= end - 1:
                self._fault(position, UNKNOWN, "line too long")
                position += _STEP
                break
            if not opens(opening, at):
                opening, lines = self._opening(block, at)
            if lines is None:
                if stop > at:
                    self._whole(block[at:stop], position)
            elif lines.read is None:
                if block[stop - 1] in _LINE_ENDS:
                    lines.number += 1
                else:
                    self._whole(block[at:stop], position)
            else:
                line = block[at:stop]
                rows.position = position
                try:
                    if not line.isascii():
                        line.decode()
                    status = lines.read(line)
                except Exception:
                    # Whatever it is, the general reader meets it again and says what becomes of the line.
                    self._whole(line, position)
                else:
                    if status is None:
                        lines.number += 1
                    else:
                        self._withdrawn(lines.type, status)
            at, position = stop + 1, position + _STEP
        self.lines = position >> ENTRY_BITS

    def _opening(self, block: bytes, at: int) -> tuple[bytes, _Lines | None]:
        """Return how the line at `at` opens up to the end of its type's name, and the lines of that type."""
        for opening in (_OPENING, _SPACED_OPENING):
            if block.startswith(opening, at):
                start = at + len(opening)
                stop = block.find(b'"', start, start + _LONGEST_TYPE)
                lines = self._by_type.get(block[start:stop])
                if lines is not None:
                    return block[at : stop + 1], lines
        return _NO_OPENING

    def _prepare(self) -> None:
        self._by_type |= {type_.encode(): _Lines(type_, None) for type_ in unread_types()}
        self._by_type |= {type_.encode(): _Lines(type_, read) for type_, read in line_readers(self.rows).items()}

    def _whole(self, line: bytes, position: int) -> None:
        """Parse a line whole and read it as any resource is."""
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            self._unparsed(line, position)
        else:
            self.resource(value, position)

    def _withdrawn(self, type_: str, status: str) -> None:
        self._others[type_, WITHDRAWN] += 1
        self.withdrawn[type_, status] += 1

    def document(self, path: Path) -> None:
        """Read a whole file: a bundle, a resource, or a list of resources."""
        position = self.lines << ENTRY_BITS
        self.lines += 1
        try:
            content = documents.read_document(path)
        except documents.EndsEarly:
            self._fault(position, UNKNOWN, "gzip ends early")
            return
        if content is None:
            self._fault(position, UNKNOWN, "document too large")
        elif not content.strip():
            self._fault(position, UNKNOWN, "empty file")
        else:
            try:
                value = orjson.loads(content)
            except orjson.JSONDecodeError:
                self._unparsed(content, position)
                return
            if isinstance(value, dict) and "transactionTime" in value:
                return  # the export's own manifest, which record_end reads
            for entry, item in enumerate(value if isinstance(value, list) else [value]):
                self.resource(item, position + entry)

    def ends_early(self) -> None:
        """Note that a gzip stream broke off after the lines read so far."""
        self._fault(self.lines << ENTRY_BITS, UNKNOWN, "gzip ends early")
        self.lines += 1

    def take(self) -> Batch:
        """Return what was read since the last call."""
        rows = self.rows
        batch = Batch(
            rows=frame_of(rows),
            counts=self.counts,
            withdrawn=self.withdrawn,
            faults=self.faults,
            linked=rows.linked,
            starts=self.starts,
            lines=self.lines,
        )
        # Emptied in place: the readers of lines hold on to these.
        rows.rows.clear()
        rows.marks.clear()
        rows.versions.clear()
        rows.linked = {}
        self._kept, self._others = dict.fromkeys(HANDLERS, 0), Counter()
        for lines in self._by_type.values():
            lines.number = 0
        self.withdrawn, self.faults = Counter(), []
        return batch

    def _bundle(self, r: Resource, position: int) -> None:
        entries = r.get("entry") or []
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            self._fault(position, "Bundle", "malformed")
            return
        for entry in entries:
            inner, url = entry.get("resource"), entry.get("fullUrl")
            if url and isinstance(inner, dict) and isinstance(inner.get("id"), str) and not url.endswith(inner["id"]):
                self.rows.aliases[url] = inner["id"]
        for number, entry in enumerate(entries):
            inner = entry.get("resource")
            if isinstance(inner, dict) and inner.get("resourceType") == "Bundle":
                self._fault(position + number, "Bundle", "bundle within a bundle")
            elif inner is not None:
                self.resource(inner, position + number)

    def _unparsed(self, content: bytes, position: int) -> None:
        if not content.strip():
            return
        try:
            content.decode()
        except UnicodeDecodeError:
            self._fault(position, UNKNOWN, "not UTF-8")
        else:
            self._fault(position, UNKNOWN, "not JSON")

    def _fault(self, position: int, type_: str, reason: str) -> None:
        self._others[type_, QUARANTINED] += 1
        self.faults.append(Fault(position, type_, reason))


def frame_of(rows: Rows) -> pl.DataFrame:
    """Return the rows read so far with the columns ROWS."""
    if not rows.rows:
        return pl.DataFrame(schema=ROWS)
    position, patient, identity, concept, time, value, unit, text, link = zip(*rows.rows, strict=True)
    numbers = pl.Series(concept, dtype=pl.UInt32)
    codes, names, kinds, types = zip(*rows.table, strict=True)
    frame = pl.DataFrame(
        {
            "patient": pl.Series(rows.patient_ids(), dtype=pl.String).gather(pl.Series(patient, dtype=pl.UInt32)),
            "resource": pl.Series(identity, dtype=pl.String, strict=False),
            "position": pl.Series(position, dtype=pl.Int64),
            "type": pl.Series(types, dtype=pl.String).gather(numbers),
            "time": pl.Series(time, dtype=pl.Int64).cast(pl.Datetime("us")),
            "code": pl.Series(codes, dtype=pl.String).gather(numbers),
            "name": pl.Series(names, dtype=pl.String, strict=False).gather(numbers),
            "kind": pl.Series(kinds, dtype=pl.String).gather(numbers),
            "numeric_value": pl.Series(value, dtype=pl.Float64, strict=False).cast(pl.Float32, strict=False),
            "unit": pl.Series(unit, dtype=pl.String, strict=False),
            "text_value": pl.Series(text, dtype=pl.String, strict=False),
            "link": pl.Series(link, dtype=pl.String),
        }
    )
    if rows.versions:
        schema = {"position": pl.Int64, "updated": pl.String, "revision": pl.Int64}
        versions = pl.DataFrame(rows.versions, schema=schema, orient="row", strict=False)
        frame = frame.join(versions, on="position", how="left", maintain_order="left")
    else:
        frame = frame.with_columns(updated=pl.lit(None, pl.String), revision=pl.lit(None, pl.Int64))
    return frame.with_columns(_marks(rows)).select(list(ROWS))


def _marks(rows: Rows) -> list[pl.Series | pl.Expr]:
    """Return the columns of `Rows.marks`."""
    names = ("comparator", "low", "high", "flag")
    if not rows.marks:
        return [pl.lit(None, ROWS[name]).alias(name) for name in names]
    columns: list[list[Any]] = [[None] * len(rows.rows) for _ in names]
    for number, marks in rows.marks.items():
        for column, mark in zip(columns, marks, strict=True):
            column[number] = mark
    return [pl.Series(name, column, ROWS[name], strict=False) for name, column in zip(names, columns, strict=True)]
