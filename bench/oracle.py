"""How near to the best reachable: the model and boosted trees against a simulated hospital's oracles.

50,000 lives (`--lives N`; `--quick`: 1,000) are simulated, exported as FHIR, ingested and trained on; the tenth that is
held out is asked about new onset within a year at one day with care in each quarter of adult age. Share of the
reachable of an outcome: (AUROC - 0.5) / (record oracle's AUROC - 0.5). The learning curve trains on the first 1,000,
3,000, 10,000 … of the lives (by subject id, which is a keyed hash) and asks about the same held-out tenth.

The rule looks at counts and at the oracle, never at a model: an outcome enters the mean with 50 occurrences (quick: 5)
among the held-out lives and a record oracle's AUROC of 0.6, its interval above 0.55 (lifechart.evaluate.headline); one
that enters and that a model does not forecast counts as 0. The worst outcome is sought among those with more than 200
occurrences (below 50,000 lives: 100, where one outcome's share is known to about 0.1; quick: among all that enter).

BENCH_ORACLE_DIR names a folder that keeps the hospital (without its FHIR export), the data set, the opponents' scores
and the models, so that a run that was stopped goes on where it was; what the code of model/ made is kept for that very
code. BENCH_ORACLE_SIZE is the model's size; with BENCH_ORACLE_STACK=1 trees stand on top of it (model.stack).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import lifechart.model
from lifechart.core import durable
from lifechart.core.forecast import Forecaster
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
from lifechart.ledger.log import Log, open_log
from lifechart.model.checkpoint import FILES
from lifechart.model.forecaster import load_forecaster
from lifechart.model.stack import add_stack
from lifechart.model.train import train
from lifechart.simulate.export import export
from lifechart.simulate.hospital import write_truth

SEED = 11
TODAY = date(2025, 1, 1)
HORIZON = 365
BOOTSTRAP = 400
DRAWS = 32
LIVES, QUICK_LIVES = 50_000, 1_000
CURVE = (1_000, 3_000, 10_000)
"""Lives behind the points of the learning curve, as far as there are more."""
WITH_LATENT = 10_000
"""Up to this many lives the latent oracle is asked too; it takes as long as the record oracle and enters nothing."""


@dataclass(frozen=True)
class Rule:
    """Occurrences with which an outcome enters the mean, and the search for the worst."""

    min_events: int
    worst_events: int


def main(quick: bool, lives: int | None = None) -> dict[str, float]:
    """Run every stage, print the tables, and return the figures."""
    lives = lives or (QUICK_LIVES if quick else LIVES)
    rule = Rule(5, 5) if quick else Rule(50, 201 if lives >= LIVES else 100)
    size = os.environ.get("BENCH_ORACLE_SIZE", "xs")
    kept = os.environ.get("BENCH_ORACLE_DIR")
    with tempfile.TemporaryDirectory() as passing:
        folder = Path(kept or passing) / f"{lives}-{SEED}"
        settings = Settings(home=folder / "home")
        hospital, dataset = _records(folder, lives, settings)
        question, opponents = _opponents(folder, hospital, dataset, load_key(settings), lives <= WITH_LATENT)
        log = open_log(settings)
        smaller = () if quick else tuple(each for each in CURVE if each < lives)
        curve = [_point(folder, dataset, question, each, lives, size, log) for each in smaller]
        forecaster = _trained(folder / f"model-{size}-{_code()}", dataset, size, log)
        report = examine(
            dataset,
            forecaster,
            folder / "report",
            log=log,
            baselines=False,
            opponents=[*opponents, *curve],
            horizons=(HORIZON,),
            bootstrap=BOOTSTRAP,
            min_events=rule.min_events,
            seed=SEED,
        )
        required = _entering(question, opponents[0], rule.min_events)
        points = [*((each, scorer.name) for each, scorer in zip(smaller, curve, strict=True)), (lives, forecaster.name)]
        _print_curve(report, required, points)
        return _figures(report, forecaster.name, required, rule)


def _records(folder: Path, lives: int, settings: Settings) -> tuple[Path, Path]:
    """Simulate and ingest, unless a former run left both whole. The FHIR export, large, goes once it is ingested."""
    hospital, dataset, done = folder / "hospital", folder / "dataset", folder / "records.json"
    if not done.exists():
        if not (hospital / "truth" / "truth.json").exists():
            write_truth(hospital / "truth", lives, SEED, TODAY)
        export(hospital / "truth", hospital)
        ingest(hospital / "fhir", dataset, key=load_key(settings), log=open_log(settings))
        durable.write_json(done, {"lives": lives, "seed": SEED, "dataset": shards.dataset_digest(dataset)})
    for part in ("fhir", "gold"):
        shutil.rmtree(hospital / part, ignore_errors=True)
    return hospital, dataset


def _code() -> str:
    """Return what names the code of the model's room: what it made is not used once it has changed."""
    room = Path(lifechart.model.__file__).parent
    return durable.digest_of([durable.file_digest(each) for each in sorted(room.rglob("*.py"))])[:12]


def _trained(folder: Path, dataset: Path, size: str, log: Log) -> Forecaster:
    """Return the model that this code trains on a data set, from `folder` if it was trained there."""
    if not all((folder / name).exists() for name in FILES):
        train(dataset, folder, size=size, seed=SEED, log=log)
    if not _stacked():
        return load_forecaster(folder)
    stacked, aside = folder.with_name(f"{folder.name}{_stacked()}"), folder.with_name(f"{folder.name}-half-stacked")
    if not stacked.exists():
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(folder, aside)
        add_stack(aside, dataset, seed=SEED, log=log)
        aside.rename(stacked)
    return load_forecaster(stacked)


def _stacked() -> str:
    return "-stacked" if os.environ.get("BENCH_ORACLE_STACK") else ""


class Remembered:
    """A forecaster's scores for the one list of prompts that this bench asks about, kept in a file."""

    def __init__(self, name: str, path: Path, make: Callable[[], Scorer], events: pl.DataFrame, prompts: pl.DataFrame):
        self.name = name
        if not path.exists():
            scorer = make()
            place = scorer.horizons.index(HORIZON)
            with durable.replacing(path) as aside, open(aside, "wb") as file:
                np.savez(
                    file,
                    risks=scorer.risks(events, prompts)[:, :, place : place + 1],
                    outcomes=np.array(scorer.outcomes),
                )
        with np.load(path) as kept:
            self.table = kept["risks"]
            self.outcomes = tuple(kept["outcomes"].tolist())
        self.horizons = (HORIZON,)

    def risks(self, events: pl.DataFrame, prompts: pl.DataFrame) -> NDArray[np.float32]:
        """Return the scores that were kept; asking about other prompts is a programmer's fault."""
        assert prompts.height == len(self.table), "scores were kept for other prompts"
        table: NDArray[np.float32] = self.table
        return table


def _point(
    folder: Path, dataset: Path, question: Question, lives: int, of: int, size: str, log: Log
) -> Remembered:  # fmt: skip
    """Return a point of the learning curve: the scores of a model trained on a part of the lives."""

    def make() -> Scorer:
        part = folder / f"part-{lives}"
        if not (part / shards.MANIFEST).exists():
            splits = [shards.read_split(dataset, split) for split in ("train", "tuning")]
            chosen = [_first(events, lives / of) for events in splits]
            shards.write_dataset(part, pl.concat(chosen), {})
        return _trained(folder / f"part-{lives}-{size}-{_code()}", part, size, log)

    name = f"{lives} lives"
    path = folder / f"part-{lives}-{size}-{_code()}{_stacked()}.npz"
    return Remembered(name, path, make, question.events, question.prompts)


def _first(events: pl.DataFrame, share: float) -> pl.DataFrame:
    """Return the events of the first `share` of the subjects: their ids are keyed hashes, so this is a lot."""
    subjects = events["subject_id"].unique().sort()
    return events.join(subjects.head(round(share * len(subjects))).to_frame(), on="subject_id", how="semi")


def _opponents(
    folder: Path, hospital: Path, dataset: Path, key: bytes, with_latent: bool
) -> tuple[Question, list[Remembered]]:
    """Return what is asked, and who answers beside the model; from kept scores where there are any."""
    task = default_task().model_copy(update={"horizons_days": (HORIZON,), "main_horizon_days": HORIZON})
    names = (headline.RECORD, headline.LATENT) if with_latent else (headline.RECORD,)
    oracles = load_oracles(hospital / "truth", key, (HORIZON,), names, draws=DRAWS)
    question = ask(shards.read_split(dataset, "held_out"), oracles[0], task, None, BOOTSTRAP, SEED)
    outcomes = list(dict.fromkeys(outcome for outcome, _, _ in question.reportable()))

    def trees() -> Scorer:
        training, tuning = shards.read_split(dataset, "train"), shards.read_split(dataset, "tuning")
        return BoostedTrees.fit(training, tuning, task, outcomes, (HORIZON,), seed=SEED)

    makers: list[tuple[str, Callable[[], Scorer]]] = [
        *((name, lambda oracle=oracle: oracle) for name, oracle in zip(names, oracles, strict=True)),
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


def _print_curve(report: Report, required: list[str], points: Sequence[tuple[int, str]]) -> None:
    """Print a row per point of the learning curve; an outcome that a model does not forecast counts as 0."""
    table = Table(title="Learning curve: the same held-out lives")
    for column in ("lives", "outcomes forecast", "share", "of those forecast", "less than all lives have", "ECE"):
        table.add_column(column, justify="right")
    final = {m.outcome: m.value for m in report.select(name="reachable_share", forecaster=points[-1][1])}
    for lives, name in points:
        shares = {m.outcome: m.value for m in report.select(name="reachable_share", forecaster=name)}
        known = [shares[code] for code in required if code in shares]
        behind = [final.get(code, 0.0) - shares.get(code, 0.0) for code in required]
        errors = report.select(name="ece", forecaster=name, onset="new", subgroup="all")
        ece = [metric.value for metric in errors if metric.outcome in shares]
        table.add_row(
            f"{lives:,}",
            f"{len(known)} of {len(required)}",
            f"{sum(known) / max(len(required), 1):.3f}",
            f"{np.mean(known) if known else float('nan'):.3f}",
            f"{np.mean(behind) if behind else float('nan'):.3f}",
            f"{np.mean(ece):.4f}" if ece else "",
        )
    Console(width=150).print(table)


def _figures(report: Report, model: str, required: list[str], rule: Rule) -> dict[str, float]:
    """Print a row per outcome that enters, and return the bench's figures."""
    shares = {m.outcome: m for m in report.select(name="reachable_share", forecaster=model)}
    trees = {m.outcome: m for m in report.select(name="reachable_share", forecaster=TREES)}
    missing = [code for code in required if code not in shares]
    table = Table(title="New onset within a year, held-out lives")
    everyone = [model, TREES, headline.RECORD, *({headline.LATENT} & {m.forecaster for m in report.metrics})]
    for column in ("outcome", "events", *everyone, "share", "trees' share"):
        table.add_column(column, justify="left" if column == "outcome" else "right")
    for code in sorted(set(required) - set(missing), key=lambda code: -shares[code].num_events):
        auroc = {m.forecaster: m.value for m in report.select(name="auroc", outcome=code, onset="new", subgroup="all")}
        figures = [f"{auroc[name]:.3f}" for name in everyone]
        table.add_row(
            report.outcome_names[code], str(shares[code].num_events), *figures, _said(shares[code]), _said(trees[code])
        )
    for code in missing:
        row = [report.outcome_names.get(code, code), "", "not forecast", *[""] * (len(everyone) - 1), "0", ""]
        table.add_row(*row)
    everything = headline.ALL_OUTCOMES
    table.add_section()
    table.add_row("mean", "", *[""] * len(everyone), _said(shares[everything]), _said(trees[everything]))
    Console(width=150).print(table)
    frequent = [
        shares[code].value for code in required if code in shares and shares[code].num_events >= rule.worst_events
    ]
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
