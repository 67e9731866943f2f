"""A model in shadow: what it forecasts each week, and what it is told when a forecast's time is up."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lifechart.core.errors import InputError
from lifechart.core.timeline import BIRTH, RECORD_END
from lifechart.data import shards
from lifechart.evaluate.follow_up import follow_up
from lifechart.evaluate.signals import Reference
from lifechart.evaluate.watch import read_week
from tests.evaluate.hospital import HEART, INPATIENT, LastValue

START = datetime(2026, 1, 5)
PAIRS = [(INPATIENT, 30), (HEART, 90)]


def row(subject: int, time: datetime | None, code: str) -> dict[str, object]:
    return {"subject_id": subject, "time": time, "code": code, "numeric_value": None, "text_value": None,
            "unit": None, "kind": "encounter"}  # fmt: skip


@pytest.fixture
def weeks(tmp_path: Path) -> Path:
    schema = {"time": pl.Datetime("us"), "numeric_value": pl.Float32, "text_value": pl.String, "unit": pl.String}
    for number in range(8):
        seen = START + timedelta(weeks=number)
        rows = []
        for subject in (1, 2):
            rows += [row(subject, datetime(1960, 1, 1), BIRTH), row(subject, None, "GENDER//female")]
            rows += [row(subject, START + timedelta(weeks=n), "ENCOUNTER//ambulatory") for n in range(number + 1)]
            rows.append(row(subject, seen + timedelta(days=300), RECORD_END))
        if number >= 2:
            rows.append(row(1, START + timedelta(days=14, hours=1), INPATIENT))
        shards.write_dataset(tmp_path / f"w{number}", pl.DataFrame(rows, schema_overrides=schema), {})
    return tmp_path


def test_labels_come_when_their_time_is_up_and_say_what_happened(weeks: Path) -> None:
    assert follow_up(weeks, LastValue(), PAIRS) == 8
    assert not (weeks / "w4" / "matured.parquet").exists()
    matured = pl.read_parquet(weeks / "w5" / "matured.parquet")
    assert matured["outcome"].unique().to_list() == [INPATIENT]
    assert dict(matured.select("subject_id", "label").iter_rows()) == {1: True, 2: False}
    # The forecast of week 2 was made after the admission, which is therefore none of its future.
    assert pl.read_parquet(weeks / "w6" / "matured.parquet")["label"].any()
    assert not pl.read_parquet(weeks / "w7" / "matured.parquet")["label"].any()


def test_groups_and_probabilities_stand_beside_each_other(weeks: Path) -> None:
    follow_up(weeks, LastValue(), PAIRS)
    made = pl.read_parquet(weeks / "w0" / "forecasts.parquet")
    assert made.height == 4
    assert made["groups"].to_list()[0] == ["age=65-79", "sex=female"]
    assert made["probability"].is_between(0, 1).all()


class Somewhere(LastValue):
    """Tells where charts lie: at the number of their events."""

    def situate(self, events: pl.DataFrame, prompts: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        sizes = [events.filter(pl.col("subject_id") == who).height for who in prompts["subject_id"]]
        return np.array([[size, 1.0] for size in sizes], np.float32), np.array(sizes) / 100


def test_where_charts_lie_is_followed_for_a_forecaster_that_tells(weeks: Path) -> None:
    follow_up(weeks, Somewhere(), PAIRS)
    made = pl.read_parquet(weeks / "w3" / "forecasts.parquet")
    assert made["embedding"].to_list()[0] == [7.0, 1.0]
    assert made["novelty"].unique().len() == 2
    batches = [read_week(week) for week in sorted(weeks.iterdir())]
    kinds = {key.kind for batch in batches for key in Reference(batches, 1).measure(batch)}
    assert "novelty" in kinds
    follow_up(weeks, LastValue(), PAIRS)


def test_what_was_written_stays(weeks: Path) -> None:
    follow_up(weeks, LastValue(), PAIRS)
    before = (weeks / "w0" / "forecasts.parquet").read_bytes()
    assert follow_up(weeks, LastValue(), PAIRS) == 0
    assert (weeks / "w0" / "forecasts.parquet").read_bytes() == before


def test_a_week_is_the_last_of_each_chart(weeks: Path) -> None:
    events = read_week(weeks / "w6").events
    assert set(events["code"]) == {BIRTH, "GENDER//female", "ENCOUNTER//ambulatory"}
    assert events.filter(pl.col("code") == "ENCOUNTER//ambulatory").height == 2


def test_a_pair_nobody_forecasts_is_refused(weeks: Path) -> None:
    with pytest.raises(InputError, match="last-value"):
        follow_up(weeks, LastValue(), [("SNOMED//1", 30)])
