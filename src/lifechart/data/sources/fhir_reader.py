"""Reads FHIR resources from lines, documents or memory into rows, and says what became of each one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
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
from lifechart.data.sources.fhir_rows import Resource, Rows, Unusable
from lifechart.data.sources.fhir_types import HANDLERS

UNKNOWN = "(unknown)"
"""The type of what could not be read far enough to tell."""
_PREFIX = b'{"resourceType":"'
_STEP = 1 << ENTRY_BITS


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
        self._skip: tuple[bytes, ...] = ()
        # Openings of lines whose type is not mapped: such a line is counted and not parsed.

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """(type, outcome) -> resources read since the last `take`."""
        return self._others + Counter({(type_, KEPT): number for type_, number in self._kept.items()})

    def resource(self, r: Any, position: int) -> str | None:
        """Read one resource, or the resources of one bundle; return the type if it is not mapped."""
        try:
            type_ = r["resourceType"]
            handler = HANDLERS.get(type_)
        except (TypeError, KeyError):
            self._fault(position, UNKNOWN, "not a resource")
            return None
        if handler is None:
            if type_ == "Bundle":
                self._bundle(r, position)
                return None
            self._others[str(type_), NOT_MAPPED] += 1
            return str(type_)
        rows = self.rows
        rows.position = position
        before = len(rows.rows)
        try:
            status = handler(rows, r)
            meta = r.get("meta")
            if meta is not None:
                updated, version = meta.get("lastUpdated"), meta.get("versionId")
                if updated or version:
                    number = int(version) if version and version.isdigit() else None
                    rows.versions.append((position, updated, number))
        except Unusable as error:
            del rows.rows[before:]
            self._fault(position, type_, str(error))
        except (KeyError, TypeError, AttributeError, ValueError, IndexError):
            del rows.rows[before:]
            self._fault(position, type_, "malformed")
        else:
            if status is None:
                self._kept[type_] += 1
            else:
                self._others[type_, WITHDRAWN] += 1
                self.withdrawn[type_, status] += 1
        return None

    def block(self, lines: documents.Lines) -> None:
        """Read a block of NDJSON lines."""
        loads, one, skip = orjson.loads, self.resource, self._skip
        position = self.lines << ENTRY_BITS
        for line in lines:
            if not line:
                if line is None:
                    self._fault(position, UNKNOWN, "line too long")
            elif line.startswith(skip) and line.endswith((b"}", b"}\r")):
                self._others[line[17 : line.find(b'"', 17)].decode(), NOT_MAPPED] += 1
            else:
                try:
                    value = loads(line)
                except orjson.JSONDecodeError:
                    self._unparsed(line, position)
                else:
                    unmapped = one(value, position)
                    if unmapped is not None and line.startswith(_PREFIX):
                        skip = self._skip = (*skip, _PREFIX + unmapped.encode() + b'"')
            position += _STEP
        self.lines += len(lines)

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
        rows.rows, rows.versions, rows.linked = [], [], {}
        self._kept, self._others = dict.fromkeys(HANDLERS, 0), Counter()
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
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in ROWS.items() if name not in frame.columns]
    return frame.with_columns(absent).select(list(ROWS))
