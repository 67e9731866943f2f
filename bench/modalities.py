"""Does the model find what only a note, an image or a genome tells, and what only an image and a genome tell together?

A hospital with planted traits (lifechart.simulate.planted) is simulated, exported (FHIR with notes, DICOM, VCF with
polygenic scores), read through the sources and de-identification, and trained on once. People of a second such hospital
are then asked about at one adult moment: who of those without it gets one of a trait's conditions within five years?
Each modality is withheld in turn from the same model, which was trained to do without. A gain is the AUROC with all
modalities less that without one; the combination's gain is that with image and genome less the better of either alone.

An outcome's risks are added up over the trait's conditions that the model forecasts; intervals are 95%, by bootstrap
over people, the same draws with and without. BENCH_MODALITIES_DIR names a folder that keeps the data sets.
"""

from __future__ import annotations

import os
import tempfile
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from lifechart.codes.systems import URIS, join
from lifechart.core.settings import Settings
from lifechart.data import shards
from lifechart.data.deidentify.structured import load_key
from lifechart.data.ingest import ingest
from lifechart.ledger.log import open_log
from lifechart.model.checkpoint import load_model
from lifechart.model.encoders.image import DataSetPictures, pictures_of
from lifechart.model.forecaster import NetworkForecaster
from lifechart.model.train import train
from lifechart.simulate import planted, tables
from lifechart.simulate.hospital import simulate

TODAY = date(2025, 1, 1)
SEED = 31
HORIZON = 1825
BOOTSTRAP = 500
ADULT_YEARS = 35
_WITHHELD = {"note": "note", "variant": "genomic"}
"""Modality and the kind of event that carries it."""
_TRAITS = {"note": ("voice",), "image": ("retina", "chest", "tile"), "variant": ("polygenic", "carrier")}

Asked = tuple[pl.DataFrame, pl.DataFrame]
"""Events of the people asked about, and the prompts."""


def main(quick: bool) -> dict[str, float]:
    """Run everything, print the table, return the figures."""
    lives, others = (80, 50) if quick else (2_000, 1_200)
    kept = os.environ.get("BENCH_MODALITIES_DIR")
    with tempfile.TemporaryDirectory() as passing:
        folder = Path(kept or passing) / f"{lives}-{others}-{SEED}"
        settings = Settings(home=folder / "home")
        learn = _dataset(folder / "learn", lives, SEED, settings)
        asked = _dataset(folder / "asked", others, SEED + 1, settings)
        model = folder / "model"
        train(learn, model, size="xs", seed=SEED, log=open_log(settings))
        return measure(model, asked)


def measure(model: Path, dataset: Path) -> dict[str, float]:
    """Ask a model about everybody in `dataset`, each modality withheld in turn; print the table, return the figures."""
    events = pl.concat([shards.read_split(dataset, split) for split in shards.SPLITS])
    asked, pictures = (events, _prompts(events)), pictures_of(dataset)
    forecaster = NetworkForecaster(load_model(model), pictures=pictures)
    bare = NetworkForecaster(forecaster.model)
    everything = _risks(forecaster, asked)
    without = {name: _risks(forecaster, _less(asked, kind)) for name, kind in _WITHHELD.items()}
    without["image"] = _risks(bare, asked)
    alone = {"variant": without["image"], "image": without["variant"]}
    table = Table(title=f"New onset within {HORIZON} days; AUROC with all modalities, and with one withheld")
    for column in ("modality", "events", "with", "without", "gain (95% interval)"):
        table.add_column(column, justify="left" if column == "modality" else "right")
    figures: dict[str, float] = {}
    for name, traits in _TRAITS.items():
        parts = [_task(forecaster, asked, _having(asked, name, pictures), trait) for trait in traits]
        draws = np.mean([_draws(task, (everything, without[name])) for task in parts], axis=0)
        _tell(table, figures, name, sum(int(task[1].sum()) for task in parts), draws[0], draws[1])
    both = _having(asked, "image", pictures) & _having(asked, "variant", pictures)
    task = _task(forecaster, asked, both, "accord")
    draws = _draws(task, (everything, alone["image"], alone["variant"]))
    _tell(table, figures, "combination", int(task[1].sum()), draws[0], draws[1:].max(axis=0))
    Console(width=120).print(table)
    return figures


def _dataset(folder: Path, lives: int, seed: int, settings: Settings) -> Path:
    """Simulate and ingest, unless a former run left it whole."""
    dataset = folder / "dataset"
    if not dataset.exists():
        hospital = folder / "hospital"
        simulate(hospital, lives, seed, TODAY, modalities=planted.MODALITIES)
        ingest(hospital, dataset, key=load_key(settings), log=open_log(settings), notes="deidentify", source="linked")
    return dataset


def _prompts(events: pl.DataFrame) -> pl.DataFrame:
    """Return one moment a person: between the age of 35 and five years before the end, by lot, if alive and seen."""
    rng = np.random.default_rng(0)
    ends = pl.col("code").is_in(["RECORD_END", "MEDS_DEATH"])
    spans = (
        events.group_by("subject_id")
        .agg(
            birth=pl.col("time").filter(pl.col("code") == "MEDS_BIRTH").first(),
            end=pl.col("time").filter(pl.col("code") == "RECORD_END").first(),
            left=pl.col("time").filter(ends).min(),
        )
        .sort("subject_id")
        .with_columns(first=pl.col("birth") + timedelta(days=ADULT_YEARS * 365.25))
        .with_columns(last=pl.coalesce("end", "left") - timedelta(days=HORIZON))
        .filter(pl.col("last") > pl.col("first"))
    )
    days = (spans["last"] - spans["first"]).dt.total_days().to_numpy() * rng.random(spans.height)
    at = spans.with_columns(days=pl.Series(days.astype(np.int64)))
    at = at.with_columns(prediction_time=pl.col("first") + pl.duration(days=pl.col("days")))
    return at.filter(pl.col("prediction_time") < pl.col("left")).select("subject_id", "prediction_time")


def _less(asked: Asked, kind: str) -> Asked:
    events, prompts = asked
    return events.filter(pl.col("kind") != kind), prompts


def _risks(forecaster: NetworkForecaster, asked: Asked) -> NDArray[np.float32]:
    return forecaster.risks(*asked)[:, :, forecaster.horizons.index(HORIZON)]


def _having(asked: Asked, modality: str, pictures: DataSetPictures | None) -> NDArray[np.bool_]:
    """Return who has something of the modality at the moment asked about: nothing else can gain by it."""
    events, prompts = asked
    if modality == "image":
        assert pictures is not None, "the simulated hospital has images"
        items = pictures.index
    else:
        items = events.filter(pl.col("kind") == _WITHHELD[modality])
    known = prompts.join(items.select("subject_id", "time"), on="subject_id")
    having = known.filter(pl.col("time") <= pl.col("prediction_time"))["subject_id"].unique()
    return np.isin(prompts["subject_id"].to_numpy(), having.to_numpy())


def _task(
    forecaster: NetworkForecaster, asked: Asked, having: NDArray[np.bool_], trait: str
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return a trait's outcomes (columns), whether one of them came [Q], and who counts [Q]."""
    snomed = {row["key"]: join(URIS["SNOMED"], row["snomed"]) for row in tables.rows("conditions")}
    codes = [snomed[key] for key in planted.targets(trait) if snomed[key] in forecaster.outcomes]
    events, prompts = asked
    onsets = events.filter(pl.col("code").is_in(codes)).group_by("subject_id").agg(onset=pl.col("time").min())
    joined = prompts.join(onsets, on="subject_id", how="left", maintain_order="left")
    ahead = (joined["onset"] - joined["prediction_time"]).dt.total_days().fill_null(10**6).to_numpy()
    columns = np.array([forecaster.outcomes.index(code) for code in codes], np.int64)
    return columns, (ahead >= 0) & (ahead <= HORIZON), having & (ahead >= 0)


def _draws(
    task: tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]], given: tuple[NDArray[np.float32], ...]
) -> NDArray[np.float64]:
    """Return the AUROC of each table of risks [tables, 1 + BOOTSTRAP]: first of everybody, then of people drawn."""
    columns, came, counts = task
    who = np.flatnonzero(counts)
    scores = [risks[:, columns].sum(axis=1) for risks in given]
    rng = np.random.default_rng(1)
    samples = [who, *(rng.choice(who, len(who)) for _ in range(BOOTSTRAP))]
    found = [[_auroc(came[sample], score[sample]) for sample in samples] for score in scores]
    return np.array(found)


def _auroc(came: NDArray[np.bool_], score: NDArray[np.float32]) -> float:
    return float(roc_auc_score(came, score)) if 0 < came.sum() < len(came) else 0.5


def _tell(
    table: Table, figures: dict[str, float], name: str, events: int, having: NDArray[np.float64],
    lacking: NDArray[np.float64],
) -> None:  # fmt: skip
    gain = having - lacking
    low, high = (float(value) for value in np.percentile(gain[1:], (2.5, 97.5)))
    figures |= {f"{name}_gain": float(gain[0]), f"{name}_gain_low": low, f"{name}_gain_high": high}
    said = f"{gain[0]:+.3f} ({low:+.3f} to {high:+.3f})"
    table.add_row(name, str(events), f"{having[0]:.3f}", f"{lacking[0]:.3f}", said)
