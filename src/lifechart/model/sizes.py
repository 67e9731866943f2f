"""One dial: each size of network with everything that follows from it, and which one the data asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lifechart.core.errors import InputError

AUTO = "auto"
"""Stands for the size that the number of events asks for."""
EVENTS_A_PARAMETER = 38.0
"""Events for each parameter, from which on a larger network is worth its arithmetic: the ratio at the best size for a
million events of simulated lives; 23 at 300,000 (docs/lab-notes/0410). How it grows beyond is not settled.
"""
_PLAIN = 38
"""Features of an event (19), of an anchor's age (4), and intervals of waiting (15)."""


@dataclass(frozen=True, slots=True)
class Size:
    """Shape and schedule of one network. Heads have 32 dimensions: smaller ones are slow in bfloat16."""

    width: int
    layers: int
    context: int
    """Events that the attention sees at once; older ones reach it through the history (questions.History)."""
    rank: int
    """Width of the history's state, the layer that all outcomes share."""
    batch_tokens: int
    rate: float
    epochs: int
    questions: int
    """Moments asked about in each life in each epoch of the backbone."""

    @property
    def heads(self) -> int:
        """Attention heads."""
        return self.width // 32

    def parameters(self, codes: int) -> int:
        """Return how many parameters multiply something at each event: blocks, encoder, next-event head."""
        hidden = 32 * math.ceil(self.width * 8 / 3 / 32)
        blocks = self.layers * (4 * self.width**2 + 3 * self.width * hidden)
        return blocks + self.width * (self.width + self.rank + codes + _PLAIN)


SIZES = {
    "xs": Size(width=64, layers=2, context=256, rank=48, batch_tokens=4096, rate=1e-2, epochs=1, questions=24),
    "s": Size(width=96, layers=2, context=256, rank=64, batch_tokens=8192, rate=8e-3, epochs=3, questions=24),
    "m": Size(width=128, layers=4, context=512, rank=96, batch_tokens=16384, rate=1.5e-3, epochs=3, questions=24),
    "l": Size(width=384, layers=8, context=1024, rank=128, batch_tokens=65536, rate=6e-4, epochs=6, questions=24),
}


def size_named(name: str) -> Size:
    """Return a size; raises InputError for a name that is not in SIZES."""
    if name not in SIZES:
        raise InputError("--size", name, f"one of {', '.join(SIZES)}, or {AUTO}")
    return SIZES[name]


def size_for(num_events: int, num_codes: int) -> str:
    """Return the name of the largest size with EVENTS_A_PARAMETER to learn from, and of the smallest if none has.

    >>> size_for(3_000_000, 450), size_for(15_000_000, 450)
    ('xs', 's')
    """
    pays = [name for name, each in SIZES.items() if each.parameters(num_codes) * EVENTS_A_PARAMETER <= num_events]
    return pays[-1] if pays else next(iter(SIZES))
