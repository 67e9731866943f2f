"""The stage of a fit in which the encoders of other modalities learn, from what came of the patients.

It stands between the first stage, which it leaves as it is, and the backbone: so a chart that has none of them gets
the answer of a model that never saw any. Moments are shuffled across patients; at each, every modality is left out
by lot (modality dropout), so that none leans on another being there.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lifechart.model.batches import Collator, question_features
from lifechart.model.first_stage import log_prior
from lifechart.model.heads import survival
from lifechart.model.modalities import LEFT_OUT, ModalState, attach
from lifechart.model.network import Network
from lifechart.model.questions import EDGES, Questions, history, label, sample_questions
from lifechart.model.tokens import DAY_US, Tokens
from lifechart.model.vocabulary import QUANTILES, Vocabulary


@dataclass(frozen=True)
class Phase:
    """A part of the stage: whether the encoders learn, questions a step, least steps, epochs, rate of learning."""

    encoders: bool
    moments: int
    least: int
    epochs: float
    rate: float

    def steps(self, lives: int) -> int:
        """Return how many steps there are for so many lives."""
        return max(self.least, int(self.epochs * PER_LIFE * lives / self.moments))


PHASES = (Phase(False, 512, 250, 8, 3e-3), Phase(True, 256, 60, 2, 1e-3))
"""First what is above the encoders learns, each item being encoded once by encoders as they begin: hundreds of people a
step for little. Then the encoders learn with it."""
PER_LIFE = 12
"""Questions to each life in each epoch."""
_WARMUP, _AVERAGING, _WEIGHT_DECAY, _CLIP = 0.05, 0.99, 0.05, 1.0
_FIRST_MARK = 1
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
    prior: tuple[float, float],
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
    averaged = copy.deepcopy(modal).requires_grad_(False)
    kept = _Kept(stage.loss_of(averaged, check), copy.deepcopy(averaged.state_dict()))
    windows = float((train.end / DAY_US / EDGES[-1]).sum())
    learnt = [(name, each) for name, each in modal.named_parameters() if not name.startswith("fuse")]
    done, total = 0, sum(phase.steps(train.num_subjects) for phase in PHASES)
    for phase in PHASES:
        if phase.encoders:
            for each in (modal, averaged):
                each.load_state_dict(kept.state)
            for items in (train.items, tuning.items):
                modal.unsettle(items)
            averaged.mark.fill_(0)
        else:
            modal.settle(_FIRST_MARK)
            averaged.settle(_FIRST_MARK)
        parameters = [each for name, each in learnt if phase.encoders or not name.startswith("encoders")]
        optimizer = torch.optim.AdamW(parameters, lr=phase.rate, weight_decay=_WEIGHT_DECAY)
        steps = phase.steps(train.num_subjects)
        for at, questions in enumerate(_moments(train, rng, steps, phase.moments)):
            torch.manual_seed(seed * 1_000_003 + done)
            modal.train()
            modal.scales.train()
            for group in optimizer.param_groups:
                group["lr"] = phase.rate * _schedule(at, steps)
            loss = stage.loss(modal, train, questions, rng)
            if loss is not None:
                optimizer.zero_grad(set_to_none=True)
                penalty = log_prior(modal.to_outcomes.weight, *prior) / windows
                (loss + penalty).backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(parameters, _CLIP)
                optimizer.step()
                _average(averaged, modal, at)
            done += 1
            report(done, total, float("nan") if loss is None else float(loss.detach()))
            if (at + 1) % max(1, steps // _LOOKS) == 0 or at + 1 == steps:
                kept = kept.better(stage.loss_of(averaged, check), averaged)
    modal.load_state_dict(kept.state)
    for items in (train.items, tuning.items):
        modal.unsettle(items)
    modal.settle(_mark(modal))
    return kept.loss


@dataclass(frozen=True)
class _Kept:
    """The best tuning loss so far, and the weights that have it."""

    loss: float
    state: dict[str, Tensor]

    def better(self, loss: float, averaged: ModalState) -> _Kept:
        return _Kept(loss, copy.deepcopy(averaged.state_dict())) if loss < self.loss else self


def _moments(train: Tokens, rng: np.random.Generator, steps: int, moments: int) -> Iterator[Questions]:
    """Yield the questions of each step, drawn anew whenever all have been asked."""
    made = 0
    while made < steps:
        questions = sample_questions(train, PER_LIFE, rng)
        order = rng.permutation(len(questions))
        for chosen in np.array_split(order, max(1, len(order) // moments)):
            if made < steps:
                made += 1
                yield questions.take(chosen)


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
    return 2 + int.from_bytes(digest.digest()[:7])
