"""The stage of a fit in which the encoders of other modalities learn, from what came of the patients.

It stands between the first stage, which it leaves as it is, and the backbone: so a chart that has none of them gets
the answer of a model that never saw any. Moments are shuffled across patients; at each, every modality is left out
by lot (modality dropout), so that none leans on another being there.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from lifechart.model.batches import Collator, question_features
from lifechart.model.heads import survival
from lifechart.model.modalities import LEFT_OUT, ModalState, attach
from lifechart.model.network import Network
from lifechart.model.questions import Questions, history, label, sample_questions
from lifechart.model.tokens import Tokens
from lifechart.model.vocabulary import QUANTILES, Vocabulary

NUM_MOMENTS = 256
"""Questions a step."""
LEAST_STEPS, EPOCHS = 100, 6
PER_LIFE = 12
"""Questions to each life in each epoch."""
_RATE, _WARMUP, _AVERAGING, _WEIGHT_DECAY, _CLIP = 2e-3, 0.05, 0.99, 0.05, 1.0
_LOOKS, _TUNING_PER_LIFE = 8, 12
"""How often the tuning split is asked on the way, and how many questions to each of its lives."""


def fit_modalities(
    network: Network,
    collator: Collator,
    vocabulary: Vocabulary,
    train: Tokens,
    tuning: Tokens,
    seed: int,
    recurrence_weight: float,
    report: Callable[[int, int, float], None],
) -> float:
    """Fit the network's modal state in place, all else left as it is; return the best tuning loss.

    What stands at the end is the average of weights with the best tuning loss, or nothing added if none is better than
    that. `report` hears step, steps and loss. The same arguments give the same weights.
    """
    modal = network.modal
    assert modal is not None
    stage = _Stage(network, collator, vocabulary, recurrence_weight)
    rng = np.random.default_rng([seed, 7])
    check = stage.asked(tuning, sample_questions(tuning, _TUNING_PER_LIFE, np.random.default_rng([seed, 8])))
    steps = max(LEAST_STEPS, EPOCHS * PER_LIFE * train.num_subjects // NUM_MOMENTS)
    averaged = copy.deepcopy(modal).requires_grad_(False)
    best, best_state = stage.loss_of(averaged, check), copy.deepcopy(averaged.state_dict())
    learnt = [each for name, each in modal.named_parameters() if not name.startswith("fuse")]
    optimizer = torch.optim.AdamW(learnt, lr=_RATE, weight_decay=_WEIGHT_DECAY)
    modal.train()
    at = 0
    while at < steps:
        questions = sample_questions(train, PER_LIFE, rng)
        order = rng.permutation(len(questions))
        for chosen in np.array_split(order, max(1, len(order) // NUM_MOMENTS)):
            if at == steps:
                break
            torch.manual_seed(seed * 1_000_003 + at)
            for group in optimizer.param_groups:
                group["lr"] = _RATE * _schedule(at, steps)
            loss = stage.loss(modal, train, questions.take(chosen), rng)
            if loss is not None:
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(learnt, _CLIP)
                optimizer.step()
                _average(averaged, modal, at)
            at += 1
            report(at, steps, float("nan") if loss is None else float(loss.detach()))
            if at % max(1, steps // _LOOKS) == 0 or at == steps:
                reached = stage.loss_of(averaged, check)
                if reached < best:
                    best, best_state = reached, copy.deepcopy(averaged.state_dict())
    modal.load_state_dict(best_state)
    modal.settle(_mark(modal))
    return best


class _Stage:
    """What stays the same while the modal state learns."""

    def __init__(self, network: Network, collator: Collator, vocabulary: Vocabulary, recurrence_weight: float) -> None:
        self._head, self._collator, self._vocabulary = network.hazards, collator, vocabulary
        self._recurrence = recurrence_weight

    def asked(self, tokens: Tokens, questions: Questions) -> list[tuple[Tokens, Questions, Tensor]]:
        """Return questions in parts, with the hazards that the first stage gives them."""
        parts = np.array_split(np.arange(len(questions)), max(1, len(questions) // 2048))
        put = [questions.take(part) for part in parts]
        return [(tokens, each, self._before(tokens, each)) for each in put]

    def loss_of(self, modal: ModalState, check: list[tuple[Tokens, Questions, Tensor]]) -> float:
        """Return the survival loss of first onsets over questions."""
        modal.eval()
        total, number = 0.0, 0
        with torch.no_grad():
            for tokens, questions, before_QOB in check:
                attached = attach(tokens.items, questions.subject, questions.micros)
                after = before_QOB if attached is None else before_QOB + modal(attached).unsqueeze(-1)
                labels = label(tokens, questions, len(self._vocabulary.outcomes))
                total += float(survival(after, labels, 0.0)) * len(questions)
                number += len(questions)
        return total / max(number, 1)

    def loss(self, modal: ModalState, tokens: Tokens, questions: Questions, rng: np.random.Generator) -> Tensor | None:
        """Return the loss of a step; None where nobody asked about has any of the modalities."""
        attached = attach(tokens.items, questions.subject, questions.micros)
        if attached is None:
            return None
        attached = attached.without(rng.random((len(questions), len(modal.names))) < LEFT_OUT)
        labels = label(tokens, questions, len(self._vocabulary.outcomes))
        after = self._before(tokens, questions) + modal(attached).unsqueeze(-1)
        return survival(after, labels, self._recurrence)

    def _before(self, tokens: Tokens, questions: Questions) -> Tensor:
        """Return what the first stage says [Q, O, B]."""
        device = self._collator.device
        past = self._collator.history(history(tokens, questions, self._vocabulary.valued, len(QUANTILES)))
        had = torch.from_numpy(label(tokens, questions, len(self._vocabulary.outcomes)).had).to(device)
        features = torch.from_numpy(question_features(tokens, questions)).to(device)
        self._head.eval()
        with torch.no_grad():
            log_hazard, _ = self._head(None, features, past, had)
        before: Tensor = log_hazard
        return before


def _average(averaged: ModalState, modal: ModalState, step: int) -> None:
    with torch.no_grad():
        ours: list[Tensor] = list(averaged.parameters())
        theirs: list[Tensor] = list(modal.parameters())
        torch._foreach_lerp_(ours, theirs, 1.0 - min(_AVERAGING, (2 + step) / (11 + step)))
        for mine, other in zip(averaged.buffers(), modal.buffers(), strict=True):
            mine.copy_(other)


def _schedule(step: int, steps: int) -> float:
    rise = min((step + 1) / (_WARMUP * steps + 1), 1.0)
    return rise * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _mark(modal: ModalState) -> int:
    """Return a number that names the encoders' weights."""
    digest = hashlib.sha256()
    for each in modal.encoders.state_dict().values():
        digest.update(each.detach().cpu().numpy().tobytes())
    return 1 + int.from_bytes(digest.digest()[:7])
