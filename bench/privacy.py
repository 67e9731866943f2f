"""What privacy costs: epsilon against AUROC, time against plain training, and whether audits bear the promise out.

50,000 lives (`--lives N`: N; `--quick`: 1,200) are simulated, exported, ingested, and trained on plainly and privately
at epsilon 8, 4 and 1; "no noise" is the private fit with neither noise nor clipping. AUROC: new onset within a year
among the held-out tenth, the mean of the outcomes with 30 occurrences or more (quick: 10); one that a model does not forecast
counts 0.5 for it.

cost_ratio is the larger of two, in CPU time: the whole private run beside the whole plain run, and one clipped step
through the whole network (ghost clipping, backbone included) beside one plain step on the same batch.

The audit trains a twin with canaries at epsilon AUDITED, and one whose noise is switched off under the same promise:
the first has to hold, the second has to be refuted by proof, not by estimate alone. The quick form has one promise, 1.

BENCH_ORACLE_DIR names a folder that keeps the hospital and the data set, shared with `bench oracle`.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from bench.oracle import SEED, _records
from lifechart.core.settings import Settings
from lifechart.data import shards
from lifechart.evaluate.question import Question, ask
from lifechart.evaluate.tasks import default_task
from lifechart.ledger.log import Log, open_log
from lifechart.model.batches import Collator, alike, cut
from lifechart.model.checkpoint import load_model
from lifechart.model.fit import label_of
from lifechart.model.forecaster import NetworkForecaster
from lifechart.model.heads import BaseRates, survival
from lifechart.model.network import Network
from lifechart.model.private.audit import TwinFindings, findings_of
from lifechart.model.private.canaries import train_twin
from lifechart.model.private.ghost import Ghost
from lifechart.model.private.plan import Plan, plan
from lifechart.model.private.train import train_private
from lifechart.model.questions import sample_questions
from lifechart.model.sizes import size_named
from lifechart.model.tokens import tokenise
from lifechart.model.train import train

HORIZON = 365
SIZE = "xs"
AUDITED = 4.0
REPEATS = 5


def main(quick: bool, lives: int | None = None) -> dict[str, float | bool]:
    """Run every stage, print the tables, and return the figures."""
    lives = lives or (1_200 if quick else 50_000)
    epsilons, audited, canaries = ([8.0], 1.0, 200) if quick else ([8.0, 4.0, 1.0], AUDITED, 1000)
    kept = os.environ.get("BENCH_ORACLE_DIR")
    with tempfile.TemporaryDirectory() as passing:
        folder = Path(kept or passing) / f"{lives}-{SEED}"
        settings = Settings(home=folder / "home")
        _, dataset = _records(folder, lives, settings)
        log = open_log(settings)
        plain, plain_seconds = _plain(dataset, Path(passing) / "plain", log)
        question = _question(dataset, plain)
        least = 10 if quick else 30
        table = Table(title=f"{lives:,} lives: new onset within a year, held-out")
        for column in ("training", "AUROC", "outcomes forecast", "seconds", "of plain"):
            table.add_column(column, justify="left" if column == "training" else "right")
        table.add_row("plain", *_row(plain, question, least), f"{plain_seconds:.0f}", "1.00")
        found, ratios, model = {}, [], plain
        for epsilon in [*epsilons, math.inf]:
            spends = plan(epsilon)
            began = time.process_time()
            out = Path(passing) / f"epsilon-{epsilon:g}"
            train_private(dataset, out, spends, seed=SEED, log=log, progress=False)
            seconds = time.process_time() - began
            forecaster = NetworkForecaster(load_model(out))
            name = "no noise, no clipping" if math.isinf(epsilon) else f"epsilon {spends.spent[0]:.2f}"
            table.add_row(name, *_row(forecaster, question, least), f"{seconds:.0f}", f"{seconds / plain_seconds:.2f}")
            found[epsilon] = _auroc(forecaster, question, least)
            ratios.append(seconds / plain_seconds)
            model = forecaster if epsilon == epsilons[0] else model
        Console(width=120).print(table)
        step = _step_ratio(dataset, plain)
        print(f"one clipped step through the whole network: {step:.2f} of a plain one")
        honest, sabotaged = _audits(dataset, model, plan(audited), canaries)
        return {
            "cost_ratio": max(step, *ratios[:-1]),
            "auroc_plain": _auroc(plain, question, least),
            **{f"auroc_eps_{epsilon:g}": found[epsilon] for epsilon in epsilons},
            "auroc_no_noise": found[math.inf],
            "audit_holds": honest.within(audited),
            "sabotage_caught": sabotaged.proven > audited,
        }


def _plain(dataset: Path, out: Path, log: Log) -> tuple[NetworkForecaster, float]:
    began = time.process_time()
    train(dataset, out, size=SIZE, seed=SEED, log=log, progress=False)
    return NetworkForecaster(load_model(out)), time.process_time() - began


def _question(dataset: Path, plain: NetworkForecaster) -> Question:
    """Ask of held-out lives what the plain model forecasts; it sees every code, so no private one forecasts more."""
    task = default_task().model_copy(update={"horizons_days": (HORIZON,), "main_horizon_days": HORIZON})
    return ask(shards.read_split(dataset, "held_out"), plain, task, None, 10, SEED)


def _aurocs(forecaster: NetworkForecaster, question: Question, least: int) -> dict[str, float]:
    risks = forecaster.risks(question.events, question.prompts)[:, :, list(forecaster.horizons).index(HORIZON)]
    step = question.horizons.index(HORIZON)
    found = {}
    for number, outcome in enumerate(question.outcomes):
        rows = question.rows(outcome, HORIZON, "new")
        occurred = question.labels.occurred[rows, number, step]
        if occurred.sum() >= least and not occurred.all():
            known = outcome in forecaster.outcomes
            score = risks[rows, forecaster.outcomes.index(outcome)] if known else np.zeros(int(rows.sum()))
            found[outcome] = float(roc_auc_score(occurred, score))
    return found


def _auroc(forecaster: NetworkForecaster, question: Question, least: int) -> float:
    return float(np.mean(list(_aurocs(forecaster, question, least).values())))


def _row(forecaster: NetworkForecaster, question: Question, least: int) -> tuple[str, str]:
    found = _aurocs(forecaster, question, least)
    told = sum(outcome in forecaster.outcomes for outcome in found)
    return f"{np.mean(list(found.values())):.4f}", f"{told} of {len(found)}"


def _step_ratio(dataset: Path, plain: NetworkForecaster) -> float:
    """Return the time of a clipped step through encoder, backbone and head beside a plain one, the least of each."""
    vocabulary, size = plain.model.vocabulary, size_named(SIZE)
    tokens = tokenise(shards.read_split(dataset, "tuning"), vocabulary)
    base = plain.model.network.hazards
    network = Network(vocabulary, size, BaseRates(base.base_OB.numpy(), base.again_OB.numpy()), 0.0)
    questions = sample_questions(tokens, size.questions, np.random.default_rng(SEED))
    windows = cut(tokens, questions, size.context)
    parts = alike(windows.sizes, np.arange(len(windows.first)), size.batch_tokens)
    group = parts[len(parts) // 2]
    collator = Collator(vocabulary, size.context, torch.device("cpu"))
    batch, asked = collator.batch(tokens, questions, windows, group)
    labels = label_of(tokens, questions.take(asked), vocabulary)
    owner_Q = torch.from_numpy(questions.subject[asked])
    patients = int(owner_Q.max()) + 1
    segment = batch.segment_RT.numpy()
    owner_RT = torch.from_numpy(np.where(segment >= 0, windows.subject[group][np.maximum(segment, 0)], 0))
    trained = tuple(each for name, each in network.named_parameters() if not name.startswith("next_code"))
    ghost = Ghost(network, trained)

    def unclipped() -> None:
        network.zero_grad(set_to_none=True)
        survival(network(batch).log_hazard_QOB, labels, 0.25).backward()  # type: ignore[no-untyped-call]

    def clipped() -> None:
        with ghost.listening():
            loss = survival(network(batch).log_hazard_QOB, labels, 0.25) * len(asked)
            norms = ghost.norms(loss, patients, owner_Q, owner_RT)
        ghost.clipped((1.0 / norms.clamp(min=1e-12)).clamp(max=1.0))

    times: dict[str, list[float]] = {"plain": [], "clipped": []}
    for _ in range(REPEATS):
        for name, step in (("plain", unclipped), ("clipped", clipped)):
            began = time.process_time()
            step()
            times[name].append(time.process_time() - began)
    return min(times["clipped"]) / min(times["plain"])


def _audits(dataset: Path, model: NetworkForecaster, honest: Plan, canaries: int) -> tuple[TwinFindings, TwinFindings]:
    """Audit a twin under a plan, and one under the same plan with its noise switched off."""
    events = shards.read_split(dataset, "train")
    head = model.model.network.hazards
    base = BaseRates(head.base_OB.numpy(), head.again_OB.numpy())
    found = []
    table = Table(title=f"Audits of runs that promise epsilon {honest.epsilon:g}, {canaries} canaries")
    for column in ("run", "proven", "provable", "estimated", "exposure in", "out"):
        table.add_column(column, justify="left" if column == "run" else "right")
    for name, each in (("as promised", honest), ("noise switched off", replace(honest, noise=0.0))):
        twin = train_twin(events, model.model.vocabulary, base, each, canaries, SEED)
        told = findings_of(twin, honest.delta)
        table.add_row(
            name, f"{told.proven:.2f}", f"{told.provable:.2f}",
            f"{told.estimated:.2f} (at least {told.estimated_at_least:.2f})", f"{told.exposure_in:.2f}",
            f"{told.exposure_out:.2f}",
        )  # fmt: skip
        found.append(told)
    Console(width=120).print(table)
    return found[0], found[1]
