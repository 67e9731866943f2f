"""What simulated futures must cost to know as much as one forecast: the same small model asked both ways.

A model of size xs learns from most of the bench's patients; for the others it says the one-year risk of every outcome
once by its time-to-first-event head and once by counting futures of a year. Both are scored by the mean AUROC of new
onsets, over outcomes with at least 10 of them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from lifechart.core.timeline import DEATH
from lifechart.model import threads
from lifechart.model.fit import Fitter, Recipe
from lifechart.model.generate import Ask, generate
from lifechart.model.heads import cumulative_incidence
from lifechart.model.inference import tell
from lifechart.model.questions import HORIZONS, label, sample_questions
from lifechart.model.sizes import SIZES
from lifechart.model.tokens import tokenise
from lifechart.model.vocabulary import build_vocabulary

FUTURES = (5, 10, 20)
_FEWEST = 10


@dataclass(frozen=True)
class Asked:
    """One way to ask: the mean AUROC of its risks, and seconds a patient."""

    auroc: float
    seconds: float


def equal_skill(events: pl.DataFrame, most: int) -> dict[str, Asked]:
    """Return, by way of asking (`forecast`, or a number of futures), its skill and price; print a table.

    `most`: prompts to ask about. Patients are split by their number: seven in ten learn, one tunes, two are asked.
    """
    tenth = pl.col("subject_id").rank("dense") % 10
    vocabulary = build_vocabulary(learning := events.filter(tenth < 7))
    split = [
        tokenise(part, vocabulary) for part in (learning, *(events.filter(part) for part in (tenth == 7, tenth > 7)))
    ]
    fitter = Fitter(vocabulary, SIZES["xs"], split[0], split[1], 0, Recipe(), torch.device("cpu"))
    network, tokens = fitter.run().network, split[2]
    questions = sample_questions(tokens, 16, np.random.default_rng(1))
    seen = label(tokens, questions, len(vocabulary.outcomes))
    whole = np.flatnonzero(seen.window >= 365.0)
    questions = questions.take(whole[:: -(-len(whole) // most)])
    labels = label(tokens, questions, len(vocabulary.outcomes))
    came = (labels.days_to <= 365.0) & ~labels.had
    with threads.suited_to(SIZES["xs"].width):
        told = tell(network, fitter.collator, tokens, questions)
        # One prompt a patient: several of one patient would share a pass.
        alone = questions.take(np.unique(questions.subject, return_index=True)[1])
        began = time.perf_counter()
        tell(network, fitter.collator, tokens, alone)
        forecast = (time.perf_counter() - began) / len(alone)
        began = time.perf_counter()
        made = generate(network, fitter.collator, tokens, questions, Ask(futures=max(FUTURES), days=365.0))
        futures = (time.perf_counter() - began) / len(questions)
    death = vocabulary.outcomes.index(DEATH) if DEATH in vocabulary.outcomes else None
    risk = cumulative_incidence(told.log_hazard, death)[:, :, HORIZONS.index(365)]
    happened = np.zeros((len(questions), max(FUTURES), len(vocabulary)), dtype=bool)
    happened[made.prompt, made.future, made.code] = True
    happened = happened[:, :, network.next_event.outcome_rows_O.numpy()]
    ways = {"forecast": Asked(_auroc(risk, came, labels.had), forecast)}
    for number in FUTURES:
        counted = happened[:, :number].mean(axis=1)
        ways[f"{number} futures"] = Asked(_auroc(counted, came, labels.had), futures * number / max(FUTURES))
    _show(ways, len(questions))
    return ways


def _auroc(risk: NDArray[np.floating], came: NDArray[np.bool_], had: NDArray[np.bool_]) -> float:
    """Return the mean over outcomes [Q, O], among those who had not had each."""
    scores = [
        roc_auc_score(came[new, outcome], risk[new, outcome])
        for outcome in range(came.shape[1])
        if came[:, outcome].sum() >= _FEWEST and not came[new := ~had[:, outcome], outcome].all()
    ]
    return float(np.mean(scores)) if scores else float("nan")


def _show(ways: dict[str, Asked], prompts: int) -> None:
    table = Table(f"one-year risks of all outcomes, {prompts} prompts, size xs", "mean AUROC", "price, forecasts")
    for name, each in ways.items():
        table.add_row(name, f"{each.auroc:.3f}", f"{each.seconds / ways['forecast'].seconds:,.1f}")
    Console().print(table)
