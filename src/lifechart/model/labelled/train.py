"""`lifechart train DATASET --labels LABELS`: any MEDS data set and labels in, a model folder and a statement out."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import sklearn
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from lifechart import __version__
from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.data import shards
from lifechart.data.labels import DAYS, read_labels
from lifechart.data.meds_folder import held_out, read_events
from lifechart.data.summaries import Summary
from lifechart.ledger.log import Log
from lifechart.ledger.statement import Statement, Subject
from lifechart.model.labelled import folder
from lifechart.model.labelled.fit import Fitted, Unseen, fit
from lifechart.model.labelled.forecaster import reliability_of


@dataclass(frozen=True)
class LabelledTraining:
    """What a training on labels made and how it went."""

    model: Path
    digest: str
    labels: int
    events: int
    subjects: int
    left_out: int
    """Labels of subjects that the data set itself keeps for testing."""
    features: int
    weights: dict[str, float]
    """How much each member counts."""
    unseen: NDArray[np.float64]
    """[labels] probabilities by those who had not seen the subject, in the order of `truths`."""
    truths: NDArray[np.bool_]
    owners: NDArray[np.int64]
    seconds: float

    def summary(self) -> str:
        """Say in a few lines what was made."""
        counts = ", ".join(f"{name} {weight:.2f}" for name, weight in self.weights.items())
        kept = f"; {self.left_out:,} of held-out subjects left out" if self.left_out else ""
        return (
            f"model     {self.model} ({self.digest[:12]})\n"
            f"learnt    {self.labels:,} labels of {self.subjects:,} subjects, {self.events:,} of them true{kept}\n"
            f"read      {self.features:,} features; {self.seconds:,.0f} s\n"
            f"blend     {counts}"
        )


def train_on_labels(
    dataset: Path,
    labels: Path,
    out: Path,
    *,
    seed: int,
    log: Log,
    horizon: float | None = None,
    everybody: bool = False,
    progress: bool | None = None,
    actor: str = "",
) -> LabelledTraining:
    """Train a forecaster of the labels and write it to `out`.

    `dataset`: any MEDS data set. `labels`: see data.labels. Subjects that the data set's own splits hold out are not
    learnt from, unless `everybody`. `horizon`: for labels with `days`, the days within which the probability is asked;
    by default the middle of those at which the event came. Raises InputError for what cannot be learnt from.
    """
    began = time.perf_counter()
    told = read_labels(labels)
    if horizon is not None and (DAYS not in told.columns or not horizon > 0):
        raise InputError("--horizon", horizon, "a number of days above 0, and labels with a column `days`")
    kept = told if everybody else told.join(held_out(dataset).to_frame("subject_id"), on="subject_id", how="anti")
    if not kept.height:
        raise InputError("LABELS", str(labels), "labels of subjects outside the data set's held-out split")
    events = read_events(dataset, kept["subject_id"])
    if not events.height:
        raise InputError("LABELS: subject_id", "subjects without any event", f"subjects of {dataset}")
    if DAYS in kept.columns and horizon is None:
        came = kept.filter("boolean_value")[DAYS]
        horizon = float(came.median() or 0) or 365.0  # type: ignore[arg-type]
    name = labels.stem if labels.is_file() else labels.name
    with _bar(progress) as (bar, task):
        made = fit_labels(
            events, kept, seed, lambda share, doing: bar.update(task, completed=share, description=doing), horizon
        )
    summary, features, fitted, unseen = made
    truths, observed, probability = _judged(kept, fitted, unseen, horizon)
    about = {
        "seed": seed,
        "data_digest": data_digest(dataset),
        "labels_digest": _files_digest(labels),
        "labels": kept.height,
        "code_version": __version__,
        "scikit_learn_version": sklearn.__version__,
        "torch_version": torch.__version__,
    }
    sure = reliability_of(features, probability, truths, observed)
    digest = folder.save(out, name, horizon, summary, fitted, sure, about)
    weights = dict(zip(fitted.members, fitted.blend.weight.tolist(), strict=True))
    subjects = kept["subject_id"].to_numpy()
    told_of = observed > 0
    result = LabelledTraining(
        out, digest, kept.height, int(kept["boolean_value"].sum()), len(np.unique(subjects)),
        told.height - kept.height, features.shape[1], weights, probability[told_of], truths[told_of],
        subjects[told_of], time.perf_counter() - began,
    )  # fmt: skip
    log.append(_statement(result, about, name, horizon, actor))
    return result


def fit_labels(
    events: pl.DataFrame,
    labels: pl.DataFrame,
    seed: int,
    advance: Any = lambda share, doing: None,
    horizon: float | None = None,
) -> tuple[Summary, NDArray[np.float32], Fitted, Unseen]:
    """Fit to labels (`subject_id`, `prediction_time`, `boolean_value`, perhaps `days`) without touching a disk."""
    summary, features = Summary.choose(events, labels, lambda share: advance(0.3 * share, "features"))
    days = labels[DAYS].to_numpy() if DAYS in labels.columns else None
    fitted, unseen = fit(
        features,
        labels["subject_id"].to_numpy(),
        labels["boolean_value"].to_numpy(),
        days,
        seed,
        lambda share, doing: advance(0.3 + 0.7 * share, doing),
        horizon,
    )
    return summary, features, fitted, unseen


def _judged(
    labels: pl.DataFrame, fitted: Fitted, unseen: Unseen, horizon: float | None
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Return what came true, 1 where that is known (else 0), and the probability, all [P]."""
    truths = labels["boolean_value"].to_numpy()
    probability = fitted.probabilities(unseen.scores, horizon)
    if DAYS not in labels.columns:
        return truths, np.ones(len(truths)), probability
    days = labels[DAYS].to_numpy()
    return truths & (days <= horizon), ((days >= horizon) | truths).astype(float), probability


def data_digest(dataset: Path) -> str:
    """Return the digest that names a data set: its manifest's, or, where it has none, of all its Parquet files."""
    if dataset.is_dir() and (dataset / shards.MANIFEST).exists():
        return shards.dataset_digest(dataset)
    return _files_digest(dataset / "data" if dataset.is_dir() else dataset)


def _files_digest(path: Path) -> str:
    return durable.digest_of(durable.tree_digests(path)) if path.is_dir() else durable.file_digest(path)


def _statement(
    result: LabelledTraining, about: dict[str, Any], name: str, horizon: float | None, actor: str
) -> Statement:
    predicate = {
        "dataset": about["data_digest"],
        "labels": about["labels_digest"],
        "label": name,
        "horizon_days": horizon,
        "actor": actor,
        "files": {file: durable.file_digest(result.model / file) for file in folder.FILES},
        "seed": about["seed"],
        "num_labels": result.labels,
        "num_true": result.events,
        "members": result.weights,
        "code_version": about["code_version"],
    }
    return Statement(kind="train", subjects=(Subject("model", result.digest),), predicate=predicate)


@contextmanager
def _bar(progress: bool | None) -> Iterator[tuple[Progress, Any]]:
    shown = sys.stderr.isatty() if progress is None else progress
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not shown, transient=True) as bar:
        yield bar, bar.add_task("features", total=1.0)
