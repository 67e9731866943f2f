"""Which events count: codes, and a range of values. One definition for real records and for generated futures."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from lifechart.core.timeline import believable


@dataclass(frozen=True, slots=True)
class Predicate:
    """An event counts if its code is one of `codes` or matches `pattern` and its value lies in the range, if one is given.

    A range admits no event without a believable value. Both of `codes` and `pattern` empty: every event counts.
    """

    codes: tuple[str, ...] = ()
    pattern: str | None = None
    low: float = -math.inf
    high: float = math.inf
    low_inclusive: bool = True
    high_inclusive: bool = True

    @property
    def asks_value(self) -> bool:
        """Whether a value is asked for at all."""
        return not (math.isinf(self.low) and math.isinf(self.high))

    def accepts(self, code: str) -> bool:
        """Say whether a code counts, whatever its value.

        >>> Predicate(pattern="^ICD10CM//I2[12]").accepts("ICD10CM//I21.4")
        True
        """
        if not self.codes and self.pattern is None:
            return True
        return code in self.codes or (self.pattern is not None and re.search(self.pattern, code) is not None)

    def counts(self, code: str, value: float | None) -> bool:
        """Say whether one event counts; `value` is None or NaN where it has none.

        >>> Predicate(codes=("LOINC//4548-4",), low=6.5).counts("LOINC//4548-4", 7.0)
        True
        """
        if not self.accepts(code):
            return False
        if not self.asks_value:
            return True
        if value is None or not math.isfinite(value):
            return False
        # In 32 bits on both sides, as values are stored: 6.7 is then not below 6.7.
        number, low, high = np.float32(value), np.float32(self.low), np.float32(self.high)
        above = number >= low if self.low_inclusive else number > low
        below = number <= high if self.high_inclusive else number < high
        return bool(above and below)

    def on(self, codes: Sequence[str]) -> pl.Expr:
        """Return the expression over MEDS rows that is true where an event counts; `codes`: all that occur in them."""
        wanted = [code for code in codes if self.accepts(code)]
        code = pl.col("code").cast(pl.String).is_in(wanted)
        if not self.asks_value:
            return code
        value = believable().cast(pl.Float32)
        low, high = (pl.lit(bound, pl.Float32) for bound in (self.low, self.high))
        above = value >= low if self.low_inclusive else value > low
        below = value <= high if self.high_inclusive else value < high
        return code & value.is_not_null() & value.is_finite() & above & below


@dataclass(frozen=True, slots=True)
class Target:
    """A named event of interest: any one of some predicates."""

    name: str
    any_of: tuple[Predicate, ...]

    def accepts(self, code: str) -> bool:
        """Say whether a code can count."""
        return any(each.accepts(code) for each in self.any_of)

    def on(self, codes: Sequence[str]) -> pl.Expr:
        """Return the expression over MEDS rows that is true where an event counts."""
        return pl.any_horizontal(*(each.on(codes) for each in self.any_of))
