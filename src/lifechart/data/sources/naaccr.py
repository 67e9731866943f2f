"""The source `naaccr`: a tumour registry's records, as NAACCR XML or as CSV whose header names items by number or id.

naaccr_items.csv says which items are read, naaccr_values.csv what their coded values stand for; what a tumour's fields
then mean is tumour_fields.toml, as for pathology reports. XML with a document type, and so with entities of its own, is
refused.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from calendar import monthrange
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import polars as pl
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from lifechart.core.timeline import BIRTH, DEATH
from lifechart.data.deaths import TUMOUR
from lifechart.data.deaths import TUMOUR_PATIENT as PATIENT
from lifechart.data.sources import (
    ENTRY_BITS,
    KEPT,
    NOT_MAPPED,
    QUARANTINED,
    ROWS,
    Batch,
    Fault,
    Span,
    Unit,
    flat,
    tumours,
)
from lifechart.data.sources.frames import LINE

_BATCH_ROWS = 100_000
_UNREADABLE = (
    ParseError,
    DefusedXmlException,
    OSError,
    EOFError,
    zlib.error,
    UnicodeDecodeError,
    LookupError,
    ValueError,
)
_NO_CAUSE = ("0000", "7777", "7797")
"""Alive; no death certificate; certificate without a cause."""
_REVISIONS = {"1": "ICD10", "9": "ICD9CM"}
Record = dict[str, str | None]


@dataclass(slots=True)
class _Reader:
    rows: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    lines: int = 0

    def fault(self, type_: str, reason: str) -> None:
        """Note that the record at hand could not be used."""
        self.faults.append(Fault(self.lines << ENTRY_BITS, type_, reason))
        self.counts[type_, QUARANTINED] += 1

    def patient(self, record: Record) -> None:
        """Give birth, sex and death, of a record that holds them alone."""
        found = _of_patient(record)
        if not record.get("patient"):
            self.fault(PATIENT, "no patient")
            return
        self.counts[PATIENT, KEPT if found else NOT_MAPPED] += 1
        for event in found:
            self._row(record, event, PATIENT)

    def tumour(self, record: Record, *, with_patient: bool = False) -> None:
        """Give what a tumour's record says; `with_patient`: and what stands in the same record of its patient."""
        written = record.get("time")
        time = moment(written) if written else None
        found = tumours.events(_tumour_fields(record))
        if not record.get("patient"):
            self.fault(TUMOUR, "no patient")
        elif time is None:
            self.fault(TUMOUR, "date not valid" if written else "no date")
        elif not found:
            self.fault(TUMOUR, "nothing that is read")
        else:
            for event in (
                *(_of_patient(record) if with_patient else ()),
                *({**event, "time": time} for event in found),
            ):
                self._row(record, event, TUMOUR)
            self.counts[TUMOUR, KEPT] += 1

    def take(self) -> Batch:
        """Return what was read since the last call."""
        batch = Batch(
            pl.DataFrame(self.rows, schema=ROWS), self.counts, faults=self.faults, starts=[0], lines=self.lines
        )
        self.rows, self.counts, self.faults = [], Counter(), []
        return batch

    def _row(self, record: Record, event: dict[str, Any], type_: str) -> None:
        self.rows.append(event | {"patient": record["patient"], "position": self.lines << ENTRY_BITS, "type": type_})


class Naaccr:
    """The source `naaccr`."""

    name = "naaccr"

    def detects(self, path: Path) -> bool:
        """Return whether there is a NAACCR document, or a table with its items."""
        return bool(self.files(path))

    def files(self, path: Path, option: str = "") -> list[Path]:
        """Return the documents and tables, sorted."""
        found = [path] if path.is_file() else path.rglob("*")
        return sorted(file for file in found if file.is_file() and _is_ours(file))

    def units(self, path: Path, option: str = "") -> list[Unit]:
        """Return a unit for each document, and the parts of each table."""
        units: list[Unit] = []
        for file in self.files(path):
            whole = Unit(self.name, (Span(str(file)),), 1 + file.stat().st_size // 4)
            units += [whole] if _is_xml(file) else flat.plan(self.name, file, option)
        return units

    def record_end(self, path: Path, option: str = "") -> str | None:
        """Return None: a registry's abstracts do not say."""
        return None

    def read(self, unit: Unit) -> Iterator[Batch]:
        """Read a document, or a part of a table."""
        reader = _Reader()
        if not _is_xml(Path(unit.spans[0].path)):
            for records in flat.read(unit.spans[0], _columns()):
                for line, reason in records.broken:
                    reader.lines = line
                    reader.fault(TUMOUR, reason)
                for record in records.frame.iter_rows(named=True):
                    reader.lines = record.pop(LINE)
                    reader.tumour(record, with_patient=True)
                reader.lines = records.lines
                yield reader.take()
            return
        try:
            for patient, found in _patients(Path(unit.spans[0].path)):
                reader.patient(patient)
                reader.lines += 1
                for tumour in found:
                    reader.tumour(patient | tumour)
                    reader.lines += 1
                if len(reader.rows) > _BATCH_ROWS:
                    yield reader.take()
        except _UNREADABLE:
            reader.fault(PATIENT, "file cannot be read further")
            reader.lines += 1
        yield reader.take()


def _patients(path: Path) -> Iterator[tuple[Record, list[Record]]]:
    """Yield each patient's items and those of each tumour, as they are met."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
        for _, element in iterparse(stream, events=("end",), forbid_dtd=True):
            if _local(element) == "Patient":
                yield _items(element), [_items(child) for child in element if _local(child) == "Tumor"]
                element.clear()


def _items(element: Element) -> Record:
    known = {row["naaccr_id"]: row["field"] for row in _table("naaccr_items.csv")}
    numbers = {row["item"]: row["field"] for row in _table("naaccr_items.csv")}
    record: Record = {}
    for child in element:
        name = known.get(child.get("naaccrId", "")) or numbers.get(child.get("naaccrNum", ""))
        if _local(child) == "Item" and name and (text := (child.text or "").strip()):
            record[name] = text
    return record


def _of_patient(record: Record) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    born = moment(record.get("birth") or "", start=True)
    if born:
        found.append({"code": BIRTH, "name": "Birth", "kind": "demographic", "time": born})
    sex = _value("sex", record.get("sex"))
    if sex:
        found.append({"code": f"GENDER//{sex}", "name": sex.capitalize(), "kind": "demographic"})
    died = moment(record.get("last_contact") or "")
    if died and _value("vital_status", record.get("vital_status")) == "dead":
        found.append({"code": DEATH, "name": "Death", "kind": "death", "time": died})
        cause = (record.get("cause") or "").upper()
        system = _REVISIONS.get(record.get("cause_revision") or "")
        if system and cause not in _NO_CAUSE and re.fullmatch(r"[A-Z0-9]{3,5}", cause):
            dotted = f"{cause[:3]}.{cause[3:]}" if len(cause) > 3 else cause
            found.append({"code": f"DEATH_CAUSE//{system}//{dotted}", "kind": "death", "time": died})
    return found


def _tumour_fields(record: Record) -> Record:
    """Return a tumour's items in the form that tumour_fields.toml reads."""
    fields = dict(record)
    site, histology = record.get("topography") or "", record.get("histology") or ""
    fields["topography"] = f"{site[:3]}.{site[3:]}" if re.fullmatch(r"C\d{3}", site) else site
    fields["morphology"] = f"{histology}/{record.get('behaviour') or ''}"
    fields["grade"] = record.get("grade_pathological") or record.get("grade")
    for name in ("laterality", "estrogen_receptor", "progesterone_receptor", "her2"):
        fields[name] = _value(name, record.get(name))
    # Counts from 90 and sizes from 989 are codes for what is not known exactly.
    for name, least in (("nodes_positive", 90), ("nodes_examined", 90), ("size", 989)):
        stated = record.get(name) or ""
        fields[name] = stated if stated.isascii() and stated.isdecimal() and int(stated[:9]) < least else None
    return fields


def moment(text: str, *, start: bool = False) -> datetime | None:
    """Return the time that `20150601`, `201506` or `2015` stands for: its end, or its start.

    >>> moment("201506"), moment("2015", start=True)
    (datetime.datetime(2015, 6, 30, 23, 59, 59), datetime.datetime(2015, 1, 1, 0, 0))
    """
    digits = text.replace("-", "").strip()
    if not re.fullmatch(r"[12]\d{3}(\d{2}){0,2}", digits, re.ASCII):
        return None
    year, month, day = int(digits[:4]), int(digits[4:6] or (1 if start else 12)), int(digits[6:8] or 0)
    try:
        if start:
            return datetime(year, month, day or 1)  # noqa: DTZ001 -- naive wall clock, as everywhere
        return datetime(year, month, day or monthrange(year, month)[1], 23, 59, 59)  # noqa: DTZ001
    except ValueError:
        return None


@cache
def _table(name: str) -> tuple[dict[str, str], ...]:
    content = resources.files("lifechart.data.sources").joinpath(name).read_text(encoding="utf-8")
    return tuple(csv.DictReader(content.splitlines()))


@cache
def _values() -> dict[tuple[str, str], str]:
    return {(row["field"], row["value"]): row["written"] for row in _table("naaccr_values.csv")}


def _value(name: str, code: str | None) -> str | None:
    return _values().get((name, code or ""))


@cache
def _columns() -> flat.Fields:
    return {row["field"]: (row["naaccr_id"].lower(), row["item"]) for row in _table("naaccr_items.csv")}


def _local(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _is_xml(path: Path) -> bool:
    return path.name.endswith((".xml", ".xml.gz"))


def _is_ours(path: Path) -> bool:
    if not _is_xml(path):
        return flat.is_flat(path) and {"patient", "time", "topography"} <= set(flat.present(path, _columns()))
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            return b"<NaaccrData" in stream.read(4096)
    except (OSError, EOFError, zlib.error):
        return False


source = Naaccr()
