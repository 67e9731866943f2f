"""The cohort's table counts people once, by what the record says."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from lifechart.data import cohort
from tests.data.samples import patient, resource, take, write


@pytest.fixture
def people(tmp_path: Path) -> pl.DataFrame:
    lines = []
    for n in range(20):
        died = {"deceasedDateTime": "2016-01-01T00:00:00Z"} if n == 0 else {}
        lines.append(patient(f"p{n}", birthDate=f"{1930 + 5 * n}-01-01", gender="male" if n % 4 else "female", **died))
        for visit in range(n % 3 + 1):
            lines.append(
                resource("Condition", f"c{n}-{visit}", f"p{n}", recordedDate=f"{2010 + 5 * visit}-06-01T00:00:00Z")
            )
    write(tmp_path / "in" / "all.ndjson", *[line for line in lines if line.get("birthDate", "") < "2009"])
    _, events = take(tmp_path / "in", tmp_path / "out", as_of=datetime(2021, 1, 1))
    return cohort.subjects(events)


def test_one_row_a_subject(people: pl.DataFrame) -> None:
    assert people.height == people["subject_id"].n_unique() == 16
    assert people["died"].sum() == 1
    assert people["sex"].value_counts().sort("sex")["count"].to_list() == [4, 12]
    assert people["age"].max() <= 90.01
    assert set(people["num_events"]) == {1, 2, 3}


def test_filters_meet_every_condition(people: pl.DataFrame) -> None:
    assert cohort.select(people).height == 16
    assert set(cohort.select(people, min_events=3)["num_events"]) == {3}
    chosen = cohort.select(people, ages=(40, 65), sexes=["male"])
    assert 0 < chosen.height < 16
    assert chosen["age"].is_between(40, 65, closed="left").all()


def test_each_group_of_the_summary_adds_up(people: pl.DataFrame) -> None:
    summary = cohort.summary(people)
    for group in ("all", "sex", "age", "race"):
        rows = summary.filter(summary["group"] == group)
        assert rows["num_subjects"].sum() == 16
        assert rows["died"].sum() == 1
        assert rows["share"].sum() == pytest.approx(1)
    assert len(cohort.table(people)) == summary.height + 1
