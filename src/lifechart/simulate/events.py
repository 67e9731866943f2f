"""One month's events of many lives, as columns. The simulator makes them, a record is read back into them."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from lifechart.simulate.processes import KINDS

KIND = {kind: index for index, kind in enumerate(KINDS)}
NOTHING = -1
"""No process, no detail."""


@dataclass(frozen=True)
class Events:
    """Columns of equal length, N events."""

    row: NDArray[np.int64]
    """Whose: row of the State that they belong to."""
    when: NDArray[np.float64]
    """Part of the month gone by, 0 to 1."""
    kind: NDArray[np.int8]
    key: NDArray[np.int16]
    """Position among the keys of this kind (encounters: of CLASSES)."""
    value: NDArray[np.float32]
    encounter: NDArray[np.int64]
    """Encounters of the month, numbered over all rows; -1: none."""
    process: NDArray[np.int16]
    """The process whose firing opened the encounter (or is the death)."""
    found: NDArray[np.bool_]
    """A condition that a test or a screening found, not a process of its own."""
    eligible: NDArray[np.bool_]
    """A result that may diagnose: measured at a planned or symptomatic ambulatory visit."""

    def __len__(self) -> int:
        return len(self.row)

    def take(self, which: NDArray[np.int64] | NDArray[np.bool_]) -> Events:
        """Return a subset, in the order given."""
        return Events(*(getattr(self, field.name)[which] for field in fields(self)))

    def of(self, kind: str) -> Events:
        """Return the events of one kind."""
        return self.take(self.kind == KIND[kind])


_DTYPES = (np.int64, np.float64, np.int8, np.int16, np.float32, np.int64, np.int16, np.bool_, np.bool_)


def concatenate(parts: list[Events]) -> Events:
    """Join events; an empty list gives no events."""
    if not parts:
        return Events(*(np.empty(0, dtype) for dtype in _DTYPES))  # type: ignore[arg-type]
    return Events(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Events)))


class Collector:
    """Gathers events of one month, part by part."""

    def __init__(self) -> None:
        self._parts: list[Events] = []

    def add(
        self,
        kind: str,
        key: NDArray[np.int64] | int,
        at: Events,
        *,
        value: NDArray[np.float64] | float = np.nan,
        found: bool = False,
        eligible: NDArray[np.bool_] | bool = False,
    ) -> Events:
        """Add one event of `kind` beside each of `at` (same life, time and encounter)."""
        num = len(at)
        part = Events(
            at.row,
            at.when,
            np.full(num, KIND[kind], np.int8),
            np.broadcast_to(np.asarray(key, np.int16), num),
            np.broadcast_to(np.asarray(value, np.float32), num),
            at.encounter,
            at.process,
            np.full(num, found),
            np.broadcast_to(np.asarray(eligible), num),
        )
        if num:
            self._parts.append(part)
        return part

    def events(self) -> Events:
        """Return all, ordered by life, time, encounter and kind."""
        joined = concatenate(self._parts)
        return joined.take(np.lexsort((joined.kind, joined.encounter, joined.when, joined.row)))
