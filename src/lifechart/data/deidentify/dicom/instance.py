"""One DICOM file: read, judged, de-identified, and built anew; or held back with a reason."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

import lifechart
from lifechart.data.deidentify.dicom import decoding, pixels, tables
from lifechart.data.deidentify.dicom.attributes import Walk
from lifechart.data.deidentify.dicom.decoding import NotDecoded
from lifechart.data.deidentify.dicom.pixels import Blanked, HeldBack
from lifechart.data.deidentify.dicom.subject import Subject, keyed_uid, subject

WRITTEN, HELD_BACK, NOT_DICOM, DIRECTORY = "written", "held back", "not DICOM", "a directory of files"
OUTCOMES = (WRITTEN, HELD_BACK, NOT_DICOM, DIRECTORY)
"""What becomes of a file."""

METHODS = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113101", "Clean Pixel Data Option"),
    ("113105", "Clean Descriptors Option"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    ("113111", "Retain Safe Private Option"),
)
"""CID 7050: the profile and options that are applied."""

_IMPLEMENTATION = "2.25.329800735698586629295641978511506172918"
DIRECTORY_CLASS = "1.2.840.10008.1.3.10"


@dataclass(slots=True)
class Cleaned:
    """What became of one file. `dataset` is what may be written; None unless the outcome is WRITTEN."""

    outcome: str
    reason: str = ""
    dataset: Dataset | None = None
    pixels: decoding.Pixels | None = None
    subject: Subject | None = None
    patient_known: bool = True
    """The file names its patient; otherwise its study stands for one."""
    blanked: Blanked = field(default_factory=lambda: Blanked(0.0, 0.0))
    counts: Counter[str] = field(default_factory=Counter)
    """What was done with attributes, and how often."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom's warnings to itself: they quote the values that they complain of."""
    logger = logging.getLogger("pydicom")
    was = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = was


def read(file: Path | BinaryIO) -> Dataset | None:
    """Return a file's data set, or None if it is not DICOM. A file without its preamble is read if it makes sense."""
    try:
        dataset = pydicom.dcmread(file, force=True)
        if "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta.TransferSyntaxUID = (
                ImplicitVRLittleEndian if dataset.original_encoding[0] else ExplicitVRLittleEndian
            )
        has_class = bool(dataset.get("SOPClassUID")) or "MediaStorageSOPClassUID" in dataset.file_meta
    except Exception:
        # A broken file can break pydicom in any way; what it says about that may quote the file.
        return None
    return dataset if has_class else None


def clean(file: Path | bytes, key: bytes, patients: Mapping[str, str] | None = None) -> Cleaned:
    """Return what may be written of a file: never raises for anything in it.

    `key`: the institution's (structured.load_key). `patients`: Patient ID of images -> the id by which the rest of the
    record knows the patient; without it they are taken to be the same. A patient that it lacks is taken as written.
    """
    with quiet():
        try:
            source = read(file if isinstance(file, Path) else BytesIO(file))
            return (
                Cleaned(NOT_DICOM, "no data set was found") if source is None else _clean(source, key, patients or {})
            )
        except (HeldBack, NotDecoded) as error:
            return Cleaned(HELD_BACK, str(error))
        except Exception:
            return Cleaned(HELD_BACK, "the data set is malformed")


def _clean(source: Dataset, key: bytes, patients: Mapping[str, str]) -> Cleaned:
    sop_class = _text(source, "SOPClassUID") or str(source.file_meta.get("MediaStorageSOPClassUID", ""))
    if sop_class == DIRECTORY_CLASS:
        return Cleaned(DIRECTORY)
    known = tables.sop_classes().get(sop_class)
    if known is None:
        raise HeldBack("its SOP class is not known")
    if known.treatment != "image":
        raise HeldBack(known.detail)
    patient = _text(source, "PatientID")
    own = _own_uids(source, patient)
    who = subject(key, patients.get(patient, patient) if patient else f"study {own['StudyInstanceUID']}")
    found = decoding.decode(source)
    blanked = pixels.clean(found, source, known.detail)
    with contextlib.suppress(Exception):
        # In implicit VR some attributes are numbers of a sign that only the pixels' own tells.
        correct_ambiguous_vr(source, source.original_encoding[1] is not False)
    walk = Walk(key, who, source)
    out = walk.clean(source)
    out.SOPClassUID = UID(sop_class)
    for name, uid in own.items():
        setattr(out, name, keyed_uid(key, uid))
    out.PatientID = str(who.id)
    decoding.encode(found, out)
    _declare(out)
    return Cleaned(WRITTEN, "", out, found, who, bool(patient), blanked, walk.counts)


def _own_uids(source: Dataset, patient: str) -> dict[str, str]:
    """Return the file's instance, study and series UIDs; for those that it lacks, what stands for them."""
    image = _text(source, "SOPInstanceUID") or str(source.file_meta.get("MediaStorageSOPInstanceUID", ""))
    if not image:
        image = f"image {hashlib.sha256(source.get('PixelData') or b'').hexdigest()}"
    study = _text(source, "StudyInstanceUID") or f"study of {patient or image}"
    series = _text(source, "SeriesInstanceUID") or f"series of {study}"
    return {"SOPInstanceUID": image, "StudyInstanceUID": study, "SeriesInstanceUID": series}


def _text(source: Dataset, name: str) -> str:
    value = source.get(name)
    return value.strip(" \0") if isinstance(value, str) else ""


def _declare(out: Dataset) -> None:
    """Say in the data set itself that it is de-identified, and how; and give it a file meta of its own."""
    out.PatientIdentityRemoved = "YES"
    out.DeidentificationMethod = f"Lifechart {lifechart.__version__}: PS3.15 Annex E, by allow-list"
    out.DeidentificationMethodCodeSequence = [_method(code, meaning) for code, meaning in METHODS]
    out.LongitudinalTemporalInformationModified = "MODIFIED"
    out.BurnedInAnnotation = "NO"
    out.file_meta = FileMetaDataset()
    out.file_meta.MediaStorageSOPClassUID = out.SOPClassUID
    out.file_meta.MediaStorageSOPInstanceUID = out.SOPInstanceUID
    out.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    out.file_meta.ImplementationClassUID = UID(_IMPLEMENTATION)
    out.file_meta.ImplementationVersionName = "LIFECHART"


def _method(code: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "DCM", meaning
    return item


def to_bytes(dataset: Dataset) -> bytes:
    """Return a cleaned data set as a DICOM file: preamble of zeros, its own file meta, Explicit VR Little Endian."""
    content = BytesIO()
    with quiet():
        pydicom.dcmwrite(content, dataset, enforce_file_format=True)
    return content.getvalue()
