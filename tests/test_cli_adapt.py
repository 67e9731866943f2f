"""The verbs adapt, combine and contribution, and what trace shows of them, as somebody types them."""

from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest
from typer.testing import CliRunner

from bench._institution import CRITERIA
from lifechart.cli import app
from lifechart.core.report import Report
from lifechart.core.settings import Settings
from lifechart.core.timeline import Timeline
from lifechart.data import shards
from lifechart.evaluate.headline import RELEASED
from lifechart.ledger.log import open_log
from lifechart.model import train as training
from lifechart.model.adapt.adapter import ADAPTER
from lifechart.model.forecaster import load_forecaster
from lifechart.release.shelf import open_shelf
from lifechart.serve.predict import Desk
from tests.model.adapt.conftest import elsewhere
from tests.model.clinic import TEST, clinic
from tests.model.conftest import TINY


def scattered(events: pl.DataFrame) -> pl.DataFrame:
    return events.with_columns(pl.col("subject_id") * 22_801_763_489_000_003 % (1 << 62))


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An institution with a model of three joined sources, and a neighbour with a home of its own."""
    folder = tmp_path_factory.mktemp("cli")
    events = scattered(clinic(600, seed=1))
    lab = pl.col("code") == TEST
    for name, part in (("laboratory", events.filter(lab)), ("registry", events.filter(~lab))):
        shards.write_dataset(folder / name, part, {})
    shards.write_dataset(folder / "local", scattered(elsewhere(500, seed=5)), {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIFECHART_HOME", str(folder / "north"))
        patch.setattr(training, "size_named", lambda name: TINY)
        run(
            "combine",
            f"laboratory={folder / 'laboratory'}",
            f"registry={folder / 'registry'}",
            "--out",
            folder / "both",
        )
        run("train", folder / "both", "--out", folder / "model", "--size", "xs")
    return folder


def test_a_partner_adapts_validates_and_can_say_what_it_rests_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECHART_HOME", str(home / "south"))
    north = open_log(Settings(home=home / "north"))
    north.publish()
    key, note = home / "north" / "keys" / "ledger.pub", home / "note"
    note.write_text(north.checkpoint())
    told = run(
        "adapt", home / "model", home / "local", "--out", home / "adapted", "--no-scratch", "--no-baselines",
        "--checkpoint", note, "--log-key", key,
    )  # fmt: skip
    assert "LOCAL//7" in told
    assert f"lifechart less {RELEASED}" in told
    report = Report.load(home / "adapted" / "report" / "report.json")
    (gain,) = report.select(name=f"beside:log_loss_less:{RELEASED}")
    assert gain.value < 0, "the local records are forecast better"
    assert gain.interval is not None
    text = run("trace", home / "adapted")
    assert "adapt, entry" in text
    assert f"checkpoint of {north.size} entries" in text
    text = run("trace", home / "adapted", "--beside", home / "north" / "ledger", "--beside-key", key)
    assert "In the log lifechart/" in text
    assert "sources.laboratory" in text
    again = CliRunner().invoke(
        app, ["adapt", str(home / "model"), str(home / "local"), "--out", "x", "--log-key", str(key)]
    )
    assert again.exit_code != 0
    assert "both" in str(again.exception)
    assert (home / "adapted" / ADAPTER).exists()


def test_an_adapted_model_is_released_and_answers_at_the_desk(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECHART_HOME", str(home / "south"))
    (home / "criteria.toml").write_text(CRITERIA)
    told = run(
        "release", "risk", "--model", home / "adapted", "--report", home / "adapted" / "report" / "report.json",
        "--criteria", home / "criteria.toml",
    )  # fmt: skip
    assert "risk 1: " in told
    settings = Settings(home=home / "south")
    desk = Desk(open_shelf(settings, open_log(settings)), load_forecaster)
    events = shards.read_split(home / "local", "held_out")
    subject = int(events["subject_id"][0])
    person = Timeline.of(subject, events.filter(pl.col("subject_id") == subject))
    when = person.events["time"].drop_nulls()[-2]
    given = desk.answer("risk", person, when, {})
    assert given.version == "1"
    assert given.answer.model_digest == load_forecaster(home / "adapted").digest
    assert not list((home / "south" / "shelf").rglob("neighbours.npz")), "nobody of the first institution goes along"


def test_what_each_source_contributed_stands_in_the_ledger_and_the_trace(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECHART_HOME", str(home / "north"))
    told = run("contribution", home / "model", home / "both", "--out", home / "shares", "--repeats", 1)
    assert "laboratory" in told
    assert "registry" in told
    content = orjson.loads((home / "shares" / "contribution.json").read_bytes())
    found = {each["source"]: each for each in content["capabilities"]["risk"]}
    assert set(found) == {"laboratory", "registry"}
    assert all(np.isfinite(each["gain"]) and each["low"] <= each["gain"] <= each["high"] for each in found.values())
    assert "contribution risk: " in run("trace", home / "model")
    assert "contribution risk: laboratory" in run("trace", home / "laboratory")
    whole = run("trace", f"{home / 'model'}/risk")
    assert "AUROC that it added" in whole
    assert "registry" in whole
    other = CliRunner().invoke(app, ["contribution", str(home / "model"), str(home / "local"), "--out", "x"])
    assert other.exit_code != 0
    assert "trained on" in str(other.exception)
