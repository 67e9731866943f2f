"""`lifechart train --private`: a data set in; a model folder, and a statement that says what it promises, out.

A killed run begins anew: what it had learnt is gone, and told nobody anything. Two runs on the same
patients spend twice.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from lifechart import __version__
from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.data import shards
from lifechart.ledger.log import Log
from lifechart.ledger.statement import Statement, Subject
from lifechart.model.batches import Collator
from lifechart.model.checkpoint import FILES, save_model
from lifechart.model.inference import tell
from lifechart.model.network import Network
from lifechart.model.private.learn import RANK, PrivateFitter
from lifechart.model.private.lot import Lot
from lifechart.model.private.moments import draw_moments, prepare
from lifechart.model.private.plan import Plan
from lifechart.model.private.recalibration import recalibrate
from lifechart.model.private.statistics import private_rates, private_vocabulary
from lifechart.model.questions import label
from lifechart.model.sizes import SIZES, Size
from lifechart.model.tokens import tokenise
from lifechart.model.train import bar_of

NAME = "private"
SIZE: Size = replace(SIZES["xs"], width=32, layers=0, rank=RANK, epochs=0)
"""No layers of attention: they add nothing here, and so cost nothing at the bedside."""
_PER_TUNING_LIFE = 1.0


@dataclass(frozen=True)
class PrivateResult:
    """What a private run made, and what it promises."""

    model: Path
    digest: str
    parameters: int
    outcomes: tuple[str, ...]
    tuning_loss: float
    plan: Plan
    seconds: float

    def summary(self) -> str:
        """Say in a few lines what was made."""
        training, tuning = self.plan.spent
        return (
            f"model     {self.model} ({self.parameters:,} parameters, {self.digest[:12]})\n"
            f"outcomes  {len(self.outcomes)}\n"
            f"private   epsilon {training:.3f} at delta {self.plan.delta:g} for a patient of the training split, "
            f"{tuning:.3f} for one of the tuning split\n"
            f"learnt    in {self.seconds:,.0f} s\n"
            f"loss      {self.tuning_loss:.2f} on the tuning split, noise included"
        )


def train_private(
    dataset: Path, out: Path, plan: Plan, *, seed: int, log: Log, progress: bool | None = None, actor: str = "",
    lot: Lot | None = None,
) -> PrivateResult:  # fmt: skip
    """Train under a plan and write the model to `out`.

    `seed` decides only where the weights begin; all chance that protects somebody is drawn from `lot`, by default from
    the operating system, and kept nowhere. Raises InputError where the noise leaves no outcome to forecast.
    """
    began, lot = time.perf_counter(), lot or Lot()
    training = shards.read_split(dataset, "train")
    vocabulary = private_vocabulary(training, plan.statistics, lot)
    if not vocabulary.outcomes:
        raise InputError(
            "--epsilon", plan.epsilon, "an epsilon, or a number of patients, that lets some outcome be told"
        )
    tokens, tuning = tokenise(training, vocabulary), tokenise(shards.read_split(dataset, "tuning"), vocabulary)
    del training
    rates = private_rates(tokens, len(vocabulary.outcomes), plan.statistics, lot)
    torch.manual_seed(seed)
    network = Network(vocabulary, SIZE, rates.base, 0.0)
    moments = prepare(tokens, vocabulary, draw_moments(tokens, lot.generator()))
    bar = bar_of(sys.stderr.isatty() if progress is None else progress)
    with bar:
        task = bar.add_task("private", total=plan.steps, loss=float("nan"), tuning=float("nan"), rate=0.0)
        PrivateFitter(
            network.hazards, vocabulary, moments, plan, rates.patients, lot,
            report=lambda step, steps: bar.update(task, completed=step, total=steps),
        ).run()  # fmt: skip
    network.eval().requires_grad_(False)
    questions = draw_moments(tuning, lot.generator(), _PER_TUNING_LIFE)
    told = tell(network, Collator(vocabulary, SIZE.context, torch.device("cpu")), tuning, questions)
    labels = label(tuning, questions, len(vocabulary.outcomes))
    found = recalibrate(
        told, labels, questions.subject, tuning.num_subjects, rates.base.first, rates.patients, plan.tuning, lot
    )
    about = {
        "seed": seed, "data_digest": shards.dataset_digest(dataset), "code_version": __version__,
        "privacy": {**plan.predicate(), "patients": round(rates.patients)},
    }  # fmt: skip
    digest = save_model(out, network, found.calibration, vocabulary, SIZE, about)
    parameters = sum(each.numel() for each in network.parameters())
    result = PrivateResult(
        out, digest, parameters, vocabulary.outcomes, found.tuning_loss, plan, time.perf_counter() - began
    )
    log.append(_statement(result, about, actor))
    return result


def _statement(result: PrivateResult, about: dict[str, object], actor: str) -> Statement:
    return Statement(
        kind="train",
        subjects=(Subject("model", result.digest),),
        predicate={
            "dataset": about["data_digest"],
            "actor": actor,
            "files": {name: durable.file_digest(result.model / name) for name in FILES},
            "size": NAME,
            "seed": about["seed"],
            "steps": result.plan.steps,
            "parameters": result.parameters,
            "tuning_loss": result.tuning_loss,
            "privacy": about["privacy"],
            "code_version": __version__,
            "torch_version": torch.__version__,
        },
    )
