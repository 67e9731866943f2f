"""How much each source of a data set contributed to what a model is worth, by outcome and by capability.

A source's contribution is what is lost where everything is learnt without it (leave one source out), asked of the same
held-out patients about the same outcomes. Several seeds are learnt with and without it alike; the interval holds both
the patients' bootstrap and the spread between seeds, which patients alone do not show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lifechart.core.errors import InputError
from lifechart.evaluate.headline import MIN_EVENTS
from lifechart.evaluate.metrics import Floats, ranking
from lifechart.evaluate.question import Question, Scorer, score

Z_95 = 1.959964


@dataclass(frozen=True, slots=True)
class Contribution:
    """AUROC that one source adds, the mean over some outcomes (new onset at the main horizon)."""

    source: str
    gain: float
    low: float
    high: float
    silent: float
    """What the model as it is loses where the source falls silent: no contribution, since it was not taught to do
    without."""
    outcomes: int

    @property
    def said(self) -> str:
        """One short text, such as `laboratory +0.031 (+0.020 to +0.042)`."""
        return f"{self.source} {self.gain:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


@dataclass(frozen=True, eq=False)
class Areas:
    """AUROCs [O, 1 + B] of each outcome that enters, whole and in every resample; NaN where one class was drawn."""

    outcomes: tuple[str, ...]
    values: Floats


def areas(question: Question, scorer: Scorer, min_events: int = MIN_EVENTS) -> Areas:
    """Score one forecaster on new onset at the main horizon."""
    horizon = question.task.main_horizon_days
    scores = score(scorer, question)
    names, values = [], []
    for outcome in question.outcomes:
        rows = question.rows(outcome, horizon, "new")
        sample = question.sample(outcome, horizon, rows, scores[outcome, horizon])
        if sample.num_events >= min_events and not sample.labels.all():
            names.append(outcome)
            values.append(ranking(sample, question.weights)[0])
    return Areas(tuple(names), np.stack(values) if values else np.zeros((0, len(question.weights))))


def contributions(
    question: Question,
    sources: Sequence[str],
    learnt: Callable[[str | None, int], Scorer],
    silenced: Callable[[str | None], Scorer],
    seeds: Sequence[int],
    chosen: Mapping[str, Sequence[str]],
    min_events: int = MIN_EVENTS,
    advance: Callable[[float, str], None] = lambda share, doing: None,
) -> dict[str, list[Contribution]]:
    """Return the contributions of the sources, the largest first, by name in `chosen`, their outcomes; none: all.

    `learnt(source, seed)`: what was learnt without a source, None for with everything. `silenced(source)`: the model
    itself, that source kept from it. Raises InputError where no outcome occurs `min_events` times.
    """
    runs: dict[str | None, list[Areas]] = {}
    arms = [None, *sources]
    done, total = 0, len(arms) * (len(seeds) + 1)
    for source in arms:
        for seed in seeds:
            advance(done / total, "everything" if source is None else f"without {source}")
            runs.setdefault(source, []).append(areas(question, learnt(source, seed), min_events))
            if not runs[None][0].outcomes:
                raise InputError("held_out", "too few events", f"some outcome with {min_events} occurrences or more")
            done += 1
    quiet = {}
    for source in arms:
        advance(done / total, "silent")
        quiet[source] = areas(question, silenced(source), min_events)
        done += 1
    enter = runs[None][0].outcomes
    found: dict[str, list[Contribution]] = {}
    for name, wanted in chosen.items():
        rows = np.array([n for n, each in enumerate(enter) if not wanted or each in wanted], dtype=np.int64)
        if len(rows):
            made = [_one(source, runs, quiet, rows) for source in sources]
            found[name] = sorted(made, key=lambda each: -each.gain)
    return found


def _one(
    source: str, runs: Mapping[str | None, list[Areas]], quiet: Mapping[str | None, Areas], rows: NDArray[np.int64]
) -> Contribution:
    gains = np.stack(
        [np.nanmean(whole.values[rows] - less.values[rows], axis=0)
         for whole, less in zip(runs[None], runs[source], strict=True)]
    )  # fmt: skip
    by_patients = float(np.nanvar(gains[:, 1:].mean(axis=0), ddof=1))
    by_seeds = float(gains[:, 0].var(ddof=1) / len(gains)) if len(gains) > 1 else 0.0
    gain, reach = float(gains[:, 0].mean()), Z_95 * float(np.sqrt(by_patients + by_seeds))
    lost = quiet[None].values[rows, 0] - quiet[source].values[rows, 0]
    return Contribution(source, gain, gain - reach, gain + reach, float(np.nanmean(lost)), len(rows))


def table(found: Mapping[str, Sequence[Contribution]]) -> list[tuple[str, ...]]:
    """Return a header and rows for a terminal."""
    rows = [
        (
            name, each.source, f"{each.gain:+.4f} ({each.low:+.4f} to {each.high:+.4f})", f"{-each.silent:+.4f}",
            str(each.outcomes),
        )
        for name, mine in found.items()
        for each in mine
    ]  # fmt: skip
    return [("capability", "source", "AUROC that it added", "model as it is, without", "outcomes"), *rows]
