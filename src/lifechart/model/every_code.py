"""Time to the first event of every code and of every group of codes: a small head over the whole vocabulary.

Groups are the vocabulary's ancestors; their event is that of any code below them. `fit_codes` fits it after the
network, on the history alone, so it takes nothing from the forecasts of the outcomes and hardly any time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lifechart.model.heads import NUM_BINS
from lifechart.model.kernels import bagged
from lifechart.model.questions import NUM_PLAIN, num_columns
from lifechart.model.vocabulary import QUANTILES, Vocabulary

# Shapes: Q questions, V codes, A ancestors of a code, Z rank, F features of a question, B intervals, N history entries.

_RANK = 32


class EveryCodeHead(nn.Module):
    """Log hazard a day of each code's next event [Q, V, B], constant within each interval of EDGES.

    Three parts: whether and how the code (or, for a group, a code below it) came before; a low-rank reading of the
    whole history; the moment itself. Begun at the rates of the training split.
    """

    ancestors_VA: Tensor
    base_VB: Tensor
    again_VB: Tensor

    def __init__(self, vocabulary: Vocabulary, features: int) -> None:
        super().__init__()
        self.codes = len(vocabulary)
        valued = int((vocabulary.valued >= 0).sum())
        self.history = nn.EmbeddingBag(num_columns(self.codes, valued, len(QUANTILES)), _RANK, mode="sum")
        self.own = nn.Parameter(torch.zeros(self.codes * NUM_PLAIN))
        self.below = nn.Parameter(torch.zeros(self.codes * NUM_PLAIN))
        self.moment = nn.Linear(features, _RANK)
        self.out = nn.Linear(_RANK, self.codes, bias=False)
        self.by_moment = nn.Linear(features, self.codes, bias=False)
        nn.init.normal_(self.history.weight, std=0.02)
        for zeroed in (self.out, self.by_moment):
            nn.init.zeros_(zeroed.weight)
        self.register_buffer("ancestors_VA", torch.from_numpy(vocabulary.parents), persistent=False)
        self.register_buffer("base_VB", torch.zeros(self.codes, NUM_BINS))
        self.register_buffer("again_VB", torch.zeros(self.codes, NUM_BINS))

    @property
    def learnt(self) -> bool:
        """Whether this head has seen any data; a privately trained model leaves it as it began."""
        return bool(self.base_VB.any())

    def forward(self, past: tuple[Tensor, Tensor, Tensor], features_QF: Tensor) -> Tensor:
        """Return [Q, V, B]. `past`: columns, weights and offsets of questions.History."""
        columns, weights, offsets = past
        Q = len(features_QF)
        sizes = torch.diff(torch.cat([offsets, torch.tensor([len(columns)], device=offsets.device)]))
        question = torch.repeat_interleave(torch.arange(Q, device=offsets.device), sizes)
        plain = columns < self.codes * NUM_PLAIN
        question, column, weight = question[plain], columns[plain], weights[plain]
        code = column // NUM_PLAIN
        shift = torch.zeros(Q * self.codes, device=weights.device)
        shift = shift.index_add(0, question * self.codes + code, self.own[column] * weight)
        had = torch.zeros(Q * self.codes, dtype=torch.bool, device=weights.device)
        had[question * self.codes + code] = True
        for ancestor in self.ancestors_VA.T:
            above = ancestor[code]
            known = above >= 0
            cell = question[known] * self.codes + above[known]
            kind = above[known] * NUM_PLAIN + column[known] % NUM_PLAIN
            shift = shift.index_add(0, cell, self.below[kind] * weight[known])
            had[cell] = True
        read = nn.functional.silu(bagged(self.history, *past) + self.moment(features_QF))
        shared_QV = shift.view(Q, -1).clamp(-8, 8) + self.out(read) + self.by_moment(features_QF)
        base_QVB = torch.where(had.view(Q, -1, 1), self.again_VB, self.base_VB)
        out: Tensor = base_QVB + shared_QV.unsqueeze(-1)
        return out
