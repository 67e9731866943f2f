"""Lettering is found and blanked, what can't be made safe is held back, and anatomy stays."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import (
    EncapsulatedPDFStorage,
    JPEG2000Lossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from bench import _burned_in
from bench import _dicom_plants as plants
from lifechart.data.deidentify.dicom import instance, lettering
from lifechart.simulate.pictures import retina
from tests.data.samples import KEY


def capture(text: str = "", *, sop_class: str = SecondaryCaptureImageStorage, frames: int = 1) -> Dataset:
    """An image of 8 bits with a soft ramp and a line of lettering."""
    made = plants.image()
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = sop_class
    made.ImageType = ["DERIVED", "SECONDARY"]
    page = Image.fromarray(np.tile(np.linspace(10, 90, 256).astype(np.uint8), (256, 1)))
    if text:
        ImageDraw.Draw(page).text((12, 20), text, fill=250, font=ImageFont.load_default(20))
    made.Rows = made.Columns = 256
    made.BitsAllocated, made.BitsStored, made.HighBit = 8, 8, 7
    if frames > 1:
        made.NumberOfFrames = frames
    made.PixelData = np.stack([np.asarray(page)] * frames).tobytes()
    return made


def clean(source: Dataset) -> instance.Cleaned:
    return instance.clean(plants.to_file(source), KEY)


@pytest.mark.parametrize("sop_class", [SecondaryCaptureImageStorage, UltrasoundImageStorage])
def test_lettering_is_blanked_and_the_rest_is_not(sop_class: str) -> None:
    source = capture("DOE^JANE 1957-03-14", sop_class=sop_class)
    found = clean(source)
    assert found.dataset is not None
    assert 0 < found.blanked.lettering < 0.3
    after = pydicom.dcmread(BytesIO(instance.to_bytes(found.dataset))).pixel_array
    assert after.max() <= 90
    assert np.array_equal(after[80:], source.pixel_array[80:])


def test_lettering_in_one_frame_is_found() -> None:
    source = capture(frames=40, sop_class=UltrasoundMultiFrameImageStorage)
    frames = np.frombuffer(source.PixelData, np.uint8).reshape(40, 256, 256).copy()
    frames[17] = np.frombuffer(capture("MRN 4471903").PixelData, np.uint8).reshape(256, 256)
    source.PixelData = frames.tobytes()
    found = clean(source)
    assert found.pixels is not None
    assert found.pixels.frames_FHWS.max() <= 90


def test_outside_an_ultrasounds_regions_everything_is_blanked() -> None:
    source = capture(sop_class=UltrasoundImageStorage)
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 50, 60
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 199, 219
    source.SequenceOfUltrasoundRegions = [region]
    found = clean(source)
    assert found.pixels is not None
    image = found.pixels.frames_FHWS[0, ..., 0]
    assert np.array_equal(image[60:220, 50:200], source.pixel_array[60:220, 50:200])
    assert image[:60].max() == image[220:].max() == image[:, :50].max() == image[:, 200:].max() == 10


def test_stated_annotation_that_is_not_found_holds_the_image_back() -> None:
    source = capture()
    source.BurnedInAnnotation = "YES"
    assert clean(source).reason == "burned-in annotation is stated and was not found"


def test_a_page_of_text_is_held_back() -> None:
    source = capture()
    page = Image.new("L", (256, 256), 255)
    pen = ImageDraw.Draw(page)
    for line in range(4, 240, 17):
        pen.text((6, line), "Discharge letter of Jane Doe, born 1957", fill=0, font=ImageFont.load_default(13))
    source.PixelData = np.asarray(page).tobytes()
    assert clean(source).reason == "the image is mostly lettering"


def test_a_real_ultrasound_loses_its_header() -> None:
    source = pydicom.dcmread(str(get_testdata_file("examples_palette.dcm")))
    before = pydicom.pixels.apply_color_lut(source.pixel_array, source)
    found = instance.clean(plants.to_file(source), KEY)
    assert found.dataset is not None, found.reason
    written = pydicom.dcmread(BytesIO(instance.to_bytes(found.dataset)))
    after = pydicom.pixels.apply_color_lut(written.pixel_array, written)
    # The machine writes the institution and the date in the band above the picture.
    assert (before[:50] != after[:50]).any(axis=-1).mean() > 0.3


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_pixels_come_out_the_same(syntax: pydicom.uid.UID) -> None:
    source = plants.image()
    before = source.pixel_array
    source.compress(syntax, generate_instance_uid=False)
    found = clean(source)
    assert found.dataset is not None
    written = pydicom.dcmread(BytesIO(instance.to_bytes(found.dataset)))
    assert written.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert np.array_equal(written.pixel_array, before)


@pytest.mark.parametrize("name", ["JPEG2000.dcm", "MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jpeg_gdcm.dcm"])
def test_real_compressed_files_are_read(name: str) -> None:
    assert instance.clean(Path(str(get_testdata_file(name))), KEY).dataset


def test_pixels_that_cannot_be_decoded_hold_the_image_back() -> None:
    source = plants.image()
    source.compress(RLELossless, generate_instance_uid=False)
    source.PixelData = pydicom.encaps.encapsulate([b"not a frame of this image at all"])
    source["PixelData"].is_undefined_length = True
    assert clean(source).reason == "the pixels cannot be decoded"


def test_documents_reports_and_unknown_classes_are_held_back() -> None:
    for sop_class, reason in (
        (EncapsulatedPDFStorage, "an encapsulated document holds free text"),
        ("1.2.840.10008.5.1.4.1.1.88.11", "a structured report holds free text"),
        ("1.2.840.10008.5.1.4.1.1.77.1.4", "a photograph may show a face"),
        ("1.2.3.4", "its SOP class is not known"),
    ):
        source = capture()
        source.SOPClassUID = source.file_meta.MediaStorageSOPClassUID = sop_class
        assert clean(source).reason == reason


def test_a_slides_label_is_held_back() -> None:
    source = capture(sop_class="1.2.840.10008.5.1.4.1.1.77.1.6")
    source.ImageType = ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]
    assert clean(source).reason == "a photograph of a slide may show its label"


def test_nine_lines_of_ten_are_found_and_anatomy_stays() -> None:
    samples = list(_burned_in.samples(42, seed=5))
    covered = [float(lettering.find(one.grey_HW)[one.ink_HW].mean()) for one in samples]
    assert np.mean([share >= _burned_in.WHOLE for share in covered]) >= 0.85
    grounds = _burned_in.backgrounds(5)
    for name in ("CT slice", "MR slice", "projection of a body", "black page", "white page"):
        assert lettering.find(grounds[name]).mean() < 0.01
        assert not lettering.find(grounds[name], sure=True).any()


RAMP = np.tile(np.arange(64), (64, 1))


@pytest.mark.parametrize(
    ("sop_class", "samples", "header"),
    [
        ("1.2.840.10008.5.1.4.1.1.2", (RAMP * 3 - 90).astype("<i2"), {"PixelRepresentation": 1, "BitsStored": 16}),
        ("1.2.840.10008.5.1.4.1.1.1", (RAMP * 4).astype("u1"), {"PhotometricInterpretation": "MONOCHROME1"}),
        ("1.2.840.10008.5.1.4.1.1.481.2", (RAMP * 10**6).astype("<u4"), {}),
        ("1.2.840.10008.5.1.4.1.1.7", np.stack([RAMP * 4, RAMP.T * 4, RAMP], -1).astype("u1"), {}),
    ],
)
def test_samples_of_every_kind_come_out_the_same(
    sop_class: str, samples: np.ndarray, header: dict[str, object]
) -> None:
    source = plants.image()
    source.SOPClassUID = source.file_meta.MediaStorageSOPClassUID = sop_class
    source.BitsAllocated = source.BitsStored = samples.dtype.itemsize * 8
    if samples.ndim == 3:
        source.SamplesPerPixel, source.PlanarConfiguration, source.PhotometricInterpretation = 3, 0, "RGB"
    for keyword, value in header.items():
        setattr(source, keyword, value)
    source.HighBit = source.BitsStored - 1
    source.PixelData = samples.tobytes()
    found = clean(source)
    assert found.dataset is not None, found.reason
    written = pydicom.dcmread(BytesIO(instance.to_bytes(found.dataset)))
    assert np.array_equal(written.pixel_array, samples)
    assert written.PhotometricInterpretation == source.PhotometricInterpretation


def test_fine_vessels_are_not_taken_for_lettering() -> None:
    """The grain between them has specks of a small glyph's size; three in a row are no word."""
    draw = np.random.default_rng(0)
    pictures = [retina(draw.standard_normal(), wavy=bool(one % 2), rng=draw).mean(-1) / 255 for one in range(60)]
    blanked = [lettering.find((each / each.max()).astype(np.float32)).any() for each in pictures]
    assert sum(blanked) <= 3
