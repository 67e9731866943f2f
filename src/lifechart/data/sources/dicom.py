"""The source `dicom`: the headers of medical images as events, one series at a time; their pixels by reference.

Every instance gives its series' events (modality, procedure and body part where they are coded, acquisition facts) and
the patient's sex and birth; equal ones of a series stand once in the data set. `attach` then puts the pixels, cleaned
by `deidentify.dicom`, beside the data set: see `data.images`. What is no image (a structured report, a document)
gives no events.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from lifechart.data.sources import Batch, Span, Unit

UNIT_BYTES = 64 << 20
"""Files of a unit, together: what one process cleans the pixels of in one go."""
_MAGIC = 128
_LOOKED_AT = 40


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
        from lifechart.data.sources import dicom_headers

        yield dicom_headers.read(unit)

    def attach(self, unit: Unit, number: int, dataset: Path, key: bytes, dates: str) -> None:
        """Put the cleaned pixels of the unit's images whose events stand in `dataset` beside it (data.images)."""
        from lifechart.data import images
        from lifechart.data.sources import dicom_headers

        patients = dicom_headers.patients_of(unit)
        images.attach(dicom_headers.items_of(unit), dataset, number, key=key, patients=patients, dates=dates)

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


source = Dicom()
