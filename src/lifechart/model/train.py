"""`lifechart train`: a data set in, a model folder and a statement in the ledger out."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from lifechart import __version__
from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.core.timeline import DEATH
from lifechart.data import shards
from lifechart.ledger.log import Log
from lifechart.ledger.statement import Statement, Subject
from lifechart.model import distributed, threads
from lifechart.model import fit as fitting
from lifechart.model.calibration import Calibration, calibrate
from lifechart.model.checkpoint import files_of, model_digest, save_model
from lifechart.model.doubt import excess_loss
from lifechart.model.encoders.image import pictures_of
from lifechart.model.fit_codes import fit_every_code
from lifechart.model.heads import BaseRates
from lifechart.model.inference import Told, tell
from lifechart.model.modalities import learn_modalities
from lifechart.model.neighbours import Neighbours, index_of
from lifechart.model.network import Network
from lifechart.model.questions import Labels, label, sample_questions
from lifechart.model.sizes import AUTO, size_for, size_named
from lifechart.model.tokens import Tokens, tokenise
from lifechart.model.vocabulary import build_vocabulary

RESUME = "resume.pt"
PARALLEL = ("ddp", "fsdp")
_CALIBRATION_QUESTIONS = 8
_MOST_SUBJECTS = 8000


@dataclass(frozen=True)
class TrainingResult:
    """What a training run made and how it went."""

    model: Path
    digest: str
    size: str
    """Its name, `auto` resolved."""
    parameters: int
    outcomes: tuple[str, ...]
    steps: int
    events: int
    """Events learnt from, each counted once an epoch."""
    seconds: float
    tuning_loss: float
    history: tuple[dict[str, float], ...]

    @property
    def events_per_second(self) -> float:
        """Events learnt from per second of fitting."""
        return self.events / max(self.seconds, 1e-9)

    def summary(self) -> str:
        """Say in a few lines what was made."""
        return (
            f"model     {self.model} (size {self.size}, {self.parameters:,} parameters, {self.digest[:12]})\n"
            f"outcomes  {len(self.outcomes)}\n"
            f"learnt    {self.events:,} events in {self.seconds:,.0f} s ({self.events_per_second:,.0f} a second)\n"
            f"loss      {self.tuning_loss:.4f} on the tuning split"
        )


def train(
    dataset: Path,
    out: Path,
    *,
    size: str,
    seed: int,
    log: Log,
    epochs: int | None = None,
    device: str | None = None,
    modalities: tuple[str, ...] | None = None,
    progress: bool | None = None,
    actor: str = "",
    parallel: str = "ddp",
) -> TrainingResult:
    """Train a model on a data set and write it to `out`.

    A run that was killed goes on from its last checkpoint and ends with the weights that an unbroken one would have
    had; another seed, size, or data set begins anew. Size `auto` is chosen by the number of events (sizes.size_for).
    `progress` shows a bar; by default only on a terminal. `actor`: who trains it, and so never signs for it.
    `modalities`: what to read besides coded events (`note`, `image`, `variant`, or an outsider's); by default all that
    the data set has. Under torchrun all ranks learn as one, and the first of them writes; `parallel` says whether each
    holds all parameters (`ddp`) or a slice of them (`fsdp`).
    Raises InputError for an unknown size or way, or a data set without outcomes.
    """
    if parallel not in PARALLEL:
        raise InputError("--parallel", parallel, f"one of {', '.join(PARALLEL)}")
    if size != AUTO:
        size_named(size)
    where = distributed.device_for(device)
    training = shards.read_split(dataset, "train")
    pictures = pictures_of(dataset)
    vocabulary = build_vocabulary(training)
    vocabulary = replace(vocabulary, modalities=learn_modalities(training, pictures, modalities))
    if not vocabulary.outcomes:
        raise InputError("dataset", str(dataset), "a data set in which some condition begins in 20 people or more")
    tokens = tokenise(training, vocabulary, pictures)
    tuning = tokenise(shards.read_split(dataset, "tuning"), vocabulary, pictures)
    if not tuning.num_subjects:
        raise InputError("dataset", str(dataset), "a data set with people in its tuning split, to calibrate on")
    del training
    size = size_for(len(tokens), len(vocabulary)) if size == AUTO else size
    chosen = replace(size_named(size), epochs=epochs) if epochs else size_named(size)
    out.mkdir(parents=True, exist_ok=True)
    data_digest = shards.dataset_digest(dataset)
    recipe = fitting.Recipe()
    shown = sys.stderr.isatty() if progress is None else progress
    with distributed.joined(where) as here, bar_of(shown and here.leads) as bar, threads.suited_to(chosen.width):
        task = bar.add_task("train", total=None, loss=float("nan"), tuning=float("nan"), rate=0.0)
        fitter = fitting.Fitter(
            vocabulary, chosen, tokens, tuning, seed, recipe, where, out / RESUME, data_digest,
            sharding=parallel == "fsdp",
            report=lambda at: bar.update(
                task, description=at.stage, total=at.steps, completed=at.step, loss=at.loss, tuning=at.tuning_loss,
                rate=at.rate,
            ),
        )  # fmt: skip
        fitted = fitter.run()
        bar.update(task, description="every code")
        fit_every_code(fitted.network.every_code, tokens, vocabulary, seed)
        bar.update(task, description="calibrate")
        if here.leads:
            calibration, neighbours = _rest(fitted.network, fitter, tokens, tuning, seed)
            about = {"seed": seed, "data_digest": data_digest, "recipe": asdict(recipe), "code_version": __version__}
            about["neighbours"] = neighbours.save(out)
            save_model(out, fitted.network, calibration, vocabulary, chosen, about)
            (out / RESUME).unlink(missing_ok=True)
    digest = model_digest(out)
    losses = [each["tuning_loss"] for each in fitted.history]
    result = TrainingResult(
        out, digest, size, sum(each.numel() for each in fitted.network.parameters()), vocabulary.outcomes, fitted.steps,
        fitted.events, fitted.seconds, min(losses), fitted.history,
    )  # fmt: skip
    if here.leads:
        log.append(_statement(result, data_digest, seed, actor, tuple(vocabulary.modalities)))
    return result


def _rest(
    network: Network, fitter: fitting.Fitter, tokens: Tokens, tuning: Tokens, seed: int
) -> tuple[Calibration, Neighbours]:
    """Return what a fitted network needs beside its weights: how sure it is, and whom it learnt from, in aggregates."""

    def asked(split: Tokens, salt: int) -> tuple[Told, Labels, NDArray[np.int64]]:
        few = _CALIBRATION_QUESTIONS * min(1.0, _MOST_SUBJECTS / split.num_subjects)
        questions = sample_questions(split, few, np.random.default_rng([seed, salt]))
        told = tell(network, fitter.collator, split, questions)
        return told, label(split, questions, len(fitter.vocabulary.outcomes)), questions.subject

    outcomes = fitter.vocabulary.outcomes
    start = BaseRates(*(each.cpu().numpy() for each in (network.hazards.base_OB, network.hazards.again_OB)))
    excess = excess_loss(network.hazards, start, fitter.lesson, tuning, seed)
    learnt = asked(tokens, 4)
    death = outcomes.index(DEATH) if DEATH in outcomes else None
    calibration = calibrate(learnt, asked(tuning, 5), death, excess)
    told, labels, subject = learnt
    hazards = calibration.hazards(told.log_hazard)
    rng = np.random.default_rng([seed, 10])
    return calibration, index_of(told, labels, subject, outcomes, hazards, rng)


def _statement(
    result: TrainingResult, data_digest: str, seed: int, actor: str, modalities: tuple[str, ...]
) -> Statement:
    return Statement(
        kind="train",
        subjects=(Subject("model", result.digest),),
        predicate={
            "dataset": data_digest,
            "actor": actor,
            "files": {name: durable.file_digest(result.model / name) for name in files_of(result.model)},
            "size": result.size,
            "seed": seed,
            "steps": result.steps,
            "events": result.events,
            "parameters": result.parameters,
            **({"modalities": list(modalities)} if modalities else {}),
            "tuning_loss": result.tuning_loss,
            "code_version": __version__,
            "torch_version": torch.__version__,
        },
    )


def bar_of(shown: bool) -> Progress:
    """Return the bar of a training run, whose tasks have the fields `loss`, `tuning` and `rate`."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} steps"),
        TextColumn("loss {task.fields[loss]:.4f} (tuning {task.fields[tuning]:.4f})"),
        TextColumn("{task.fields[rate]:,.0f} events/s"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not shown,
    )
