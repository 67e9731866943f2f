"""Other ways of doing what the network does: encodings of time, of values, of codes; parts left out."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lifechart.model.backbone import Backbone
from lifechart.model.encoders.event import AGES, EventArrays, EventEncoder
from lifechart.model.network import Network
from lifechart.model.vocabulary import QUANTILES

_OF_TIME = (*range(len(AGES) + 1), len(AGES) + 3)
"""Features of an event that speak of time: the age, the gap since the last event, the years since its code's first."""
_YEARS = 100


class OtherEncoder(nn.Module):
    """The event encoder with its value scale, its time features or its ages done otherwise."""

    def __init__(self, encoder: EventEncoder, value: str = "soft", timed: bool = True, buckets: bool = False) -> None:
        super().__init__()
        width = encoder.code.embedding_dim
        self.encoder, self.value, self.timed = encoder, value, timed
        self.by_year = nn.Embedding(_YEARS, width) if buckets else None
        self.slope = nn.Embedding(encoder.value.num_embeddings // len(QUANTILES) + 1, width)
        nn.init.normal_(self.slope.weight, std=0.3)
        if self.by_year is not None:
            nn.init.normal_(self.by_year.weight, std=0.3)

    def forward(self, events: EventArrays) -> Tensor:
        """Return vectors [R, T, D]."""
        share, row, features = events.value_share, events.value_row, events.features
        place = (row - 1) % len(QUANTILES) + share
        if self.value == "hard":
            share = share.round()
        if self.value in ("continuous", "none"):
            row = torch.zeros_like(row)
        ages_RTA = features[..., : len(AGES)]
        if not self.timed:
            features = features.clone()
            features[..., _OF_TIME] = 0.0
        out: Tensor = self.encoder(EventArrays(events.code, row, share, features))
        if self.value == "continuous":
            code_row = (events.value_row - 1).clamp(min=0) // len(QUANTILES)
            level = (place / ((len(QUANTILES) - 1) / 2) - 1.0) * (events.value_row > 0)
            out = out + self.slope(code_row) * level.unsqueeze(-1)
        if self.by_year is not None:
            years = (ages_RTA * torch.tensor(AGES)).sum(-1).long().clamp(0, _YEARS - 1)
            out = out + self.by_year(years)
        return out


class Blank(nn.Module):
    """A backbone that says nothing."""

    def forward(self, x_RTD: Tensor, days_RT: Tensor, place_RT: Tensor) -> Tensor:
        """Return zeros [R, T, D]."""
        return torch.zeros_like(x_RTD)


def other_encoder(network: Network, value: str = "soft", timed: bool = True, buckets: bool = False) -> None:
    """Put another encoder in."""
    network.encoder = OtherEncoder(network.encoder, value, timed, buckets)


def by_place(network: Network) -> None:
    """Turn queries and keys by the place in the record alone."""
    rotary = network.backbone.rotary
    pairs = len(rotary.by_time_P)
    rotary.by_time_P = torch.zeros(pairs)
    rotary.by_place_P = torch.logspace(math.log10(4.0), math.log10(512.0), pairs)


def no_parents(network: Network) -> None:
    """Read a code without the codes above it."""
    network.encoder.parent_known_VA.zero_()


def with_heads(network: Network, heads: int) -> None:
    """Split the width among another number of heads."""
    old = network.backbone
    width, layers = old.last.weight.numel(), len(old.blocks)
    network.backbone = Backbone(width, layers, heads, 0.0)


def blank(network: Network) -> None:
    """Let the backbone say nothing: the next event is told from the history's forecast alone."""
    network.backbone = Blank()  # type: ignore[assignment]
