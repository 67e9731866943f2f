"""Targets as the generator sees them: how much of each code's values counts, kind of value by kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lifechart.core.errors import InputError
from lifechart.core.predicate import Predicate, Target
from lifechart.model.steps import NO_VALUE, NUM_VALUES
from lifechart.model.vocabulary import START, UNKNOWN, Vocabulary

# Shapes: A targets, V codes, W codes whose values matter, X kinds of value, K knots.

TAIL_SPREAD = 0.1
"""Mean distance of a value beyond its code's outer knots, as a share of the spread between the inner ones."""


@dataclass(frozen=True)
class Wanted:
    """Of each target, the codes that count whatever their value [A, V], and the share of values [A, W, X] of others."""

    names: tuple[str, ...]
    whole: NDArray[np.float32]
    codes: NDArray[np.int64]
    """[W] rows of the vocabulary whose values decide for some target."""
    shares: NDArray[np.float32]
    targets: tuple[Target, ...]

    @property
    def by_code_alone(self) -> NDArray[np.bool_]:
        """For which targets the code alone decides [A]."""
        return np.array([not each.any() for each in self.shares])


def wanted(targets: Sequence[Target], vocabulary: Vocabulary) -> Wanted:
    """Resolve targets against what a model can generate; raises InputError for one that it never can."""
    bare = [code.partition("=")[0] for code in vocabulary.codes]
    whole = np.zeros((len(targets), len(vocabulary)), dtype=np.float32)
    partly: dict[int, dict[int, NDArray[np.float32]]] = {}
    for number, target in enumerate(targets):
        for row, code in enumerate(bare):
            if row in (UNKNOWN, START) or not target.accepts(code):
                continue
            fits = [each for each in target.any_of if each.accepts(code)]
            if any(not each.asks_value for each in fits):
                whole[number, row] = 1.0
            elif not np.isnan(vocabulary.knots[row, 0]):
                share = np.max([shares_within(each, vocabulary.knots[row]) for each in fits], axis=0)
                partly.setdefault(row, {})[number] = share
        if not whole[number].any() and not any(number in each for each in partly.values()):
            raise InputError(f"target {target.name}", target.any_of, "at least one code that the model has learnt")
    codes = np.array(sorted(partly), dtype=np.int64)
    shares = np.zeros((len(targets), len(codes), NUM_VALUES), dtype=np.float32)
    for place, row in enumerate(codes):
        for number, share in partly[int(row)].items():
            shares[number, place] = share
    return Wanted(tuple(each.name for each in targets), whole, codes, shares, tuple(targets))


def shares_within(predicate: Predicate, knots: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the share of values of each kind [X] that lie in the predicate's range, as they are drawn."""
    spread = max(float(knots[-2] - knots[1]), 1e-6) * TAIL_SPREAD
    low, high = predicate.low, predicate.high
    shares = np.zeros(NUM_VALUES, dtype=np.float32)
    below = float(knots[0])
    shares[0] = np.exp(-max(below - high, 0.0) / spread) - (np.exp(-(below - low) / spread) if low < below else 1.0)
    above = float(knots[-1])
    shares[NO_VALUE - 1] = np.exp(-max(low - above, 0.0) / spread) - (
        np.exp(-(high - above) / spread) if high > above else 1.0
    )
    for number, (start, stop) in enumerate(zip(knots[:-1], knots[1:], strict=True)):
        if stop > start:
            shares[1 + number] = max(min(high, stop) - max(low, start), 0.0) / (stop - start)
        else:
            shares[1 + number] = float(low <= start <= high)
    return np.clip(shares, 0.0, 1.0)
