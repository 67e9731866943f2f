"""Pictures of the planted traits: a retina, a chest film and a pathology tile, small and drawn by formula.

Each shows its trait in one feature only, among features that differ from person to person and say nothing.
Shapes: H rows, W columns, S samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

SIDE = 64
"""Rows and columns of each picture."""
_VESSELS = 7
_GRID = np.mgrid[0:SIDE, 0:SIDE].astype(np.float64)


def retina(calibre: float, wavy: bool, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a fundus [H, W, 3]: vessels are wider with `calibre` (the trait), and wavy or straight."""
    y, x = _GRID
    field = np.hypot(y - SIDE / 2, x - SIDE / 2) < 0.47 * SIDE
    dark = np.zeros((SIDE, SIDE))
    width = 1.15 * np.exp(0.22 * np.clip(calibre, -3, 3))
    wave = rng.uniform(2.2, 3.0) if wavy else rng.uniform(0.1, 0.4)
    row, column = rng.uniform(26, 38), rng.uniform(28, 40)
    away, turn = np.hypot(y - row, x - column), np.arctan2(y - row, x - column)
    begin = rng.uniform(0, 2 * np.pi)
    for vessel in range(_VESSELS):
        angle = begin + 2 * np.pi * vessel / _VESSELS + rng.normal(0, 0.12)
        aside = np.remainder(turn - angle + np.pi, 2 * np.pi) - np.pi
        length = rng.uniform(13, 17)
        bend = wave * np.minimum(away / 6, 1) * np.sin(2 * np.pi * away / length + rng.uniform(0, 2 * np.pi))
        off = away * np.sin(np.clip(aside, -np.pi / 2, np.pi / 2)) - bend
        ahead = np.abs(aside) < np.pi / 2
        dark = np.maximum(dark, ahead * np.exp(-0.5 * (off / width) ** 2))
    disc = np.exp(-0.5 * (away / 4.0) ** 2)
    ground = rng.uniform(0.6, 0.75) + 0.02 * rng.standard_normal((SIDE, SIDE))
    light = np.where(field, ground - 0.11 * dark + 0.12 * disc, 0.02)
    tint = np.array([1.0, rng.uniform(0.45, 0.6), rng.uniform(0.2, 0.3)])
    return _bytes(light[..., None] * tint)


def chest(markings: float, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Return a chest film [H, W] of 12 bits: fine markings in the lower fields grow with `markings` (the trait)."""
    y, x = _GRID
    light = np.full((SIDE, SIDE), rng.uniform(0.7, 0.8))
    tall = rng.uniform(22, 26)
    for centre in (19 + rng.normal(0, 1), 45 + rng.normal(0, 1)):
        lung = ((y - 30) / tall) ** 2 + ((x - centre) / rng.uniform(9.5, 11)) ** 2
        light -= 0.45 / (1 + np.exp(8 * (lung - 1)))
    for rib in range(6):
        light += 0.04 * np.exp(-0.5 * ((y - 10 - 8 * rib - 0.02 * (x - 32) ** 2) / 1.2) ** 2)
    fine = rng.standard_normal((SIDE, SIDE))
    fine -= gaussian_filter(fine, 1.5)
    lower = 1 / (1 + np.exp(-(y - 34) / 3))
    light += 0.055 * np.exp(0.45 * np.clip(markings, -3, 3)) * fine * lower
    light += 0.02 * rng.standard_normal((SIDE, SIDE))
    film: NDArray[np.uint16] = np.round(np.clip(light, 0, 1) * 4095).astype(np.uint16)
    return film


def tile(crowding: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a stained tile [H, W, 3]: how many nuclei lie in it grows with `crowding` (the trait)."""
    y, x = _GRID
    nuclei = np.zeros((SIDE, SIDE))
    for _ in range(rng.poisson(70 * np.exp(0.4 * np.clip(crowding, -3, 3)))):
        row, column = rng.uniform(0, SIDE, 2)
        size, stretch = rng.uniform(0.9, 1.4), rng.uniform(0.7, 1.4)
        nuclei = np.maximum(nuclei, np.exp(-0.5 * (((y - row) * stretch / size) ** 2 + ((x - column) / size) ** 2)))
    ground = gaussian_filter(rng.standard_normal((SIDE, SIDE)), 4) * 0.3
    pink, purple = np.array([0.93, 0.72, 0.84]), np.array([0.36, 0.22, 0.55])
    stain = rng.uniform(0.85, 1.0)
    shown = pink + ground[..., None] * 0.15 - 0.7 * nuclei[..., None] * (pink - purple) * stain
    return _bytes(shown + 0.02 * rng.standard_normal((SIDE, SIDE, 1)))


def _bytes(light: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.round(np.clip(light, 0, 1) * 255).astype(np.uint8)
