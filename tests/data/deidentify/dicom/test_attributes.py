"""No marker survives, wherever it is planted; what images need does; dates, UIDs and codes become what they should."""

from __future__ import annotations

from datetime import datetime, timedelta
from io import BytesIO

import numpy as np
import polars as pl
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from bench import _dicom_plants as plants
from lifechart.data.deidentify import dates
from lifechart.data.deidentify.dicom import instance, values
from lifechart.data.deidentify.dicom.subject import keyed_uid, subject
from tests.data.samples import KEY


def cleaned(source: Dataset) -> Dataset:
    found = instance.clean(plants.to_file(source), KEY)
    assert found.dataset is not None, found.reason
    return pydicom.dcmread(BytesIO(instance.to_bytes(found.dataset)))


def test_no_marker_survives_anywhere() -> None:
    planted = plants.plant(plants.image())
    content = plants.to_file(planted.dataset)
    assert len(plants.survivors(planted, content)) == len(planted) > 2_500
    found = instance.clean(content, KEY)
    assert found.dataset is not None
    assert plants.survivors(planted, instance.to_bytes(found.dataset)) == []


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_no_marker_survives_in_another_transfer_syntax(syntax: pydicom.uid.UID) -> None:
    planted = plants.plant(plants.image())
    planted.dataset.file_meta.TransferSyntaxUID = syntax
    found = instance.clean(plants.to_file(planted.dataset), KEY)
    assert found.dataset is not None
    assert plants.survivors(planted, instance.to_bytes(found.dataset)) == []


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "examples_overlay.dcm", "rtdose.dcm"])
def test_no_marker_survives_in_real_files(name: str) -> None:
    source = pydicom.dcmread(str(get_testdata_file(name)))
    planted = plants.plant(source)
    found = instance.clean(plants.to_file(planted.dataset), KEY)
    assert found.dataset is not None, found.reason
    assert plants.survivors(planted, instance.to_bytes(found.dataset)) == []


def test_the_preamble_the_file_meta_and_what_follows_the_pixels_hold_nothing() -> None:
    source = plants.image()
    source.file_meta.SourceApplicationEntityTitle = "QUILLSCANNER"
    source.file_meta.PrivateInformationCreatorUID = "1.2.3"
    source.file_meta.PrivateInformation = b"QUILLPRIVATE"
    source.PixelData = source.PixelData + b"QUILLTAIL!"
    content = bytearray(plants.to_file(source))
    content[:16] = b"QUILLPREAMBLE..."
    found = instance.clean(bytes(content) + b"QUILLAFTER", KEY)
    if found.dataset is not None:
        written = instance.to_bytes(found.dataset)
        assert b"QUILL" not in written
        assert written[:132] == b"\0" * 128 + b"DICM"
    else:
        assert found.outcome == instance.HELD_BACK


def test_overlays_in_the_unused_bits_of_samples_are_cleared() -> None:
    source = plants.image()
    samples = np.frombuffer(source.PixelData, np.uint16) | np.uint16(0xF000)
    source.PixelData = samples.tobytes()
    assert cleaned(source).pixel_array.max() < 4096


def test_it_says_that_it_is_de_identified_and_how() -> None:
    made = cleaned(plants.image())
    assert (made.PatientIdentityRemoved, made.BurnedInAnnotation) == ("YES", "NO")
    assert made.LongitudinalTemporalInformationModified == "MODIFIED"
    codes = [item.CodeValue for item in made.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113101", "113105", "113107", "113111"]
    assert made.PatientID == str(subject(KEY, "MRN-7734-88").id)
    assert made.PatientName == ""


def test_what_an_image_needs_stays() -> None:
    source = plants.image()
    source.PixelSpacing, source.RescaleSlope, source.RescaleIntercept = [0.5, 0.5], "1", "-1024"
    source.ImagePositionPatient, source.WindowCenter, source.KVP = [-1.5, 2, 3], "40", "120"
    source.BodyPartExamined, source.ConvolutionKernel, source.Manufacturer = "CHEST", "B30f", "SIEMENS"
    made = cleaned(source)
    for keyword in ("PixelSpacing", "RescaleIntercept", "ImagePositionPatient", "KVP", "BodyPartExamined", "Rows"):
        assert made[keyword].value == source[keyword].value
    assert (made.ConvolutionKernel, made.Manufacturer) == ("B30f", "SIEMENS")
    assert np.array_equal(made.pixel_array, source.pixel_array)


def test_descriptions_keep_the_words_of_radiology_only() -> None:
    source = plants.image()
    source.StudyDescription = "CT CHEST W CONTRAST for Herr Quillfeather 4/7/2019, MRN 7734"
    source.SeriesDescription = "T2 AX FLAIR 5mm"
    source.PatientName = "Chest^Anna"
    made = cleaned(source)
    assert made.StudyDescription == "CT W CONTRAST for"
    assert made.SeriesDescription == "T2 AX FLAIR 5mm"


def test_a_code_stays_if_the_standard_knows_it_with_the_standards_meaning() -> None:
    source = plants.image()
    known, local = Dataset(), Dataset()
    known.CodeValue, known.CodingSchemeDesignator, known.CodeMeaning = "T-D3000", "SRT", "Anna's chest"
    local.CodeValue, local.CodingSchemeDesignator, local.CodeMeaning = "7734", "99HOSP", "Anna"
    source.AnatomicRegionSequence = [known, local]
    items = cleaned(source).AnatomicRegionSequence
    assert [(item.get("CodeValue"), item.get("CodeMeaning")) for item in items] == [
        ("51185008", "Thoracic structure (body structure)"),
        (None, None),
    ]
    assert values.coded("SCT", "8005551212") is None


def test_references_between_the_images_of_a_study_still_resolve() -> None:
    first, second = plants.image(number=1), plants.image(series="2", number=2)
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = first.SOPClassUID, first.SOPInstanceUID
    second.ReferencedImageSequence = [reference]
    one, two = cleaned(first), cleaned(second)
    assert two.ReferencedImageSequence[0].ReferencedSOPInstanceUID == one.SOPInstanceUID
    assert (one.StudyInstanceUID, one.FrameOfReferenceUID) == (two.StudyInstanceUID, two.FrameOfReferenceUID)
    assert one.SeriesInstanceUID != two.SeriesInstanceUID
    assert one.SOPInstanceUID == one.file_meta.MediaStorageSOPInstanceUID
    assert one.SOPClassUID == first.SOPClassUID


def test_dates_move_by_the_records_own_offset_and_intervals_stay() -> None:
    source = plants.image()
    source.StudyTime, source.SeriesTime = "235900", "235959.5"
    made, who = cleaned(source), subject(KEY, "MRN-7734-88")
    assert who.days == dates.offsets(KEY, pl.Series(["MRN-7734-88"]))[0]

    def at(one: Dataset, stem: str) -> datetime:
        written = f"{one[f'{stem}Date'].value}{one[f'{stem}Time'].value}"
        return datetime.strptime(written if "." in written else f"{written}.0", "%Y%m%d%H%M%S.%f")

    assert at(made, "Series") - at(made, "Study") == at(source, "Series") - at(source, "Study")
    assert at(made, "Study") - at(source, "Study") == who.days + who.clock
    assert abs(who.clock) <= timedelta(minutes=30)


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1, max_size=80), st.binary(min_size=16, max_size=32))
def test_keyed_uids_are_valid_and_depend_on_the_key(written: str, key: bytes) -> None:
    uid = keyed_uid(key, written)
    assert values.is_uid(uid)
    assert uid == keyed_uid(key, written) != keyed_uid(key + b"x", written)


@settings(max_examples=200, deadline=None)
@given(st.datetimes(datetime(1910, 1, 1), datetime(2090, 1, 1)), st.text(min_size=1, max_size=20))
def test_a_moved_time_is_valid_moved_and_as_precise(moment: datetime, patient: str) -> None:
    who = subject(KEY, patient)
    moved = who.datetime(f"{moment:%Y%m%d%H%M%S.%f}+0200")
    assert moved is not None
    assert datetime.strptime(moved, "%Y%m%d%H%M%S.%f") == moment + who.days + who.clock
    assert who.date(f"{moment:%Y%m%d}") != f"{moment:%Y%m%d}"
    for broken in ("Quill", "20191332", "2019", "", "99999999", "20190101garbage"):
        assert who.date(broken) is None
        assert who.datetime(broken) is None


def test_whole_numbers_as_long_as_a_telephones_do_not_stay() -> None:
    source = plants.image()
    source.KVP, source.RadionuclideTotalDose, source.ExposureTime = "6175551212", "370112233", "12"
    made = cleaned(source)
    assert "KVP" not in made
    assert (made.RadionuclideTotalDose, made.ExposureTime) == (370_100_000, 12)
