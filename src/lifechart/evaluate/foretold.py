"""A task's outcome foretold by generated futures: what to generate for it, how to read the answer, and the predictions.

Predictions follow the MEDS schema for them: subject_id, prediction_time, boolean_value (the label, null where it is not
known), predicted_boolean_probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.core.predicate import Target
from lifechart.evaluate.aces import AcesTask
from lifechart.evaluate.realise import realise

ESTIMATORS = ("scope", "reach", "count")


@dataclass(frozen=True)
class Plan:
    """How far to generate, and whether the label can be told event by event (else whole futures are labelled)."""

    days: float
    gap: float
    targets: tuple[Target, ...]

    @property
    def by_target(self) -> bool:
        """Whether the generator itself can estimate the label."""
        return bool(self.targets)


def plan(task: AcesTask, estimator: str, days: float | None) -> Plan:
    """Return what to generate for a task; raises InputError where the estimator or the length does not suit it."""
    if estimator not in ESTIMATORS:
        raise InputError("--estimator", estimator, f"one of {', '.join(ESTIMATORS)}")
    ahead, target = task.horizon(), task.target()
    if days is None and ahead is None:
        raise InputError("--days", None, f"a number: the windows of {task.name} end at events, not after a time")
    if days is not None and ahead is not None and days < ahead[1]:
        raise InputError("--days", days, f"at least {ahead[1]:g}, where the label's window of {task.name} ends")
    if estimator == "count" or target is None or ahead is None:
        if estimator != "count":
            raise InputError("--estimator", estimator, f"count: the label of {task.name} cannot be told event by event")
        return Plan(float(days if days is not None else ahead[1] if ahead else 0.0), 0.0, ())
    return Plan(ahead[1], ahead[0], (target,))


def prompts(realised: pl.DataFrame, limit: int | None) -> pl.DataFrame:
    """Return the moments to foretell from, one a moment; raises InputError where there is none."""
    found = realised.sort("subject_id", "prediction_time", "trigger_time")
    found = found.unique(["subject_id", "prediction_time"], keep="first", maintain_order=True)
    found = found if limit is None else found.head(limit)
    if found.is_empty():
        raise InputError("task", "no patient satisfies it", "at least one moment to foretell from")
    return found


def counted(lives: pl.DataFrame, asked: pl.DataFrame, task: AcesTask, futures: int) -> NDArray[np.float64]:
    """Return the share of each prompt's futures whose label is true, among those that have one [P]; NaN without any.

    `lives`: each future behind its record, under `subject_id` prompt x futures + future. The definition that labelled
    the record labels them.
    """
    number = np.arange(asked.height * futures)
    triggers = pl.DataFrame({"subject_id": number, "trigger_time": asked["trigger_time"].gather(number // futures)})
    found = realise(lives, task, triggers).filter(pl.col("boolean_value").is_not_null())
    prompt = found["subject_id"].to_numpy() // futures
    came = np.bincount(prompt, weights=found["boolean_value"].to_numpy().astype(float), minlength=asked.height)
    known = np.bincount(prompt, minlength=asked.height)
    share: NDArray[np.float64] = np.divide(came, known, out=np.full(asked.height, np.nan), where=known > 0)
    return share


def write(
    out: Path, asked: pl.DataFrame, chance: NDArray[np.float64], rows: pl.DataFrame | None
) -> list[tuple[str, ...]]:
    """Write predictions.parquet (and futures.parquet), and return a table of what was foretold and what came true."""
    out.mkdir(parents=True, exist_ok=True)
    table = asked.select("subject_id", "prediction_time", "boolean_value").with_columns(
        predicted_boolean_probability=pl.Series(chance)
    )
    with durable.replacing(out / "predictions.parquet") as aside:
        table.write_parquet(aside)
    if rows is not None:
        with durable.replacing(out / "futures.parquet") as aside:
            rows.write_parquet(aside)
    return _summary(table)


def _summary(table: pl.DataFrame) -> list[tuple[str, ...]]:
    known = table.filter(pl.col("boolean_value").is_not_null() & pl.col("predicted_boolean_probability").is_not_nan())
    label, told = known["boolean_value"].to_numpy(), known["predicted_boolean_probability"].to_numpy()
    rows: list[tuple[str, ...]] = [
        ("what", "value"),
        ("moments asked about", f"{table.height:,}"),
        ("of which the label is known", f"{known.height:,}"),
    ]
    if known.height:
        rows += [("foretold, mean", f"{told.mean():.4f}"), ("came true", f"{label.mean():.4f}")]
    if 0 < label.sum() < len(label):
        rows.append(("AUROC", f"{roc_auc_score(label, told):.3f}"))
    return rows
