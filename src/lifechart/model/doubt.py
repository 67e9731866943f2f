"""How far a forecast may lie from the risk that the record allows, learnt from what half of the patients lose.

No label says what somebody's true risk was, so no count of labels shows how far forecasts of single people are off: a
model may be right on average in every group and wrong for everybody in it. But its loss says so. Were p* the best
reading of the record and p = p* exp(-e) what the model says, e normal with variance s2, the model loses s2 / 2 nats an
event more than p* does. That excess falls as a power of the number of patients, so what the history's stage loses when
it learns from half of them tells how much there is left to lose (exponent: docs/lab-notes/0101).

Shapes: Q questions, O outcomes, B intervals.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import torch
from numpy.typing import NDArray

from lifechart.model.batches import question_features
from lifechart.model.first_stage import fit_first_stage
from lifechart.model.heads import BaseRates, HazardHead, survival
from lifechart.model.questions import EDGES, Questions, history, label, sample_questions
from lifechart.model.tokens import Tokens
from lifechart.model.vocabulary import QUANTILES, Vocabulary

EXPONENT = 0.41
"""The excess loss falls as patients to this power, on the simulated hospital (0.29 to 0.53)."""
LEAST, MOST = 0.02, 2.0
"""Bounds of the excess loss, in nats an event: few tuning events can say nothing, or nonsense."""
_QUESTIONS, _MOST_SUBJECTS, _AT_ONCE = 8.0, 4000, 2048
_OF_SUBJECTS = ("subject_ids", "origin", "end", "window", "birth_known")
"""The arrays of Tokens that have one place a subject."""


def excess_loss(
    head: HazardHead,
    start: BaseRates,
    tokens: Tokens,
    tuning: Tokens,
    vocabulary: Vocabulary,
    seed: int,
    recurrence_weight: float,
    prior: tuple[float, float],
    report: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> float:
    """Return how many nats an event the history's stage `head` loses to the best reading of the record, by estimate.

    A head like it is fitted to half of the training patients, by lot, from `start`; both are judged on the tuning
    split's first onsets.
    """
    chosen = np.sort(np.random.default_rng([seed, 8]).permutation(tokens.num_subjects)[: tokens.num_subjects // 2])
    half = copy.deepcopy(head)
    _begin_anew(half, start, seed)
    fit_first_stage(half, of_subjects(tokens, chosen), vocabulary, seed, recurrence_weight, prior, report)
    few = _QUESTIONS * min(1.0, _MOST_SUBJECTS / max(tuning.num_subjects, 1))
    questions = sample_questions(tuning, few, np.random.default_rng([seed, 9]))
    lost, events = 0.0, 0
    for part in np.array_split(np.arange(len(questions)), max(1, len(questions) // _AT_ONCE)):
        ours, number = _loss(head, tuning, questions.take(part), vocabulary)
        theirs, _ = _loss(half, tuning, questions.take(part), vocabulary)
        lost += theirs - ours
        events += number
    return float(np.clip(lost / max(events, 1) / (2**EXPONENT - 1), LEAST, MOST))


def of_subjects(tokens: Tokens, chosen: NDArray[np.int64]) -> Tokens:
    """Return the tokens of some subjects (rising indices), without what hangs on their records."""
    mine = np.zeros(tokens.num_subjects, dtype=bool)
    mine[chosen] = True
    rows = np.flatnonzero(mine[tokens.owner])
    place = np.full(len(tokens) + 1, len(rows), dtype=np.int64)
    place[rows] = np.arange(len(rows))
    sizes = np.diff(tokens.starts)[chosen]
    parts: dict[str, NDArray[np.generic]] = {}
    for each in fields(Tokens):
        array = getattr(tokens, each.name)
        if each.name not in ("items", "starts"):
            parts[each.name] = array[chosen] if each.name in _OF_SUBJECTS else array[rows]
    parts["next_same"] = place[tokens.next_same[rows]]
    return replace(tokens, items=None, starts=np.concatenate([[0], np.cumsum(sizes)]), **parts)  # type: ignore[arg-type]


def _begin_anew(head: HazardHead, start: BaseRates, seed: int) -> None:
    """Give a head the weights of one that has learnt nothing."""
    torch.manual_seed(seed)
    width = head.from_hidden.get_submodule("0").weight.shape[1] - head.rank
    columns = head.history.num_embeddings
    fresh = HazardHead(width, head.by_age.in_features, columns, head.rank, start, 0.0)
    head.load_state_dict(fresh.state_dict())
    head.requires_grad_(True)


def _loss(head: HazardHead, tokens: Tokens, questions: Questions, vocabulary: Vocabulary) -> tuple[float, int]:
    """Return the survival loss of first onsets, summed over questions, and how many onsets the questions see come."""
    past = history(tokens, questions, vocabulary.valued, len(QUANTILES))
    labels = label(tokens, questions, len(vocabulary.outcomes))
    device = head.base_OB.device
    arrays = tuple(torch.from_numpy(each).to(device) for each in (past.column, past.weight, past.offsets))
    features_QF = torch.from_numpy(question_features(tokens, questions)).to(device)
    head.eval()
    with torch.inference_mode():
        log_hazard, _ = head(None, features_QF, arrays, torch.from_numpy(labels.had).to(device))
        loss = float(survival(log_hazard, labels, 0.0)) * len(questions)
    seen = (labels.days_to <= np.minimum(labels.observed, EDGES[-1])[:, None]) & ~labels.had
    return loss, int(seen.sum())
