"""Plants markers in a DICOM data set wherever an identifier could stand, and searches a file for what survived."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from lifechart.data.deidentify.dicom import instance, tables

ROOT = "1.2.826.0.1.3680043.10.9999"
LISTED, UNLISTED = 0x0008_1140, 0x0018_9346
"""A sequence of Table E.1-1 whose items stay, and (with its value type changed) one that no list knows."""
PRIVATE = 0x0099
TEXTS = ("LO", "SH", "ST", "LT", "UT", "UC", "CS", "AE", "PN", "UR")
NUMBERS = ("US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "AT")


@dataclass(slots=True)
class Planted:
    """A data set with markers, and what to look for: in the file's raw bytes, or in parsed elements."""

    dataset: Dataset
    raw: dict[str, bytes] = field(default_factory=dict)
    """Where planted -> the bytes that must not survive."""
    parsed: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Where planted -> (tag, value): a date that moved may by chance be one that was planted elsewhere."""

    def __len__(self) -> int:
        return len(self.raw) + len(self.parsed)


def image(study: str = "1", series: str = "1", number: int = 1, patient: str = "MRN-7734-88") -> Dataset:
    """Return a small CT image of a study, with UIDs under ROOT."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = CTImageStorage
    made.StudyInstanceUID, made.SeriesInstanceUID = UID(f"{ROOT}.{study}"), UID(f"{ROOT}.{study}.{series}")
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = UID(f"{ROOT}.{study}.{series}.{number}")
    made.FrameOfReferenceUID = f"{ROOT}.{study}.99"
    made.PatientID, made.PatientName, made.Modality = patient, "Quillfeather^Oberon", "CT"
    made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.StudyDate = made.SeriesDate = made.AcquisitionDate = "20190407"
    made.StudyTime, made.SeriesTime, made.AcquisitionTime = "101500", "102000", "102030.125"
    made.InstanceNumber, made.SeriesNumber = str(number), series
    made.Rows = made.Columns = 64
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
    noise = np.random.default_rng(number).integers(0, 4096, (64, 64), np.uint16)
    made.PixelData = noise.tobytes()
    return made


def attributes() -> Iterator[tuple[int, str]]:
    """Yield (tag, VR) of every attribute of Table E.1-1, the repeating groups and a private one among them."""
    for row in tables.rows("annex_e.csv"):
        if "x" in row["tag"]:
            group = int(row["tag"][:2] + "02", 16)
            element = 0x3000 if "xxxx" in row["tag"][5:] else int(row["tag"][5:], 16)
            yield group << 16 | element, "OW" if element == 0x3000 else "LT"
        elif " " not in row["tag"]:
            yield int(row["tag"].replace(",", ""), 16), row["vr"].split("/")[0]


def plant(dataset: Dataset, *, spare: tuple[int, ...] = (), seed: int = 0) -> Planted:
    """Plant markers at the top level, in listed, unlisted and nested sequences, and in private attributes.

    `spare`: tags whose top-level value is needed to read the image at all.
    """
    planted = Planted(dataset)
    draw = random.Random(seed)
    needed = {0x0002_0003, 0x0004_1511, 0x0008_0018, 0x0020_000D, 0x0020_000E, *spare}
    for tag, vr in attributes():
        if tag not in needed and tag >> 16 > 4:
            _put(planted, dataset, tag, vr, "top", draw)
    places = {"listed": LISTED, "unlisted": UNLISTED}
    for name, sequence in places.items():
        _fill(planted, dataset, sequence, name, draw)
    inner = Dataset()
    _fill(planted, inner, LISTED, "nested", draw)
    outer = Dataset()
    outer.add_new(0x0008_2112, "SQ", [inner])
    dataset.add_new(0x5200_9229, "SQ", [outer])
    _private(planted, dataset, draw)
    _by_kind(planted, dataset, draw)
    return planted


def _fill(planted: Planted, into: Dataset, sequence: int, name: str, draw: random.Random) -> None:
    item = Dataset()
    for tag, vr in attributes():
        if tag >> 16 > 4:
            _put(planted, item, tag, vr, name, draw)
    items = list(into[sequence].value) if sequence in into and into[sequence].VR == "SQ" else []
    into[sequence] = DataElement(sequence, "SQ", Sequence([*items, item]))


def _private(planted: Planted, dataset: Dataset, draw: random.Random) -> None:
    block = dataset.private_block(PRIVATE, "ACME IMAGING 1.0", create=True)
    for offset, vr in enumerate((*TEXTS, "DA", "TM", "DT", "UI", "IS", "DS", "AS", "OB", "UN", "SQ")):
        tag = block.get_tag(offset + 1)
        _put(planted, dataset, int(tag), vr, "private", draw)
    mark = _mark(draw)
    dataset.private_block(0x0019, f"SIEMENS {mark}", create=True).add_new(0x0C, "LO", mark)
    planted.raw["private creator"] = mark.encode()


def _by_kind(planted: Planted, dataset: Dataset, draw: random.Random) -> None:
    """Plant a marker in one attribute of every VR that is neither in Table E.1-1 nor one that an image needs."""
    seen = set()
    for tag, (vr, _, _, retired, keyword) in sorted(DicomDictionary.items()):
        known = tag in tables.annex_e() or tag in tables.keep_list() or tag >> 16 in (0x0028, 0x7FE0)
        if known or retired or not keyword or tag >> 16 <= 8 or vr in seen or " " in vr or vr in NUMBERS:
            continue
        seen.add(vr)
        _put(planted, dataset, tag, vr, "not listed", draw)


def _mark(draw: random.Random) -> str:
    return "Q" + "".join(draw.choice("BCDFGHJKLMNPQRSTVWXZ") for _ in range(9))


def _put(planted: Planted, into: Dataset, tag: int, vr: str, place: str, draw: random.Random) -> None:
    """Put a marker of the attribute's kind; numbers of two or four bytes can't be told from others, and get none."""
    where, mark = f"{place} {tag:08X} {vr}", _mark(draw)
    value: Any = mark
    if vr in TEXTS:
        planted.raw[where] = mark.encode()
        value = {"PN": f"{mark}^{mark}", "UR": f"http://{mark}.org"}.get(vr, mark)
    elif vr == "UI":
        value = f"{ROOT}.{draw.randrange(10**9, 10**10)}"
        planted.raw[where] = value.encode()
    elif vr in ("DA", "AS"):
        day = f"{draw.randrange(1940, 2020)}{draw.randrange(1, 13):02}{draw.randrange(1, 29):02}"
        value = day if vr == "DA" else f"{draw.randrange(10, 99):03}Y"
        planted.parsed[where] = (tag, value)
    elif vr in ("TM", "DT"):
        day = f"{draw.randrange(1940, 2020)}{draw.randrange(1, 13):02}{draw.randrange(1, 29):02}" if vr == "DT" else ""
        clock = f"{draw.randrange(24):02}{draw.randrange(60):02}{draw.randrange(60):02}.{draw.randrange(10**6):06}"
        value = day + clock
        planted.raw[where] = value.encode()
    elif vr in ("IS", "DS"):
        value = str(draw.randrange(10**9, 2**31)) if vr == "IS" else f"{draw.randrange(10**7, 10**8)}.5"
        planted.raw[where] = value.encode()
    elif vr in ("OB", "OW", "UN", "OF", "OD", "OL", "OV"):
        value = (mark * 4)[:32].encode()
        planted.raw[where] = mark.encode()
        vr = "OB" if vr not in ("OW", "UN") else vr
    elif vr == "SQ":
        item = Dataset()
        item.add_new(0x0010_0010, "PN", mark)
        item.add_new(0x0008_0104, "LO", mark)
        item.add_new(0x0040_A160, "UT", mark)
        value = Sequence([item])
        planted.raw[where] = mark.encode()
    else:
        return
    into[tag] = DataElement(tag, vr, value)


def to_file(dataset: Dataset) -> bytes:
    """Return the data set as a DICOM file whose preamble and file meta hold markers, too."""
    content = BytesIO()
    with instance.quiet():
        pydicom.dcmwrite(content, dataset, enforce_file_format=True)
    return content.getvalue()


def survivors(planted: Planted, content: bytes) -> list[str]:
    """Return where the markers were planted that a file still holds, in its bytes or as parsed values."""
    found = [where for where, mark in planted.raw.items() if mark in content]
    if planted.parsed:
        with instance.quiet():
            values = set(_values(pydicom.dcmread(BytesIO(content), force=True)))
        found += [where for where, pair in planted.parsed.items() if pair in values]
    return found


def _values(dataset: Dataset) -> Iterator[tuple[int, str]]:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from _values(item)
        else:
            values = element.value if element.VM > 1 else [element.value]
            yield from ((int(element.tag), str(value)) for value in values)
