"""The images of a data set: cleaned pixels in files named by their content, and an index that says whose they are.

A data set with images has, besides what every data set has, `images/ab/ab…ef.npy` (an array of frames, rows, columns
and samples each, named by the SHA-256 of the file) and `metadata/images.parquet` (columns INDEX). The index hangs on
events by subject and time; it is among the files that the manifest hashes, and names each array by its hash, so that
a data set's digest covers its images as well. Events themselves hold no reference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pydicom
from numpy.typing import NDArray

from lifechart.core import durable
from lifechart.core.errors import InputError, IntegrityError
from lifechart.data import shards
from lifechart.data.deidentify.dicom import folder, instance
from lifechart.data.deidentify.dicom.subject import subject
from lifechart.data.vault import sealed

INDEX: dict[str, Any] = {
    "subject_id": pl.Int64,
    "time": pl.Datetime("us"),
    "modality": pl.String,
    "series": pl.String,
    "instance": pl.String,
    "number": pl.Int32,
    "image": pl.String,
    "frames": pl.Int32,
    "rows": pl.Int32,
    "columns": pl.Int32,
    "samples": pl.Int32,
    "photometric": pl.String,
    "spacing_row": pl.Float64,
    "spacing_column": pl.Float64,
    "slope": pl.Float64,
    "intercept": pl.Float64,
    "blanked": pl.Float64,
}
"""Columns of metadata/images.parquet. `time` is that of the series' events; `series` and `instance` are keyed UIDs;
`number` is the instance's place in its series; `image` the array's hash; spacing is in mm; slope and intercept turn
samples into the modality's own unit; `blanked` is the share of the area in which lettering was blanked."""

FILE = "images.parquet"


def attach(
    items: Iterable[folder.Item], dataset: Path, part: int, *, key: bytes, patients: Mapping[str, str], dates: str
) -> None:
    """Write the arrays of the images whose events stand in `dataset`, and a part of the index, unless it is there.

    `dates`: as in deidentify.dates. An image that de-identification holds back, or whose event did not stay in the data
    set (after the end of observation, say), is not written.
    """
    file = _part(dataset, part)
    if file.exists():
        return
    known = _events(dataset)
    rows = [row for item in items if (row := _one(item, dataset, key, patients, dates, known)) is not None]
    with durable.replacing(file) as aside:
        pl.DataFrame(rows, schema=INDEX, orient="row").write_ipc(aside)


def gather(dataset: Path, parts: int, *, required: bool = True) -> None:
    """Make one index of the parts that `attach` left; of an instance that came twice, the first stays.

    Without `required`, a data set without images gets no index.
    """
    found = pl.concat([pl.read_ipc(_part(dataset, part)) for part in range(parts)])
    single = found.unique("instance", keep="first", maintain_order=True)
    ordered = single.sort("subject_id", "time", "series", "number", "instance")
    if ordered.height or required:
        with durable.replacing(dataset / "metadata" / FILE) as aside:
            ordered.write_parquet(aside)
    for part in range(parts):
        _part(dataset, part).unlink()


def _part(dataset: Path, part: int) -> Path:
    return dataset.with_name("images") / f"{part:06d}.arrow"


def _events(dataset: Path) -> set[tuple[int, Any]]:
    found: set[tuple[int, Any]] = set()
    for split in shards.SPLITS:
        events = shards.read_split(dataset, split).filter(pl.col("kind") == "imaging")
        found.update(events.select("subject_id", "time").unique().iter_rows())
    return found


def _one(
    item: folder.Item, dataset: Path, key: bytes, patients: Mapping[str, str], dates: str, known: set[tuple[int, Any]]
) -> dict[str, Any] | None:
    """Write one image's array and return its row of the index, or None."""
    from lifechart.data.sources.dicom_headers import series_time

    content = item.content()
    with instance.quiet():
        try:
            source = content if isinstance(content, Path) else BytesIO(content)
            header = pydicom.dcmread(source, force=True, stop_before_pixels=True)
            patient, written = str(header.get("PatientID", "")).strip(" \0"), series_time(header)
        except Exception:
            return None
    if not patient or written is None:
        return None
    who = subject(key, patients.get(patient, patient))
    time = (written + who.days) if dates == "shift" else written.replace(month=1, day=1, hour=0, minute=0, second=0)
    if (who.id, time) not in known:
        return None
    cleaned = instance.clean(content, key, patients)
    if cleaned.dataset is None or cleaned.pixels is None:
        return None
    made = cleaned.dataset
    row = _describe(made) | {"subject_id": who.id, "time": time, "blanked": cleaned.blanked.lettering}
    return row | {"image": _write(dataset, cleaned.pixels.frames_FHWS)}


def _describe(made: pydicom.Dataset) -> dict[str, Any]:
    spacing = made.get("PixelSpacing") or made.get("ImagerPixelSpacing") or [None, None]
    number = made.get("InstanceNumber")
    return {
        "modality": made.get("Modality"),
        "series": str(made.SeriesInstanceUID),
        "instance": str(made.SOPInstanceUID),
        "number": None if number is None else int(number),
        "frames": int(made.get("NumberOfFrames") or 1),
        "rows": int(made.Rows),
        "columns": int(made.Columns),
        "samples": int(made.SamplesPerPixel),
        "photometric": str(made.PhotometricInterpretation),
        "spacing_row": _float(spacing[0]),
        "spacing_column": _float(spacing[1]),
        "slope": _float(made.get("RescaleSlope")),
        "intercept": _float(made.get("RescaleIntercept")),
    }


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


def _write(dataset: Path, frames_FHWS: NDArray[np.generic]) -> str:
    content = BytesIO()
    np.save(content, np.ascontiguousarray(frames_FHWS), allow_pickle=False)
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    path = array_path(dataset, digest)
    if not path.exists():
        durable.write_bytes(path, content.getvalue())
    return digest


def array_path(dataset: Path, image: str) -> Path:
    """Return where the array of that hash stands."""
    return dataset / "images" / image[:2] / f"{image}.npy"


def index(dataset: Path) -> pl.DataFrame:
    """Return the images of a data set (columns INDEX), none if it has none. An encrypted one is read with its key."""
    name = f"metadata/{FILE}"
    if sealed.is_sealed(dataset):
        opened = sealed.unlock(dataset)
        return pl.read_parquet(opened.read(name)) if name in opened.vault.files else pl.DataFrame(schema=INDEX)
    path = dataset / name
    return pl.read_parquet(path) if path.exists() else pl.DataFrame(schema=INDEX)


def load(dataset: Path, image: str) -> NDArray[np.generic]:
    """Return an image's samples (frames, rows, columns, samples); raises IntegrityError if they are not these."""
    path = array_path(dataset, image)
    name = path.relative_to(dataset).as_posix()
    try:
        content = sealed.unlock(dataset).read(name) if sealed.is_sealed(dataset) else path.read_bytes()
    except (FileNotFoundError, KeyError):
        raise InputError("image", image, f"one of metadata/{FILE}") from None
    if hashlib.sha256(content).hexdigest() != image:
        raise IntegrityError(f"{name}: its bytes are not those that its name states")
    found: NDArray[np.generic] = np.load(BytesIO(content), allow_pickle=False)
    return found


def verify(dataset: Path) -> int:
    """Hash every array that the index names; return how many, or raise IntegrityError that names what differs."""
    named = index(dataset).get_column("image").unique().sort()
    for image in named:
        load(dataset, image)
    return len(named)
