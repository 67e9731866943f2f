"""Fitting the head of every code, and asking it: labels of all codes at once, moments of the training split."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lifechart.model.batches import question_features
from lifechart.model.every_code import EveryCodeHead
from lifechart.model.first_stage import log_prior
from lifechart.model.heads import log_base_rates, survival_loss
from lifechart.model.questions import EDGES, Questions, history, ragged, sample_questions
from lifechart.model.tokens import DAY_US, Tokens
from lifechart.model.vocabulary import QUANTILES, Vocabulary

# Shapes: Q questions, V codes, F features of a question, B intervals.

_MOMENTS, _STEPS, _RATE = 256, 250, 4e-3
_RATE_QUESTIONS = 4000
_PRIOR = (0.01, 0.25)


def first_events(
    tokens: Tokens, questions: Questions, vocabulary: Vocabulary
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return days from each question to the next event of each code or group [Q, V] (inf: none), and which had come.

    A row of the vocabulary counts for itself and for its ancestors.
    """
    num_codes = len(vocabulary)
    days = np.full(len(questions) * num_codes, np.inf, dtype=np.float32)
    had = np.zeros(len(questions) * num_codes, dtype=bool)
    reach = questions.micros + int(EDGES[-1]) * DAY_US
    which, row = ragged(questions.stop, tokens.starts[questions.subject + 1])
    soon = tokens.micros[row] <= reach[which]
    which, row = which[soon], row[soon]
    before, past = ragged(tokens.starts[questions.subject], questions.stop)
    for wider in range(-1, vocabulary.parents.shape[1]):
        code = tokens.code if wider < 0 else vocabulary.parents[tokens.code, wider]
        ahead = np.flatnonzero(code[row] >= 0)[::-1]
        # Backwards, so that of several events of one code the first is written last; then the earlier of the two.
        cell = which[ahead] * num_codes + code[row[ahead]]
        found = np.full_like(days, np.inf)
        found[cell] = (tokens.micros[row[ahead]] - questions.micros[which[ahead]]) / DAY_US
        np.minimum(days, found, out=days)
        known = code[past] >= 0
        had[before[known] * num_codes + code[past[known]]] = True
    shape = (len(questions), num_codes)
    return days.reshape(shape), had.reshape(shape)


def fit_every_code(
    head: EveryCodeHead,
    tokens: Tokens,
    vocabulary: Vocabulary,
    seed: int,
    report: Callable[[int, int, float], None] = lambda step, steps, loss: None,
    steps: int = _STEPS,
) -> float:
    """Fit `head` in place on moments of the training split; return the mean loss of the last tenth of the steps."""
    rng = np.random.default_rng([seed, 7])
    device = head.base_VB.device
    head.requires_grad_(True).train()
    torch.manual_seed(seed)
    questions = sample_questions(tokens, max(1.0, steps * _MOMENTS / max(tokens.num_subjects, 1)), rng)
    _start(head, tokens, vocabulary, questions.take(rng.permutation(len(questions))[:_RATE_QUESTIONS]))
    optimizer = torch.optim.Adam(head.parameters(), lr=_RATE)
    windows = float((tokens.end / DAY_US / EDGES[-1]).sum())
    losses: list[float] = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (1.0 - 0.97 * step / steps)
        put = questions.take(rng.integers(0, len(questions), min(_MOMENTS, len(questions))))
        days, _ = first_events(tokens, put, vocabulary)
        log_hazard = _hazards(head, tokens, put, vocabulary)
        observed = np.maximum((tokens.end[put.subject] - put.micros) / DAY_US, 0).astype(np.float32)
        until, to = torch.from_numpy(observed).to(device), torch.from_numpy(days).to(device)
        loss = survival_loss(log_hazard, to, until, torch.ones_like(to))
        penalty = (
            log_prior(head.own, *_PRIOR) + log_prior(head.below, *_PRIOR) + log_prior(head.history.weight, *_PRIOR)
        )
        optimizer.zero_grad(set_to_none=True)
        (loss + penalty / windows).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        report(step + 1, steps, losses[-1])
    head.requires_grad_(False).eval()
    return float(np.mean(losses[-max(steps // 10, 1) :]))


def _start(head: EveryCodeHead, tokens: Tokens, vocabulary: Vocabulary, questions: Questions) -> None:
    days, had = first_events(tokens, questions, vocabulary)
    observed = np.maximum((tokens.end[questions.subject] - questions.micros) / DAY_US, 0).astype(np.float32)
    head.base_VB.copy_(torch.from_numpy(log_base_rates(days, observed, ~had)))
    head.again_VB.copy_(torch.from_numpy(log_base_rates(days, observed, had)))


def _hazards(head: EveryCodeHead, tokens: Tokens, questions: Questions, vocabulary: Vocabulary) -> Tensor:
    past = history(tokens, questions, vocabulary.valued, len(QUANTILES))
    device = head.base_VB.device
    arrays = tuple(torch.from_numpy(each).to(device) for each in (past.column, past.weight, past.offsets))
    features = torch.from_numpy(question_features(tokens, questions)).to(device)
    found: Tensor = head(arrays, features)
    return found


@torch.inference_mode()
def tell_codes(
    head: EveryCodeHead, tokens: Tokens, questions: Questions, vocabulary: Vocabulary, rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return log hazards of the codes or groups in `rows` of the vocabulary, [Q, len(rows), B]."""
    parts = [
        _hazards(head, tokens, questions.take(chosen), vocabulary)[:, rows].cpu().numpy()
        for chosen in np.array_split(np.arange(len(questions)), max(1, len(questions) // _MOMENTS))
    ]
    return np.concatenate(parts)
