"""Boosted trees on top of a trained network: what counts, values and the network's own state still say of its errors.

For each outcome the trees learn the logarithm of a factor on the network's cumulative hazard, by the likelihood of
first onsets given that hazard as exposure (labelled.target): horizons stay ordered and deaths still compete. The
tuning split says how many trees serve, and an outcome keeps them only where those chosen on one half of its people are
better on the other half, by far more than chance would have it: else the network's answer stands unchanged.
Legend of shapes: Q questions, O outcomes, B intervals, F features of the summary, Z the network's state.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from lifechart import __version__
from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.data import shards
from lifechart.data.summaries import Summary
from lifechart.ledger.log import Log
from lifechart.ledger.statement import Statement, Subject
from lifechart.model.batches import Collator
from lifechart.model.checkpoint import CONFIG, STACK, Model, files_of, load_model, model_digest
from lifechart.model.inference import tell
from lifechart.model.labelled.target import Target
from lifechart.model.labelled.trees import Shape, Trees, fit_trees, strength, strongest, unexplained
from lifechart.model.questions import EDGES, label, sample_questions
from lifechart.model.tokens import tokenise

Matrix = NDArray[np.float32]

_SHAPE = Shape(max_leaf_nodes=6, learning_rate=0.06, max_iter=200, l2_regularization=50.0, n_iter_no_change=15)
_COLUMNS = 160
_MOST_QUESTIONS, _PER_LIFE = 30_000, 6.0
FEWEST_EVENTS = 50
"""Training questions followed by a first onset, and a fifth as many tuning ones, that an outcome's trees need."""
_SURE = 2.5
"""Standard errors that a gain must exceed: seventy outcomes are tried, and one error would let a dozen in by chance."""


@dataclass(frozen=True, eq=False)
class Stack:
    """The trees of those outcomes that keep some, and what they read: the summary's columns, then the state."""

    summary: Summary
    trees: dict[int, Trees]
    """By the outcome's number."""

    def corrections(self, events: pl.DataFrame, prompts: pl.DataFrame, state: Matrix, outcomes: int) -> Matrix:
        """Return what is added to every log hazard, [Q, O].  state: the network's [Q, Z]."""
        features = np.concatenate([self.summary.matrix(_readable(events), prompts), state], axis=1)
        added = np.zeros((prompts.height, outcomes), dtype=np.float32)
        for outcome, trees in self.trees.items():
            added[:, outcome] = trees.scores(features)
        return added


@dataclass(frozen=True)
class StackResult:
    """What stacking came to: by outcome, the gain in log likelihood an onset on people whom the choice did not see."""

    digest: str
    tried: int
    kept: dict[str, float]

    def summary(self) -> str:
        """Say it in a few lines."""
        best = sorted(self.kept.items(), key=lambda pair: -pair[1])[:5]
        said = ", ".join(f"{outcome} {gain:.3f}" for outcome, gain in best)
        head = f"stack     {len(self.kept)} of {self.tried} outcomes keep trees"
        return f"{head} (gain per onset: {said})" if best else f"{head}; the network stands alone"


def add_stack(folder: Path, dataset: Path, *, seed: int, log: Log, actor: str = "") -> StackResult:
    """Fit trees to what the model in `folder` leaves over on `dataset`, and keep those that measure better, beside it.

    The data set must be the one that the model was trained on: its tuning split is where the choice is made. Writes
    nothing where no outcome gains. Raises InputError for another data set or a model that is stacked already.
    """
    model = load_model(folder)
    if model.config.get("stack"):
        raise InputError("model", str(folder), "a model without a stack")
    if model.config.get("data_digest") != shards.dataset_digest(dataset):
        raise InputError("dataset", str(dataset), "the data set that the model was trained on")
    train = _asked(model, shards.read_split(dataset, "train"), seed, None)
    tuning = _asked(model, shards.read_split(dataset, "tuning"), seed + 1, train.summary)
    found: dict[int, Trees] = {}
    gains: dict[str, float] = {}
    targets = _enough(train, tuning, len(model.vocabulary.outcomes))
    strengths = _strengths(train.features, [here for here, _ in targets.values()])
    shown = track(
        enumerate(targets.items()), "stack", len(targets), console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )  # fmt: skip
    for number, (outcome, (here, there)) in shown:
        features = train.features[here[0]]
        columns = strongest(features, strengths[:, number], _COLUMNS)
        unseen = tuning.features[there[0]], there[1]
        grown = fit_trees(features, here[1], _SHAPE, seed, unseen, columns)
        trees, gain = _chosen(grown, tuning.features[there[0]], there[1], tuning.subject[there[0]])
        if trees is not None:
            found[outcome], gains[model.vocabulary.outcomes[outcome]] = trees, gain
    if not found:
        return StackResult(model.digest, len(targets), {})
    _save(folder, _narrowed(train.summary, found, train.features.shape[1]), gains)
    result = StackResult(model_digest(folder), len(targets), gains)
    log.append(_statement(result, folder, model, seed, actor))
    return result


@dataclass(frozen=True, eq=False)
class _Asked:
    """Questions of one split: features [Q, F + Z], the network's hazards, and what came."""

    summary: Summary
    features: Matrix
    subject: NDArray[np.int64]
    hazard: NDArray[np.float32]
    days_to: NDArray[np.float32]
    observed: NDArray[np.float32]
    had: NDArray[np.bool_]

    def target(self, outcome: int) -> tuple[NDArray[np.int64], Target]:
        """Return the rows at risk of a first onset, and their events with the network's cumulative hazard."""
        rows = np.flatnonzero(~self.had[:, outcome] & (self.observed > 0))
        days, observed = self.days_to[rows, outcome], np.minimum(self.observed[rows], EDGES[-1])
        until = np.minimum(days, observed)[:, None]
        low, high = np.array(EDGES[:-1]), np.array(EDGES[1:])
        exposure = (self.hazard[rows, outcome] * np.clip(until - low, 0.0, high - low)).sum(axis=1)
        return rows, Target(days <= observed, np.maximum(exposure.astype(np.float64), 1e-9))


_Rows = tuple[NDArray[np.int64], Target]


def _enough(train: _Asked, tuning: _Asked, outcomes: int) -> dict[int, tuple[_Rows, _Rows]]:
    """Return the rows and targets, training and tuning, of those outcomes with events enough for trees."""
    found = {}
    for outcome in range(outcomes):
        here, there = train.target(outcome), tuning.target(outcome)
        if here[1].event.sum() >= FEWEST_EVENTS and there[1].event.sum() >= FEWEST_EVENTS / 5:
            found[outcome] = here, there
    return found


def _strengths(features: Matrix, targets: list[_Rows]) -> NDArray[np.float64]:
    """Return how strongly each column goes with what the network leaves over of each target.  [Q, F] -> [F, T]."""
    residual = np.zeros((len(features), len(targets)))
    for number, (rows, target) in enumerate(targets):
        residual[rows, number] = unexplained(target)
    return strength(features, residual)


def _asked(model: Model, events: pl.DataFrame, seed: int, summary: Summary | None) -> _Asked:
    tokens = tokenise(events, model.vocabulary)
    per_life = min(_PER_LIFE, _MOST_QUESTIONS / max(tokens.num_subjects, 1))
    questions = sample_questions(tokens, per_life, np.random.default_rng([seed, 21]))
    told = tell(model.network, Collator(model.vocabulary, model.size.context, torch.device("cpu")), tokens, questions)
    labels = label(tokens, questions, len(model.vocabulary.outcomes))
    prompts = pl.DataFrame(
        {
            "subject_id": tokens.subject_ids[questions.subject],
            "prediction_time": pl.Series(questions.micros + tokens.origin[questions.subject]).cast(pl.Datetime("us")),
        }
    )
    read = _readable(events)
    if summary is None:
        summary, features = Summary.choose(read, prompts)
    else:
        features = summary.matrix(read, prompts)
    return _Asked(
        summary,
        np.concatenate([features, told.state], axis=1),
        questions.subject,
        np.exp(model.calibration.hazards(told.log_hazard)),
        labels.days_to,
        labels.observed,
        labels.had,
    )


def _readable(events: pl.DataFrame) -> pl.DataFrame:
    """Return the events without notes and reports, as the network reads them."""
    return events.filter(~pl.col("kind").is_in(["note", "report"]).fill_null(False))


def _chosen(grown: Trees, features: Matrix, target: Target, subject: NDArray[np.int64]) -> tuple[Trees | None, float]:
    """Return as many trees as serve the tuning split, or None; and the gain an onset on halves not chosen by.

    The gain has to exceed its own standard error over people _SURE times.
    """
    path = grown.start[0] + np.cumsum(grown.leaves(features), axis=1)
    # Column 0 is the network alone.
    path = np.concatenate([np.zeros((len(features), 1)), path], axis=1)
    losses = np.stack([target.losses(path[:, number]) for number in range(path.shape[1])], axis=1)
    people, owner = np.unique(subject, return_inverse=True)
    first = owner % 2 == 0
    chosen = np.where(first, losses[~first].sum(axis=0).argmin(), losses[first].sum(axis=0).argmin())
    gained = losses[:, 0] - losses[np.arange(len(losses)), chosen]
    by_person = np.bincount(owner, weights=gained, minlength=len(people))
    gain = float(by_person.sum())
    best = int(losses.sum(axis=0).argmin())
    if best == 0 or gain <= _SURE * float(np.sqrt(np.square(by_person).sum())):
        return None, 0.0
    return grown.first(best), gain / max(int(target.event.sum()), 1)


def _narrowed(summary: Summary, trees: dict[int, Trees], width: int) -> Stack:
    """Return the stack reading only those columns of the summary that some tree splits on."""
    counts = len(summary.kept)
    used = np.unique(np.concatenate([each.columns() for each in trees.values()]))
    kept = used[used < counts]
    if not len(kept):
        kept = np.array([0])
    place = np.zeros(width, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    place[counts:] = len(kept) + np.arange(width - counts)
    return Stack(summary.narrowed(kept), {outcome: each.moved(place) for outcome, each in trees.items()})


def _save(folder: Path, stack: Stack, gains: dict[str, float]) -> None:
    arrays = {f"{outcome}/{each.name}": getattr(trees, each.name) for outcome, trees in stack.trees.items() for each in
              fields(trees)}  # fmt: skip
    with durable.replacing(folder / STACK) as aside, aside.open("wb") as file:
        np.savez(file, **arrays)
    config = orjson.loads((folder / CONFIG).read_bytes())
    durable.write_json(folder / CONFIG, config | {"stack": {"summary": stack.summary.content(), "gains": gains}})


def load_stack(folder: Path, config: dict[str, Any]) -> Stack | None:
    """Read the stack of a model, if it has one; raises InputError if its file is not what was written."""
    if not config.get("stack"):
        return None
    try:
        with np.load(folder / STACK, allow_pickle=False) as arrays:
            outcomes = sorted({int(name.partition("/")[0]) for name in arrays.files})
            trees = {
                outcome: Trees(**{each.name: arrays[f"{outcome}/{each.name}"] for each in fields(Trees)})
                for outcome in outcomes
            }
        return Stack(Summary.of(config["stack"]["summary"]), trees)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(STACK, str(folder), f"trees written by `lifechart train --stack` ({error})") from error


def _statement(result: StackResult, folder: Path, model: Model, seed: int, actor: str) -> Statement:
    return Statement(
        kind="train",
        subjects=(Subject("model", result.digest),),
        predicate={
            "dataset": model.config["data_digest"],
            "actor": actor,
            "files": {name: durable.file_digest(folder / name) for name in files_of(folder)},
            "network": model.digest,
            "seed": seed,
            "stacked_outcomes": result.kept,
            "code_version": __version__,
        },
    )
