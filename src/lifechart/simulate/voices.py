"""What notes say of the planted trait `voice`: a sentence in plain words, in no coded field and with no identifier.

Each adult visit has it by a chance of its own. Its wording is drawn from the third of the trait that the person is in,
now and then from another, so no single sentence is proof.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import polars as pl

from lifechart.simulate.identities import scramble

_STRIDE = 1 << 24
_TERTILES = (-0.430727, 0.430727)
"""Of a standard normal."""
_ADULT = 18
_SAID, _ASTRAY = 50, 10
"""Chances in a hundred: that a visit's note has the sentence, and that its wording is of any third at all."""


@dataclass(frozen=True)
class Voices:
    """The third of `voice` that each life is in: 0, 1 or 2."""

    third: dict[int, int]
    seed: int

    @classmethod
    def load(cls, truth: Path, seed: int) -> Voices:
        """Read planted.parquet."""
        frame = pl.read_parquet(truth / "planted.parquet", columns=["life", "voice"])
        thirds = np.searchsorted(_TERTILES, frame["voice"].to_numpy())
        return cls(dict(zip(frame["life"].to_list(), thirds.tolist(), strict=True)), seed)

    def sentence(self, life: int, encounter: int, years: int) -> str:
        """Return what the note of a life's encounter says besides; mostly nothing."""
        draw = int(scramble(self.seed, np.array([life * _STRIDE + encounter]), "voice")[0])
        draw, said = divmod(draw, 100)
        draw, astray = divmod(draw, 100)
        draw, elsewhere = divmod(draw, 3)
        if years < _ADULT or said >= _SAID:
            return ""
        phrases = _phrases()[elsewhere if astray < _ASTRAY else self.third[life]]
        return "\n" + phrases[draw % len(phrases)] + "\n"


@cache
def _phrases() -> tuple[tuple[str, ...], ...]:
    content = resources.files("lifechart.simulate").joinpath("voices.toml").read_text(encoding="utf-8")
    table = tomllib.loads(content)
    return tuple(
        tuple(opening.format(saying) for saying in table[third] for opening in table["openings"])
        for third in ("low", "middle", "high")
    )
