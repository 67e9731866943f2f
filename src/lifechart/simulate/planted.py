"""Traits that the structured record never shows: each is told by a note, an image or a genome, or by two of them.

Off unless asked for. A planted trait is one more lifelong standard normal that multiplies rates log-linearly, as the
other latents do, so both oracles stay exact: the latent oracle knows it, the record oracle integrates it out.

`accord` is told by no single modality. A fair coin decides whether a retina's vessels are wavy (s = 1) or straight
(s = -1), and the second polygenic score is p = accord * s. Since the coin is independent of accord, neither s nor p
alone says anything of it, and s * p says all: with wavy vessels a high score raises the cardiac risk.
"""

from __future__ import annotations

import csv
import hashlib
from functools import cache
from importlib import resources

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.core.errors import InputError
from lifechart.simulate.processes import LATENTS, Floats, hazards, names

MODALITIES = ("note", "image", "variant")
TRAITS = ("voice", "retina", "chest", "tile", "polygenic", "carrier", "accord")
"""Columns of planted.parquet, and of latents behind LATENTS."""
_TABLE = "planted.csv"
_STREAM = 0x6D6F64
"""Sets the traits' random stream apart from that of the lives."""


def parse(text: str) -> tuple[str, ...]:
    """Read `note,image,variant`, in whatever order; raises InputError.

    >>> parse("image,note")
    ('note', 'image')
    """
    asked = {part.strip() for part in text.split(",")}
    if asked - set(MODALITIES):
        raise InputError("--modalities", text, f"some of {', '.join(MODALITIES)}")
    return tuple(each for each in MODALITIES if each in asked)


def draw(num: int, first: int, block: int, seed: int) -> Floats:
    """Return the traits of `num` lives numbered from `first`, [N, TRAITS], whatever else is drawn of them."""
    rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, first // block, _STREAM])))
    return rng.standard_normal((num, len(TRAITS)), np.float32)


def wavy(seed: int, lives: NDArray[np.int64]) -> NDArray[np.int8]:
    """Return the coin of each life: 1 wavy retinal vessels, -1 straight ones."""
    heads = [hashlib.sha256(f"wavy:{seed}:{life}".encode()).digest()[0] & 1 for life in lives.tolist()]
    return np.array(heads, np.int8) * 2 - 1


def frame(traits_NP: Floats, first: int, seed: int) -> pl.DataFrame:
    """Return the rows of planted.parquet: life, a column a trait, and `wavy` (1 or -1)."""
    lives = np.arange(first, first + len(traits_NP))
    columns = {trait: traits_NP[:, index] for index, trait in enumerate(TRAITS)}
    return pl.DataFrame({"life": lives.astype(np.int32), **columns, "wavy": wavy(seed, lives)})


@cache
def loadings() -> Floats:
    """Return what a standard deviation of each trait adds to each log rate, [K + H, TRAITS]."""
    columns = {key: index for index, key in enumerate(names().processes)}
    table = np.zeros((len(hazards().loadings_KD), len(TRAITS)), np.float32)
    for number, trait in enumerate(TRAITS):
        for target, weight in weights(trait).items():
            table[columns[target], number] = weight
    return table


def targets(trait: str) -> tuple[str, ...]:
    """Return the conditions whose rate a trait multiplies."""
    return tuple(weights(trait))


def weights(trait: str) -> dict[str, float]:
    """Return what a standard deviation of a trait adds to the log rate of each condition."""
    rows = csv.DictReader(_text().splitlines())
    return {row["target"]: float(row["weight"]) for row in rows if row["trait"] == trait}


@cache
def driven(num_latents: int) -> tuple[Floats, Floats]:
    """Return loadings [K + H, D] and half their squared norms [K + H] for D latents, planted traits included or not."""
    table = hazards()
    if num_latents == len(LATENTS):
        return table.loadings_KD, table.half_norm_K
    assert num_latents == len(LATENTS) + len(TRAITS)
    together = np.concatenate([table.loadings_KD, loadings()], axis=1)
    return together, 0.5 * (together**2).sum(1)


def digest() -> str:
    """Return the SHA-256 of the table, which a planted hospital's truth names."""
    return hashlib.sha256(_text().encode()).hexdigest()


def _text() -> str:
    return resources.files("lifechart.simulate").joinpath(_TABLE).read_text(encoding="utf-8")
