"""Random allocation that nobody can foresee and anybody can check afterwards.

A trial's secret is drawn once and committed to by hash before the first enrolment. Every list follows from the secret
alone by HMAC-SHA256 in counter mode, so the list cannot be redrawn, and once the secret is opened at the end, an
outsider recomputes each allocation. Permuted blocks of random size within strata (Matts & Lachin 1988).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice

from lifechart.core.errors import InputError


def commitment(secret: bytes) -> str:
    """Return the hash that binds a trial to its secret, in hexadecimal."""
    return hashlib.sha256(b"lifechart/allocation\0" + secret).hexdigest()


@dataclass(slots=True)
class _Stream:
    """Uniform whole numbers from a secret and a purpose."""

    secret: bytes
    purpose: str
    _words: Iterator[int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._words = self._generate()

    def _generate(self) -> Iterator[int]:
        for number in count():
            block = hmac.digest(self.secret, f"{self.purpose}\0{number}".encode(), "sha256")
            for start in range(0, len(block), 8):
                yield int.from_bytes(block[start : start + 8], "big")

    def below(self, limit: int) -> int:
        """Return a number from 0 to limit - 1, each equally likely."""
        fair = (1 << 64) - (1 << 64) % limit
        return next(word for word in self._words if word < fair) % limit

    def shuffled(self, items: Sequence[int]) -> list[int]:
        """Return a random order of `items` (Fisher-Yates)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            chosen = self.below(last + 1)
            order[last], order[chosen] = order[chosen], order[last]
        return order


def blocks(secret: bytes, stratum: str, sizes: Sequence[int]) -> Iterator[int]:
    """Yield arms (1 intervention, 0 control) for a stratum's participants in the order of enrolment, without end.

    `sizes`: block sizes to draw from, all even; within each block half get the intervention.
    """
    if not sizes or any(size < 2 or size % 2 for size in sizes):
        raise InputError("blocks", tuple(sizes), "even block sizes from 2")
    stream = _Stream(secret, f"blocks/{stratum}")
    while True:
        size = sizes[stream.below(len(sizes))]
        yield from stream.shuffled([0, 1] * (size // 2))


def arm_of(secret: bytes, stratum: str, sizes: Sequence[int], position: int) -> int:
    """Return the arm of the participant at `position` (from 0) of a stratum."""
    return next(islice(blocks(secret, stratum, sizes), position, None))


def clusters(secret: bytes, names: Sequence[str], strata: Sequence[str] | None = None) -> dict[str, int]:
    """Return each cluster's arm: half of each stratum's, an odd one out by lot."""
    _distinct(names)
    of = strata if strata is not None else [""] * len(names)
    arms: dict[str, int] = {}
    for stratum in sorted(set(of)):
        members = [position for position, own in enumerate(of) if own == stratum]
        stream = _Stream(secret, f"clusters/{stratum}")
        order = stream.shuffled(members)
        half = (len(order) + stream.below(2)) // 2
        arms |= {names[position]: int(place < half) for place, position in enumerate(order)}
    return {name: arms[name] for name in names}


def steps(secret: bytes, names: Sequence[str], num_steps: int) -> dict[str, int]:
    """Return the step (1 to `num_steps`) at which each cluster of a stepped wedge crosses over, equal numbers each."""
    _distinct(names)
    if num_steps < 1 or len(names) % num_steps:
        raise InputError("clusters", len(names), f"a multiple of the {num_steps} steps")
    order = _Stream(secret, "steps").shuffled(range(len(names)))
    each = len(names) // num_steps
    step = {names[position]: 1 + place // each for place, position in enumerate(order)}
    return {name: step[name] for name in names}


def _distinct(names: Sequence[str]) -> None:
    if len(set(names)) != len(names) or len(names) < 2:
        raise InputError("clusters", tuple(names), "two or more clusters, each named once")
