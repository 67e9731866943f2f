"""The stage of a fit in which what other modalities tell is learnt, from what came of the patients.

It stands between the first stage, which it leaves as it is, and the backbone: so a chart that has none of them gets
the answer of a model that never saw any. It begins from a convex fit on encoders that began from the items themselves
(`modal_start`); then encoders and weights learn together by the same likelihood. Moments are shuffled across patients;
at each, every modality is left out by lot (modality dropout), so that none leans on another being there.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lifechart.model.batches import Collator, question_features
from lifechart.model.heads import WIDTHS, survival
from lifechart.model.modal_start import Onsets, Prior, begin_encoders, begin_weights, turn_slots
from lifechart.model.modal_state import LEFT_OUT, ModalState
from lifechart.model.modalities import attach
from lifechart.model.network import Network
from lifechart.model.questions import EDGES, Questions, ask, history, label, sample_questions
from lifechart.model.tokens import DAY_US, Tokens
from lifechart.model.vocabulary import QUANTILES, Vocabulary


@dataclass(frozen=True)
class Phase:
    """The joint part of the stage: questions a step, least steps, epochs, rate of learning (a share of a weight)."""

    moments: int
    least: int
    epochs: float
    rate: float

    def steps(self, lives: int) -> int:
        """Return how many steps there are for so many lives."""
        return max(self.least, int(self.epochs * PER_LIFE * lives / self.moments))


JOINT = Phase(256, 60, 0.5, 5e-3)
PER_LIFE = 12
"""Questions to each life in each epoch."""
_WARMUP, _AVERAGING, _CLIP = 0.05, 0.98, 1.0
_FIRST_MARK = 1
_SMALLEST = 1e-3
_LOOKS, _TUNING_PER_LIFE = 6, 12
"""How often the tuning split is asked on the way, and how many questions to each of its lives."""
_SHARES = (1.0, 0.7, 0.4)
"""Of what the convex fit adds: as much stands as the tuning split finds best."""


@dataclass(frozen=True)
class Learnt:
    """Tuning losses: of the history alone, of the convex fit, after learning jointly; how many outcomes gain."""

    before: float
    begun: float
    joint: float
    outcomes: int


def fit_modalities(
    network: Network,
    collator: Collator,
    vocabulary: Vocabulary,
    train: Tokens,
    tuning: Tokens,
    seed: int,
    report: Callable[[int, int, float], None],
) -> Learnt:
    """Fit the network's modal state in place, all else left as it is; return how it went.

    What stands at the end is what has the best tuning loss: nothing added, the convex fit, or an average of weights on
    the way of learning jointly. `report` hears step, steps and loss. The same arguments give the same weights.
    """
    modal = network.modal
    assert modal is not None
    stage = _Stage(network, collator, vocabulary)
    check = stage.asked(tuning, sample_questions(tuning, _TUNING_PER_LIFE, np.random.default_rng([seed, 8])))
    before = stage.loss_of(modal, check)
    steps = JOINT.steps(train.num_subjects)
    report(0, steps, before)
    prior, kept = _begin(modal, stage, train, seed, check, _Kept(before, copy.deepcopy(modal.state_dict())))
    begun = kept.loss
    if prior is not None and prior.outcomes:
        kept = _jointly(modal, stage, (train, tuning), prior, seed, check, kept, report)
    modal.load_state_dict(kept.state)
    for items in (train.items, tuning.items):
        modal.unsettle(items)
    modal.settle(_mark(modal))
    report(steps, steps, kept.loss)
    return Learnt(before, begun, kept.loss, prior.outcomes if prior is not None else 0)


def _begin(
    modal: ModalState, stage: _Stage, train: Tokens, seed: int, check: list[Put], kept: _Kept
) -> tuple[Prior | None, _Kept]:
    """Begin encoders and weights; keep as much of what is added as lowers the tuning loss most."""
    windows = _windows(train, np.random.default_rng([seed, 7]))
    attached = attach(train.items, windows.subject, windows.micros)
    if train.items is None or attached is None:
        return None, kept
    onsets = stage.onsets(train, windows)
    begin_encoders(modal, train.items, attached)
    modal.settle(_FIRST_MARK)
    ranks = turn_slots(modal, attached)
    prior = begin_weights(modal, attached, onsets, ranks)
    whole = [(layer, layer.weight.detach().clone()) for layer in (modal.alone, modal.together)]
    for share in _SHARES:
        with torch.no_grad():
            for layer, weight in whole:
                layer.weight.copy_(weight * share)
        kept = kept.better(stage.loss_of(modal, check), modal)
    return prior, kept


def _jointly(
    modal: ModalState, stage: _Stage, splits: tuple[Tokens, Tokens], prior: Prior, seed: int, check: list[Put],
    kept: _Kept, report: Callable[[int, int, float], None],
) -> _Kept:  # fmt: skip
    """Let encoders and weights learn together, each weight under the prior that it began with."""
    train, tuning = splits
    modal.load_state_dict(kept.state)
    for items in (train.items, tuning.items):
        modal.unsettle(items)
    averaged = copy.deepcopy(modal).requires_grad_(False)
    costs = [torch.from_numpy(each.astype(np.float32)).to(modal.mark.device) for each in (prior.alone, prior.together)]
    weighed = [(modal.alone.weight, costs[0]), (modal.together.weight, costs[1])]
    parameters = [each for name, each in modal.named_parameters() if not name.startswith("fuse")]
    # Each moves by a share of its own size (as Adafactor's: Shazeer and Stern 2018, arXiv 1804.04235): what begins
    # from a fit is neither torn away nor left behind.
    sizes = [max(float(each.detach().square().mean().sqrt()), _SMALLEST) for each in parameters]
    optimizer = torch.optim.Adam([{"params": [each]} for each in parameters], lr=JOINT.rate)
    windows = float((train.end / DAY_US / EDGES[-1]).sum())
    steps = JOINT.steps(train.num_subjects)
    rng = np.random.default_rng([seed, 9])
    for at, questions in enumerate(_moments(train, rng, steps, JOINT.moments)):
        torch.manual_seed(seed * 1_000_003 + at)
        modal.train()
        for group, size in zip(optimizer.param_groups, sizes, strict=True):
            group["lr"] = JOINT.rate * size * _schedule(at, steps)
        loss = stage.loss(modal, train, questions, rng)
        if loss is not None:
            optimizer.zero_grad(set_to_none=True)
            charged = [(weight.square() * each.nan_to_num(posinf=0.0)).sum() for weight, each in weighed]
            cost = torch.stack(charged).sum()
            (loss + 0.5 * cost / windows).backward()  # type: ignore[no-untyped-call]
            for weight, each in weighed:
                # What did not enter stays out.
                assert weight.grad is not None
                weight.grad.masked_fill_(each.isinf(), 0.0)
            nn.utils.clip_grad_norm_(parameters, _CLIP)
            optimizer.step()
            _average(averaged, modal, at)
        report(at + 1, steps, float("nan") if loss is None else float(loss.detach()))
        if (at + 1) % max(1, steps // _LOOKS) == 0 or at + 1 == steps:
            kept = kept.better(stage.loss_of(averaged, check), averaged)
    return kept


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


def _windows(train: Tokens, rng: np.random.Generator) -> Questions:
    """Return moments that cut each life, from a moment by lot on, into windows of the longest horizon."""
    width = int(EDGES[-1] * DAY_US)
    first = (rng.random(train.num_subjects) * width).astype(np.int64)
    number = np.maximum(-(-(train.end - first) // width), 0)
    subject = np.repeat(np.arange(train.num_subjects), number)
    within = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
    return ask(train, subject, first[subject] + within * width)


Put = tuple[Tokens, Questions, Tensor, Tensor]
"""Questions of some records, the hazards [Q, O, B] that the first stage gives them, and what was on record [Q, O]."""


class _Stage:
    """What stays the same while the modal state learns."""

    def __init__(self, network: Network, collator: Collator, vocabulary: Vocabulary) -> None:
        self._head, self._collator, self._vocabulary = network.hazards, collator, vocabulary

    def asked(self, tokens: Tokens, questions: Questions) -> list[Put]:
        """Return questions in parts, with the hazards that the first stage gives them."""
        parts = np.array_split(np.arange(len(questions)), max(1, len(questions) // 2048))
        put = [questions.take(part) for part in parts]
        return [(tokens, each, *self._before(tokens, each)) for each in put]

    def onsets(self, tokens: Tokens, windows: Questions) -> Onsets:
        """Return what came in each window and what the first stage expected."""
        low = np.array(EDGES[:-1], np.float32)
        came: list[NDArray[np.float32]] = []
        expected: list[NDArray[np.float32]] = []
        for _, questions, before_QOB, had_QO in self.asked(tokens, windows):
            labels = label(tokens, questions, len(self._vocabulary.outcomes))
            until = np.minimum(labels.days_to, np.minimum(labels.observed, EDGES[-1])[:, None])
            exposed = np.clip(until[:, :, None] - low, 0.0, np.array(WIDTHS, np.float32))
            new = ~had_QO.cpu().numpy()
            expected.append((before_QOB.exp().cpu().numpy() * exposed).sum(2) * new)
            came.append(((labels.days_to <= until) & new).astype(np.float32))
        return Onsets(windows.subject, np.concatenate(came), np.concatenate(expected))

    def loss_of(self, modal: ModalState, check: list[Put]) -> float:
        """Return the survival loss of first onsets over questions."""
        modal.eval()
        total, number = 0.0, 0
        with torch.no_grad():
            for tokens, questions, before_QOB, had_QO in check:
                attached = attach(tokens.items, questions.subject, questions.micros)
                after = before_QOB if attached is None else before_QOB + modal(attached, had_QO).unsqueeze(-1)
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
        before_QOB, had_QO = self._before(tokens, questions)
        return survival(before_QOB + modal(attached, had_QO).unsqueeze(-1), labels, 0.0)

    def _before(self, tokens: Tokens, questions: Questions) -> tuple[Tensor, Tensor]:
        """Return what the first stage says [Q, O, B], and what was on record [Q, O]."""
        device = self._collator.device
        past = self._collator.history(history(tokens, questions, self._vocabulary.valued, len(QUANTILES)))
        had = torch.from_numpy(label(tokens, questions, len(self._vocabulary.outcomes)).had).to(device)
        features = torch.from_numpy(question_features(tokens, questions)).to(device)
        self._head.eval()
        with torch.no_grad():
            log_hazard, _ = self._head(None, features, past, had)
        return log_hazard, had


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
