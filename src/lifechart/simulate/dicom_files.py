"""The simulated hospital's pictures as DICOM files, names, numbers and dates of the patient included."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Any

import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

SORTS = ("retina", "chest", "tile")
_CLASSES = {
    "retina": ("1.2.840.10008.5.1.4.1.1.77.1.5.1", "OP", "EYE"),
    "chest": ("1.2.840.10008.5.1.4.1.1.1.1", "DX", "CHEST"),
    "tile": ("1.2.840.10008.5.1.4.1.1.77.1.2", "GM", "COLON"),
}
"""SOP class, modality and body part of each sort: ophthalmic photography, digital X-ray, microscopy."""
_SEXES = {"female": "F", "male": "M"}


@dataclass(frozen=True, slots=True)
class Person:
    """Whose picture it is, in the imaging department's words."""

    number: str
    name: str
    birth: datetime
    sex: str


def encode(sort: str, pixels: NDArray[Any], person: Person, time: datetime, mark: str) -> bytes:
    """Return a DICOM file (Explicit VR Little Endian). `mark` and `sort` decide its UIDs."""
    sop_class, modality, part = _CLASSES[sort]
    out = Dataset()
    out.SOPClassUID, out.SOPInstanceUID = UID(sop_class), _uid(f"{mark}:{sort}:instance")
    out.StudyInstanceUID, out.SeriesInstanceUID = _uid(f"{mark}:{sort}:study"), _uid(f"{mark}:{sort}:series")
    out.SpecificCharacterSet = "ISO_IR 192"
    out.PatientID, out.PatientName = person.number, person.name
    out.PatientBirthDate, out.PatientSex = f"{person.birth:%Y%m%d}", _SEXES[person.sex]
    out.StudyDate = out.SeriesDate = f"{time:%Y%m%d}"
    out.StudyTime = out.SeriesTime = f"{time:%H%M%S}"
    out.Modality, out.BodyPartExamined, out.ImageType = modality, part, ["ORIGINAL", "PRIMARY"]
    out.AccessionNumber = hashlib.sha256(f"{mark}:{sort}".encode()).hexdigest()[:10].upper()
    out.InstanceNumber, out.BurnedInAnnotation = 1, "NO"
    out.Rows, out.Columns = pixels.shape[:2]
    colour = pixels.ndim == 3
    out.SamplesPerPixel = 3 if colour else 1
    out.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        out.PlanarConfiguration = 0
    out.BitsAllocated = 8 * pixels.itemsize
    out.BitsStored = 8 if pixels.itemsize == 1 else 12
    out.HighBit, out.PixelRepresentation = out.BitsStored - 1, 0
    out.PixelData = pixels.tobytes()
    out.file_meta = FileMetaDataset()
    out.file_meta.MediaStorageSOPClassUID, out.file_meta.MediaStorageSOPInstanceUID = (
        out.SOPClassUID,
        out.SOPInstanceUID,
    )
    out.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content = BytesIO()
    pydicom.dcmwrite(content, out, enforce_file_format=True)
    return content.getvalue()


def _uid(mark: str) -> UID:
    return UID(f"2.25.{int.from_bytes(hashlib.sha256(mark.encode()).digest()[:15])}")
