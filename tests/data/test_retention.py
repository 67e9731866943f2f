"""What is due is deleted, with a statement that stays; what a current release rests on is kept unless forced."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lifechart.core import durable
from lifechart.core.errors import AuditError, InputError
from lifechart.core.settings import Settings
from lifechart.data import retention, shards
from lifechart.data.consent import standing
from lifechart.data.vault import encryption, keys
from lifechart.ledger.log import Log, open_log
from lifechart.ledger.statement import Statement, Subject
from tests.data.deidentify.risk.test_assess import people_events

OLD = datetime(2010, 1, 1, tzinfo=UTC)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    with open_log(Settings(home=tmp_path / "home")) as opened:
        yield opened


def stamp(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def dataset(folder: Path, log: Log, seed: int, made: datetime = OLD) -> str:
    digest = shards.write_dataset(folder, people_events(12, seed), {})
    log.append(Statement("ingest", (Subject("dataset", digest),), {}, stamp(made)))
    return digest


def model(folder: Path, log: Log, data: str, made: datetime = OLD) -> str:
    folder.mkdir(parents=True)
    (folder / "weights.npz").write_bytes(folder.name.encode())
    files = {"weights.npz": durable.file_digest(folder / "weights.npz")}
    digest = durable.digest_of(files)
    log.append(Statement("train", (Subject("model", digest),), {"dataset": data, "files": files}, stamp(made)))
    return digest


def release(log: Log, version: str, data: str, trained: str) -> None:
    said = {"capability": "risk", "version": version, "model": trained, "data": {"train": data}, "actor": "x"}
    log.append(Statement("release", (Subject(f"risk/{version}", durable.digest_of(version)),), said))


def test_what_is_due_is_deleted_and_told(log: Log, tmp_path: Path) -> None:
    old, young = tmp_path / "things" / "old", tmp_path / "things" / "deeper" / "young"
    digest = dataset(old, log, 1)
    dataset(young, log, 2, datetime.now(UTC))
    found = retention.things(log, [tmp_path / "things"], retention.load())
    assert [(each.folder, each.kind, each.state()) for each in found] == [
        (old, "dataset", "due"),
        (young, "dataset", "kept"),
    ]
    gone = retention.apply(found, log, actor="steward", reason="six years have passed")
    assert [each.digest for each in gone] == [digest]
    assert not old.exists()
    assert young.exists()
    (said,) = (entry.statement for entry in log.find(kind="retention"))
    assert said.subjects == (Subject("dataset", digest),)
    assert (said.predicate["actor"], said.predicate["forced"]) == ("steward", False)
    assert standing.is_deleted(log, digest)


def test_what_a_current_release_rests_on_is_kept_unless_forced(log: Log, tmp_path: Path) -> None:
    data = dataset(tmp_path / "t" / "data", log, 1)
    trained = model(tmp_path / "t" / "model", log, data)
    unreleased = model(tmp_path / "t" / "another", log, data)
    release(log, "1", data, trained)
    found = retention.things(log, [tmp_path / "t"], retention.load())
    assert {each.digest: each.state() for each in found} == {
        data: "due, but risk 1 is current",
        trained: "due, but risk 1 is current",
        unreleased: "due",
    }
    assert [each.digest for each in retention.apply(found, log, actor="s", reason="r")] == [unreleased]
    release(log, "2", "ab" * 32, "cd" * 32)
    found = retention.things(log, [tmp_path / "t"], retention.load())
    assert {each.state() for each in found} == {"due"}
    release(log, "1", data, trained)
    found = retention.things(log, [tmp_path / "t"], retention.load())
    assert len(retention.apply(found, log, actor="s", reason="r", force=True)) == 2
    assert log.find(kind="retention")[-1].statement.predicate["forced"]


def test_without_a_statement_nothing_is_deleted(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset(tmp_path / "t", log, 1)
    found = retention.things(log, [tmp_path / "t"], retention.load())

    def refuse(statement: Statement) -> None:
        raise AuditError("no")

    monkeypatch.setattr(log, "append", refuse)
    with pytest.raises(AuditError):
        retention.apply(found, log, actor="s", reason="r")
    assert (tmp_path / "t" / "manifest.json").exists()


def test_a_deletion_wants_a_reason(log: Log) -> None:
    with pytest.raises(InputError, match="reason"):
        retention.apply([], log, actor="s", reason=" ")


def test_what_the_ledger_does_not_know_is_left_alone(log: Log, tmp_path: Path) -> None:
    shards.write_dataset(tmp_path / "t", people_events(12, 3), {})
    (tmp_path / "u").mkdir()
    (tmp_path / "u" / "manifest.json").write_text("[not json")
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "manifest.json").write_text('{"files": {}}')
    assert retention.things(log, [tmp_path], retention.load()) == []


def test_links_are_not_followed_and_an_encrypted_data_set_is_one(log: Log, tmp_path: Path) -> None:
    digest = dataset(tmp_path / "elsewhere" / "data", log, 1)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "here" / "loop").symlink_to(tmp_path / "here", target_is_directory=True)
    assert retention.things(log, [tmp_path / "here"], retention.load()) == []
    recipient = keys.make(tmp_path / "identity.txt")
    encryption.encrypt(tmp_path / "elsewhere" / "data", tmp_path / "here" / "sealed", [recipient], log=log)
    (thing,) = retention.things(log, [tmp_path / "here"], retention.load())
    assert (thing.kind, thing.digest) == ("dataset", digest)


def test_a_period_of_no_years_is_for_ever(log: Log, tmp_path: Path) -> None:
    dataset(tmp_path / "t", log, 1)
    rules = retention.load() | {"dataset": retention.Rule(0, "a register that the law keeps")}
    (thing,) = retention.things(log, [tmp_path], rules)
    assert (thing.until, thing.due) == ("–", False)


def test_the_day_it_falls_due(log: Log, tmp_path: Path) -> None:
    dataset(tmp_path / "t", log, 1)
    years = retention.load()["dataset"].years
    due = OLD + timedelta(days=365.25 * years)
    for moment, expected in ((due - timedelta(seconds=1), False), (due, True)):
        (thing,) = retention.things(log, [tmp_path], retention.load(), moment)
        assert thing.due is expected


def test_the_table_is_checked(tmp_path: Path) -> None:
    broken = tmp_path / "retention.toml"
    broken.write_text(retention.DEFAULT.read_text().replace("years = 6", "years = -6"))
    with pytest.raises(InputError, match="dataset"):
        retention.load(broken)
    broken.write_text(retention.DEFAULT.read_text().replace("[dataset]", "[datasets]"))
    with pytest.raises(InputError, match="dataset"):
        retention.load(broken)


def test_reading_a_data_set_is_enough_to_name_it(tmp_path: Path) -> None:
    digest = shards.write_dataset(tmp_path / "t", people_events(12, 3), {})
    assert retention._kind_of(tmp_path / "t", {}) == ("dataset", digest)
    assert isinstance(shards.read_split(tmp_path / "t", "train"), pl.DataFrame)
