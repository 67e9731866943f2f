"""Lives as fingerprints: how many events of a record single its owner out (unicity, de Montjoye et al. 2013).

A person is drawn, then some of the person's events; if nobody else in the data set holds all of them, they are a
fingerprint. The share of people for whom they are is the unicity; its interval is Wilson's over the people drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.core.forecast import Interval

POINTS = (1, 2, 3, 4, 6, 8)
"""How many events the attacker is taken to know."""
SINGLED_OUT = (0.5, 0.95)
"""Shares of the people for which the number of events needed is told."""
SAMPLE = 400
"""People drawn."""
_DAYS = 1 << 20
"""More than the days from year 1 to 2800, so that subject * _DAYS + day is one number."""
_UNCLINICAL = ("demographic", "record")
_Z = 1.959964

KINDS: dict[str, str] = {
    "code": "what was recorded, and not when",
    "code and value": "what was recorded, and the measured value to three figures",
    "code and year": "what was recorded, and in which calendar year",
    "code and month": "what was recorded, and in which calendar month",
    "code and days between": "what was recorded, and how many days lay between",
}
"""What the attacker knows of each event. Days between survive a shift of dates; calendar months do not, so that the
fourth line is what the fifth would be if dates had not been moved."""


@dataclass(frozen=True, slots=True)
class Unicity:
    """Share of the people whom `points` of their events single out."""

    kind: str
    points: int
    people: int
    """People drawn who have so many distinct events."""
    share: float
    interval: Interval


def clinical(events: pl.DataFrame) -> pl.DataFrame:
    """Return the dated events of care, one row a (person, code, day, value); person and code are numbers from 0."""
    dated = events.filter(pl.col("time").is_not_null() & ~pl.col("kind").fill_null("").is_in(_UNCLINICAL))
    numbers = dated.select(pl.col("subject_id").unique().sort()).with_row_index("person")
    codes = dated.select(pl.col("code").unique().sort()).with_row_index("number")
    return (
        dated.join(numbers, on="subject_id")
        .join(codes, on="code")
        .select(
            person=pl.col("person").cast(pl.Int64),
            code=pl.col("number").cast(pl.Int64),
            day=pl.col("time").dt.epoch("d").cast(pl.Int64) + _DAYS // 2,
            month=pl.col("time").dt.year().cast(pl.Int64) * 12 + pl.col("time").dt.month().cast(pl.Int64),
            value=pl.col("numeric_value").cast(pl.Float64).round_sig_figs(3),
        )
        .unique()
        .sort("person", "code", "day", "value")
    )


def unicities(
    events: pl.DataFrame,
    kinds: Sequence[str] = tuple(KINDS),
    points: Sequence[int] = POINTS,
    sample: int = SAMPLE,
    seed: int = 0,
    advance: Callable[[], None] = lambda: None,
) -> list[Unicity]:
    """Return the unicity of each kind of knowledge and number of events, over people drawn by `seed`.

    `events`: columns of a shard. `advance` is called once a kind.
    """
    rows = clinical(events)
    found: list[Unicity] = []
    for kind in kinds:
        index = _Index(rows, kind)
        for number in points:
            generator = np.random.default_rng([seed, number])
            eligible = np.flatnonzero(index.counts >= number)
            drawn = generator.permutation(eligible)[:sample]
            alone = sum(index.unique(int(person), number, generator) for person in drawn)
            if len(drawn):
                found.append(Unicity(kind, number, len(drawn), alone / len(drawn), wilson(alone, len(drawn))))
        advance()
    return found


def wilson(successes: int, trials: int) -> Interval:
    """Return Wilson's 95% interval of a share."""
    share, square = successes / trials, _Z**2
    centre = (share + square / (2 * trials)) / (1 + square / trials)
    spread = _Z * np.sqrt(share * (1 - share) / trials + square / (4 * trials**2)) / (1 + square / trials)
    return Interval(float(max(0.0, centre - spread)), float(min(1.0, centre + spread)))


def points_needed(found: Sequence[Unicity], kind: str, share: float) -> int | None:
    """Return the fewest events examined that single out at least this share of people, or None."""
    enough = [each.points for each in found if each.kind == kind and each.share >= share]
    return min(enough, default=None)


def _numbered(rows: pl.DataFrame, columns: Sequence[str]) -> NDArray[np.int64]:
    """Return, row by row, a number from 0 for each distinct combination of values."""
    items = np.zeros(rows.height, np.int64)
    for name in columns:
        rank = rows.get_column(name).rank("dense").cast(pl.Int64).to_numpy()
        _, items = np.unique(items * (int(rank.max(initial=0)) + 1) + rank, return_inverse=True)
    return items


class _Index:
    """Who holds what, for one kind of knowledge.

    Every event is an item: what the attacker knows of it. Days between need the days themselves: there an item is the
    code, and its holders are (person, day) as one number.
    """

    def __init__(self, rows: pl.DataFrame, kind: str) -> None:
        self._gaps = kind == "code and days between"
        columns = {
            "code": ["code"],
            "code and value": ["code", "value"],
            "code and year": ["code", "year"],
            "code and month": ["code", "month"],
            "code and days between": ["code"],
        }[kind]
        if kind == "code and value":
            rows = rows.filter(pl.col("value").is_not_null())
        rows = rows.with_columns(year=(pl.col("month") - 1) // 12)
        held = rows.select("person", *columns, *(["day"] if self._gaps else [])).unique(maintain_order=True)
        items = _numbered(held, columns)
        person = held.get_column("person").to_numpy()
        keys = person * _DAYS + held.get_column("day").to_numpy() if self._gaps else person
        order = np.lexsort((keys, items))
        self._items, self._keys = items[order], keys[order]
        self._bounds = np.searchsorted(self._items, np.arange(self._items.max(initial=-1) + 2))
        by_person = np.argsort(person, kind="stable")
        self._of_person, self._own_items, self._own_keys = person[by_person], items[by_person], keys[by_person]
        highest = int(person.max(initial=-1)) + 1
        self._starts = np.searchsorted(self._of_person, np.arange(highest + 1))
        self.counts = np.diff(self._starts)

    def _holders(self, item: int) -> NDArray[np.int64]:
        return self._keys[self._bounds[item] : self._bounds[item + 1]]

    def unique(self, person: int, number: int, generator: np.random.Generator) -> bool:
        """Tell whether `number` of this person's events, drawn by lot, are held by nobody else."""
        first, last = self._starts[person], self._starts[person + 1]
        chosen = generator.choice(last - first, number, replace=False) + first
        items = self._own_items[chosen]
        if not self._gaps:
            return self._alone([self._holders(int(item)) for item in items])
        days = self._own_keys[chosen] % _DAYS
        # Where each point would lie if its holder's first known point were the attacker's first.
        return self._alone([self._holders(int(i)) - int(d - days[0]) for i, d in zip(items, days, strict=True)], _DAYS)

    @staticmethod
    def _alone(holders: list[NDArray[np.int64]], per_person: int = 1) -> bool:
        holders.sort(key=len)
        left = holders[0]
        for others in holders[1:]:
            place = np.minimum(np.searchsorted(others, left), len(others) - 1)
            left = left[others[place] == left]
        people = left // per_person
        return bool(people[0] == people[-1])
