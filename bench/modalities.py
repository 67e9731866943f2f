"""Does the model find what only a note, an image or a genome tells, and what only an image and a genome tell together?

A hospital with planted traits (lifechart.simulate.planted) is simulated, exported (FHIR with notes, DICOM, VCF with
polygenic scores), read through the sources and de-identification, and trained on once. People of a second such hospital
are then asked about at adult moments five years apart: who of those without it gets one of a trait's conditions within
five years? Each modality is withheld in turn from the same model, which was trained to do without. A gain is that of
all modalities over all but one, in AUROC and in log likelihood (nats, all people together), which tells more where
events are few. The combination's gain is that with image and genome over the better of either alone; a second table
shows what each alone gains over neither. A genome is withheld altogether: its coded events reach the history too, and
that counts as the genome's.

Asked about a trait are those with what tells it (of an image, its kind). `known` is what somebody gains who knows the
trait itself and for the rest the answer without the modality: the most that could be found. `control` is the gain on
conditions that neither a trait nor anything a trait drives raises, of which a modality should say nothing. Risks are
those of the trait's conditions that the model forecasts, for AUROC added up; intervals are 95%, by bootstrap over
people, the same draws with and without; without any events there is no figure.
`--quick` has too few people for more than showing that it runs. BENCH_MODALITIES_DIR names a folder that keeps data
sets and model.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench._gains import Floats, aurocs, drawn, interval, knowing, nats
from lifechart.codes.systems import URIS, join
from lifechart.core.settings import Settings
from lifechart.data import shards
from lifechart.data.deidentify.structured import load_key, subject_ids
from lifechart.data.ingest import ingest
from lifechart.ledger.log import open_log
from lifechart.model.checkpoint import CONFIG, load_model
from lifechart.model.encoders.image import pictures_of
from lifechart.model.forecaster import NetworkForecaster
from lifechart.model.train import train
from lifechart.simulate import planted, tables
from lifechart.simulate.hospital import simulate

TODAY = date(2025, 1, 1)
SEED = 31
HORIZON = 1825
ADULT_YEARS = 22
FEWEST_CONTROL_EVENTS = 20
_WITHHELD = {"note": "note", "variant": "genomic"}
"""Modality and the kind of event that carries it."""
_TRAITS = {"note": ("voice",), "image": ("retina", "chest", "tile"), "variant": ("polygenic", "carrier")}
_PICTURES = {"retina": "OP", "chest": "DX", "tile": "GM"}
"""The DICOM modality of the picture that shows each trait."""

Asked = tuple[pl.DataFrame, pl.DataFrame]
"""Events of the people asked about, and the prompts."""
Risks = NDArray[np.float32]
"""Of every prompt and outcome, within HORIZON."""
Group = tuple[str, dict[str, float], NDArray[np.bool_]]
"""A trait, its conditions with what a standard deviation of it adds to their log rates, and the prompts asked about."""


@dataclass(frozen=True)
class Answers:
    """Risks with all modalities, without some of them, and what is needed to score them."""

    asked: Asked
    outcomes: tuple[str, ...]
    everything: Risks
    without: dict[str, Risks]
    """Without each modality, and without `both` image and genome."""
    having: dict[str, NDArray[np.bool_]]
    """Of which prompts each modality, and the picture of each trait, is known: nothing else can gain by it."""
    traits: pl.DataFrame
    """The planted truth of each prompt."""
    weights: NDArray[np.float32]
    """How often each prompt's person is drawn (`_gains.drawn`)."""


@dataclass(frozen=True)
class Gain:
    """What is gained on the conditions of some traits, each figure with its draws [1 + BOOTSTRAP]."""

    events: int
    with_: Floats
    without: Floats
    nats: Floats
    known: Floats
    """Nats that somebody gains who knows the traits."""


def main(quick: bool) -> dict[str, float]:
    """Run everything, print the table, return the figures."""
    lives, others = (80, 50) if quick else (3_000, 3_600)
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
    """Ask a model about all people of `dataset`, each modality withheld in turn; print tables, return figures."""
    answers = _answers(model, dataset, truth, key)
    table = Table(title=f"New onset within {HORIZON} days: with all modalities, and with one withheld")
    for column in ("told by", "trait", "events", "AUROC", "without", "gain (95%)", "nats gained (95%)", "known"):
        table.add_column(column, justify="left" if column in ("told by", "trait") else "right")
    figures: dict[str, float] = {}
    both = answers.having["retina"] & answers.having["variant"]
    alone = answers.without["image"], answers.without["variant"]
    asked = [(name, traits, answers.having[name], (answers.without[name],)) for name, traits in _TRAITS.items()]
    for name, traits, having, lacking in [*asked, ("combination", ("accord",), both, alone)]:
        groups = [(trait, _conditions(trait), answers.having.get(trait, having)) for trait in traits]
        gain = _gain(answers, groups, lacking)
        control = _gain(answers, [("", {code: 0.0}, having) for code in _unrelated()], lacking)
        _tell(table, name, "all" if len(traits) > 1 else traits[0], gain)
        for trait, *_ in groups if len(groups) > 1 else ():
            own = _gain(answers, [group for group in groups if group[0] == trait], lacking)
            _tell(table, "", trait, own)
            figures |= {f"{trait}_nats": float(own.nats[0]), f"{trait}_nats_low": interval(own.nats)[0]}
        _tell(table, "", "none (control)", control)
        figures |= _figures(name, gain, control)
    Console(width=140).print(table, _halves(answers, both, figures))
    return figures


def _halves(answers: Answers, both: NDArray[np.bool_], figures: dict[str, float]) -> Table:
    """Return what image and genome each alone, and together, say of the combination's conditions over neither."""
    table = Table(title="The combination by its halves: people with both, over neither")
    for column in ("known to the model", "nats gained (95%)"):
        table.add_column(column, justify="left" if column == "known to the model" else "right")
    told = {"image": answers.without["variant"], "genome": answers.without["image"], "both": answers.everything}
    for name, risks in told.items():
        some = replace(answers, everything=risks)
        gain = _gain(some, [("accord", _conditions("accord"), both)], (answers.without["both"],))
        low, high = interval(gain.nats)
        table.add_row(name, f"{gain.nats[0]:+.1f} ({low:+.1f} to {high:+.1f})")
        figures |= {f"halves_{name}_nats": float(gain.nats[0])}
    return table


def _answers(model: Path, dataset: Path, truth: Path, key: bytes) -> Answers:
    events = pl.concat([shards.read_split(dataset, split) for split in shards.SPLITS])
    asked, pictures = (events, _prompts(events)), pictures_of(dataset)
    assert pictures is not None, "the simulated hospital has images"
    forecaster = NetworkForecaster(load_model(model), pictures=pictures)
    without = {name: _risks(forecaster, _less(asked, kind)) for name, kind in _WITHHELD.items()}
    blind = NetworkForecaster(forecaster.model)
    without |= {"image": _risks(blind, asked), "both": _risks(blind, _less(asked, _WITHHELD["variant"]))}
    people = pl.read_parquet(truth / "people.parquet", columns=["life", "patient_id"])
    numbered = people.with_columns(subject_id=subject_ids(key, people["patient_id"]))
    traits = numbered.join(pl.read_parquet(truth / "planted.parquet"), on="life").drop("life", "patient_id")
    return Answers(
        asked,
        forecaster.outcomes,
        _risks(forecaster, asked),
        without,
        _having(asked, pictures.index),
        asked[1].join(traits, on="subject_id", how="left", maintain_order="left"),
        drawn(asked[1]["subject_id"].to_numpy()),
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


def _less(asked: Asked, kind: str) -> Asked:
    events, prompts = asked
    return events.filter(pl.col("kind") != kind), prompts


def _risks(forecaster: NetworkForecaster, asked: Asked) -> Risks:
    return forecaster.risks(*asked)[:, :, forecaster.horizons.index(HORIZON)]


def _having(asked: Asked, pictures: pl.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Return at which prompts something of each modality is known, and each trait's picture."""
    events, prompts = asked
    items = {name: events.filter(pl.col("kind") == kind) for name, kind in _WITHHELD.items()} | {"image": pictures}
    items |= {trait: pictures.filter(pl.col("modality") == kind) for trait, kind in _PICTURES.items()}
    found = {}
    for name, rows in items.items():
        firsts = rows.group_by("subject_id").agg(known=pl.col("time").min())
        joined = prompts.join(firsts, on="subject_id", how="left", maintain_order="left")
        known = joined.select((pl.col("known") <= pl.col("prediction_time")).fill_null(False))
        found[name] = known.to_series().to_numpy()
    return found


def _ahead(asked: Asked, codes: list[str]) -> NDArray[np.int64]:
    """Return days from each prompt to the first onset of some conditions, negative if it was before, 10^6 if none."""
    events, prompts = asked
    onsets = events.filter(pl.col("code").is_in(codes)).group_by("subject_id").agg(onset=pl.col("time").min())
    joined = prompts.join(onsets, on="subject_id", how="left", maintain_order="left")
    days = (joined["onset"] - joined["prediction_time"]).dt.total_seconds() / 86_400
    return np.asarray(np.floor(days.fill_null(10**6).to_numpy()), np.int64)


def _conditions(trait: str) -> dict[str, float]:
    """Return the codes of a trait's conditions and what a standard deviation of it adds to their log rates."""
    snomed = {row["key"]: join(URIS["SNOMED"], row["snomed"]) for row in tables.rows("conditions")}
    return {snomed[key]: weight for key, weight in planted.weights(trait).items()}


def _gain(
    answers: Answers,
    groups: list[Group],
    lacking: tuple[Risks, ...],
) -> Gain:
    """Return what is gained over the best of `lacking` on groups of conditions.

    AUROCs are means over the groups that have enough events; nats and events are sums.
    """
    draws = len(answers.weights)
    areas: list[Floats] = []
    events, gained, known = 0, np.zeros((len(lacking), draws)), np.zeros(draws)
    for trait, weights, having in groups:
        codes = [code for code in weights if code in answers.outcomes]
        if not codes:
            continue
        columns = np.array([answers.outcomes.index(code) for code in codes])
        ahead = _ahead(answers.asked, codes)
        rows = np.flatnonzero(having & (ahead >= 0))
        came, weight = ahead[rows] <= HORIZON, answers.weights[:, rows]
        if came.sum() >= (1 if trait else FEWEST_CONTROL_EVENTS):
            scores = [risks[np.ix_(rows, columns)].sum(axis=1) for risks in (answers.everything, *lacking)]
            found = np.stack([aurocs(came, score, weight) for score in scores])
            areas.append(np.stack([found[0], found[1:].max(axis=0)]))
        for code, column in zip(codes, columns.tolist(), strict=True):
            own = _ahead(answers.asked, [code])
            rows = np.flatnonzero(having & (own >= 0))
            came, weight = own[rows] <= HORIZON, answers.weights[:, rows]
            events += int(came.sum())
            told = nats(came, answers.everything[rows, column])
            for number, risks in enumerate(lacking):
                gained[number] += weight @ (told - nats(came, risks[rows, column]))
            if trait:
                base = lacking[0][rows, column]
                knows = knowing(base, weights[code] * answers.traits[trait].to_numpy()[rows])
                known += weight @ (nats(came, knows) - nats(came, base))
    mean = np.mean(areas, axis=0) if areas else np.full((2, draws), np.nan)
    return Gain(events, mean[0], mean[1], gained.min(axis=0), known)


def _unrelated() -> list[str]:
    """Return the conditions that no trait multiplies, nor any condition that a trait multiplies."""
    driven = {key for trait in planted.TRAITS for key in planted.targets(trait)}
    driven |= {row["to"] for row in tables.rows("risk_factors") if row["from"] in driven}
    return [join(URIS["SNOMED"], row["snomed"]) for row in tables.rows("conditions") if row["key"] not in driven]


def _said(draws: Floats, digits: int) -> str:
    low, high = interval(draws)
    return f"{draws[0]:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def _tell(table: Table, name: str, trait: str, gain: Gain) -> None:
    areas = [f"{each[0]:.3f}" for each in (gain.with_, gain.without)]
    known = "" if trait == "none (control)" else f"{gain.known[0]:+.1f}"
    table.add_row(
        name, trait, str(gain.events), *areas, _said(gain.with_ - gain.without, 3), _said(gain.nats, 1), known
    )


def _figures(name: str, gain: Gain, control: Gain) -> dict[str, float]:
    found: dict[str, float] = {}
    for what, each in (("", gain), ("control_", control)):
        for unit, draws in (("gain", each.with_ - each.without), ("nats", each.nats)):
            low, high = interval(draws)
            key = f"{name}_{what}{unit}"
            found |= {key: float(draws[0]), f"{key}_low": low, f"{key}_high": high}
    return found
