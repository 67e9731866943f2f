"""Whole subjects into folds, and work done for several folds side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lifechart.core.errors import InputError

_MANY_ROWS = 30_000
_FOLDS, _FEWER_FOLDS = 5, 3

Each = Callable[[Callable[[int], Any], int], list[Any]]
"""Runs a function for every number below another, in whatever order, and returns what they made in theirs."""


def folds_of(subjects: NDArray[np.int64], event: NDArray[np.bool_], seed: int) -> NDArray[np.int64]:
    """Return each row's fold [P]: whole subjects, those with an event spread evenly over the folds.

    Raises InputError unless two subjects have the event and two have not.
    """
    unique, owner = np.unique(subjects, return_inverse=True)
    has = np.zeros(len(unique), dtype=bool)
    np.logical_or.at(has, owner, event)
    lacks = np.zeros(len(unique), dtype=bool)
    np.logical_or.at(lacks, owner, ~event)
    fewest = int(min(has.sum(), lacks.sum(), len(unique) // 2))
    if fewest < 2:
        found = f"{int(has.sum())} subjects with and {int(lacks.sum())} without"
        raise InputError("LABELS: boolean_value", found, "at least two subjects of each")
    number = min(_FEWER_FOLDS if len(subjects) > _MANY_ROWS else _FOLDS, fewest)
    lot = np.random.default_rng([seed, 11]).permutation(len(unique))
    order = lot[np.argsort(~has[lot], kind="stable")]
    fold = np.empty(len(unique), dtype=np.int64)
    fold[order] = np.arange(len(unique)) % number
    return fold[owner]


@contextmanager
def side_by_side() -> Iterator[Each]:
    """Do as many at once as there are cores."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        yield lambda work, number: list(pool.map(work, range(number)))
