"""Reads the header of a medical image: what becomes of it, and its events. The source is `dicom`, whose door is light:
what reads images is loaded when there are some.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import pydicom
from pydicom.dataset import Dataset

from lifechart.codes.systems import UNLISTED
from lifechart.core.timeline import BIRTH
from lifechart.data.deidentify.dicom import folder, instance, tables, values
from lifechart.data.sources import ENTRY_BITS, HELD_BACK, KEPT, NOT_MAPPED, QUARANTINED, ROWS, Batch, Fault, Unit

TYPE = "Image"
_SEXES = {"M": "male", "F": "female", "O": "other"}
_SYSTEMS = {"SCT": "SNOMED", "LN": "LOINC", "DCM": "DCM", "I10": "ICD10CM"}
"""Coding scheme designators of DICOM (PS3.16, table 8-1) to short names of codes.systems."""
_CLOCK = re.compile(r"([01]\d|2[0-3])(?:([0-5]\d)(?:([0-5]\d))?)?")


def patients_of(unit: Unit) -> dict[str, str]:
    """Return the patients that the unit's option names, a CSV (`folder.read_patients`)."""
    return folder.read_patients(Path(unit.option)) if unit.option else {}


def items_of(unit: Unit) -> Iterator[folder.Item]:
    """Yield the files, and what zipped files hold, of a unit."""
    return (item for span in unit.spans for item in folder.items(Path(span.path)))


def read(unit: Unit) -> Batch:
    """Read the headers of a unit's files."""
    patients = patients_of(unit)
    batch = Batch(pl.DataFrame(schema=ROWS))
    rows: list[dict[str, Any]] = []
    for span in unit.spans:
        batch.starts.append(batch.lines)
        for item in folder.items(Path(span.path)):
            position = batch.lines << ENTRY_BITS | max(0, item.member - 1)
            _read(item, position, patients, batch, rows)
        batch.lines += 1
    batch.rows = pl.DataFrame(rows, schema=ROWS, orient="row")
    return batch


def _read(item: folder.Item, position: int, patients: dict[str, str], batch: Batch, rows: list[dict[str, Any]]) -> None:
    """Add one file's rows to `rows`, and what became of it to the batch."""
    with instance.quiet():
        header = _header(item.content())
        try:
            outcome, reason = (QUARANTINED, "not DICOM") if header is None else _judge(header)
            made = _events(header, patients) if header is not None and outcome == KEPT else []
        except Exception:
            # Whatever pydicom stumbles over in a header, in whatever way: its words may quote the patient.
            outcome, reason, made = QUARANTINED, "malformed", []
    batch.counts[TYPE, outcome] += 1
    if outcome == QUARANTINED:
        batch.faults.append(Fault(position, TYPE, reason))
    empty = dict.fromkeys(ROWS)
    rows.extend(empty | {"position": position, "type": TYPE} | row for row in made)


def _header(content: Path | bytes) -> Dataset | None:
    try:
        source = content if isinstance(content, Path) else BytesIO(content)
        found = pydicom.dcmread(source, force=True, stop_before_pixels=True)
        return found if found.get("SOPClassUID") else None
    except Exception:
        return None


def _judge(header: Dataset) -> tuple[str, str]:
    """Return what becomes of an image by its header alone, and why."""
    known = tables.sop_classes().get(str(header.SOPClassUID))
    if str(header.SOPClassUID) == instance.DIRECTORY_CLASS or known is None:
        return NOT_MAPPED, ""
    if known.treatment != "image":
        return HELD_BACK, ""
    if not all(
        _text(header, name) for name in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    ):
        return QUARANTINED, "no patient or no UID"
    return KEPT, ""


def _events(header: Dataset, patients: dict[str, str]) -> list[dict[str, Any]]:
    patient = _text(header, "PatientID")
    shared: dict[str, Any] = {
        "patient": patients.get(patient, patient),
        "resource": _text(header, "SOPInstanceUID"),
        "kind": "imaging",
        "time": series_time(header),
    }
    made = [shared | {"code": code, "name": name} for code, name in _codes(header)]
    for keyword, unit, name in _facts():
        number = _number(header, keyword)
        if number is not None:
            made.append(shared | {"code": f"DICOM//{keyword}", "name": name, "numeric_value": number, "unit": unit})
    return made + [shared | {"kind": "demographic"} | fact for fact in _demographics(header)]


def series_time(header: Dataset) -> datetime | None:
    """Return when a series was made: its own date and time, else the study's, else the image's. A bare date is the end
    of that day, so that nothing is known too early."""
    for stem in ("Series", "Study", "Acquisition", "Content"):
        day = _date(header, f"{stem}Date")
        if day is not None:
            clock = _CLOCK.fullmatch(_text(header, f"{stem}Time").replace(":", "").partition(".")[0])
            if clock is None:
                return day.replace(hour=23, minute=59, second=59)
            hour, minute, second = (int(part or 0) for part in clock.groups())
            return day.replace(hour=hour, minute=minute, second=second)
    return None


def _codes(header: Dataset) -> Iterator[tuple[str, str | None]]:
    modality = values.terms(header.get("Modality"))
    yield (f"DCM//{modality[0]}", None) if modality else (f"{UNLISTED}//*", None)
    for item in header.get("ProcedureCodeSequence") or []:
        known = values.coded(_text(item, "CodingSchemeDesignator"), _text(item, "CodeValue"))
        if known is not None:
            scheme, code, meaning = known
            yield f"{_SYSTEMS.get(scheme, UNLISTED)}//{code}", meaning
    for item in header.get("AnatomicRegionSequence") or []:
        known = values.coded(_text(item, "CodingSchemeDesignator"), _text(item, "CodeValue"))
        if known is not None and known[0] in _SYSTEMS:
            yield f"BODY_PART//{_SYSTEMS[known[0]]}//{known[1]}", known[2]
    part = values.terms(header.get("BodyPartExamined"))
    if part:
        yield f"BODY_PART//{part[0].strip()}", part[0].strip().capitalize()


@cache
def _facts() -> tuple[tuple[str, str, str], ...]:
    content = resources.files("lifechart.data.sources").joinpath("dicom_facts.csv").read_text(encoding="utf-8")
    return tuple((row["keyword"], row["unit"], row["name"]) for row in csv.DictReader(content.splitlines()))


def _number(header: Dataset, keyword: str) -> float | None:
    if keyword not in header:
        return None
    element = header[keyword]
    number = values.number(str(element.VR), element.value)
    return float(number) if isinstance(number, str | float | int) else None


def _demographics(header: Dataset) -> Iterator[dict[str, Any]]:
    born = _date(header, "PatientBirthDate")
    if born is not None:
        yield {"code": BIRTH, "name": "Birth", "time": born}
    sex = _SEXES.get(_text(header, "PatientSex").upper())
    if sex is not None:
        yield {"code": f"GENDER//{sex}", "name": sex.capitalize(), "time": None}


def _date(header: Dataset, keyword: str) -> datetime | None:
    try:
        return datetime.strptime(_text(header, keyword).replace(".", ""), "%Y%m%d")  # noqa: DTZ007 -- wall clock
    except ValueError:
        return None


def _text(header: Dataset, keyword: str) -> str:
    value = header.get(keyword)
    return str(value).strip(" \0") if value else ""
