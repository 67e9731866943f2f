"""The private fit: the hazard head on the history, by noisy sums of clipped patients' gradients (Abadi et al., 2016).

The backbone is left out: the history gives most of the skill, and whether more is worth its noise is not measured.
Nothing chooses among steps: their number is in the plan, and the averaged weights of the last one are the model.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lifechart.model.heads import HazardHead, survival
from lifechart.model.private.ghost import Ghost
from lifechart.model.private.lot import Lot
from lifechart.model.private.moments import Moments, columns_read
from lifechart.model.private.plan import Plan
from lifechart.model.vocabulary import Vocabulary

RANK = 8
"""Width of the history's state."""
_RATE, _WARMUP, _AVERAGING = 8e-3, 0.05, 0.97
_RECURRENCES = 0.25
_MARGIN = 0.999


@dataclass
class PrivateFitter:
    """Learns the trained parameters of `head`, in place. `patients`: how many there are, as noise told."""

    head: HazardHead
    vocabulary: Vocabulary
    moments: Moments
    plan: Plan
    patients: float
    lot: Lot
    report: Callable[[int, int], None] = lambda step, steps: None

    def __post_init__(self) -> None:
        names = dict(self.head.named_parameters())
        self.trained = tuple(
            each for name, each in names.items() if not name.startswith("from_hidden") and name != "again_shift"
        )
        self.ghost = Ghost(self.head, self.trained)
        self.read = torch.from_numpy(columns_read(self.vocabulary))
        with torch.no_grad():
            self.head.history.weight[~self.read] = 0.0
        self.optimizer = torch.optim.Adam(self.trained, lr=_RATE, betas=(0.9, 0.999))

    def run(self) -> None:
        """Take every step of the plan."""
        averaged = copy.deepcopy(self.head)
        self.head.train()
        for step in range(self.plan.steps):
            for group in self.optimizer.param_groups:
                group["lr"] = _RATE * _schedule(step, self.plan.steps)
            expected = self.plan.sampling * self.patients
            for each, total in zip(self.trained, self.noisy_sum(), strict=True):
                each.grad = total / expected
            self.optimizer.step()
            with torch.no_grad():
                for ours, theirs in zip(averaged.parameters(), self.head.parameters(), strict=True):
                    ours.lerp_(theirs, 1.0 - min(_AVERAGING, (2 + step) / (11 + step)))
            self.report(step + 1, self.plan.steps)
        self.head.load_state_dict(averaged.state_dict())

    def noisy_sum(self) -> list[Tensor]:
        """Return the sum of a Poisson sample's clipped gradients, with noise, one tensor a trained parameter."""
        chosen = self.lot.sample(len(self.moments.first) - 1, self.plan.sampling)
        sums = self.clipped_sum(chosen)
        noisy = []
        for each, total in zip(self.trained, sums, strict=True):
            if self.plan.noise > 0:
                scale = self.plan.noise * self.plan.clip
                total = total + scale * torch.from_numpy(self.lot.normal(total.numel()).astype(np.float32)).view_as(
                    total
                )
            # What is not read learns nothing, noise neither.
            noisy.append(total * self.read.unsqueeze(1) if each is self.head.history.weight else total)
        return noisy

    def clipped_sum(self, chosen: NDArray[np.int64]) -> list[Tensor]:
        """Return the sum of these patients' gradients, each cut to the plan's norm."""
        past, features_QF, labels, owner_Q = self.moments.pick(chosen)
        if not len(owner_Q):
            return [torch.zeros_like(each) for each in self.trained]
        with self.ghost.listening():
            log_hazard, _ = self.head(None, features_QF, past, torch.from_numpy(labels.had))
            loss = survival(log_hazard, labels, _RECURRENCES) * len(owner_Q)
            norms_P = self.ghost.norms(loss, len(chosen), owner_Q)
        factor_P = torch.ones_like(norms_P)
        if math.isfinite(self.plan.clip):
            # A norm that is no number would pass any comparison: such a patient counts nothing.
            # A norm in single precision may be a little too small: less than the margin.
            factor_P = (_MARGIN * self.plan.clip / norms_P.clamp(min=1e-12)).clamp(max=1.0)
            factor_P = torch.where(torch.isfinite(norms_P), factor_P, 0.0)
        return self.ghost.clipped(factor_P)


def _schedule(step: int, steps: int) -> float:
    rise = min((step + 1) / (_WARMUP * steps + 1), 1.0)
    return rise * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))
