"""The heads: hazards of every outcome from any moment on, and the code of the next event."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lifechart.model.kernels import Dropout, bagged
from lifechart.model.questions import EDGES, Labels

# Shapes: Q questions, D width, F plain features of a question, C history columns, Z rank, O outcomes, B intervals.

NUM_BINS = len(EDGES) - 1
WIDTHS = tuple(high - low for low, high in itertools.pairwise(EDGES))


@dataclass(frozen=True)
class BaseRates:
    """Where the head starts: log hazards of first onsets and of recurrences [O, B]."""

    first: NDArray[np.float32]
    again: NDArray[np.float32]


class HazardHead(nn.Module):
    """Log hazard a day [Q, O, B], constant within each interval of EDGES: piecewise exponential survival.

    Three parts are added up: a wide one (linear in the history and the age, one weight an outcome); a deep one (the
    history and the question through a small network whose last layer all outcomes share, which lends rare ones the
    strength of the common); and what the backbone's hidden state has to add to both.
    What the record says happened before is a separate offset: a second heart attack has another hazard than a first.
    """

    base_OB: Tensor
    again_OB: Tensor

    def __init__(self, width: int, features: int, columns: int, rank: int, base: BaseRates, dropout: float) -> None:
        super().__init__()
        outcomes = len(base.first)
        self.outcomes, self.rank = outcomes, rank
        self._made_of = (width, features, columns, base, dropout)
        self.history = nn.EmbeddingBag(columns, rank + outcomes, mode="sum")
        self.from_history = nn.Linear(rank + features, 2 * rank)
        self.to_state = nn.Sequential(nn.SiLU(), Dropout(dropout), nn.Linear(2 * rank, rank))
        self.by_age = nn.Linear(features, outcomes, bias=False)
        self.out = nn.Linear(rank, outcomes)
        self.out_by_bin = nn.Linear(rank, outcomes * NUM_BINS)
        # Begun at nothing: what the backbone adds, it has to earn.
        earned = nn.Linear(rank, outcomes, bias=False)
        nn.init.zeros_(earned.weight)
        self.from_hidden = nn.Sequential(nn.Linear(width + rank, rank), nn.SiLU(), Dropout(dropout), earned)
        self.register_buffer("base_OB", torch.tensor(base.first))
        self.register_buffer("again_OB", torch.tensor(base.again))
        self.again_shift = nn.Parameter(torch.zeros(outcomes))
        nn.init.normal_(self.history.weight[:, :rank], std=0.02)
        nn.init.zeros_(self.history.weight[:, rank:])
        for linear in (self.by_age, self.out, self.out_by_bin):
            nn.init.zeros_(linear.weight)
        nn.init.zeros_(self.out.bias)
        nn.init.zeros_(self.out_by_bin.bias)

    def forward(
        self, hidden_QD: Tensor | None, features_QF: Tensor, history: tuple[Tensor, Tensor, Tensor], had_QO: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return log hazards [Q, O, B] and the history's state [Q, Z].

        `history`: columns, weights and offsets of questions.History. `hidden_QD` is None in the first stage of a fit.
        """
        code_QZ, wide_QO = self.read_history(history)
        return self.forecast(hidden_QD, code_QZ, wide_QO, features_QF, had_QO)

    def read_history(self, history: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return what the history gives to the deep part [Q, Z] and to each outcome directly [Q, O]."""
        summed = bagged(self.history, *history)
        return summed[:, : self.rank], summed[:, self.rank :]

    def forecast(
        self, hidden_QD: Tensor | None, code_QZ: Tensor, wide_QO: Tensor, features_QF: Tensor, had_QO: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Join the parts: log hazards [Q, O, B] and the history's state [Q, Z]."""
        state_QZ = self.to_state(self.from_history(torch.cat([code_QZ, features_QF], dim=1))).float()
        state_QZ = torch.tanh(state_QZ / 4) * 4
        shared_QO = wide_QO + self.by_age(features_QF).float() + self.out(state_QZ).float()
        by_bin_QOB = self.out_by_bin(state_QZ).float().view(-1, self.outcomes, NUM_BINS)
        if hidden_QD is not None:
            shared_QO = shared_QO + self.from_hidden(torch.cat([hidden_QD.float(), state_QZ], dim=1)).float()
        base_QOB = torch.where(had_QO.unsqueeze(-1), self.again_OB + self.again_shift.unsqueeze(-1), self.base_OB)
        return base_QOB + shared_QO.unsqueeze(-1) + by_bin_QOB, state_QZ

    def member(self, rank: int) -> HazardHead:
        """Return a new head for the same questions with a state of another width."""
        width, features, columns, base, dropout = self._made_of
        return HazardHead(width, features, columns, rank, base, dropout).to(self.base_OB.device)

    @torch.no_grad()
    def take_mean(self, members: Sequence[HazardHead]) -> None:
        """Become the head whose log hazards are the mean of the members', whose ranks add up to this one's.

        Exact, and no slower than any head of this rank: the wide parts are linear, so their weights are averaged; the
        deep parts stand side by side. What the backbone adds is left as it is.
        """
        ours, theirs = _last(self), [_last(each) for each in members]
        for linear in (self.from_history, ours):
            nn.init.zeros_(linear.weight)
        low = 0
        for each, last in zip(members, theirs, strict=True):
            deep, inner = slice(low, low + each.rank), slice(2 * low, 2 * (low + each.rank))
            self.history.weight[:, deep] = each.history.weight[:, : each.rank]
            self.from_history.weight[inner, deep] = each.from_history.weight[:, : each.rank]
            self.from_history.weight[inner, self.rank :] = each.from_history.weight[:, each.rank :]
            self.from_history.bias[inner] = each.from_history.bias
            ours.weight[deep, inner] = last.weight
            ours.bias[deep] = last.bias
            self.out.weight[:, deep] = each.out.weight / len(members)
            self.out_by_bin.weight[:, deep] = each.out_by_bin.weight / len(members)
            low += each.rank

        def mean(part: Callable[[HazardHead], Tensor]) -> Tensor:
            return torch.stack([part(each) for each in members]).mean(dim=0)

        self.history.weight[:, self.rank :] = mean(lambda head: head.history.weight[:, head.rank :])
        self.by_age.weight.copy_(mean(lambda head: head.by_age.weight))
        self.out.bias.copy_(mean(lambda head: head.out.bias))
        self.out_by_bin.bias.copy_(mean(lambda head: head.out_by_bin.bias))
        self.again_shift.copy_(mean(lambda head: head.again_shift))


def _last(head: HazardHead) -> nn.Linear:
    last = head.to_state[-1]
    assert isinstance(last, nn.Linear)
    return last


def survival(log_hazard_QOB: Tensor, labels: Labels, recurrence_weight: float) -> Tensor:
    """Return the survival loss against `labels`; what is already on record counts `recurrence_weight`."""
    device = log_hazard_QOB.device
    weight = torch.where(torch.from_numpy(labels.had).to(device), recurrence_weight, 1.0)
    days_to, observed = torch.from_numpy(labels.days_to).to(device), torch.from_numpy(labels.observed).to(device)
    return survival_loss(log_hazard_QOB, days_to, observed, weight)


def survival_loss(log_hazard_QOB: Tensor, days_to_QO: Tensor, observed_Q: Tensor, weight_QO: Tensor) -> Tensor:
    """Return the negative log likelihood of piecewise exponential survival, summed over outcomes, a question.

    Exact under censoring at `observed_Q` days. `days_to_QO` is infinite where nothing was seen.
    """
    edges = torch.tensor(EDGES, device=log_hazard_QOB.device)
    until_QO = torch.minimum(days_to_QO, observed_Q.unsqueeze(1))
    exposure_QOB = (until_QO.unsqueeze(-1) - edges[:-1]).clamp(min=0.0).minimum(edges[1:] - edges[:-1])
    seen_QO = days_to_QO <= observed_Q.unsqueeze(1)
    event_QOB = (
        seen_QO.unsqueeze(-1) & (days_to_QO.unsqueeze(-1) > edges[:-1]) & (days_to_QO.unsqueeze(-1) <= edges[1:])
    )
    loss_QOB = log_hazard_QOB.exp() * exposure_QOB - torch.where(event_QOB, log_hazard_QOB, 0.0)
    return (loss_QOB.sum(-1) * weight_QO).sum() / len(observed_Q)


def log_base_rates(
    days_to: NDArray[np.float32], observed: NDArray[np.float32], chosen: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return the log of events a day of exposure [O, B] over the chosen [Q, O] pairs, drawn to the outcome's mean.

    Half an event is added to each interval in the proportion of the outcome's overall rate, so none is minus infinity.
    """
    until = np.minimum(days_to, observed[:, None])
    edges = np.array(EDGES)
    rates = np.zeros((days_to.shape[1], NUM_BINS))
    exposures = np.zeros_like(rates)
    for number, (low, high) in enumerate(itertools.pairwise(edges)):
        exposures[:, number] = (np.clip(until - low, 0, high - low) * chosen).sum(axis=0)
        seen = (days_to > low) & (days_to <= high) & (days_to <= observed[:, None]) & chosen
        rates[:, number] = seen.sum(axis=0)
    total = (rates.sum(axis=1) + 0.5) / (exposures.sum(axis=1) + 1e4)
    pseudo = 5.0
    log_rates: NDArray[np.float32] = np.log((rates + pseudo) / (exposures + pseudo / total[:, None])).astype(np.float32)
    return log_rates


def cumulative_incidence(log_hazard: NDArray[np.float32], death: int | None) -> NDArray[np.float32]:
    """Return probabilities [Q, O, B] that each outcome occurs by the end of each interval, death competing.

    Within an interval both hazards are constant, so each step is exact: the share of the exits that the outcome takes.
    """
    hazard = np.exp(log_hazard.astype(np.float64))
    widths = np.array(WIDTHS)
    competing = np.zeros_like(hazard)
    if death is not None:
        competing = np.repeat(hazard[:, death : death + 1], hazard.shape[1], axis=1)
        competing[:, death] = 0.0
    total = hazard + competing
    leaving = -np.expm1(-total * widths)
    staying = np.cumprod(1.0 - leaving, axis=2)
    alive = np.concatenate([np.ones_like(staying[:, :, :1]), staying[:, :, :-1]], axis=2)
    return np.cumsum(alive * leaving * hazard / np.maximum(total, 1e-300), axis=2).astype(np.float32)


def incidence_within(
    hazard_QCB: NDArray[np.floating[Any]],
    death_QB: NDArray[np.floating[Any]] | None,
    is_death_C: NDArray[np.bool_],
    days_H: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Return probabilities [Q, C, H] of a first event within any number of days up to the last edge, death competing.

    As `cumulative_incidence`, but anywhere within an interval; hazards are a day, not logarithms. `is_death_C` says
    which columns hold death themselves.
    """
    hazard = hazard_QCB.astype(np.float64)
    competing = np.zeros_like(hazard) if death_QB is None else np.broadcast_to(death_QB[:, None], hazard.shape).copy()
    competing[:, is_death_C] = 0.0
    total = hazard + competing
    share = hazard / np.maximum(total, 1e-300)
    passed = np.clip(days_H[:, None] - np.array(EDGES[:-1]), 0.0, np.array(WIDTHS))
    out = np.zeros((*hazard.shape[:2], len(days_H)))
    alive = np.ones_like(out)
    for b in range(hazard.shape[2]):
        leaving = -np.expm1(-total[:, :, b, None] * passed[:, b])
        out += alive * leaving * share[:, :, b, None]
        alive *= 1.0 - leaving
    return out.astype(np.float32)
