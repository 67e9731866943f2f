"""A coded event as one vector: code (with its parents), value, and time fused into a single position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lifechart.model.kernels import weighted_rows
from lifechart.model.tokens import DAY_US, Tokens
from lifechart.model.vocabulary import QUANTILES, Vocabulary

# Shapes: R rows of a batch, T places in a row, D width, V codes, A parents of a code, K knots, F plain features.

AGES = (0.0, 1.0, 4.0, 10.0, 18.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0)
"""Knots, in years, of the piecewise linear basis in which the network reads an age."""
_NUM_KNOTS = len(QUANTILES)
_NUM_FEATURES = len(AGES) + 7
DAYS_A_YEAR = 365.25


@dataclass(frozen=True)
class EventArrays:
    """What the encoder reads of events, all [R, T]. `value_row` indexes the value table and is 0 without a value."""

    code: Tensor
    value_row: Tensor
    value_share: Tensor
    features: Tensor


class EventEncoder(nn.Module):
    """Embeds events: code + parents + place of the value among its code's quantiles + plain features of time and count.

    One position an event, rather than one each for code, value and time (arXiv 2603.15644). Values enter through soft
    bins between a code's own quantiles, so no scale or distribution is assumed.
    """

    modality = "event"

    parents_VA: Tensor
    parent_known_VA: Tensor

    def __init__(self, vocabulary: Vocabulary, width: int) -> None:
        super().__init__()
        num_valued = int((vocabulary.valued >= 0).sum())
        self.code = nn.Embedding(len(vocabulary), width)
        self.value = nn.Embedding(1 + num_valued * _NUM_KNOTS, width)
        self.features = nn.Linear(_NUM_FEATURES, width)
        nn.init.normal_(self.code.weight, std=0.5)
        nn.init.normal_(self.value.weight, std=0.3)
        self.register_buffer("parents_VA", torch.from_numpy(np.maximum(vocabulary.parents, 0)), persistent=False)
        self.register_buffer(
            "parent_known_VA", torch.from_numpy((vocabulary.parents >= 0).astype(np.float32)), persistent=False
        )

    def forward(self, events: EventArrays) -> Tensor:
        """Return vectors [R, T, D]."""
        # In 32 bits: hardly any work, and no two parts need have as many places (see batches.LENGTHS).
        with torch.autocast(self.code.weight.device.type, enabled=False):
            return self._fused(events)

    def _fused(self, events: EventArrays) -> Tensor:
        parents, known = self.parents_VA.flatten(), self.parent_known_VA.flatten()
        begins = torch.arange(0, len(parents), self.parents_VA.shape[1], device=parents.device)
        with_parents_VD = self.code.weight + weighted_rows(self.code.weight, parents, known, begins)
        code_RTD = nn.functional.embedding(events.code, with_parents_VD)
        low_RTD = self.value(events.value_row)
        high_RTD = self.value(torch.clamp(events.value_row + 1, max=self.value.num_embeddings - 1))
        share_RT1 = events.value_share.unsqueeze(-1)
        value_RTD = torch.lerp(low_RTD, high_RTD, share_RT1) * (events.value_row > 0).unsqueeze(-1)
        fused_RTD: Tensor = code_RTD + value_RTD + self.features(events.features)
        return fused_RTD


def event_arrays(
    tokens: Tokens, rows: NDArray[np.int64], valued: NDArray[np.int64], device: torch.device
) -> EventArrays:
    """Collect the encoder's input for rows [R, T] of Tokens (-1: padding, read as row 0 and masked by attention)."""
    rows = np.maximum(rows, 0)
    code, level = tokens.code[rows], tokens.level[rows]
    has_value = ~np.isnan(level) & (valued[code] >= 0)
    place = np.where(has_value, level, 0.0)
    low = np.minimum(place.astype(np.int64), _NUM_KNOTS - 2)
    value_row = np.where(has_value, 1 + valued[code] * _NUM_KNOTS + low, 0)
    return EventArrays(
        code=torch.from_numpy(code).to(device),
        value_row=torch.from_numpy(value_row).to(device),
        value_share=torch.from_numpy((place - low).astype(np.float32)).to(device),
        features=torch.from_numpy(_features(tokens, rows)).to(device),
    )


def _features(tokens: Tokens, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    age = tokens.micros[rows] / (DAY_US * DAYS_A_YEAR)
    since_first = (tokens.micros[rows] - tokens.first_micros[rows]) / (DAY_US * DAYS_A_YEAR)
    plain = [
        np.log1p(tokens.gap[rows]) / 6.0,
        np.log(tokens.count[rows]) / 2.0,
        np.log1p(tokens.recent[rows]) / 2.0,
        np.log1p(since_first) / 3.0,
        np.nan_to_num(tokens.level[rows] - tokens.mean_level[rows]) / 3.0,
        tokens.tail[rows],
        tokens.static[rows].astype(np.float64),
    ]
    return np.concatenate([age_basis(age), np.stack(plain, axis=-1)], axis=-1).astype(np.float32)


def age_basis(years: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return hat functions of age [..., len(AGES)]; they sum to 1, and the last stays 1 beyond its knot."""
    knots = np.array(AGES)
    low = np.clip(np.searchsorted(knots, years, side="right") - 1, 0, len(knots) - 2)
    share = np.clip((years - knots[low]) / (knots[low + 1] - knots[low]), 0.0, 1.0)
    basis = np.zeros((*years.shape, len(knots)))
    np.put_along_axis(basis, low[..., None], (1.0 - share)[..., None], axis=-1)
    np.put_along_axis(basis, low[..., None] + 1, share[..., None], axis=-1)
    return basis
