"""Images of a patient who withdrew are not among those that are written."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from bench._dicom_plants import image, to_file
from lifechart.data.consent.admission import Admission
from lifechart.data.deidentify import structured
from lifechart.data.deidentify.dicom import folder
from lifechart.data.sources import WITHHELD
from tests.data.samples import KEY, Log


def test_images_of_the_withdrawn_are_left_out(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for number, person in enumerate(["p1", "p1", "p2"], start=1):
        made = image(study=str(number), series=str(number), number=number, patient=person)
        (source / f"{number}.dcm").write_bytes(to_file(made))
    first, second = structured.subject_ids(KEY, pl.Series(["p1", "p2"])).to_list()
    log = Log()
    refused = Admission(listed=frozenset([first]))
    report = folder.deidentify(source, tmp_path / "out", key=KEY, log=log, admission=refused, workers=1)
    assert report["totals"]["outcomes"][WITHHELD] == 2
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == [str(second)]
    assert not list((tmp_path / "out").rglob("*.part"))
    everybody = folder.deidentify(source, tmp_path / "all", key=KEY, log=log, workers=1)
    assert everybody["totals"]["patients"] == 2
