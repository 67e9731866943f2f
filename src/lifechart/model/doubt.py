"""How far a forecast may lie from the risk that the record allows, learnt from what half of the patients would say.

No label says what somebody's true risk was, so no count of labels shows how far forecasts of single people are off: a
model may be right on average in every group and wrong for everybody in it. But its loss would say so. Were p* the best
reading of the record and p = p* exp(-e) what the model says, e normal with variance s2, the model would lose s2 / 2
nats an event more than p* does. That excess falls as a power of the number of patients (docs/lab-notes/0101), so what a
twin loses that learnt from half of them tells, outcome by outcome, how much there is left to lose. It needs no labels
either: what the twin loses is what its hazards cost if the whole model's are right. Errors that more patients would not
mend are no part of it; their share, and the tails, were measured on the simulated hospital (calibration.TAILS).

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
from lifechart.model.first_stage import Lesson, fit_members
from lifechart.model.heads import WIDTHS, BaseRates, HazardHead
from lifechart.model.questions import EDGES, Questions, history, label, sample_questions
from lifechart.model.tokens import Tokens
from lifechart.model.vocabulary import QUANTILES, Vocabulary

EXPONENT = 0.41
"""The excess loss falls as patients to this power, on the simulated hospital (0.29 to 0.53)."""
LEAST, MOST = 0.02, 2.0
"""Bounds of an outcome's excess loss, in nats an event."""
NUM_BINS = EDGES.index(365.0)
"""Intervals of each question's future that are compared, a year: further off, forecasts of everybody draw together."""
_QUESTIONS, _MOST_SUBJECTS, _AT_ONCE = 8.0, 4000, 2048
_FURTHEST = 5.0
_OF_SUBJECTS = ("subject_ids", "origin", "end", "window", "birth_known")
"""The arrays of Tokens that have one place a subject."""


def excess_loss(
    head: HazardHead,
    start: BaseRates,
    lesson: Lesson,
    tuning: Tokens,
    seed: int,
    report: Callable[[int, int, float], None] = lambda step, steps, loss: None,
) -> NDArray[np.float32]:
    """Return how many nats an event the history's stage `head` loses to the best reading of the record, [O].

    A twin is fitted to half of the training patients, by lot, from `start`; both are asked about the tuning split.
    """
    tokens, vocabulary = lesson.tokens, lesson.vocabulary
    chosen = np.sort(np.random.default_rng([seed, 8]).permutation(tokens.num_subjects)[: tokens.num_subjects // 2])
    twin = copy.deepcopy(head)
    _begin_anew(twin, start, seed)
    fit_members(twin, replace(lesson, tokens=of_subjects(tokens, chosen)), seed, report)
    few = _QUESTIONS * min(1.0, _MOST_SUBJECTS / max(tuning.num_subjects, 1))
    questions = sample_questions(tuning, few, np.random.default_rng([seed, 9]))
    lost, expected = np.zeros(head.outcomes), np.full(head.outcomes, 1e-12)
    for part in np.array_split(np.arange(len(questions)), max(1, len(questions) // _AT_ONCE)):
        labels = label(tuning, questions.take(part), head.outcomes)
        past = _read(tuning, questions.take(part), vocabulary, head.base_OB.device)
        ours, theirs = (_log_year(each, past, labels.had) for each in (head, twin))
        apart = np.clip(theirs - ours, -_FURTHEST, _FURTHEST)
        onsets = np.exp(ours) * ~labels.had
        lost += (onsets * (np.exp(apart) - 1 - apart)).sum(axis=0)
        expected += onsets.sum(axis=0)
    excess: NDArray[np.float32] = np.clip(lost / expected / (2**EXPONENT - 1), LEAST, MOST).astype(np.float32)
    return excess


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
        if each.name not in ("items", "truth", "starts"):
            parts[each.name] = array[chosen] if each.name in _OF_SUBJECTS else array[rows]
    parts["next_same"] = place[tokens.next_same[rows]]
    return replace(tokens, items=None, truth=None, starts=np.concatenate([[0], np.cumsum(sizes)]), **parts)  # type: ignore[arg-type]


def _begin_anew(head: HazardHead, start: BaseRates, seed: int) -> None:
    """Give a head the weights of one that has learnt nothing."""
    torch.manual_seed(seed)
    joined = head.from_hidden[0]
    assert isinstance(joined, torch.nn.Linear)
    columns = head.history.num_embeddings
    fresh = HazardHead(joined.in_features - head.rank, head.by_age.in_features, columns, head.rank, start, 0.0)
    head.load_state_dict(fresh.state_dict())
    head.requires_grad_(True)


def _read(
    tokens: Tokens, questions: Questions, vocabulary: Vocabulary, device: torch.device
) -> tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return the history of questions and their features, as tensors."""
    past = history(tokens, questions, vocabulary.valued, len(QUANTILES))
    columns, weights, offsets = (torch.from_numpy(each).to(device) for each in (past.column, past.weight, past.offsets))
    return (columns, weights, offsets), torch.from_numpy(question_features(tokens, questions)).to(device)


def _log_year(
    head: HazardHead,
    read: tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
    had: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return the logarithm of each outcome's hazard over the first year [Q, O]."""
    head.eval()
    with torch.inference_mode():
        log_hazard_QOB, _ = head(None, read[1], read[0], torch.from_numpy(had).to(head.base_OB.device))
    hazard = np.exp(log_hazard_QOB[:, :, :NUM_BINS].double().cpu().numpy()) * np.array(WIDTHS[:NUM_BINS])
    year: NDArray[np.float64] = np.log(np.maximum(hazard.sum(axis=2), 1e-12))
    return year
