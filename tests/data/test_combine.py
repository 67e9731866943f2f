"""Data sets joined: nothing said twice, every event with its source, observation as long as all sources observe."""

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifechart.core.errors import InputError
from lifechart.core.settings import Settings
from lifechart.core.timeline import BIRTH, RECORD_END
from lifechart.data import shards
from lifechart.data.combine import combine, joined, sources_of
from lifechart.data.consent.standing import resting_on
from lifechart.ledger.log import Log, open_log
from lifechart.ledger.statement import Statement, Subject
from lifechart.ledger.trace import trace

START = datetime(2020, 1, 1)
SCHEMA = {
    "subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String, "numeric_value": pl.Float32,
    "text_value": pl.String, "unit": pl.String, "kind": pl.String,
}  # fmt: skip


def rows(*given: tuple[int, int | None, str, float | None]) -> pl.DataFrame:
    """Return events from (subject, day, code, value)."""
    made = [
        (subject, None if day is None else START + timedelta(days=day), code, value, None, None, "laboratory")
        for subject, day, code, value in given
    ]
    return pl.DataFrame(made, schema=SCHEMA, orient="row")


A = rows((1, 0, BIRTH, None), (1, 10, "LOINC//1", 5.0), (1, 20, "X//1", None), (1, 400, RECORD_END, None))
B = rows((1, 0, BIRTH, None), (1, 10, "LOINC//1", 5.0), (1, 10, "LOINC//1", 6.0), (1, 350, "Y//1", None),
         (1, 300, RECORD_END, None), (2, 5, "Y//1", None))  # fmt: skip


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return open_log(Settings(home=tmp_path / "home"))


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    for name, events in (("lab", A), ("registry", B)):
        shards.write_dataset(tmp_path / name, events.sort("subject_id", "time", nulls_last=False), {})
    return {name: tmp_path / name for name in ("lab", "registry")}


def test_what_both_say_is_kept_once_for_the_first(folders: dict[str, Path], tmp_path: Path, log: Log) -> None:
    made = combine(folders, tmp_path / "out", log=log)
    splits = [shards.read_split(tmp_path / "out", split) for split in shards.SPLITS]
    events = pl.concat(splits, how="diagonal").sort("subject_id", maintain_order=True)
    told = events.select("subject_id", "code", "numeric_value", "source").rows()
    assert told == [
        (1, BIRTH, None, "lab"), (1, "LOINC//1", 5.0, "lab"), (1, "LOINC//1", 6.0, "registry"),
        (1, "X//1", None, "lab"),
        (1, RECORD_END, None, "registry"), (2, "Y//1", None, "registry"),
    ]  # fmt: skip
    assert made.events == {"lab": 3, "registry": 3}
    assert made.shared == 1
    assert made.subjects == 2
    assert shards.verify(tmp_path / "out") == made.digest
    assert sources_of(tmp_path / "out") == made.sources
    assert sources_of(folders["lab"]) == {}


def test_the_ledger_joins_them_too(folders: dict[str, Path], tmp_path: Path, log: Log) -> None:
    made = combine(folders, tmp_path / "out", log=log)
    log.append(Statement("train", (Subject("model", "e" * 64),), {"dataset": made.digest}))
    text = str(trace(log, "e" * 64))
    assert all(f"sources.{name}" in text for name in folders)
    rests = resting_on(log, made.sources["lab"])
    assert [model.digest for model in rests.models] == ["e" * 64], "a withdrawal from a source reaches the model"


def test_what_cannot_be_joined_is_refused(folders: dict[str, Path], tmp_path: Path, log: Log) -> None:
    with pytest.raises(InputError, match="two or more"):
        combine({"lab": folders["lab"]}, tmp_path / "out", log=log)
    with pytest.raises(InputError, match="two or more"):
        combine({"lab": folders["lab"], "again": folders["lab"]}, tmp_path / "out", log=log)
    combine(folders, tmp_path / "out", log=log)
    with pytest.raises(InputError, match="name its parts"):
        combine({"lab": folders["lab"], "both": tmp_path / "out"}, tmp_path / "more", log=log)


EVENTS = st.lists(
    st.tuples(st.integers(1, 3), st.integers(0, 30), st.sampled_from(["A//1", "A//2", BIRTH, RECORD_END]),
              st.sampled_from([None, 1.0])), max_size=20,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(one=EVENTS, two=EVENTS)
def test_every_thing_said_within_observation_is_there_once(
    one: list[tuple[int, int, str, float | None]], two: list[tuple[int, int, str, float | None]]
) -> None:
    given = pl.concat([rows(*one).with_columns(source=pl.lit("a")), rows(*two).with_columns(source=pl.lit("b"))])
    made = joined(given)
    end: dict[int, int] = {}
    for subject, day, code, _ in [*one, *two]:
        if code == RECORD_END:
            end[subject] = min(day, end.get(subject, day))
    facts = {(subject, code) for subject, _, code, _ in [*one, *two] if code in (BIRTH, RECORD_END)}
    plain = {each for each in [*one, *two] if each[2].startswith("A") and each[1] <= end.get(each[0], 99)}
    told = [(subject, (at - START).days, code, value) for subject, at, code, value, *_ in made.rows()]
    assert sorted(map(str, (each for each in told if each[2].startswith("A")))) == sorted(map(str, plain))
    kept = [(subject, code) for subject, _, code, _ in told if code in (BIRTH, RECORD_END)]
    assert len(kept) == len(set(kept))
    assert set(kept) <= facts
    assert made["time"].to_list() == [at for _, at in sorted(zip(made["subject_id"], made["time"], strict=True))]
