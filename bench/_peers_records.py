"""The patients that every contender of `model_speed` trains on, as plain arrays: no scheme's tokens yet."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Records:
    """Events [N], sorted by subject, then time, undated ones first. Codes count from 0; `sex` is a code a subject."""

    subject: NDArray[np.int64]
    minutes: NDArray[np.float64]
    """Age at the event; 0 where it is undated."""
    dated: NDArray[np.bool_]
    code: NDArray[np.int64]
    decile: NDArray[np.int64]
    """Which tenth of its code's values the event's value lies in; -1 without one."""
    num_codes: int

    def save(self, path: Path) -> None:
        """Write as one file of arrays."""
        np.savez(path, **{each.name: getattr(self, each.name) for each in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Records:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            columns = {name: arrays[name] for name in arrays.files}
        return cls(**{**columns, "num_codes": int(columns["num_codes"])})
