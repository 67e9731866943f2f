"""The marked point-process head: when the next event comes, which code it has, and which value.

It reads the hidden state of the last event and an anchor: the time-to-first-event head's forecast of some moment
before, which carries the whole history. A generated future reads one anchor, that of its prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lifechart.model.questions import EDGES
from lifechart.model.steps import NUM_VALUES, NUM_WAITS, WAITS, StartRates, Steps
from lifechart.model.vocabulary import QUANTILES, START, UNKNOWN, Vocabulary

# Shapes: M steps, D width, Z rank, O outcomes, V codes, B intervals of waiting, X kinds of value, K knots.

_VALUE_WIDTH = 32
_NUM_AGES = 4


@dataclass(frozen=True)
class Anchor:
    """A forecast that is known at each step: state [M, Z], log hazards relative to the base [M, O], age in days [M]."""

    state_MZ: Tensor
    relative_MO: Tensor
    days_M: Tensor


class NextEventHead(nn.Module):
    """P(next event) = P(at the same time) or a piecewise constant hazard of waiting; then its code; then its value.

    Codes that are outcomes begin with the log hazard that the anchor's forecast gives them relative to everybody's, so
    that what a future holds and what the other head says start from one opinion. At one time codes only rise, as they
    do in tokens. Values are drawn among the intervals between their code's quantiles.
    """

    outcome_rows_O: Tensor
    valued_V: Tensor
    lows_B: Tensor
    highs_B: Tensor

    def __init__(self, vocabulary: Vocabulary, width: int, rank: int, dropout: float) -> None:
        super().__init__()
        rows = [vocabulary.rows.get(code, UNKNOWN) for code in vocabulary.outcomes]
        self.register_buffer("outcome_rows_O", torch.tensor(rows, dtype=torch.int64), persistent=False)
        self.register_buffer("valued_V", torch.from_numpy(vocabulary.valued), persistent=False)
        self.register_buffer("lows_B", torch.tensor(WAITS), persistent=False)
        self.register_buffer("highs_B", torch.tensor([*WAITS[1:], float("inf")]), persistent=False)
        self.read = nn.Linear(width + rank + _NUM_AGES, width)
        self.dropout = nn.Dropout(dropout)
        self.when = nn.Linear(width, 1 + NUM_WAITS)
        self.by_wait = nn.Embedding(1 + NUM_WAITS, width)
        self.code = nn.Linear(width, len(vocabulary), bias=False)
        # Flat, so that weight decay, which spares vectors, does not draw rates to one another.
        self.code_bias = nn.Parameter(torch.zeros((1 + NUM_WAITS) * len(vocabulary)))
        self.trust = nn.Parameter(torch.ones(2))
        num_valued = int((vocabulary.valued >= 0).sum())
        self.value_code = nn.Embedding(max(num_valued, 1), _VALUE_WIDTH)
        self.value_read = nn.Linear(width + 2 * len(QUANTILES), _VALUE_WIDTH)
        self.value_out = nn.Linear(_VALUE_WIDTH, NUM_VALUES)
        shares = np.log(np.append(np.diff([0.0, *QUANTILES, 1.0]), 1e-2)).astype(np.float32)
        self.value_bias = nn.Parameter(torch.from_numpy(np.tile(shares, max(num_valued, 1))))
        nn.init.normal_(self.by_wait.weight, std=0.1)
        for zeroed in (self.when.weight, self.code.weight, self.value_out.weight):
            nn.init.zeros_(zeroed)
        nn.init.zeros_(self.value_out.bias)

    def start_from(self, rates: StartRates) -> None:
        """Begin at the rates of the training split."""
        with torch.no_grad():
            self.when.bias[0] = rates.same
            self.when.bias[1:] = torch.from_numpy(rates.waits)
            self.code_bias.copy_(torch.from_numpy(rates.codes).flatten())

    def state(self, hidden_MD: Tensor, anchor: Anchor) -> Tensor:
        """Return what everything else is read from [M, D]."""
        hidden_MD = hidden_MD.float()
        read = self.read(torch.cat([hidden_MD, anchor.state_MZ, ages(anchor.days_M)], dim=1)).float()
        out: Tensor = self.dropout(hidden_MD + nn.functional.silu(read))
        return out

    def waiting(self, state_MD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log odds of an event at the same time [M] and log hazards a day of waiting [M, B]."""
        when = self.when(state_MD).float()
        return when[:, 0], when[:, 1:].clamp(-20.0, 8.0)

    def code_logits(
        self, state_MD: Tensor, same_M: Tensor, until_M: Tensor, last_code_M: Tensor, relative_MO: Tensor
    ) -> Tensor:
        """Return log odds of the next event's code [M, V], given that it shares the last one's time, or when it comes."""
        kind = 1 - same_M.long()
        waited = torch.where(same_M, 0, 1 + self.interval(until_M))
        logits = self.code(state_MD + self.by_wait(waited)).float() + self.code_bias.view(1 + NUM_WAITS, -1)[waited]
        logits = logits.index_add(1, self.outcome_rows_O, relative_MO * self.trust[kind].unsqueeze(1))
        codes = torch.arange(logits.shape[1], device=logits.device)
        barred = (codes == START) | (same_M.unsqueeze(1) & (codes < last_code_M.unsqueeze(1)))
        out: Tensor = logits.masked_fill(barred, -1e9)
        return out

    def value_logits(self, state_MD: Tensor, code_M: Tensor, levels_M2: Tensor) -> Tensor:
        """Return log odds of each kind of value [M, X]. `levels_M2`: the code's last value and mean so far, or NaN."""
        valued = self.valued_V[code_M].clamp(min=0)
        before = torch.cat([hats(levels_M2[:, 0]), hats(levels_M2[:, 1])], dim=1)
        read = self.value_read(torch.cat([state_MD, before], dim=1)).float() + self.value_code(valued)
        logits: Tensor = self.value_out(nn.functional.silu(read)).float() + self.value_bias.view(-1, NUM_VALUES)[valued]
        return logits

    def loss(self, hidden_ND: Tensor, state_QZ: Tensor, relative_QOB: Tensor, steps: Steps) -> Tensor:
        """Return the mean negative log likelihood of what came next. `hidden_ND`: the batch's places, flat."""
        return self.losses(hidden_ND, state_QZ, relative_QOB, steps).sum()

    def losses(self, hidden_ND: Tensor, state_QZ: Tensor, relative_QOB: Tensor, steps: Steps) -> Tensor:
        """Return the parts of the loss [3]: of time, of code, of value, each a mean over the steps."""
        on = hidden_ND.device

        def tensor(array: NDArray[Any]) -> Tensor:
            return torch.from_numpy(array).to(on)

        asked, days = tensor(steps.anchor), tensor(steps.anchor_days)
        anchor = Anchor(state_QZ[asked], relative_QOB[asked, :, interval(days)], days)
        same, followed, until = tensor(steps.same), tensor(steps.followed), tensor(steps.until)
        state = self.state(hidden_ND[tensor(steps.cell)], anchor)
        odds, log_hazard = self.waiting(state)
        together = nn.functional.binary_cross_entropy_with_logits(odds, same.float(), reduction="none")
        exposure = until.unsqueeze(1).minimum(self.highs_B) - self.lows_B.maximum(tensor(steps.since).unsqueeze(1))
        waited = (log_hazard.exp() * exposure.clamp(min=0.0)).sum(1)
        waited = waited - log_hazard.gather(1, self.interval(until).unsqueeze(1)).squeeze(1) * followed
        time = together * tensor(steps.fresh) + torch.where(same, 0.0, waited)
        code = tensor(steps.code)
        logits = self.code_logits(state, same, until, tensor(steps.last_code), anchor.relative_MO)
        codes = nn.functional.cross_entropy(logits, code, reduction="none") * followed
        value = tensor(steps.value)
        carries = (value >= 0).nonzero().squeeze(1)
        values = self.value_logits(state[carries], code[carries], tensor(steps.levels)[carries])
        told = nn.functional.cross_entropy(values, value[carries], reduction="sum")
        return torch.stack([time.sum(), codes.sum(), told]) / max(len(steps), 1)

    def interval(self, until_M: Tensor) -> Tensor:
        """Return the interval of waiting in which an event comes [M]."""
        return (torch.searchsorted(self.lows_B, until_M.contiguous()) - 1).clamp(min=0)


def interval(days: Tensor) -> Tensor:
    """Return the interval of EDGES in which a forecast this many days old speaks of now."""
    edges = torch.tensor(EDGES[1:-1], device=days.device)
    return torch.searchsorted(edges, days.contiguous())


def ages(days: Tensor) -> Tensor:
    """Return what the head reads of an anchor's age [M, 4]."""
    return torch.stack([torch.exp(-days / scale) for scale in (30.0, 182.0, 730.0)] + [torch.log1p(days) / 6.0], dim=1)


def hats(level: Tensor) -> Tensor:
    """Return how near a level lies to each knot [M, K]; all 0 where there is none."""
    knots = torch.arange(len(QUANTILES), device=level.device, dtype=level.dtype)
    known = torch.nan_to_num(level, nan=-9.0).unsqueeze(1)
    return (1.0 - (known - knots).abs()).clamp(min=0.0)
