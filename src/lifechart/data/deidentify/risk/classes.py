"""Who looks alike: equivalence classes over some identifiers, and what they say of the risk to be found among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.data.deidentify.risk import population as models

_APART = 1 << 22
"""More days than any two dates are apart."""
BANDS = ((1, 1), (2, 2), (3, 4), (5, 10), (11, 19), (20, None))
"""Sizes of classes that are counted together, both ends included; 11 and 20 are what 0.09 and 0.05 ask for."""


@dataclass(frozen=True, slots=True)
class Risk:
    """The risk of one scenario. Prosecutor, journalist and marketer as in El Emam, Guide to the De-Identification of
    Personal Health Information (2013), chapter 16."""

    records: int
    classes: int
    smallest: int
    """k: everybody shares these identifiers with at least k - 1 others in the data set."""
    uniques: int
    histogram: dict[int, int]
    prosecutor_max: float
    """1/k: the attacker knows that the person is in the data set, and takes the person easiest to find."""
    prosecutor_mean: float
    """The same of an average record: classes / records."""
    prosecutor_at_risk: float
    """Share of the records whose class is smaller than the threshold allows."""
    journalist_max: float
    """The attacker does not know who is in the data set: the highest expected 1/F."""
    journalist_mean: float
    journalist_at_risk: float
    marketer: float
    """Expected share of the records linked rightly, when somebody links all of them with a register of the
    population."""
    population_unique: float
    """Estimated share of the people of the population who are alone in it with these identifiers."""
    unique_in_population: float
    """Of the records that are unique in the data set, the estimated share that are unique in the population."""
    method: str

    @property
    def share_unique(self) -> float:
        """Share of the records that nobody in the data set resembles."""
        return self.uniques / self.records if self.records else 0.0


def class_sizes(people: pl.DataFrame, columns: Sequence[str]) -> NDArray[np.int64]:
    """Return, for each row of `people`, how many rows agree with it in `columns` (null agrees with null)."""
    if not columns:
        return np.full(people.height, people.height, np.int64)
    return people.select(pl.len().over(list(columns)).cast(pl.Int64)).to_series().to_numpy()


def histogram_of(sizes: NDArray[np.int64]) -> dict[int, int]:
    """Return {class size: number of classes} of the sizes that `class_sizes` gave row by row."""
    each, rows = np.unique(sizes, return_counts=True)
    return {int(size): int(count // size) for size, count in zip(each, rows, strict=True)}


def in_bands(histogram: dict[int, int]) -> dict[str, int]:
    """Return {band: records in classes of such sizes}, as in `{"1": 40, "2": 12, "3-4": …, "20+": …}`."""
    found = {}
    for low, high in BANDS:
        name = f"{low}+" if high is None else (str(low) if low == high else f"{low}-{high}")
        found[name] = sum(f * n for f, n in histogram.items() if f >= low and (high is None or f <= high))
    return found


def risk_of(sizes: NDArray[np.int64], population: int, threshold: float) -> Risk:
    """Return the risk of records in classes of these sizes (row by row), drawn from so many people.

    `threshold`: the highest probability of a right link that is held acceptable.
    """
    records = len(sizes)
    histogram = histogram_of(sizes)
    by_size = models.expected_inverse(histogram, population)
    inverse = np.array([by_size[int(size)] for size in sizes])
    unique = models.uniqueness(histogram, population)
    # A threshold of 0.09 is meant as one in eleven, so sizes are compared and not their rounded inverses.
    least = least_class(threshold)
    return Risk(
        records=records,
        classes=sum(histogram.values()),
        smallest=int(sizes.min()),
        uniques=histogram.get(1, 0),
        histogram=histogram,
        prosecutor_max=float(1 / sizes.min()),
        prosecutor_mean=float((1 / sizes).mean()),
        prosecutor_at_risk=float((sizes < least).mean()),
        journalist_max=float(inverse.max()),
        journalist_mean=float(inverse.mean()),
        journalist_at_risk=float((np.round(1 / inverse) < least).mean()),
        marketer=float(inverse.mean()),
        population_unique=unique.share,
        unique_in_population=unique.of_uniques,
        method=unique.method,
    )


def least_class(threshold: float) -> int:
    """Return the smallest class that a threshold allows.

    >>> least_class(0.09), least_class(0.05), least_class(0.5)
    (11, 20, 2)
    """
    return max(1, round(1 / threshold))


def candidates_when_moved(people: pl.DataFrame, columns: Sequence[str], moved: str, days: int) -> NDArray[np.int64]:
    """Return how many records an attacker must hold possible for each, when the date in `moved` was moved.

    Who knows the true date knows the released one to within `days` either way, so everybody who agrees in `columns` and
    whose released date lies that near is a candidate. Rows without a date are candidates for each other.
    """
    day = pl.col(moved).dt.epoch("d") if people.schema[moved] == pl.Datetime("us") else pl.col(moved)
    group = pl.struct(list(columns)).rank("dense").cast(pl.Int64) if columns else pl.lit(0, pl.Int64)
    keyed = people.select(group=group, day=day.cast(pl.Int64))
    known = keyed.get_column("day").is_not_null().to_numpy()
    found = np.zeros(people.height, np.int64)
    # One sorted array of (group, day) as single numbers: groups lie so far apart that no window reaches another.
    place = (pl.col("group") * _APART + pl.col("day") + _APART // 2).alias("place")
    places = keyed.filter(pl.Series(known)).select(place).to_series().to_numpy()
    in_order = np.sort(places)
    found[known] = np.searchsorted(in_order, places + days, "right") - np.searchsorted(in_order, places - days, "left")
    undated = keyed.filter(~pl.Series(known)).select(pl.len().over("group").cast(pl.Int64)).to_series()
    found[~known] = undated.to_numpy()
    return found
