"""Chance that nobody can guess or draw again: noise and sampling from a cipher under a key that is thrown away.

The noise of a private run is worth nothing to whoever can draw it again. So it does not come from the run's seed, which
is published, but from AES-256 in counter mode under a key of the operating system's entropy that never leaves memory.
"""

from __future__ import annotations

import math
import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

_WORD = 8


class Lot:
    """A stream of random numbers. `key` (32 bytes) is for tests alone: whoever knows it can take the noise off."""

    def __init__(self, key: bytes | None = None) -> None:
        self._stream = Cipher(algorithms.AES(key or os.urandom(32)), modes.CTR(bytes(16))).encryptor()

    def uniform(self, size: int) -> NDArray[np.float64]:
        """Return numbers in (0, 1), each a multiple of 2^-53 moved by half of one, so that none is 0 or 1."""
        words = np.frombuffer(self._stream.update(bytes(size * _WORD)), dtype=np.uint64)
        return ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52

    def normal(self, size: int) -> NDArray[np.float64]:
        """Return standard normal numbers (Box & Muller 1958)."""
        half = (size + 1) // 2
        both = self.uniform(2 * half)
        radius, angle = np.sqrt(-2.0 * np.log(both[:half])), 2.0 * math.pi * both[half:]
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:size]

    def sample(self, size: int, probability: float) -> NDArray[np.int64]:
        """Return a Poisson sample of range(size): each is in it with `probability`, whoever else is."""
        return np.flatnonzero(self.uniform(size) < probability)

    def generator(self) -> np.random.Generator:
        """Return a NumPy generator seeded from the stream, for draws that no noise depends on."""
        return np.random.default_rng(np.frombuffer(self._stream.update(bytes(32)), dtype=np.uint32))
