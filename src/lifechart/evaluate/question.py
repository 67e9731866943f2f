"""What is asked of forecasters, and what came true: the held-out patients' side of an evaluation.

Legend of shapes: P prompts, O outcomes, H horizons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.core.errors import InputError
from lifechart.core.suppression import SMALLEST
from lifechart.data.history import History
from lifechart.evaluate.metrics import Floats, Sample, bootstrap_weights
from lifechart.evaluate.tasks import Labels, Task, draw_prompts, label

MIN_PEOPLE = SMALLEST
"""Metrics are withheld where fewer people than this had the event, or fewer did not."""
_LOOK_AHEAD_SUBJECTS = 24


class Scorer(Protocol):
    """What examination asks of whoever is examined: a Forecaster, trees, an oracle."""

    @property
    def name(self) -> str:
        """A short name for tables."""

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Codes forecast."""

    @property
    def horizons(self) -> tuple[int, ...]:
        """Horizons in days."""

    def risks(self, events: pl.DataFrame, prompts: pl.DataFrame) -> NDArray[np.float32]:
        """Return probabilities [P, O, H]."""


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """The held-out patients, what is asked of them, and what came true."""

    task: Task
    events: pl.DataFrame
    history: History
    prompts: pl.DataFrame
    outcomes: tuple[str, ...]
    horizons: tuple[int, ...]
    labels: Labels
    owner: NDArray[np.int64]
    """[P] position of each prompt's subject among the weights' columns."""
    weights: Floats

    def rows(self, outcome: str, horizon: int, onset: str) -> NDArray[np.bool_]:
        """Return which prompts are scored [P]: what followed is known, and the outcome would be `onset` to them."""
        number, step = self.outcomes.index(outcome), self.horizons.index(horizon)
        recurrent = self.labels.recorded[:, number]
        return self.labels.known[:, number, step] & (recurrent if onset == "recurrent" else ~recurrent)

    def sample(self, outcome: str, horizon: int, rows: NDArray[np.bool_], scores: NDArray[np.float32]) -> Sample:
        """Return labels, scores and patients of `rows`; scores: [P]."""
        number, step = self.outcomes.index(outcome), self.horizons.index(horizon)
        return Sample(
            self.labels.occurred[rows, number, step],
            scores[rows].astype(np.float64),
            self.owner[rows],
            self.labels.occurrence[rows, number],
        )

    def reportable(self) -> list[tuple[str, int, str]]:
        """Return every (outcome, horizon, onset) with enough people on both sides to report on."""
        found = []
        nothing = np.zeros(len(self.owner), np.float32)
        for outcome in self.outcomes:
            for horizon in self.horizons:
                for onset in ("new", "recurrent"):
                    sample = self.sample(outcome, horizon, self.rows(outcome, horizon, onset), nothing)
                    if min(sample.people_with_event, sample.people_without_event) >= MIN_PEOPLE:
                        found.append((outcome, horizon, onset))
        return found


def ask(
    events: pl.DataFrame, forecaster: Scorer, task: Task, max_prompts: int | None, bootstrap: int, seed: int
) -> Question:
    """Draw the prompts from held-out `events` and label them; raises InputError where nothing can be asked."""
    asked_about = set(forecaster.outcomes if task.outcomes == "all" else task.outcomes)
    outcomes = tuple(outcome for outcome in forecaster.outcomes if outcome in asked_about)
    horizons = tuple(horizon for horizon in forecaster.horizons if horizon in task.horizons_days)
    if not outcomes or task.main_horizon_days not in horizons:
        offered = (f"{len(forecaster.outcomes)} outcomes", forecaster.horizons)
        raise InputError(f"forecaster {forecaster.name}", offered, f"what task {task.name} asks about")
    prompts = draw_prompts(events, task, seed, max_prompts)
    if prompts.is_empty():
        raise InputError("held_out", f"{events['subject_id'].n_unique()} subjects", "some that the task can ask about")
    history = History(events)
    owner = history.owner(prompts["subject_id"].to_numpy())
    weights = bootstrap_weights(len(history.subjects), bootstrap, seed)
    labels = label(history, prompts, outcomes, horizons)
    return Question(task, events, history, prompts, outcomes, horizons, labels, owner, weights)


def check_no_look_ahead(forecaster: Scorer, events: pl.DataFrame, prompts: pl.DataFrame) -> None:
    """Raise InputError if forecasts change when everything after the prompt is taken out of the record."""
    some = prompts.group_by("subject_id", maintain_order=True).agg(pl.col("prediction_time").first())
    some = some.gather_every(max(1, some.height // _LOOK_AHEAD_SUBJECTS))
    mine = events.join(some, on="subject_id")
    known = pl.col("time").is_null() | (pl.col("time") <= pl.col("prediction_time"))
    full = forecaster.risks(mine.drop("prediction_time"), some)
    past = forecaster.risks(mine.filter(known).drop("prediction_time"), some)
    difference = float(np.abs(full - past).max())
    # Batches of another shape may round differently; a look ahead moves risks by far more.
    if not np.allclose(full, past, rtol=0.02, atol=1e-3):
        raise InputError(f"forecaster {forecaster.name}", difference, "the same risks when the future is taken away")


def score(scorer: Scorer, question: Question) -> dict[tuple[str, int], NDArray[np.float32]]:
    """Return {(outcome, horizon): probabilities [P]} of what was asked; raises InputError if they are not such."""
    table = np.asarray(scorer.risks(question.events, question.prompts))
    shape = (question.prompts.height, len(scorer.outcomes), len(scorer.horizons))
    if table.shape != shape:
        raise InputError(f"forecaster {scorer.name}: risks", table.shape, f"the shape {shape}")
    if not ((table >= 0) & (table <= 1)).all():
        raise InputError(f"forecaster {scorer.name}: risks", "others", "probabilities from 0 to 1")
    return {
        (outcome, horizon): table[:, number, step]
        for number, outcome in enumerate(scorer.outcomes)
        for step, horizon in enumerate(scorer.horizons)
        if outcome in question.outcomes and horizon in question.horizons
    }
