"""How well the deployed forecaster does on real data, beside trees tuned with care, Cox and a Delphi-style decoder.

PhysioNet 2012 (mortality, five folds), NAFLD (six outcomes, a fifth of the matched sets held out), Diabetes-130
(readmission, a fifth of the patients held out), Synthea R4 (new conditions within a year, three folds: no third has
events enough), flchain and mgus2 (five folds). Ours is what `lifechart train --labels` makes and `lifechart predict`
reads, through its files.

The metric is AUROC; for survival the time-dependent concordance (Antolini et al. 2005; each forecaster gives one score
a person, which makes it Harrell's), and at the question's horizon the AUROC of those of whom it is known. Whoever died
without the event is known not to have it.
Over several folds it is the mean of the folds'. A win or a loss is a difference to the best opponent whose 95% interval
(paired bootstrap of subjects, within folds) leaves out 0; whatever else is a tie. A second table has the mean of all
figures' differences: to each figure's best opponent (a choice by the held-out scores themselves, which flatters it),
and to each opponent that answers everything.

LIFECHART_SHARED is the folder that holds data/ (by default ../shared). BENCH_ACCURACY_DIR names a folder that keeps
every set's, fold's and forecaster's predictions, so that a run goes on where it was (by the code that made them: what
has changed since is made anew); BENCH_ACCURACY_SETS (names, comma between) runs some sets alone, BENCH_ACCURACY_FOLDS
(a number) fewer folds of each. `--quick` is mgus2 with two folds.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import lifechart
from bench._delphi import delphi
from bench._real_data import SETS, DataSet, Question
from bench._real_peers import Floats, Material, cox, hazard_trees, tuned_trees, within
from lifechart.core import durable
from lifechart.core.settings import Settings
from lifechart.data.summaries import Summary
from lifechart.evaluate.censored import harrell
from lifechart.evaluate.metrics import Sample, bootstrap_weights, ranking
from lifechart.ledger.log import open_log
from lifechart.model.forecaster import load_forecaster
from lifechart.model.labelled.train import train_on_labels

OURS = "lifechart"
RESAMPLES, SURVIVAL_RESAMPLES = 500, 100
SEED = 0
_CONSOLE = Console(width=140, stderr=True)


@dataclass(frozen=True)
class Peer:
    """An opponent: fitted to the training rows it returns the others' scores; of survival, of the rest, or of both."""

    fit: Callable[[Material], Floats]
    timed: bool | None = None

    def answers(self, timed: bool) -> bool:
        """Whether it takes questions that tell after how many days, or those that do not."""
        return self.timed is None or self.timed == timed


PEERS = {
    "tuned-trees": Peer(tuned_trees),
    "delphi-style": Peer(delphi),
    "hazard-trees": Peer(hazard_trees, timed=True),
    "cox": Peer(cox, timed=True),
}


@dataclass(frozen=True, eq=False)
class Answers:
    """Everybody's scores of one question's held-out rows, fold after fold."""

    fold: NDArray[np.int64]
    subject: NDArray[np.int64]
    came: NDArray[np.bool_]
    days: Floats
    scores: dict[str, Floats]


def main(quick: bool) -> dict[str, float]:
    """Run every set, print the table, and return the figures."""
    torch.set_num_threads(1)
    shared = Path(os.environ.get("LIFECHART_SHARED", "../shared")) / "data"
    chosen = ["mgus2"] if quick else [name for name in os.environ.get("BENCH_ACCURACY_SETS", "").split(",") if name]
    folds = 2 if quick else int(os.environ.get("BENCH_ACCURACY_FOLDS", "0")) or None
    return judged({name: partial(SETS[name], shared) for name in chosen or SETS}, PEERS, folds)


def judged(
    sets: Mapping[str, Callable[[], DataSet]], peers: Mapping[str, Peer], most_folds: int | None
) -> dict[str, float]:
    """Hold ours against `peers` on every set, of which at most so many folds; print the tables, return the figures."""
    table = Table(title="Held-out subjects")
    for column in ("set", "task", "metric", "events", OURS, "best opponent", "", "difference (95%)", "others"):
        table.add_column(column, justify="left" if column in ("set", "task", "metric", "others") else "right")
    figures: dict[str, float] = {}
    comparisons: list[Compared] = []
    with tempfile.TemporaryDirectory(prefix="lifechart-accuracy-") as passing:
        kept = Path(os.environ.get("BENCH_ACCURACY_DIR", passing))
        for name, read in sets.items():
            dataset = read()
            for question in dataset.questions:
                answers = answer(dataset, question, peers, kept / name / question.name, most_folds)
                for metric, found in compared(question, answers):
                    _tell(table, figures, f"{name}_{question.name}{metric}", found)
                    comparisons.append(found)
    verdicts = [each.verdict for each in comparisons]
    Console(width=170).print(table, _means(comparisons, figures))
    return figures | {kind: float(verdicts.count(kind)) for kind in ("wins", "ties", "losses")}


def answer(
    dataset: DataSet, question: Question, peers: Mapping[str, Peer], kept: Path, most_folds: int | None
) -> Answers:
    """Return everybody's scores of the held-out folds, from `kept` where a former run left them."""
    fold_of = _folds(question.groups, dataset.folds)
    wanted = [dataset.only] if dataset.only is not None else list(range(dataset.folds))[:most_folds]
    parts = []
    for fold in wanted:
        test = question.labels.filter(fold_of == fold)
        parts.append((fold, test, _scored(dataset, question, peers, fold_of == fold, kept / str(fold))))
    days = [part["days"].to_numpy() if "days" in part.columns else np.zeros(part.height) for _, part, _ in parts]
    return Answers(
        np.concatenate([np.full(part.height, fold) for fold, part, _ in parts]),
        np.concatenate([part["subject_id"].to_numpy() for _, part, _ in parts]),
        np.concatenate([part["boolean_value"].to_numpy() for _, part, _ in parts]),
        np.concatenate(days),
        {name: np.concatenate([scores[name] for _, _, scores in parts]) for name in parts[0][2]},
    )


def _folds(groups: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    unique, place = np.unique(groups, return_inverse=True)
    lot = np.random.default_rng(SEED).permutation(len(unique)) % number
    return lot[place]


def _scored(
    dataset: DataSet, question: Question, peers: Mapping[str, Peer], held: NDArray[np.bool_], kept: Path
) -> dict[str, Floats]:
    """Fit ours and every opponent without the rows held out; return the scores of those, kept ones where they are."""
    train, test = question.labels.filter(~held), question.labels.filter(held)

    @cache
    def material() -> Material:
        of_train = dataset.events.join(train.select("subject_id").unique(), on="subject_id", how="semi")
        summary, features = Summary.choose(of_train, train)
        test_features = summary.matrix(dataset.events, test)
        return Material(dataset.events, question, train, test, question.groups[~held], features, test_features, summary)

    timed = "days" in train.columns
    scores, said = {}, []
    for name in (OURS, *(name for name, peer in peers.items() if peer.answers(timed))):
        path = kept / f"{name}-{_code(name)}.npy"
        if not path.exists():
            began, busy = time.perf_counter(), time.process_time()
            made = _ours(dataset, question, train, test) if name == OURS else peers[name].fit(material())
            said.append(f"{name} {time.perf_counter() - began:.0f} s ({time.process_time() - busy:.0f} s of a core)")
            with durable.replacing(path) as aside, aside.open("wb") as file:
                np.save(file, made, allow_pickle=False)
        scores[name] = np.load(path, allow_pickle=False)
    if said:
        _CONSOLE.print(f"{dataset.name} {question.name}: {', '.join(said)}")
    return scores


@cache
def _code(name: str) -> str:
    """Return what names the code that a forecaster's scores come from: kept ones are not used once it has changed."""
    here, package = Path(__file__).parent, Path(lifechart.__file__).parent
    shared = [here / "_real_data.py", package / "data" / "summaries.py"]
    own = {
        OURS: sorted((package / "model" / "labelled").glob("*.py")),
        "delphi-style": [here / "_delphi.py"],
    }.get(name, [here / "_real_peers.py"])
    return durable.digest_of([durable.file_digest(each) for each in shared + own])[:12]


def _ours(dataset: DataSet, question: Question, train: pl.DataFrame, test: pl.DataFrame) -> Floats:
    """Go the documented way: a MEDS folder and a label file in, a model folder, predictions of the others out."""
    with tempfile.TemporaryDirectory(prefix="lifechart-accuracy-") as passing:
        work = Path(passing)
        (work / "meds" / "data").mkdir(parents=True)
        dataset.events.write_parquet(work / "meds" / "data" / "0.parquet")
        train.write_parquet(work / f"{question.name}.parquet")
        log = open_log(Settings(home=work / "home"))
        train_on_labels(
            work / "meds", work / f"{question.name}.parquet", work / "model", seed=SEED, log=log,
            horizon=question.horizon, progress=False,
        )  # fmt: skip
        risks = load_forecaster(work / "model").risks(dataset.events, test.select("subject_id", "prediction_time"))
        return risks[:, 0, 0].astype(np.float64)


@dataclass(frozen=True, eq=False)
class Compared:
    """One metric of one question: everybody's value, and ours less each opponent's."""

    metric: str
    events: int
    values: dict[str, float]
    best: str
    gains: dict[str, Floats]
    """Ours less each opponent's: as it is, then in each draw of subjects."""

    @property
    def interval(self) -> tuple[float, float]:
        """95% of the draws of ours less the best opponent's."""
        low, high = np.nanquantile(self.gains[self.best][1:], [0.025, 0.975])
        return float(low), float(high)

    @property
    def verdict(self) -> str:
        """`wins`, `ties` or `losses`."""
        low, high = self.interval
        return "wins" if low > 0 else "losses" if high < 0 else "ties"


def compared(question: Question, answers: Answers) -> Iterator[tuple[str, Compared]]:
    """Yield (ending of the figures' names, comparison) for each metric of a question."""
    if question.horizon is None:
        yield "", _compare("AUROC", answers, answers.came, np.ones(len(answers.came), dtype=bool), _aurocs)
        return
    everybody = np.ones(len(answers.came), dtype=bool)
    yield "_concordance", _compare("concordance", answers, answers.came, everybody, _concordances)
    frame = pl.DataFrame({"boolean_value": answers.came, "days": answers.days})
    truth, known = within(frame, question.horizon)
    years = round(question.horizon / 365.25)
    yield f"_auroc_{years}y", _compare(f"AUROC, {years} y", answers, truth, known, _aurocs)


def _compare(
    metric: str, answers: Answers, truth: NDArray[np.bool_], known: NDArray[np.bool_], measure: object
) -> Compared:
    folds = [np.flatnonzero((answers.fold == fold) & known) for fold in np.unique(answers.fold)]
    assert callable(measure)
    replicates = {
        name: np.mean([measure(answers, truth, rows, scores) for rows in folds], axis=0)
        for name, scores in answers.scores.items()
    }
    values = {name: float(found[0]) for name, found in replicates.items()}
    best = max((name for name in values if name != OURS), key=lambda name: values[name])
    gains = {name: replicates[OURS] - found for name, found in replicates.items() if name != OURS}
    return Compared(metric, int(truth[known].sum()), values, best, gains)


def _aurocs(answers: Answers, truth: NDArray[np.bool_], rows: NDArray[np.int64], scores: Floats) -> Floats:
    people, owner = np.unique(answers.subject[rows], return_inverse=True)
    weights = bootstrap_weights(len(people), RESAMPLES, SEED)
    return ranking(Sample(truth[rows], scores[rows], owner), weights)[0]


def _concordances(answers: Answers, truth: NDArray[np.bool_], rows: NDArray[np.int64], scores: Floats) -> Floats:
    people, owner = np.unique(answers.subject[rows], return_inverse=True)
    weights = bootstrap_weights(len(people), SURVIVAL_RESAMPLES, SEED)
    return np.array([harrell(scores[rows], answers.days[rows], truth[rows], each[owner]) for each in weights])


def _tell(table: Table, figures: dict[str, float], name: str, found: Compared) -> None:
    figures[f"{name}_model"] = found.values[OURS]
    figures[f"{name}_best_peer"] = found.values[found.best]
    others = ", ".join(f"{peer} {value:.3f}" for peer, value in found.values.items() if peer not in (OURS, found.best))
    set_name, _, task = name.partition("_")
    gain, (low, high) = float(found.gains[found.best][0]), found.interval
    table.add_row(
        set_name, task, found.metric, str(found.events), f"{found.values[OURS]:.4f}", f"{found.values[found.best]:.4f}",
        found.best, f"{gain:+.4f} ({low:+.4f} to {high:+.4f}) {found.verdict}", others,
    )  # fmt: skip


def _means(comparisons: list[Compared], figures: dict[str, float]) -> Table:
    """Return the mean of all differences to each opponent, with intervals by as many draws as every figure has."""
    table = Table(title=f"Mean of {len(comparisons)} figures: ours less")
    for column in ("opponent", "mean", "95%"):
        table.add_column(column, justify="left" if column == "opponent" else "right")
    everywhere = set.intersection(*(set(each.gains) for each in comparisons))
    opponents = {"each figure's best": [each.gains[each.best] for each in comparisons]}
    opponents |= {name: [each.gains[name] for each in comparisons] for name in sorted(everywhere)}
    for name, gains in opponents.items():
        # Figures of one set draw the same people, so what they have in common is in the spread.
        draws = min(map(len, gains)) - 1
        mean = float(np.mean([gain[0] for gain in gains]))
        spread = float(np.std(np.mean([gain[1 : draws + 1] - gain[0] for gain in gains], axis=0)))
        low, high = mean - 1.96 * spread, mean + 1.96 * spread
        table.add_row(name, f"{mean:+.4f}", f"{low:+.4f} to {high:+.4f}")
        key = "mean_gain" if name not in everywhere else f"mean_gain_over_{name.replace('-', '_')}"
        figures |= {key: mean, f"{key}_low": low, f"{key}_high": high}
    return table
