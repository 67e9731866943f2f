"""A hospital's records, images and genomes as one data set: the pixels come along, under the same people."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from lifechart.core.errors import InputError
from lifechart.data import images, shards
from lifechart.data.ingest import ingest
from lifechart.data.sources import find_source
from lifechart.simulate.hospital import simulate


class Quiet:
    """A ledger that keeps nothing."""

    def append(self, statement: object) -> None:
        """Take a statement."""


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("linked")
    simulate(out, 14, 9, date(2026, 1, 1), modalities=("image", "variant"), progress=False)
    return out


def test_images_and_genomes_stand_with_the_records(hospital: Path, tmp_path: Path) -> None:
    assert find_source(hospital).name == "linked"
    ingest(hospital, tmp_path / "set", key=b"k" * 32, log=Quiet(), min_patients=1, progress=False)
    events = pl.concat([shards.read_split(tmp_path / "set", split) for split in shards.SPLITS])
    index = images.index(tmp_path / "set")
    assert index.height > 3
    assert images.verify(tmp_path / "set") == index["image"].n_unique()
    known = events.filter(pl.col("kind") == "imaging").select("subject_id", "time").unique()
    assert index.join(known, on=["subject_id", "time"], how="semi").height == index.height
    recorded = events.filter(pl.col("kind") == "encounter")["subject_id"].unique()
    for kind in ("imaging", "genomic"):
        assert events.filter(pl.col("kind") == kind)["subject_id"].is_in(recorded.implode()).all()
    scores = events.filter(pl.col("code").str.starts_with("PGS//"))
    assert set(scores["code"]) == {"PGS//PGS990001", "PGS//PGS990002"}


def test_a_linked_set_without_images_has_no_index(hospital: Path, tmp_path: Path) -> None:
    (tmp_path / "sources.yaml").write_text(f"sources:\n  - {{source: fhir, path: {hospital / 'fhir'}}}\n")
    ingest(tmp_path, tmp_path / "set", key=b"k" * 32, log=Quiet(), min_patients=1, progress=False, source="linked")
    assert not (tmp_path / "set" / "metadata" / images.FILE).exists()
    assert images.index(tmp_path / "set").is_empty()


def test_images_take_their_table_of_patients_as_an_option(hospital: Path, tmp_path: Path) -> None:
    table = hospital / "imaging_patients.csv"
    (tmp_path / "sources.yaml").write_text(
        f"sources:\n  - {{source: fhir, path: {hospital / 'fhir'}}}\n"
        f"  - {{source: dicom, path: {hospital / 'images'}, "
        f"ids: {{file: {table}, from: patient_id, to: record_id}}}}\n"
    )
    with pytest.raises(InputError, match="option"):
        find_source(tmp_path).units(tmp_path, "")
