"""What ingestion writes is MEDS 0.4, by the standard's own schemas, and no byte of it changes unnoticed."""

from __future__ import annotations

from pathlib import Path

import meds
import orjson
import polars as pl
import pyarrow.parquet as pq
import pytest

from lifechart.core.errors import InputError, IntegrityError
from lifechart.data import shards
from tests.data.samples import patient, resource, take, write


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    lines = []
    for n in range(60):
        lines += [patient(f"p{n}"), resource("Observation", f"o{n}", f"p{n}"), resource("Condition", f"c{n}", f"p{n}")]
    spoken = resource("Observation", "words", "p0", valueString="Positive")
    del spoken["valueQuantity"]
    write(tmp_path / "in" / "all.ndjson", *lines, spoken)
    take(tmp_path / "in", tmp_path / "out")
    return tmp_path / "out"


def test_shards_and_metadata_keep_the_schemas_of_meds(dataset: Path) -> None:
    for split in shards.SPLITS:
        for file in shards.shard_files(dataset, split):
            meds.DataSchema.validate(pq.read_table(file))
    meds.CodeMetadataSchema.validate(pq.read_table(dataset / meds.code_metadata_filepath))
    meds.SubjectSplitSchema.validate(pq.read_table(dataset / meds.subject_splits_filepath))
    meds.DatasetMetadataSchema.validate(orjson.loads((dataset / meds.dataset_metadata_filepath).read_bytes()))


def test_splits_say_where_each_subject_is(dataset: Path) -> None:
    stated = pl.read_parquet(dataset / meds.subject_splits_filepath)
    assert stated.height == 60
    for split in shards.SPLITS:
        here = shards.read_split(dataset, split)["subject_id"].unique().sort()
        assert here.to_list() == stated.filter(pl.col("split") == split)["subject_id"].sort().to_list()
    assert set(stated["split"]) == set(shards.SPLITS)


def test_splits_are_about_80_10_10() -> None:
    keyed = pl.DataFrame({"subject_id": pl.Series(range(0, 2**62, 2**62 // 20_000), dtype=pl.Int64)})
    shares = keyed.select(split=shards.split_of(pl.col("subject_id")))["split"].value_counts(normalize=True)
    assert dict(shares.iter_rows())["train"] == pytest.approx(0.8, abs=0.02)
    assert dict(shares.iter_rows())["held_out"] == pytest.approx(0.1, abs=0.02)


def test_codes_describe_every_code_of_the_data(dataset: Path) -> None:
    events = pl.concat([shards.read_split(dataset, split) for split in shards.SPLITS])
    codes = shards.codes(dataset)
    assert set(codes["code"]) == set(events["code"])
    assert codes["num_events"].sum() == events.height
    row = codes.row(by_predicate=pl.col("code") == "LOINC//4548-4", named=True)
    assert (row["description"], row["unit"], row["kind"], row["num_subjects"]) == ("HbA1c", "%", "laboratory", 60)
    assert row["num_events"] == 61
    assert shards.names(dataset)["SNOMED//44054006"] == "Type 2 diabetes"
    assert set(events["text_value"]) == {None, "positive"}


@pytest.mark.parametrize("name", ["metadata/codes.parquet", "metadata/dataset.json"])
def test_a_changed_byte_is_named(dataset: Path, name: str) -> None:
    assert shards.verify(dataset) == shards.dataset_digest(dataset)
    content = bytearray((dataset / name).read_bytes())
    content[len(content) // 2] ^= 1
    (dataset / name).write_bytes(content)
    with pytest.raises(IntegrityError, match=name):
        shards.verify(dataset)


def test_an_added_file_is_named(dataset: Path) -> None:
    (dataset / "data" / "train" / "more.parquet").write_bytes(b"x")
    with pytest.raises(IntegrityError, match=r"more\.parquet"):
        shards.verify(dataset)


def test_events_made_elsewhere_become_a_data_set(tmp_path: Path, dataset: Path) -> None:
    events = pl.concat([shards.read_split(dataset, split) for split in shards.SPLITS])
    shards.write_dataset(
        tmp_path / "copy", events.sample(fraction=1.0, shuffle=True, seed=1), {"LOINC//4548-4": "HbA1c"}
    )
    again = pl.concat([shards.read_split(tmp_path / "copy", split) for split in shards.SPLITS])
    assert again.height == events.height
    assert shards.names(tmp_path / "copy") == {"LOINC//4548-4": "HbA1c"}
    meds.DataSchema.validate(pq.read_table(shards.shard_files(tmp_path / "copy", "train")[0]))


def test_what_is_no_data_set_is_refused(tmp_path: Path, dataset: Path) -> None:
    with pytest.raises(InputError, match="DATASET"):
        shards.read_split(tmp_path, "train")
    with pytest.raises(InputError, match="DATASET"):
        shards.codes(tmp_path)
    with pytest.raises(InputError, match="DATASET"):
        shards.dataset_digest(tmp_path)
    with pytest.raises(InputError, match="split"):
        shards.read_split(dataset, "test")
