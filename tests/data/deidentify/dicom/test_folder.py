"""A folder in, a folder out: whole or absent, every file accounted for, nothing named in the report; and the fuzz."""

from __future__ import annotations

import random
import warnings
import zipfile
from io import BytesIO
from pathlib import Path

import orjson
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian

from bench import _dicom_plants as plants
from lifechart.core.errors import InputError
from lifechart.data.deidentify.dicom import folder, instance
from lifechart.data.deidentify.dicom.subject import subject
from tests.data.samples import KEY, Log

CLASSES = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.88.11", "1.2.3")


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    """Two patients' images, one twice, one in a zip; a report, a text file and a broken one."""
    found = tmp_path / "Quillfeather"
    (found / "sub").mkdir(parents=True)
    for number in (1, 2):
        (found / f"Quillfeather_{number}.dcm").write_bytes(plants.to_file(plants.image(number=number)))
    (found / "sub" / "again").write_bytes(plants.to_file(plants.image(number=1)))
    with zipfile.ZipFile(found / "z.zip", "w") as archive:
        archive.writestr("Quillfeather.dcm", plants.to_file(plants.image("2", patient="MRN-2")))
        archive.writestr("readme.txt", "Quillfeather")
    report = plants.image("3")
    report.SOPClassUID = CLASSES[2]
    (found / "report.dcm").write_bytes(plants.to_file(report))
    (found / "truncated.dcm").write_bytes(plants.to_file(plants.image("4"))[:2000])
    (found / "notes.txt").write_text("Quillfeather")
    return found


def test_every_file_is_accounted_for_and_none_is_named(hospital: Path, tmp_path: Path) -> None:
    log = Log()
    report = folder.deidentify(hospital, tmp_path / "out", key=KEY, log=log, workers=1)
    assert report["totals"]["outcomes"] == {"written": 3, "duplicate": 1, "held back": 2, "not DICOM": 2}
    assert (report["totals"]["files"], report["totals"]["patients"], report["totals"]["series"]) == (8, 2, 2)
    written = sorted((tmp_path / "out").rglob("*.dcm"))
    assert len(written) == 3
    everything = b"".join(path.read_bytes() + str(path).encode() for path in written)
    everything += (tmp_path / "out" / "report.json").read_bytes() + orjson.dumps(log.statements[0].predicate)
    assert b"Quillfeather" not in everything.replace(str(tmp_path).encode(), b"")
    assert b"MRN" not in everything
    assert log.statements[0].kind == "deidentify"


def test_two_processes_write_the_same_as_one(hospital: Path, tmp_path: Path) -> None:
    for number in range(3, 70):
        (hospital / f"{number}.dcm").write_bytes(plants.to_file(plants.image(number=number)))
    one = folder.deidentify(hospital, tmp_path / "one", key=KEY, log=Log(), workers=1)
    two = folder.deidentify(hospital, tmp_path / "two", key=KEY, log=Log(), workers=2)
    assert one == two
    for path in (tmp_path / "one").rglob("*.dcm"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_without_a_statement_there_is_no_output(hospital: Path, tmp_path: Path) -> None:
    class Full:
        def append(self, statement: object) -> None:
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        folder.deidentify(hospital, tmp_path / "out", key=KEY, log=Full(), workers=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Quillfeather"]


def test_a_table_of_patients_lets_images_move_with_the_record(hospital: Path, tmp_path: Path) -> None:
    table = tmp_path / "patients.csv"
    table.write_text("patient_id,record_id\nMRN-7734-88,p1\n")
    folder.deidentify(hospital, tmp_path / "out", key=KEY, log=Log(), patients=table, workers=1)
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {
        str(subject(KEY, "p1").id),
        str(subject(KEY, "MRN-2").id),
    }
    table.write_text("a,b\n")
    with pytest.raises(InputError, match="patient_id and record_id"):
        folder.deidentify(hospital, tmp_path / "other", key=KEY, log=Log(), patients=table)


@pytest.mark.parametrize("arguments", [{"workers": 0}, {}])
def test_arguments_that_cannot_be_used_are_refused(hospital: Path, tmp_path: Path, arguments: dict[str, int]) -> None:
    out = tmp_path / "out" if arguments else tmp_path
    with pytest.raises(InputError):
        folder.deidentify(hospital, out, key=KEY, log=Log(), **arguments)


VRS = ("LO", "SH", "PN", "DA", "TM", "DT", "UI", "IS", "DS", "AS", "CS", "UT", "UC", "UR", "OB", "UN", "AE", "SQ")


def grown(draw: random.Random, depth: int, marks: list[bytes]) -> Dataset:
    """A data set of random attributes with random, often wrong, value types, and markers wherever text can stand."""
    made = Dataset()
    for _ in range(draw.randrange(1, 9)):
        group = draw.choice((0x0008, 0x0010, 0x0018, 0x0020, 0x0028, 0x0040, 0x0009, 0x0019, 0x300A, 0x5000, 0x6002))
        tag = group << 16 | draw.choice((0x0010, 0x1001, 0x1140, 0x9346, draw.randrange(1, 0xFFFF)))
        vr = draw.choice(VRS)
        mark = plants._mark(draw)
        if vr == "SQ":
            items = [grown(draw, depth - 1, marks) for _ in range(draw.randrange(3))] if depth else []
            made.add_new(tag, vr, items)
            made[tag].is_undefined_length = draw.random() < 0.5
        else:
            content = mark.encode() + b" " * (len(mark) % 2)
            made[tag] = RawDataElement(Tag(tag), vr, len(content), content, 0, False, True)
            marks.append(mark.encode())
    return made


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(CLASSES), st.booleans(), st.floats(0, 1))
def test_random_data_sets_never_raise_and_no_marker_survives(
    seed: int, sop_class: str, implicit: bool, cut: float
) -> None:
    draw, marks = random.Random(seed), []
    with instance.quiet():
        source = plants.image()
        source.update(grown(draw, 4, marks))
        for keyword in ("Rows", "PixelData", "PatientID", "SpecificCharacterSet"):
            if draw.random() < 0.1:
                source[pydicom.datadict.tag_for_keyword(keyword)] = pydicom.DataElement(
                    pydicom.datadict.tag_for_keyword(keyword), "LO", "ISO 2022 IR 999"
                )
        source.SOPClassUID = sop_class
        if implicit:
            source.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        try:
            content = plants.to_file(source)
        except Exception:
            return  # pydicom itself cannot write what was drawn
    if draw.random() < 0.3:
        content = content[: int(len(content) * cut)]
    if draw.random() < 0.2:
        spot = draw.randrange(132, max(133, len(content)))
        content = content[:spot] + bytes(draw.randrange(256) for _ in range(8)) + content[spot + 8 :]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = instance.clean(content, KEY)
    assert not said
    assert not any(mark.decode() in found.reason for mark in marks)
    if found.dataset is not None:
        written = instance.to_bytes(found.dataset)
        assert not [mark for mark in marks if mark in written]
        assert pydicom.dcmread(BytesIO(written)).pixel_array.size


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_taken(content: bytes, preamble: bool) -> None:
    found = instance.clean(b"\0" * 128 + b"DICM" + content if preamble else content, KEY)
    assert found.outcome != instance.WRITTEN
