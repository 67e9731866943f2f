"""The source `pathology`: synoptic reports of tumours, one a row or a line, in `pathology*` or `synoptic*` files.

Fields: patient, time (of the report), if there is one id, and those of tumour_fields.toml; `report` is the text as it
was written, a row of the kind `note`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from lifechart.data.sources import ENTRY_BITS, KEPT, QUARANTINED, ROWS, Batch, Fault, Unit, cells, flat, tumours
from lifechart.data.sources.frames import LINE

TYPE = "tumour report"
REPORT = "LOINC//60568-3"
"""Pathology synoptic report."""
OF_RECORD: flat.Fields = {
    "patient": ("patient", "patient_id", "subject_id", "person_id", "mrn"),
    "time": ("time", "date", "report_date", "signed_out", "specimen_date", "collected"),
    "id": ("id", "report_id", "accession"),
    "report": ("report", "text", "report_text", "diagnosis_text"),
}


class Pathology:
    """The source `pathology`; its option may name a YAML with the columns' names."""

    name = "pathology"

    def detects(self, path: Path) -> bool:
        """Return whether there is a table of reports that names a topography or a morphology."""
        return any(
            {"patient", "time"} <= (there := set(flat.present(file, _fields())))
            and there & {"topography", "morphology"}
            for file in _tables(path)
        )

    def files(self, path: Path, option: str = "") -> list[Path]:
        """Return the tables, sorted, and the option's file."""
        return sorted({*_tables(path), *([Path(option)] if option else [])})

    def units(self, path: Path, option: str = "") -> list[Unit]:
        """Divide the tables into units."""
        flat.renamed(_fields(), option)
        return [unit for file in _tables(path) for unit in flat.plan(self.name, file, option)]

    def record_end(self, path: Path, option: str = "") -> str | None:
        """Return None: reports do not say."""
        return None

    def read(self, unit: Unit) -> Iterator[Batch]:
        """Read a part of a table."""
        for records in flat.read(unit.spans[0], flat.renamed(_fields(), unit.option)):
            yield _batch(records)


def _tables(path: Path) -> list[Path]:
    return flat.find(path, "pathology", "synoptic")


def _fields() -> flat.Fields:
    return {**OF_RECORD, **{name: field.names for name, field in tumours.fields().items()}}


def _batch(records: flat.Records) -> Batch:
    rows: list[dict[str, Any]] = []
    faults = [Fault(line << ENTRY_BITS, TYPE, reason) for line, reason in records.broken]
    counts: Counter[tuple[str, str]] = Counter()
    timed = records.frame.with_columns(at=cells.moment("time", records.frame))
    for record in timed.iter_rows(named=True):
        position = record[LINE] << ENTRY_BITS
        found = tumours.events(record)
        if record["report"]:
            found.append({"code": REPORT, "name": "Pathology report", "kind": "note", "text_value": record["report"]})
        reason = _wrong(record, found)
        if reason:
            faults.append(Fault(position, TYPE, reason))
            continue
        shared = {
            "patient": record["patient"],
            "resource": record["id"],
            "position": position,
            "type": TYPE,
            "time": record["at"],
        }
        rows += [shared | event for event in found]
        counts[TYPE, KEPT] += 1
    counts[TYPE, QUARANTINED] += len(faults)
    frame = pl.DataFrame(rows, schema=ROWS)
    return Batch(frame, counts, faults=faults, starts=[0], lines=records.lines)


def _wrong(record: dict[str, Any], found: list[dict[str, Any]]) -> str:
    if not record["patient"]:
        return "no patient"
    if not record["time"]:
        return "no date"
    if record["at"] is None:
        return "date not valid"
    return "" if found else "nothing that is read"


source = Pathology()
