"""The first stage of a fit: the hazard head on the history alone, before the backbone learns what that leaves over.

Its moments are shuffled across patients, so that each step sees hundreds of them; a packed batch of whole records
sees dozens. It takes a tenth of the time of a pass over the records and gives most of the skill.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lifechart.model import threads
from lifechart.model.batches import question_features
from lifechart.model.heads import HazardHead, survival
from lifechart.model.questions import EDGES, Labels, Questions, history, label, sample_questions
from lifechart.model.tokens import DAY_US, Tokens
from lifechart.model.vocabulary import QUANTILES, Vocabulary

NUM_MOMENTS = 512
"""Questions a step."""
LEAST_STEPS, LEAST_EPOCHS = 400, 3
PER_LIFE = 24
"""Questions to each life in each epoch."""
NUM_MEMBERS = 2
"""Heads fitted one after the other, whose mean is the one that stands."""
_TUNED_AT = 68_500.0
"""Windows of the widest horizon (of 8,000 lives) at which the prior has the strength that it is given. It grows with
their square root: a quarter of the lives wants half of it, five times as many twice as much (docs/lab-notes/0107)."""
_HAND_BACK_EVERY = 32
"""Steps."""
_RATE, _WARMUP, _AVERAGING, _WEIGHT_DECAY = 2e-3, 0.05, 0.99, 0.1


@dataclass(frozen=True)
class Lesson:
    """What a head learns from, and how much of it."""

    tokens: Tokens
    vocabulary: Vocabulary
    recurrence_weight: float
    prior: tuple[float, float]
    """Scale and strength of the heavy-tailed prior (see `log_prior`), the strength at _TUNED_AT."""


@dataclass(frozen=True)
class Asked:
    """Questions as tensors: the history (columns, weights, offsets), their features [Q, F], and what came of them."""

    history: tuple[Tensor, Tensor, Tensor]
    features_QF: Tensor
    labels: Labels


def fit_members(head: HazardHead, lesson: Lesson, seed: int, report: Callable[[int, int, float], None]) -> float:
    """Fit `head` in place as the mean of NUM_MEMBERS; return the mean loss. Arguments as `fit_first_stage`.

    Each member draws its own moments and begins elsewhere. A heavy-tailed prior has many nearly equal optima, which
    choose differently among codes that go together; the mean of two is nearer to the truth than either
    (docs/lab-notes/0107).
    """
    members, losses = [], []
    for number in range(NUM_MEMBERS):

        def hear(step: int, steps: int, loss: float, before: int = number) -> None:
            report(before * steps + step, NUM_MEMBERS * steps, loss)

        own = seed * NUM_MEMBERS + number
        torch.manual_seed(own)
        members.append(head.member(head.rank // NUM_MEMBERS))
        losses.append(fit_first_stage(members[-1], lesson, own, hear))
    head.take_mean(members)
    return float(np.mean(losses))


def fit_first_stage(head: HazardHead, lesson: Lesson, seed: int, report: Callable[[int, int, float], None]) -> float:
    """Fit `head` in place, the hidden state left out; return the mean loss. The same arguments give the same weights.

    `report` hears step, steps and loss.
    """
    tokens = lesson.tokens
    generator = np.random.default_rng([seed, 6])
    device = head.base_OB.device
    per_epoch = max(1, PER_LIFE * tokens.num_subjects // NUM_MOMENTS)
    steps = max(LEAST_STEPS, LEAST_EPOCHS * per_epoch)
    averaged = copy.deepcopy(head).requires_grad_(False)
    table = head.history.weight
    others = [each for each in head.parameters() if each is not table]
    optimizer = torch.optim.AdamW(
        [{"params": [table], "weight_decay": 0.0}, {"params": others, "weight_decay": _WEIGHT_DECAY}],
        lr=_RATE,
        betas=(0.9, 0.999),
        fused=True,
    )
    windows = float((tokens.end / DAY_US / EDGES[-1]).sum())
    penalty = math.sqrt(windows / _TUNED_AT) / windows
    losses = []
    head.train()
    for step, asked in enumerate(_stream(tokens, lesson.vocabulary, generator, steps, device)):
        torch.manual_seed(seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = _RATE * _schedule(step, steps)
        had = torch.from_numpy(asked.labels.had).to(device)
        log_hazard, _ = head(None, asked.features_QF, asked.history, had)
        loss = survival(log_hazard, asked.labels, lesson.recurrence_weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        add_prior_slope(table, *lesson.prior, penalty)
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            ours: list[Tensor] = list(averaged.parameters())
            theirs: list[Tensor] = list(head.parameters())
            torch._foreach_lerp_(ours, theirs, 1.0 - min(_AVERAGING, (2 + step) / (11 + step)))
        losses.append(float(loss.detach()))
        if step % _HAND_BACK_EVERY == 0:
            threads.hand_back_freed_memory()
        report(step + 1, steps, losses[-1])
    head.load_state_dict(averaged.state_dict())
    # The last step's gradients must not stay: the next stage clips by the norm of all that it finds.
    head.zero_grad(set_to_none=True)
    return float(np.mean(losses))


def log_prior(weights: Tensor, scale: float, strength: float) -> Tensor:
    """Return the penalty of a heavy-tailed (Cauchy-like) prior: most weights near nothing, a few as large as need be.

    A normal prior of any width was worse by a wide margin (docs/lab-notes): what drives a disease is a few codes.
    """
    return torch.log1p((weights / scale).square()).sum() * strength


@torch.no_grad()
def add_prior_slope(weights: Tensor, scale: float, strength: float, times: float) -> None:
    """Add the gradient of `times` the log_prior to that of the weights, in a third of autograd's passes."""
    assert weights.grad is not None, "after the backward pass"
    weights.grad.addcdiv_(weights, weights.square().add_(scale**2), value=2.0 * strength * times)


def _schedule(step: int, steps: int) -> float:
    rise = min((step + 1) / (_WARMUP * steps + 1), 1.0)
    return rise * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _stream(
    tokens: Tokens, vocabulary: Vocabulary, rng: np.random.Generator, steps: int, device: torch.device
) -> Iterator[Asked]:
    """Yield `steps` batches of moments, drawn anew each epoch, the next one prepared while the last is learnt from."""

    def prepare(questions: Questions, chosen: NDArray[np.int64]) -> Asked:
        put = questions.take(chosen)
        past = history(tokens, put, vocabulary.valued, len(QUANTILES))
        arrays = (past.column, past.weight, past.offsets)
        return Asked(
            tuple(torch.from_numpy(each).to(device) for each in arrays),  # type: ignore[arg-type]
            torch.from_numpy(question_features(tokens, put)).to(device),
            label(tokens, put, len(vocabulary.outcomes)),
        )

    ready: Future[Asked] | None = None
    made = 0
    with ThreadPoolExecutor(max_workers=1) as pool:
        while made < steps:
            questions = sample_questions(tokens, PER_LIFE, rng)
            order = rng.permutation(len(questions))
            for chosen in np.array_split(order, max(1, len(order) // NUM_MOMENTS)):
                if made == steps:
                    break
                upcoming = pool.submit(prepare, questions, chosen)
                made += 1
                if ready is not None:
                    yield ready.result()
                ready = upcoming
        if ready is not None:
            yield ready.result()
