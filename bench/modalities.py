"""Does the model find what only a note, an image or a genome tells, and what only an image and a genome tell together?

A hospital with planted traits (lifechart.simulate.planted) is simulated, exported (FHIR with notes, DICOM, VCF with
polygenic scores), read through the sources and de-identification, and trained on once. People of a second such hospital
are then asked about at adult moments five years apart: who of those without it gets one of a trait's conditions within
five years? Each modality is withheld in turn from the same model, which was trained to do without. A gain is the AUROC
with all modalities less that without one; the combination's gain is that with image and genome less the better of
either alone. A genome is withheld altogether: its coded events reach the history too, and that counts as the genome's.

`known` is the AUROC of somebody who knows the trait itself and for the rest the answer without the modality: the most
that could be found. `control` is the gain on conditions that neither a trait nor anything a trait drives raises, of
which a modality should say nothing. An outcome's risks are added up over the trait's conditions that the model
forecasts; intervals are 95%, by bootstrap over people, the same draws with and without; without any events there is no
figure. `--quick` has too few people for more than showing that it runs. BENCH_MODALITIES_DIR names a folder that keeps
data sets and model.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from lifechart.codes.systems import URIS, join
from lifechart.core.settings import Settings
from lifechart.data import shards
from lifechart.data.deidentify.structured import load_key, subject_ids
from lifechart.data.ingest import ingest
from lifechart.ledger.log import open_log
from lifechart.model.checkpoint import CONFIG, load_model
from lifechart.model.encoders.image import DataSetPictures, pictures_of
from lifechart.model.forecaster import NetworkForecaster
from lifechart.model.train import train
from lifechart.simulate import planted, tables
from lifechart.simulate.hospital import simulate

TODAY = date(2025, 1, 1)
SEED = 31
HORIZON = 1825
BOOTSTRAP = 500
ADULT_YEARS = 22
FEWEST_CONTROL_EVENTS = 20
_WITHHELD = {"note": "note", "variant": "genomic"}
"""Modality and the kind of event that carries it."""
_TRAITS = {"note": ("voice",), "image": ("retina", "chest", "tile"), "variant": ("polygenic", "carrier")}

Asked = tuple[pl.DataFrame, pl.DataFrame]
"""Events of the people asked about, and the prompts."""
Risks = NDArray[np.float32]
"""Of every prompt and outcome, within HORIZON."""


@dataclass(frozen=True)
class Answers:
    """Risks with all modalities, without each of them, and what is needed to score them."""

    asked: Asked
    outcomes: tuple[str, ...]
    everything: Risks
    without: dict[str, Risks]
    having: dict[str, NDArray[np.bool_]]
    """Of which prompts each modality is known: nothing else can gain by it."""
    traits: pl.DataFrame
    """The planted truth of each prompt."""
    weights: NDArray[np.float32]
    """How often each prompt's person is drawn [1 + BOOTSTRAP, prompts]: first everybody once."""


def main(quick: bool) -> dict[str, float]:
    """Run everything, print the table, return the figures."""
    lives, others = (80, 50) if quick else (3_000, 1_200)
    kept = os.environ.get("BENCH_MODALITIES_DIR")
    with tempfile.TemporaryDirectory() as passing:
        folder = Path(kept or passing) / f"{lives}-{others}-{SEED}"
        settings = Settings(home=folder / "home")
        learn = _dataset(folder / "learn", lives, SEED, settings)
        asked = _dataset(folder / "asked", others, SEED + 1, settings)
        model = folder / "model"
        if not (model / CONFIG).exists():
            train(learn, model, size="xs", seed=SEED, log=open_log(settings))
        return measure(model, asked, folder / "asked" / "hospital" / "truth", load_key(settings))


def measure(model: Path, dataset: Path, truth: Path, key: bytes) -> dict[str, float]:
    """Ask a model about everybody in `dataset`, each modality withheld in turn; print the table, return the figures."""
    answers = _answers(model, dataset, truth, key)
    table = Table(title=f"New onset within {HORIZON} days; AUROC with all modalities, and with one withheld")
    for column in ("modality", "events", "with", "without", "known", "gain (95%)", "control (95%)"):
        table.add_column(column, justify="left" if column == "modality" else "right")
    figures: dict[str, float] = {}
    for name, traits in _TRAITS.items():
        without = answers.without[name]
        parts = [_scored(answers, trait, answers.having[name], (without,)) for trait in traits]
        events, draws = sum(part[0] for part in parts), np.mean([part[1] for part in parts], axis=0)
        control = _control(answers, answers.having[name], (without,))
        _tell(table, figures, name, events, draws, control)
    both = answers.having["image"] & answers.having["variant"]
    alone = answers.without["image"], answers.without["variant"]
    events, draws = _scored(answers, "accord", both, alone)
    _tell(table, figures, "combination", events, draws, _control(answers, both, alone))
    Console(width=130).print(table)
    return figures


def _answers(model: Path, dataset: Path, truth: Path, key: bytes) -> Answers:
    events = pl.concat([shards.read_split(dataset, split) for split in shards.SPLITS])
    asked, pictures = (events, _prompts(events)), pictures_of(dataset)
    assert pictures is not None, "the simulated hospital has images"
    forecaster = NetworkForecaster(load_model(model), pictures=pictures)
    without = {name: _risks(forecaster, _less(asked, kind)) for name, kind in _WITHHELD.items()}
    without["image"] = _risks(NetworkForecaster(forecaster.model), asked)
    people = pl.read_parquet(truth / "people.parquet", columns=["life", "patient_id"])
    numbered = people.with_columns(subject_id=subject_ids(key, people["patient_id"]))
    traits = numbered.join(pl.read_parquet(truth / "planted.parquet"), on="life").drop("life", "patient_id")
    return Answers(
        asked,
        forecaster.outcomes,
        _risks(forecaster, asked),
        without,
        {name: _having(asked, name, pictures) for name in _TRAITS},
        asked[1].join(traits, on="subject_id", how="left", maintain_order="left"),
        _drawn(asked[1]["subject_id"].to_numpy()),
    )


def _dataset(folder: Path, lives: int, seed: int, settings: Settings) -> Path:
    """Simulate and ingest, unless a former run left it whole."""
    dataset = folder / "dataset"
    if not dataset.exists():
        hospital = folder / "hospital"
        simulate(hospital, lives, seed, TODAY, modalities=planted.MODALITIES)
        ingest(hospital, dataset, key=load_key(settings), log=open_log(settings), notes="deidentify", source="linked")
    return dataset


def _prompts(events: pl.DataFrame) -> pl.DataFrame:
    """Return moments HORIZON apart, from a day by lot after the age of 22 to HORIZON before the end; alive and seen."""
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
        .with_columns(last=pl.coalesce("end", "left") - timedelta(days=HORIZON))
    )
    late = pl.lit(pl.Series(rng.integers(0, HORIZON, spans.height))) + int(ADULT_YEARS * 365.25)
    spans = spans.with_columns(first=pl.col("birth") + pl.duration(days=late))
    spans = spans.filter((pl.col("last") > pl.col("first")) & (pl.col("first") < pl.col("left")))
    until = pl.min_horizontal("last", "left")
    moments = pl.datetime_ranges("first", until, interval=f"{HORIZON}d", time_unit="us")
    at = spans.select("subject_id", "left", prediction_time=moments).explode("prediction_time")
    return at.filter(pl.col("prediction_time") < pl.col("left")).select("subject_id", "prediction_time")


def _drawn(subject: NDArray[np.int64]) -> NDArray[np.float32]:
    people, owner = np.unique(subject, return_inverse=True)
    counts = np.random.default_rng(1).multinomial(len(people), np.full(len(people), 1 / len(people)), BOOTSTRAP)
    return np.concatenate([np.ones((1, len(people))), counts])[:, owner].astype(np.float32)


def _less(asked: Asked, kind: str) -> Asked:
    events, prompts = asked
    return events.filter(pl.col("kind") != kind), prompts


def _risks(forecaster: NetworkForecaster, asked: Asked) -> Risks:
    return forecaster.risks(*asked)[:, :, forecaster.horizons.index(HORIZON)]


def _having(asked: Asked, modality: str, pictures: DataSetPictures) -> NDArray[np.bool_]:
    """Return at which prompts something of the modality is known."""
    events, prompts = asked
    items = pictures.index if modality == "image" else events.filter(pl.col("kind") == _WITHHELD[modality])
    firsts = items.group_by("subject_id").agg(known=pl.col("time").min())
    joined = prompts.join(firsts, on="subject_id", how="left", maintain_order="left")
    return joined.select((pl.col("known") <= pl.col("prediction_time")).fill_null(False)).to_series().to_numpy()


def _ahead(asked: Asked, codes: list[str]) -> NDArray[np.int64]:
    """Return days from each prompt to the first onset of some conditions, negative if it was before, 10^6 if none."""
    events, prompts = asked
    onsets = events.filter(pl.col("code").is_in(codes)).group_by("subject_id").agg(onset=pl.col("time").min())
    joined = prompts.join(onsets, on="subject_id", how="left", maintain_order="left")
    days = (joined["onset"] - joined["prediction_time"]).dt.total_seconds() / 86_400
    return np.asarray(np.floor(days.fill_null(10**6).to_numpy()), np.int64)


def _scored(
    answers: Answers, trait: str, having: NDArray[np.bool_], lacking: tuple[Risks, ...]
) -> tuple[int, NDArray[np.float64]]:
    """Return how many events a trait's conditions had, and AUROCs [with, without, knowing the trait; 1 + BOOTSTRAP]."""
    snomed = {row["key"]: join(URIS["SNOMED"], row["snomed"]) for row in tables.rows("conditions")}
    weights = {snomed[key]: weight for key, weight in planted.weights(trait).items() if snomed[key] in answers.outcomes}
    if not weights:
        return 0, np.full((3, 1 + BOOTSTRAP), np.nan)
    columns = np.array([answers.outcomes.index(code) for code in weights])
    ahead = _ahead(answers.asked, list(weights))
    rows = np.flatnonzero(having & (ahead >= 0))
    came = ahead[rows] <= HORIZON
    factor = np.exp(np.outer(answers.traits[trait].to_numpy()[rows], list(weights.values())))
    scores = [
        answers.everything[np.ix_(rows, columns)].sum(axis=1),
        *(risks[np.ix_(rows, columns)].sum(axis=1) for risks in lacking),
        (lacking[0][np.ix_(rows, columns)] * factor).sum(axis=1),
    ]
    found = np.stack([_aurocs(came, score, answers.weights[:, rows]) for score in scores])
    return int(came.sum()), np.stack([found[0], found[1:-1].max(axis=0), found[-1]])


def _control(answers: Answers, having: NDArray[np.bool_], lacking: tuple[Risks, ...]) -> NDArray[np.float64]:
    """Return the gain on conditions that have nothing to do with any trait [1 + BOOTSTRAP], their mean."""
    gains = []
    for code in _unrelated():
        if code not in answers.outcomes:
            continue
        ahead, column = _ahead(answers.asked, [code]), answers.outcomes.index(code)
        rows = np.flatnonzero(having & (ahead >= 0))
        came = ahead[rows] <= HORIZON
        if came.sum() >= FEWEST_CONTROL_EVENTS:
            scores = [risks[rows, column] for risks in (answers.everything, *lacking)]
            found = [_aurocs(came, score, answers.weights[:, rows]) for score in scores]
            gains.append(found[0] - np.max(found[1:], axis=0))
    return np.mean(gains, axis=0) if gains else np.full(1 + BOOTSTRAP, np.nan)


def _unrelated() -> list[str]:
    """Return the conditions that no trait multiplies, nor any condition that a trait multiplies."""
    driven = {key for trait in planted.TRAITS for key in planted.targets(trait)}
    driven |= {row["to"] for row in tables.rows("risk_factors") if row["from"] in driven}
    return [join(URIS["SNOMED"], row["snomed"]) for row in tables.rows("conditions") if row["key"] not in driven]


def _aurocs(
    came_N: NDArray[np.bool_], score_N: NDArray[np.floating], weight_DN: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the AUROC under each row of weights [D]; ties count half."""
    if not len(came_N):
        return np.full(len(weight_DN), np.nan)
    order = np.argsort(score_N, kind="stable")
    sorted_ = score_N[order]
    starts = np.flatnonzero(np.concatenate([[True], sorted_[1:] != sorted_[:-1]]))
    weight = weight_DN[:, order].astype(np.float64)
    yes = np.add.reduceat(weight * came_N[order], starts, axis=1)
    no = np.add.reduceat(weight * ~came_N[order], starts, axis=1)
    below = np.cumsum(no, axis=1) - no / 2
    pairs = yes.sum(axis=1) * no.sum(axis=1)
    areas: NDArray[np.float64] = np.full(len(pairs), np.nan)
    np.divide((yes * below).sum(axis=1), pairs, out=areas, where=pairs > 0)
    return areas


def _interval(gain: NDArray[np.float64]) -> tuple[float, float]:
    told = gain[1:][np.isfinite(gain[1:])]
    low, high = np.percentile(told, (2.5, 97.5)) if len(told) else (np.nan, np.nan)
    return float(low), float(high)


def _tell(
    table: Table, figures: dict[str, float], name: str, events: int, draws: NDArray[np.float64],
    control: NDArray[np.float64],
) -> None:  # fmt: skip
    said = []
    for what, gain in (("gain", draws[0] - draws[1]), ("control", control)):
        low, high = _interval(gain)
        figures |= {f"{name}_{what}": float(gain[0]), f"{name}_{what}_low": low, f"{name}_{what}_high": high}
        said.append(f"{gain[0]:+.3f} ({low:+.3f} to {high:+.3f})")
    table.add_row(name, str(events), *(f"{value:.3f}" for value in draws[:, 0]), *said)
