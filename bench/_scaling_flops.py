"""What learning from one event costs, counted: the multiplications and additions of its products, forward and back.

Looking up and summing rows of tables, norms and activations are left out, as is usual (Kaplan et al. 2020).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lifechart.model.encoders.event import AGES
from lifechart.model.heads import NUM_BINS
from lifechart.model.network import NUM_QUESTION_FEATURES
from lifechart.model.steps import NUM_WAITS


@dataclass(frozen=True)
class Cost:
    """Of one event, forward. `backbone`, `head`: parameters of the blocks, and of all else, that multiply it."""

    backbone: float
    head: float
    attention: float
    """Products of attention with a mean of so many places before each: additions and multiplications."""

    @property
    def parameters(self) -> float:
        """Parameters that multiply something at each event."""
        return self.backbone + self.head

    @property
    def training(self) -> float:
        """FLOPs of learning from one event: 6 a parameter, and three times the attention's."""
        return 6 * self.parameters + 3 * self.attention


def cost(
    width: int, layers: int, codes: int, outcomes: int, rank: int, seen: float, per_event: float
) -> Cost:  # fmt: skip
    """Count. `seen`: places that a place looks at, on average; `per_event`: questions an event (24 a life of 340)."""
    hidden = 32 * math.ceil(width * 8 / 3 / 32)
    block = 4 * width * width + 3 * width * hidden
    encoder = (len(AGES) + 7) * width
    step = (width + rank + 4) * width + (1 + NUM_WAITS) * width + width * codes
    question = (width + rank) * rank + rank * outcomes
    attention = 4 * seen * width * layers
    return Cost(layers * block, encoder + step * (1 + per_event) + question * per_event, attention)


def history_cost(entries: float, outcomes: int, rank: int) -> float:
    """Return the FLOPs of learning from one question in the history stage, `entries` of the history behind it."""
    table = entries * (rank + outcomes)
    dense = (
        (rank + NUM_QUESTION_FEATURES) * 2 * rank
        + 2 * rank * rank
        + NUM_QUESTION_FEATURES * outcomes
        + rank * outcomes * (1 + NUM_BINS)
    )
    return 6 * (table + dense)
