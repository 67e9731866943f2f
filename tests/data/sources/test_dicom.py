"""Headers become events, pixels arrays beside the data set; both move with the rest of the patient's record."""

from __future__ import annotations

import shutil
import zipfile
from datetime import datetime
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydicom.dataset import Dataset
from pyrage import x25519

from bench import _dicom_plants as plants
from lifechart.core import plugs
from lifechart.core.errors import IntegrityError
from lifechart.data import images, shards
from lifechart.data.deidentify.dicom.subject import subject
from lifechart.data.sources import Attaching, Source, dicom, find_source
from lifechart.data.sources.dicom import source
from lifechart.data.vault import encryption, sealed
from tests.data.samples import KEY, Log, take


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = plugs.entry_points
    point = EntryPoint("dicom", "lifechart.data.sources.dicom:source", "lifechart.sources")
    monkeypatch.setattr(
        plugs, "entry_points", lambda group: {*installed(group=group), *([point] * (group == "lifechart.sources"))}
    )


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two series of three images, a structured report and something else."""
    found = tmp_path / "in"
    found.mkdir()
    for series in ("1", "2"):
        for number in (1, 2, 3):
            image = plants.image(series=series, number=number)
            image.SliceThickness, image.KVP, image.BodyPartExamined = "2.5", "120", "CHEST"
            image.PatientBirthDate, image.PatientSex = "19600501", "F"
            image.PixelSpacing, image.RescaleSlope, image.RescaleIntercept = [0.7, 0.8], "1", "-1024"
            image.StudyDescription = "CT of Quillfeather"
            procedure = Dataset()
            procedure.CodeValue, procedure.CodingSchemeDesignator, procedure.CodeMeaning = "77477000", "SCT", "CAT scan"
            image.ProcedureCodeSequence = [procedure]
            (found / f"{series}{number}").write_bytes(plants.to_file(image))
    report = plants.image("1", "3")
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    (found / "report").write_bytes(plants.to_file(report))
    (found / "readme.txt").write_text("Quillfeather")
    return found


def test_it_keeps_the_contract_and_is_detected(study: Path) -> None:
    assert isinstance(source, Source)
    assert isinstance(source, Attaching)
    assert find_source(study).name == "dicom"
    assert not source.detects(study / "readme.txt")
    with zipfile.ZipFile(study.parent / "images.zip", "w") as archive:
        archive.write(study / "11", "11")
    assert source.detects(study.parent / "images.zip")


def test_a_series_gives_its_events_once(study: Path, tmp_path: Path) -> None:
    account, events = take(study, tmp_path / "out", dates="shift", as_of=datetime(2021, 1, 1))
    assert account.resources == {"Image": {"kept": 6, "held back": 1, "quarantined": 1}}
    imaging = events.filter(pl.col("kind") == "imaging")
    counts = dict(imaging.group_by("code").len().iter_rows())
    assert counts == {
        "DCM//CT": 1,
        "SNOMED//77477000": 1,
        "BODY_PART//CHEST": 1,
        "DICOM//SliceThickness": 1,
        "DICOM//KVP": 1,
    }
    thickness = imaging.filter(pl.col("code") == "DICOM//SliceThickness")
    assert thickness.select("numeric_value", "unit").row(0) == (2.5, "mm")
    who = subject(KEY, "MRN-7734-88")
    assert events["subject_id"].unique().to_list() == [who.id]
    assert imaging["time"].unique().to_list() == [datetime(2019, 4, 7, 10, 20) + who.days]
    assert set(events.filter(pl.col("kind") == "demographic")["code"]) == {"MEDS_BIRTH", "GENDER//female"}


def test_pixels_stand_beside_the_data_set_and_its_digest_covers_them(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _, events = take(study, out, dates="shift", as_of=datetime(2021, 1, 1))
    index = images.index(out)
    assert index.height == 6
    assert index["series"].n_unique() == 2
    assert index["number"].to_list() == [1, 2, 3, 1, 2, 3]
    joined = index.join(events.filter(pl.col("code") == "DCM//CT"), on=["subject_id", "time"])
    assert joined.height == 6
    row = index.row(0, named=True)
    assert (row["spacing_row"], row["spacing_column"], row["intercept"]) == (0.7, 0.8, -1024)
    found = images.load(out, row["image"])
    assert found.shape == (1, 64, 64, 1)
    assert any(np.array_equal(found[0, ..., 0], plants.image(number=number).pixel_array) for number in (1, 2, 3))
    assert images.verify(out) == index["image"].n_unique() == 3
    shards.verify(out)
    path = images.array_path(out, row["image"])
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(IntegrityError, match="its bytes are not"):
        images.verify(out)


def test_however_many_units_and_processes_the_bytes_are_the_same(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (study / "z_again").write_bytes((study / "11").read_bytes())
    one, _ = take(study, tmp_path / "one", dates="shift", as_of=datetime(2021, 1, 1))
    monkeypatch.setattr(dicom, "UNIT_BYTES", 5_000)
    assert len(source.units(study, "")) > 3
    two, _ = take(study, tmp_path / "two", dates="shift", as_of=datetime(2021, 1, 1), workers=2)
    assert one.resources["Image"]["duplicate"] == two.resources["Image"]["duplicate"] == 1
    assert one.dataset_digest == two.dataset_digest
    assert images.verify(tmp_path / "two") == 3


def test_the_images_of_an_encrypted_data_set_are_read_with_its_key(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECHART_HOME", str(tmp_path / "home"))
    out, hidden = tmp_path / "out", tmp_path / "hidden"
    take(study, out, dates="shift", as_of=datetime(2021, 1, 1))
    identity = x25519.Identity.generate()
    encryption.encrypt(out, hidden, [str(identity.to_public())], log=Log())
    monkeypatch.setattr(sealed, "unlock", partial(sealed.unlock, identities=[identity]))
    assert images.index(hidden).equals(images.index(out))
    assert images.verify(hidden) == 3
    image = images.index(out)["image"][0]
    assert image.encode() not in b"".join(path.read_bytes() for path in (hidden / "metadata").iterdir())
    assert np.array_equal(images.load(hidden, image), images.load(out, image))


@pytest.mark.parametrize("dates", ["shift", "year"])
def test_images_of_after_the_end_of_observation_are_left_out(study: Path, tmp_path: Path, dates: str) -> None:
    later = plants.image("9", number=9)
    later.SeriesDate = "20250101"
    (study / "later").write_bytes(plants.to_file(later))
    out = tmp_path / "out"
    account, events = take(study, out, dates=dates, as_of=datetime(2021, 1, 1))
    assert account.resources["Image"]["after the end"] == 1
    assert images.index(out).height == 6
    assert set(images.index(out)["time"]) <= set(events["time"].drop_nulls())


def test_nothing_that_names_the_patient_is_written(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    take(study, out, dates="shift", as_of=datetime(2021, 1, 1))
    everything = b"".join(path.read_bytes() + path.name.encode() for path in out.rglob("*") if path.is_file())
    for mark in (b"Quill", b"MRN", b"7734", plants.ROOT.encode()):
        assert mark not in everything


def test_broken_headers_are_quarantined_and_never_raise(tmp_path: Path) -> None:
    found = tmp_path / "in"
    found.mkdir()
    whole = plants.to_file(plants.plant(plants.image()).dataset)
    for number, length in enumerate(range(100, len(whole), len(whole) // 40)):
        (found / f"{number:03}.dcm").write_bytes(whole[:length])
    (unit,) = source.units(found, "")
    (batch,) = list(source.read(unit))
    assert batch.counts.total() == len(list(found.iterdir()))
    assert all(fault.reason in ("not DICOM", "malformed", "no patient or no UID") for fault in batch.faults)
    shutil.rmtree(found)
