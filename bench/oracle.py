"""How near to the best reachable: the model and boosted trees against a simulated hospital's oracles.

10,000 lives (`--quick`: 2,000) are simulated, exported as FHIR, ingested and trained on; the tenth that is held out is
asked about new onset within a year at one day with care in each quarter of adult age. Share of the reachable of an
outcome: (AUROC - 0.5) / (record oracle's AUROC - 0.5).

The rule looks at counts and at the oracle, never at a model: an outcome enters the mean with 50 occurrences (quick: 10)
among the held-out lives and a record oracle's AUROC of 0.6, its interval above 0.55 (lifechart.evaluate.headline); one
that enters and that the model does not forecast counts as 0. The worst outcome is sought among those with 100
occurrences or more, where one outcome's share is known to about 0.1 (quick: among all that enter).

BENCH_ORACLE_DIR names a folder that keeps the hospital, the data set and the opponents' scores for the next run; the
model is always trained anew. BENCH_ORACLE_SIZE is the model's size.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from lifechart.core import durable
from lifechart.core.report import Metric, Report
from lifechart.core.settings import Settings
from lifechart.data import shards
from lifechart.data.deidentify.structured import load_key
from lifechart.data.ingest import ingest
from lifechart.evaluate import headline
from lifechart.evaluate.baselines import NAME as TREES
from lifechart.evaluate.baselines import BoostedTrees
from lifechart.evaluate.boosting import PARAMETERS, SCREENED
from lifechart.evaluate.examine import examine
from lifechart.evaluate.metrics import evaluate
from lifechart.evaluate.oracle import load_oracles
from lifechart.evaluate.question import Question, Scorer, ask, score
from lifechart.evaluate.tasks import default_task
from lifechart.ledger.log import open_log
from lifechart.model.forecaster import load_forecaster
from lifechart.model.train import train
from lifechart.simulate.hospital import simulate

SEED = 11
TODAY = date(2025, 1, 1)
HORIZON = 365
BOOTSTRAP = 400
DRAWS = 32


def main(quick: bool) -> dict[str, float]:
    """Run every stage, print the table, and return the figures."""
    lives, size, min_events, worst_events = (2_000, "xs", 10, 10) if quick else (10_000, "xs", 50, 100)
    size = os.environ.get("BENCH_ORACLE_SIZE", size)
    kept = os.environ.get("BENCH_ORACLE_DIR")
    with tempfile.TemporaryDirectory() as passing:
        folder = Path(kept or passing) / f"{lives}-{SEED}"
        settings = Settings(home=folder / "home")
        hospital, dataset = _records(folder, lives, settings)
        question, opponents = _opponents(folder, hospital, dataset, load_key(settings))
        log = open_log(settings)
        model = folder / f"model-{size}"
        shutil.rmtree(model, ignore_errors=True)
        train(dataset, model, size=size, seed=SEED, log=log)
        report = examine(
            dataset,
            load_forecaster(model),
            folder / "report",
            log=log,
            baselines=False,
            opponents=opponents,
            horizons=(HORIZON,),
            bootstrap=BOOTSTRAP,
            min_events=min_events,
            seed=SEED,
        )
        name = next(m.forecaster for m in report.metrics if m.forecaster not in headline.NOT_MODELS)
        return _figures(report, name, _entering(question, opponents[0], min_events), worst_events)


def _records(folder: Path, lives: int, settings: Settings) -> tuple[Path, Path]:
    """Simulate and ingest, unless a former run left both whole."""
    hospital, dataset, done = folder / "hospital", folder / "dataset", folder / "records.json"
    if not done.exists():
        simulate(hospital, lives=lives, seed=SEED, today=TODAY)
        ingest(hospital / "fhir", dataset, key=load_key(settings), log=open_log(settings))
        durable.write_json(done, {"lives": lives, "seed": SEED, "dataset": shards.dataset_digest(dataset)})
    return hospital, dataset


class Remembered:
    """An opponent's scores for the one list of prompts that this bench asks about, kept in a file."""

    def __init__(self, name: str, path: Path, make: Callable[[], Scorer], events: pl.DataFrame, prompts: pl.DataFrame):
        self.name = name
        if not path.exists():
            scorer = make()
            with durable.replacing(path) as aside, open(aside, "wb") as file:
                np.savez(
                    file,
                    risks=scorer.risks(events, prompts),
                    outcomes=np.array(scorer.outcomes),
                    horizons=np.array(scorer.horizons),
                )
        with np.load(path) as kept:
            self.table = kept["risks"]
            self.outcomes = tuple(kept["outcomes"].tolist())
            self.horizons = tuple(kept["horizons"].tolist())

    def risks(self, events: pl.DataFrame, prompts: pl.DataFrame) -> NDArray[np.float32]:
        """Return the scores that were kept; asking about other prompts is a programmer's fault."""
        assert prompts.height == len(self.table), "scores were kept for other prompts"
        table: NDArray[np.float32] = self.table
        return table


def _opponents(folder: Path, hospital: Path, dataset: Path, key: bytes) -> tuple[Question, list[Remembered]]:
    """Return what is asked, and who answers beside the model; from kept scores where there are any."""
    task = default_task().model_copy(update={"horizons_days": (HORIZON,), "main_horizon_days": HORIZON})
    names = (headline.RECORD, headline.LATENT)
    oracles = load_oracles(hospital / "truth", key, (HORIZON,), names, draws=DRAWS)
    question = ask(shards.read_split(dataset, "held_out"), oracles[0], task, None, BOOTSTRAP, SEED)
    outcomes = list(dict.fromkeys(outcome for outcome, _, _ in question.reportable()))

    def trees() -> Scorer:
        training, tuning = shards.read_split(dataset, "train"), shards.read_split(dataset, "tuning")
        return BoostedTrees.fit(training, tuning, task, outcomes, (HORIZON,), seed=SEED)

    makers: list[tuple[str, Callable[[], Scorer]]] = [
        (names[0], lambda: oracles[0]),
        (names[1], lambda: oracles[1]),
        (TREES, trees),
    ]
    asked = [shards.dataset_digest(dataset), task.model_dump(mode="json"), SEED, DRAWS, PARAMETERS, SCREENED]
    mark = durable.digest_of(asked)[:12]
    events, prompts = question.events, question.prompts
    kept = [Remembered(name, folder / f"{name}-{mark}.npz", make, events, prompts) for name, make in makers]
    return question, kept


def _entering(question: Question, oracle: Remembered, min_events: int) -> list[str]:
    """Return the outcomes that enter, judged by counts and oracle alone."""
    scores = score(oracle, question)
    estimates = {}
    for outcome, horizon, onset in question.reportable():
        if onset == "new":
            sample = question.sample(outcome, horizon, question.rows(outcome, horizon, onset), scores[outcome, horizon])
            auroc = {headline.RECORD: evaluate(sample, question.weights)["auroc"]}
            estimates[outcome] = headline.Outcome(len(sample.labels), sample.num_events, auroc)
    return headline.entering(estimates, min_events)


def _figures(report: Report, model: str, required: list[str], worst_events: int) -> dict[str, float]:
    """Print a row per outcome that enters, and return the bench's figures."""
    shares = {m.outcome: m for m in report.select(name="reachable_share", forecaster=model)}
    trees = {m.outcome: m for m in report.select(name="reachable_share", forecaster=TREES)}
    missing = [code for code in required if code not in shares]
    table = Table(title="New onset within a year, held-out lives")
    for column in ("outcome", "events", model, TREES, "record oracle", "latent oracle", "share", "trees' share"):
        table.add_column(column, justify="left" if column == "outcome" else "right")
    for code in sorted(set(required) - set(missing), key=lambda code: -shares[code].num_events):
        auroc = {m.forecaster: m.value for m in report.select(name="auroc", outcome=code, onset="new", subgroup="all")}
        figures = [f"{auroc[name]:.3f}" for name in (model, TREES, headline.RECORD, headline.LATENT)]
        table.add_row(
            report.outcome_names[code], str(shares[code].num_events), *figures, _said(shares[code]), _said(trees[code])
        )
    for code in missing:
        table.add_row(report.outcome_names.get(code, code), "", "not forecast", "", "", "", "0", "")
    everything = headline.ALL_OUTCOMES
    table.add_section()
    table.add_row("mean", "", "", "", "", "", _said(shares[everything]), _said(trees[everything]))
    Console(width=150).print(table)
    frequent = [shares[code].value for code in required if code in shares and shares[code].num_events >= worst_events]
    errors = report.select(name="ece", forecaster=model, onset="new", subgroup="all")
    ece = [metric.value for metric in errors if metric.outcome in shares]
    return {
        "model_excess": shares[everything].value * (len(required) - len(missing)) / len(required),
        "trees_excess": trees[everything].value,
        "worst_outcome_excess": min(frequent, default=float("nan")) if not missing else 0.0,
        "ece": float(np.mean(ece)),
    }


def _said(metric: Metric) -> str:
    interval = f" ({metric.interval.low:.2f}-{metric.interval.high:.2f})" if metric.interval else ""
    return f"{metric.value:.3f}{interval}"
