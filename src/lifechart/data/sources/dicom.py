"""The source `dicom`: the headers of medical images as events, one series at a time; their pixels by reference.

Every instance gives its series' events (modality, procedure and body part where they are coded, acquisition facts) and
the patient's sex and birth; equal ones of a series stand once in the data set. `attach` then puts the pixels, cleaned
by `deidentify.dicom`, beside the data set: see `data.images`. What is no image (a structured report, a document)
gives no events.
"""

from __future__ import annotations

import csv
import re
import zipfile
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
from lifechart.data.sources import (
    ENTRY_BITS,
    HELD_BACK,
    KEPT,
    NOT_MAPPED,
    QUARANTINED,
    ROWS,
    Batch,
    Fault,
    Span,
    Unit,
)

TYPE = "Image"
UNIT_BYTES = 64 << 20
"""Files of a unit, together: what one process cleans the pixels of in one go."""
_MAGIC = 128
_SEXES = {"M": "male", "F": "female", "O": "other"}
_SYSTEMS = {"SCT": "SNOMED", "LN": "LOINC", "DCM": "DCM", "I10": "ICD10CM"}
"""Coding scheme designators of DICOM (PS3.16, table 8-1) to short names of codes.systems."""
_LOOKED_AT = 40
_CLOCK = re.compile(r"([01]\d|2[0-3])(?:([0-5]\d)(?:([0-5]\d))?)?")


class Dicom:
    """The source `dicom`."""

    name = "dicom"

    def detects(self, path: Path) -> bool:
        """Return whether a DICOM file stands among the first files at `path`."""
        files = [path] if path.is_file() else (child for child in path.rglob("*") if child.is_file())
        return any(_is_dicom(file) for file, _ in zip(files, range(_LOOKED_AT), strict=False))

    def files(self, path: Path, option: str = "") -> list[Path]:
        """Return every file, sorted: images often have no suffix, so nothing is left out by its name."""
        return [path] if path.is_file() else sorted(child for child in path.rglob("*") if child.is_file())

    def units(self, path: Path, option: str = "") -> list[Unit]:
        """Divide the files into units of about 64 MB of files."""
        units: list[Unit] = []
        spans: list[Span] = []
        size = 0
        for file in self.files(path, option):
            spans.append(Span(str(file)))
            size += file.stat().st_size
            if size >= UNIT_BYTES:
                units.append(Unit(self.name, tuple(spans), size, option=option))
                spans, size = [], 0
        if spans:
            units.append(Unit(self.name, tuple(spans), size, option=option))
        return units

    def record_end(self, path: Path, option: str = "") -> str | None:
        """Return None: images do not say when observation ended."""
        return None

    def read(self, unit: Unit) -> Iterator[Batch]:
        """Read the headers of a unit's files. `unit.option`: a CSV that names the patients (`folder.read_patients`)."""
        patients = folder.read_patients(Path(unit.option)) if unit.option else {}
        batch = Batch(pl.DataFrame(schema=ROWS))
        rows: list[dict[str, Any]] = []
        for span in unit.spans:
            batch.starts.append(batch.lines)
            for item in folder.items(Path(span.path)):
                position = batch.lines << ENTRY_BITS | max(0, item.member - 1)
                _read(item, position, patients, batch, rows)
            batch.lines += 1
        batch.rows = pl.DataFrame(rows, schema=ROWS, orient="row")
        yield batch

    def attach(self, unit: Unit, number: int, dataset: Path, key: bytes, dates: str) -> None:
        """Put the cleaned pixels of the unit's images whose events stand in `dataset` beside it (data.images)."""
        from lifechart.data import images

        patients = folder.read_patients(Path(unit.option)) if unit.option else {}
        items = (item for span in unit.spans for item in folder.items(Path(span.path)))
        images.attach(items, dataset, number, key=key, patients=patients, dates=dates)

    def gather(self, dataset: Path, num_units: int) -> None:
        """Make one index of the units' images."""
        from lifechart.data import images

        images.gather(dataset, num_units)


def _is_dicom(file: Path) -> bool:
    """Return whether a file, or the first member of a zip, opens like DICOM."""
    try:
        with open(file, "rb") as stream:
            opening = stream.read(_MAGIC + 4)
        if opening.startswith(b"PK"):
            with zipfile.ZipFile(file) as archive:
                first = next(info for info in archive.infolist() if not info.is_dir())
                with archive.open(first) as member:
                    opening = member.read(_MAGIC + 4)
        return opening[_MAGIC:] == b"DICM"
    except Exception:
        # A broken zip can break in many ways; it is then no DICOM that can be detected.
        return False


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


source = Dicom()
