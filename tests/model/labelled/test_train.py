"""The documented way: somebody else's MEDS data set and a label file in, predictions out."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lifechart.core.errors import InputError
from lifechart.core.forecast import Forecaster
from lifechart.core.settings import Settings
from lifechart.core.timeline import Timeline
from lifechart.data.labels import read_labels
from lifechart.data.meds_folder import held_out, read_events
from lifechart.evaluate.predictions import figures, table
from lifechart.ledger.log import open_log
from lifechart.model.checkpoint import model_digest
from lifechart.model.forecaster import load_forecaster
from lifechart.model.labelled import dense, trees
from lifechart.model.labelled.train import train_on_labels

PEOPLE = 160
ASKED = timedelta(hours=10)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"few-trees": trees.Shape(max_leaf_nodes=4, max_iter=40, n_iter_no_change=10)}
    monkeypatch.setattr(trees, "SHAPES", small)
    monkeypatch.setattr(dense, "_STEPS", 160)


def write_foreign(folder: Path) -> tuple[Path, Path]:
    """Write a MEDS data set as another institution might, and labels: no birth, split, kind, unit or manifest."""
    rng = np.random.default_rng(4)
    events, labels = [], []
    for person in range(PEOPLE):
        ill = rng.random() < 0.4
        begin = datetime(1950, 1, 1) + timedelta(days=int(rng.integers(0, 20_000)))
        events.append((person, None, "SEX", None, "F" if person % 2 else "M"))
        for hour in range(int(rng.integers(1, 9))):
            at = begin + timedelta(hours=hour)
            events.append((person, at, "8867", 80 + 25 * ill + float(rng.normal()) * 9, None))
            events.append((person, at, "note", None, "seen on the round, " * 9))
        # After the prompt, and so nothing that may help.
        events.append((person, begin + timedelta(days=3), "8867", 900.0 * ill, None))
        labels.append((person, begin + ASKED, bool(ill)))
    frame = pl.DataFrame(events, ["subject_id", "time", "code", "numeric_value", "text_value"], orient="row")
    doubled = pl.concat([frame, frame.head(40)]).with_columns(
        pl.col("time").dt.replace_time_zone("UTC").cast(pl.Datetime("ns", "UTC")),
        pl.col("code").cast(pl.Categorical),
        pl.col("numeric_value").cast(pl.Float64),
    )
    for number, part in enumerate((doubled.head(300), doubled.tail(-300).drop("text_value"))):
        path = folder / "meds" / "data" / "any" / f"{number}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_parquet(path)
    told = pl.DataFrame(labels, ["subject_id", "prediction_time", "boolean_value"], orient="row")
    told.write_parquet(folder / "sepsis.parquet")
    return folder / "meds", folder / "sepsis.parquet"


def test_train_predict_and_score(tmp_path: Path) -> None:
    dataset, labels = write_foreign(tmp_path)
    log = open_log(Settings(home=tmp_path / "home"))
    told = read_labels(labels)
    told.head(110).write_parquet(tmp_path / "known.parquet")
    made = train_on_labels(dataset, tmp_path / "known.parquet", tmp_path / "model", seed=0, log=log, actor="ann")
    assert log.find(kind="train", digest=made.digest), "the ledger knows where it came from"
    assert model_digest(tmp_path / "model") == made.digest
    forecaster = load_forecaster(tmp_path / "model")
    assert isinstance(forecaster, Forecaster)
    rest = told.tail(-110)
    events = read_events(dataset, rest["subject_id"])
    risks = forecaster.risks(events, rest)
    assert risks.shape == (PEOPLE - 110, 1, 1)
    past = events.join(rest, on="subject_id").filter(
        pl.col("time").is_null() | (pl.col("time") <= pl.col("prediction_time"))
    )
    np.testing.assert_allclose(forecaster.risks(past.select(events.columns), rest), risks, atol=1e-6)
    predictions = table(rest, risks[:, 0, 0].astype(float))
    assert predictions["subject_id"].to_list() == rest["subject_id"].to_list()
    auroc = next(row for row in figures(predictions, None) if row[0] == "auroc")
    assert float(auroc[1]) > 0.9
    assert made.subjects == 110


def test_one_chart_agrees_with_the_bulk(tmp_path: Path) -> None:
    dataset, labels = write_foreign(tmp_path)
    train_on_labels(dataset, labels, tmp_path / "model", seed=0, log=open_log(Settings(home=tmp_path / "home")))
    forecaster, told = load_forecaster(tmp_path / "model"), read_labels(labels).head(5)
    events = read_events(dataset, told["subject_id"])
    bulk = forecaster.risks(events, told)
    for row, (subject, moment, _) in enumerate(told.iter_rows()):
        chart = Timeline.of(subject, events.filter(pl.col("subject_id") == subject).drop("subject_id"))
        said = forecaster.forecast(chart, moment)
        risk = said.risk("sepsis", 0)
        assert risk.probability == pytest.approx(float(bulk[row, 0, 0]), abs=1e-6)
        assert risk.interval.low < risk.probability < risk.interval.high
        assert 0 <= said.novelty <= 1
        assert said.model_digest == forecaster.digest


def test_survival_labels_give_a_probability_by_the_horizon(tmp_path: Path) -> None:
    dataset, labels = write_foreign(tmp_path)
    told = read_labels(labels)
    wait = np.random.default_rng(0).exponential(np.where(told["boolean_value"], 20.0, 200.0))
    timed = told.with_columns(boolean_value=pl.Series(wait < 90), days=pl.Series(np.minimum(wait, 90.0)))
    timed.write_parquet(labels)
    log = open_log(Settings(home=tmp_path / "home"))
    made = train_on_labels(dataset, labels, tmp_path / "model", seed=0, log=log, horizon=30)
    forecaster = load_forecaster(tmp_path / "model")
    assert forecaster.horizons == (30,)
    risks = forecaster.risks(read_events(dataset), timed)[:, 0, 0]
    assert abs(risks.mean() - (wait <= 30).mean()) < 0.1
    assert np.corrcoef(risks, told["boolean_value"].cast(pl.Float64))[0, 1] > 0.5
    assert made.truths.sum() == (wait <= 30).sum()
    with pytest.raises(InputError, match="--horizon"):
        train_on_labels(dataset, labels, tmp_path / "model", seed=0, log=log, horizon=-1)


def test_held_out_subjects_are_not_learnt_from(tmp_path: Path) -> None:
    dataset, labels = write_foreign(tmp_path)
    (dataset / "metadata").mkdir()
    splits = pl.DataFrame({"subject_id": range(PEOPLE), "split": ["held_out"] * 60 + ["train"] * (PEOPLE - 60)})
    splits.write_parquet(dataset / "metadata" / "subject_splits.parquet")
    assert held_out(dataset).to_list() == list(range(60))
    log = open_log(Settings(home=tmp_path / "home"))
    made = train_on_labels(dataset, labels, tmp_path / "model", seed=0, log=log)
    assert (made.subjects, made.left_out) == (PEOPLE - 60, 60)
    assert made.owners.min() == 60
    everybody = train_on_labels(dataset, labels, tmp_path / "model2", seed=0, log=log, everybody=True)
    assert everybody.subjects == PEOPLE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda told: told.drop("prediction_time"), "prediction_time"),
        (lambda told: told.with_columns(boolean_value=pl.lit(None, pl.Boolean)), "null"),
        (lambda told: told.with_columns(boolean_value=pl.lit(True)), "at least two subjects of each"),
        (lambda told: told.with_columns(boolean_value=pl.lit("maybe")), "true or false"),
        (lambda told: told.with_columns(prediction_time=pl.lit("noon")), "timestamps"),
        (lambda told: told.with_columns(subject_id=pl.lit("x1")), "int64"),
        (lambda told: told.with_columns(subject_id=pl.col("subject_id") + 10_000), "subjects without any event"),
        (lambda told: told.with_columns(days=pl.lit(-2.0)), "days"),
    ],
)
def test_labels_that_cannot_be_learnt_from_are_refused_by_name(tmp_path: Path, change, said: str) -> None:
    dataset, labels = write_foreign(tmp_path)
    change(pl.read_parquet(labels)).write_parquet(labels)
    with pytest.raises(InputError, match=said):
        train_on_labels(dataset, labels, tmp_path / "model", seed=0, log=open_log(Settings(home=tmp_path / "home")))
    assert not (tmp_path / "model").exists()


def test_what_is_no_meds_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Parquet files under data/"):
        read_events(tmp_path)
    (tmp_path / "data").mkdir()
    pl.DataFrame({"patient": [1]}).write_parquet(tmp_path / "data" / "0.parquet")
    with pytest.raises(InputError, match="subject_id, time, code"):
        read_events(tmp_path)


def test_labels_in_other_clothes_are_read(tmp_path: Path) -> None:
    told = pl.DataFrame(
        {
            "subject_id": pl.Series([3, 4], dtype=pl.Int32),
            "prediction_time": pl.Series([datetime(2020, 1, 1, 12)] * 2).dt.replace_time_zone("Europe/Berlin"),
            "boolean_value": [1.0, 0.0],
        }
    )
    told.write_parquet(tmp_path / "l.parquet")
    read = read_labels(tmp_path)
    assert read["boolean_value"].to_list() == [True, False]
    assert read["prediction_time"][0] == datetime(2020, 1, 1, 11), "a zone becomes UTC"
    told.drop("boolean_value").write_parquet(tmp_path / "l.parquet")
    assert read_labels(tmp_path, told=False).columns == ["subject_id", "prediction_time"]


def test_the_folder_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    dataset, labels = write_foreign(tmp_path)
    made = train_on_labels(dataset, labels, tmp_path / "m", seed=0, log=open_log(Settings(home=tmp_path / "home")))
    again = train_on_labels(dataset, labels, tmp_path / "n", seed=0, log=open_log(Settings(home=tmp_path / "home")))
    assert made.digest == again.digest, "same seed, same bytes"
    (tmp_path / "m" / "members.npz").write_bytes(b"nothing")
    assert model_digest(tmp_path / "m") != made.digest
    with pytest.raises(InputError, match=r"members\.npz"):
        load_forecaster(tmp_path / "m")
