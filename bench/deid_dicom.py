"""De-identification of DICOM: markers planted wherever an identifier could stand, beside the peers that are installed.

Also: whether the UIDs of a study still fit together, how much burned-in lettering is missed, and how much of an image
without any is blanked.
"""

from __future__ import annotations

import importlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from rich.console import Console
from rich.table import Table

from bench import _burned_in, _dicom_plants
from lifechart.data.deidentify.dicom import instance

KEY = bytes(range(32))


def main(quick: bool) -> dict[str, int]:
    """Plant, de-identify and search; print what survived and return {survivors, markers}."""
    console = Console(width=120)
    planted = _dicom_plants.plant(_dicom_plants.image())
    content = _dicom_plants.to_file(planted.dataset)
    if len(_dicom_plants.survivors(planted, content)) != len(planted):
        raise AssertionError("the search must find every marker in the file that was planted")
    started = time.perf_counter()
    ours = _ours(content)
    seconds = time.perf_counter() - started
    left = _dicom_plants.survivors(planted, ours)
    readable = pydicom.dcmread(BytesIO(ours)).pixel_array.shape == (64, 64)
    table = Table("de-identifier", *_PLACES, "survivors", "of", "pixels read", box=None, header_style="bold")
    table.add_row("lifechart", *_by_place(left), str(len(left)), str(len(planted)), str(readable))
    for name, peer in _PEERS.items():
        try:
            importlib.import_module(name)
        except ImportError:
            console.print(f"{name}: not installed, skipped (it is in the extra `peers`)")
            continue
        try:
            with tempfile.TemporaryDirectory() as folder, instance.quiet():
                theirs = peer(content, Path(folder))
        except Exception as error:
            console.print(f"{name}: fails on this file ({type(error).__name__})")
            continue
        found = _dicom_plants.survivors(planted, theirs)
        table.add_row(name, *_by_place(found), str(len(found)), str(len(planted)), "")
    console.print(table)
    console.print(f"one file with {len(planted)} markers: {seconds:.2f} s")
    console.print(f"UIDs of a study of 8 images: {_consistency()}")
    _burned_in.report(console, 60 if quick else 400)
    return {"survivors": len(left), "markers": len(planted)}


_PLACES = ("top", "listed", "unlisted", "nested", "private", "not listed")


def _by_place(found: list[str]) -> list[str]:
    counts = Counter(next(place for place in sorted(_PLACES, key=len) if where.startswith(place)) for where in found)
    return [str(counts[place]) for place in _PLACES]


def _ours(content: bytes) -> bytes:
    found = instance.clean(content, KEY)
    assert found.dataset is not None, found.reason
    return instance.to_bytes(found.dataset)


def _consistency() -> str:
    """Return how many references between the images of a study still resolve, and how many UIDs of it are as before."""
    images = [_dicom_plants.image("7", str(series), number) for series in (1, 2) for number in (1, 2, 3, 4)]
    for one, other in zip(images, images[1:] + images[:1], strict=True):
        reference = pydicom.Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = other.SOPClassUID, other.SOPInstanceUID
        one.ReferencedImageSequence = [reference]
    cleaned = [pydicom.dcmread(BytesIO(_ours(_dicom_plants.to_file(one)))) for one in images]
    own = {one.SOPInstanceUID for one in cleaned}
    resolved = sum(one.ReferencedImageSequence[0].ReferencedSOPInstanceUID in own for one in cleaned)
    studies, series = {one.StudyInstanceUID for one in cleaned}, {one.SeriesInstanceUID for one in cleaned}
    same = sum(np.array_equal(one.pixel_array, other.pixel_array) for one, other in zip(images, cleaned, strict=True))
    before = {uid for one in images for uid in (one.SOPInstanceUID, one.SeriesInstanceUID, one.StudyInstanceUID)}
    return (
        f"{resolved} of 8 references resolve, {len(own)} instances in {len(series)} series of {len(studies)} study, "
        f"{len(before & (own | series | studies))} UIDs as before, {same} of 8 images' pixels as before"
    )


def _dicom_anonymizer(content: bytes, folder: Path) -> bytes:
    peer = importlib.import_module("dicomanonymizer.simpledicomanonymizer")
    (folder / "in.dcm").write_bytes(content)
    peer.anonymize_dicom_file(str(folder / "in.dcm"), str(folder / "out.dcm"))
    return (folder / "out.dcm").read_bytes()


def _deid(content: bytes, folder: Path) -> bytes:
    peer = importlib.import_module("deid.dicom")
    (folder / "in.dcm").write_bytes(content)
    files = [str(folder / "in.dcm")]
    (made,) = peer.replace_identifiers(dicom_files=files, ids=peer.get_identifiers(files), save=False)
    made.save_as(folder / "out.dcm")
    return (folder / "out.dcm").read_bytes()


def _dicognito(content: bytes, folder: Path) -> bytes:
    peer = importlib.import_module("dicognito.anonymizer")
    dataset = pydicom.dcmread(BytesIO(content))
    peer.Anonymizer().anonymize(dataset)
    dataset.save_as(folder / "out.dcm")
    return (folder / "out.dcm").read_bytes()


_PEERS: dict[str, Callable[[bytes, Path], bytes]] = {
    "dicomanonymizer": _dicom_anonymizer,
    "deid": _deid,
    "dicognito": _dicognito,
}
