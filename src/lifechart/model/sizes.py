"""One dial: each size of network with everything that follows from it."""

from __future__ import annotations

from dataclasses import dataclass

from lifechart.core.errors import InputError


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


SIZES = {
    "xs": Size(width=64, layers=2, context=256, rank=48, batch_tokens=4096, rate=2e-3, epochs=1, questions=24),
    "s": Size(width=96, layers=2, context=256, rank=64, batch_tokens=8192, rate=2e-3, epochs=3, questions=24),
    "m": Size(width=128, layers=4, context=512, rank=96, batch_tokens=16384, rate=1.5e-3, epochs=3, questions=24),
    "l": Size(width=384, layers=8, context=1024, rank=128, batch_tokens=65536, rate=6e-4, epochs=6, questions=24),
}


def size_named(name: str) -> Size:
    """Return a size; raises InputError for a name that is not in SIZES."""
    if name not in SIZES:
        raise InputError("--size", name, f"one of {', '.join(SIZES)}")
    return SIZES[name]
