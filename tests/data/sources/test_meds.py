"""MEDS data sets are read back whole: ours, older ones, and those without our columns."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from lifechart.core.timeline import RECORD_END
from lifechart.data.sources import frames
from lifechart.data.sources.meds import source
from tests.data.samples import patient, resource, take, write


def test_our_own_data_set_comes_back_the_same_but_for_ids_and_dates(tmp_path: Path) -> None:
    lines = []
    for n in range(30):
        lines += [patient(f"p{n}"), resource("Observation", f"o{n}", f"p{n}"), resource("Condition", f"c{n}", f"p{n}")]
    write(tmp_path / "in" / "all.ndjson", *lines)
    first, before = take(tmp_path / "in", tmp_path / "one", as_of=datetime(2020, 1, 1))
    second, after = take(tmp_path / "one", tmp_path / "two")
    columns = ["time", "code", "numeric_value", "unit", "kind"]
    assert before.select(columns).sort(columns).equals(after.select(columns).sort(columns))
    assert second.subjects == first.subjects
    assert second.total == first.events


def test_a_plain_meds_0_3_data_set(tmp_path: Path) -> None:
    events = pl.DataFrame(
        {
            "subject_id": [1, 1, 1, 1, 2, 2],
            "time": [
                None,
                datetime(1950, 1, 1),
                datetime(2001, 2, 3),
                datetime(2010, 1, 1),
                datetime(1960, 1, 1),
                datetime(2002, 1, 1),
            ],
            "code": ["GENDER//F", "MEDS_BIRTH", "DIAGNOSIS//ICD//10//I50", "MEDS_DEATH", "MEDS_BIRTH", "LAB//x"],
            "numeric_value": [None, None, None, None, None, 4.5],
        },
        schema_overrides={"subject_id": pl.Int64, "time": pl.Datetime("us"), "numeric_value": pl.Float32},
    )
    (tmp_path / "in" / "data" / "train").mkdir(parents=True)
    events.write_parquet(tmp_path / "in" / "data" / "train" / "0.parquet")
    account, found = take(tmp_path / "in", tmp_path / "out")
    assert account.total == 6
    kinds = dict(found.select("code", "kind").unique().iter_rows())
    assert kinds["DIAGNOSIS//ICD//10//I50"] == "condition"
    assert kinds["LAB//x"] == "laboratory"
    assert kinds["MEDS_DEATH"] == "death"
    ends = found.filter(pl.col("code") == RECORD_END)["time"].dt.year().sort().to_list()
    assert ends == [2002, 2010]


def test_whatever_types_a_writer_chose(tmp_path: Path) -> None:
    events = pl.DataFrame(
        {
            "subject_id": [1, 1, 2],
            "time": [datetime(1950, 1, 1), datetime(2001, 2, 3, 10), datetime(2002, 1, 1)],
            "code": ["MEDS_BIRTH", "LAB//x", "VARIANT//TP53//stop_gained//heterozygous"],
            "numeric_value": [None, 4.5, None],
            "text_value": [None, "Positive", None],
        }
    )
    stranger = events.with_columns(
        pl.col("subject_id").cast(pl.Int32),
        pl.col("time").cast(pl.Datetime("ns", "Europe/Berlin")),
        pl.col("code").cast(pl.Categorical),
        pl.col("numeric_value").cast(pl.Float64),
        pl.col("text_value").cast(pl.Categorical),
    )
    found = []
    for name, frame in (("plain", events), ("stranger", stranger)):
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "metadata").mkdir()
        (tmp_path / name / "metadata" / "codes.parquet").write_bytes(b"not Parquet")
        frame.write_parquet(tmp_path / name / "data" / "all.parquet")
        batches = [batch for unit in source.units(tmp_path / name) for batch in source.read(unit)]
        found.append(pl.concat([batch.rows for batch in batches]))
    wall = found[1].with_columns(pl.col("time").dt.offset_by("-1h"))
    assert found[0].drop("time").equals(found[1].drop("time"))
    # Berlin was an hour ahead of the naive times, which were taken for UTC: wall clock is what is read.
    assert wall["time"].to_list() == found[0]["time"].to_list()
    assert dict(found[0].select("code", "kind").iter_rows())["VARIANT//TP53//stop_gained//heterozygous"] == "genomic"


def test_a_shard_that_is_cut_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = []
    for n in range(30):
        lines += [patient(f"p{n}"), resource("Observation", f"o{n}", f"p{n}"), resource("Condition", f"c{n}", f"p{n}")]
    write(tmp_path / "in" / "all.ndjson", *lines)
    take(tmp_path / "in", tmp_path / "one", as_of=datetime(2020, 1, 1))
    _, whole = take(tmp_path / "one", tmp_path / "two")
    monkeypatch.setattr(frames, "_UNIT_ROWS", 7)
    assert len(source.units(tmp_path / "one")) > 10
    _, cut = take(tmp_path / "one", tmp_path / "three")
    assert whole.equals(cut)
