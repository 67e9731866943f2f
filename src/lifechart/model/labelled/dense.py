"""A small dense network on the scaled features; every fold learns for as many passes as serve people not seen.

Legend of shapes: P rows, F scaled features, W width, K folds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lifechart.model.labelled.folds import Each
from lifechart.model.labelled.target import Scores, Target

Matrix = NDArray[np.float32]

_WIDTH, _DROPOUT, _INPUT_DROPOUT = 96, 0.5, 0.25
_RATE, _WEIGHT_DECAY, _AVERAGING = 1e-3, 0.3, 0.97
_BATCH = 128
_STEPS, _LOOKS = 1200, 16
"""Steps at most, and how often the loss on people not seen is looked at among them."""


@dataclass(frozen=True, eq=False)
class Dense:
    """Each fold's weights: into [K, F, W], biases [K, W], out [K, W], start [K]."""

    into: NDArray[np.float32]
    bias: NDArray[np.float32]
    out: NDArray[np.float32]
    start: NDArray[np.float32]

    def scores(self, scaled: Matrix) -> Scores:
        """Return the mean score of each row over the folds.  [P, F] -> [P]."""
        folds = zip(self.into, self.bias, self.out, self.start, strict=True)
        each = [_silu(scaled @ into + bias) @ out + start for into, bias, out, start in folds]
        found: Scores = np.mean(each, axis=0, dtype=np.float64)
        return found

    @classmethod
    def joined(cls, parts: list[Dense]) -> Dense:
        """Return one object that scores as the mean of all parts, which have as many folds each."""
        arrays = {name: np.concatenate([getattr(each, name) for each in parts]) for name in cls.__dataclass_fields__}
        return cls(**arrays)


def _silu(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return (values / (1.0 + np.exp(-np.clip(values, -30, 30)))).astype(np.float32)


def _begun(features: int, start: float, generator: torch.Generator) -> dict[str, Tensor]:
    return {
        "into": torch.randn((features, _WIDTH), generator=generator) * features**-0.5,
        "bias": torch.zeros(_WIDTH),
        "out": torch.zeros(_WIDTH),
        "start": torch.tensor(start),
    }


def _kept(shape: tuple[int, ...], dropped: float, generator: torch.Generator) -> Tensor:
    """Return a mask of dropout. Drawn from a generator of its own, so that folds side by side do not share one."""
    return (torch.rand(shape, generator=generator) >= dropped).float() / (1 - dropped)


def crossfit(
    scaled: Matrix,
    target: Target,
    folds: NDArray[np.int64],
    seed: int,
    each: Each,
) -> tuple[Scores, Dense]:
    """Return what each row's fold, which never saw it, scores it, and the networks of all folds.

    What chance makes of one network outweighs the fifth of the people that it has not seen: the mean of the folds'
    serves as well as that of three which saw everybody (docs/lab-notes/0102).
    """

    def one(fold: int) -> tuple[list[dict[str, NDArray[np.float32]]], list[Scores]]:
        inside = folds != fold
        return _fit(scaled[inside], target.take(inside), scaled[~inside], seed + fold)

    made = each(one, int(folds.max()) + 1)
    scores = np.empty((_LOOKS, len(target)))
    for fold, (_, seen) in enumerate(made):
        scores[:, folds == fold] = seen
    best = int(np.argmin([target.loss(look) for look in scores]))
    states = [states[best] for states, _ in made]
    arrays = {name: np.stack([state[name] for state in states]) for name in states[0]}
    return scores[best], Dense(**arrays)


def _fit(
    scaled: Matrix, target: Target, unseen: Matrix, seed: int
) -> tuple[list[dict[str, NDArray[np.float32]]], list[Scores]]:
    """Return the averaged weights and the scores of `unseen` at each look."""
    generator = torch.Generator().manual_seed(seed)
    net = {name: each.requires_grad_(True) for name, each in _begun(scaled.shape[1], target.start, generator).items()}
    averaged = {name: each.detach().clone() for name, each in net.items()}
    optimizer = torch.optim.AdamW(net.values(), lr=_RATE, weight_decay=_WEIGHT_DECAY)
    x_PF, event_P = torch.from_numpy(scaled), torch.from_numpy(target.event.astype(np.float32))
    exposure_P = None if target.exposure is None else torch.from_numpy(target.exposure.astype(np.float32))
    size = min(max(_BATCH, len(target) // 120), len(target))
    states, scores = [], []
    for step in range(_STEPS):
        rows = torch.randint(len(target), (size,), generator=generator)
        x = x_PF[rows] * _kept((size, x_PF.shape[1]), _INPUT_DROPOUT, generator)
        hidden_PW = nn.functional.silu(x @ net["into"] + net["bias"]) * _kept((size, _WIDTH), _DROPOUT, generator)
        score_P = (hidden_PW @ net["out"] + net["start"]).clamp(-12, 12)
        if exposure_P is None:
            loss = nn.functional.binary_cross_entropy_with_logits(score_P, event_P[rows])
        else:
            loss = (exposure_P[rows] * score_P.exp() - score_P * event_P[rows]).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.values(), 1.0)
        optimizer.step()
        keep = min(_AVERAGING, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(averaged.values()), list(net.values()), 1 - keep)
        if (step + 1) % (_STEPS // _LOOKS) == 0:
            state = {name: each.numpy().copy() for name, each in averaged.items()}
            states.append(state)
            scores.append(_silu(unseen @ state["into"] + state["bias"]) @ state["out"] + state["start"])
    return states, [each.astype(np.float64) for each in scores]
