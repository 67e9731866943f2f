"""Is a disease that results show as often recorded in one group as in another? Asked of the record, not of a model.

Some lasting diseases are defined by results. Where results on two or more days, none taken in acute care, cross
the line that a guideline draws (evidence/measured.csv) and no diagnosis stands anywhere in the record, the diagnosis is
missing. If it is missing more often in a group than among everybody else with as many such results, labels are biased
there, and whatever a model scores on those labels says little of the model (label bias: Obermeyer et al., Science 366,
2019).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import hypergeom

from lifechart.core.suppression import SMALLEST
from lifechart.core.timeline import BIRTH, believable

Mask = NDArray[np.bool_]
ADULT_YEARS = 18
ACUTE, ACUTE_DAYS = ("ENCOUNTER//emergency", "ENCOUNTER//inpatient"), 14
"""Results of these encounters, as long as no other follows and for so many days, define no lasting disease."""
_STRATA = (2, 3, 5, 9)
"""Least number of crossing days of each stratum: whoever is tested more is found more."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A condition that results define."""

    condition: str
    recorded_as: tuple[str, ...]
    """Codes of the diagnosis; a last `*` stands for whatever follows."""
    measured_by: tuple[str, ...]
    high: bool
    threshold: dict[str, float]
    """By sex."""
    days: int
    """On so many different days results have to cross the line."""
    source: str

    def names(self, code: str) -> bool:
        """Return whether a code says that this condition was diagnosed."""
        return any(code.startswith(each[:-1]) if each.endswith("*") else code == each for each in self.recorded_as)


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """The people whose results show a condition, and of whom it is recorded. E people."""

    condition: Measured
    people: pl.DataFrame
    """`subject_id` and `prediction_time`, the moment from which the results suffice: [E] rows."""
    recorded: Mask
    stratum: NDArray[np.int64]
    """By the number of days with such results."""


@dataclass(frozen=True, slots=True)
class Recording:
    """How often a condition that results show is recorded in one group, and among everybody else."""

    condition: Measured
    group: str
    shown: int
    recorded: int
    others_shown: int
    others_recorded: int
    p_value: float
    """One-sided: so few recorded in the group by chance, at equal numbers of results."""

    @property
    def shortfall(self) -> float:
        """Share recorded among the others, less that in the group."""
        return self.others_recorded / self.others_shown - self.recorded / self.shown


@cache
def measured() -> tuple[Measured, ...]:
    """Return the conditions that results define, from evidence/measured.csv."""
    text = (files("lifechart.evaluate") / "evidence" / "measured.csv").read_text(encoding="utf-8")
    return tuple(
        Measured(
            row["condition"],
            tuple(row["recorded_as"].split(";")),
            tuple(row["measured_by"].split(";")),
            row["direction"] == "high",
            {sex: float(row[f"threshold_{sex}"]) for sex in ("female", "male")},
            int(row["days"]),
            row["source"],
        )
        for row in csv.DictReader(text.splitlines())
    )


def shown(events: pl.DataFrame) -> Iterator[Shown]:
    """Yield, for each condition of the table, the adults whose results show it.  events: MEDS rows.

    Who has no recorded sex is held to the line that is crossed by fewer.
    """
    code = pl.col("code").cast(pl.String)
    births = events.filter(code == BIRTH).group_by("subject_id").agg(birth=pl.col("time").min())
    women = events.filter(code == "GENDER//female")["subject_id"].unique()
    men = events.filter(code == "GENDER//male")["subject_id"].unique()
    wanted = sorted({each for condition in measured() for each in condition.measured_by})
    adult = pl.col("time") >= pl.col("birth").dt.offset_by(f"{ADULT_YEARS}y")
    if "text_value" in events.columns:
        events = events.with_columns(believable())
    results = (
        events.filter(code.is_in(wanted) & pl.col("numeric_value").is_finite() & pl.col("time").is_not_null())
        .select("subject_id", "time", "numeric_value", code=code)
        .join(births, on="subject_id")
        .filter(adult)
        .pipe(_planned, events)
    )
    known = events.select("subject_id", code=code)
    for condition in measured():
        low, high = sorted(condition.threshold.values())
        line = (
            pl.when(pl.col("subject_id").is_in(women.implode()))
            .then(condition.threshold["female"])
            .when(pl.col("subject_id").is_in(men.implode()))
            .then(condition.threshold["male"])
            .otherwise(high if condition.high else low)
        )
        value = pl.col("numeric_value")
        crossing = value >= line if condition.high else value < line
        people = (
            results.filter(pl.col("code").is_in(condition.measured_by) & crossing)
            .group_by("subject_id", day=pl.col("time").dt.truncate("1d"))
            .agg(pl.col("time").max())
            .group_by("subject_id")
            .agg(days=pl.len(), prediction_time=pl.col("time").sort().get(condition.days - 1, null_on_oob=True))
            .filter(pl.col("days") >= condition.days)
            .sort("subject_id")
        )
        stated = known.filter(pl.col("code").is_in(_matching(known, condition)))["subject_id"].unique()
        stratum = np.searchsorted(_STRATA, people["days"].to_numpy(), side="right")
        yield Shown(
            condition,
            people.select("subject_id", "prediction_time"),
            people["subject_id"].is_in(stated.implode()).to_numpy(),
            stratum,
        )


def _planned(results: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Return the results without those of acute care: pressure or sugar is high in the ill, whoever they are."""
    code = pl.col("code").cast(pl.String)
    visits = events.filter(code.str.starts_with("ENCOUNTER//") & pl.col("time").is_not_null())
    is_acute = code.str.starts_with(ACUTE[0]) | code.str.starts_with(ACUTE[1])
    begun = visits.select("subject_id", begun="time", is_acute=is_acute).sort("begun", "is_acute")
    dated = results.sort("time").join_asof(
        begun, left_on="time", right_on="begun", by="subject_id", check_sortedness=False
    )
    within = pl.col("time") - pl.col("begun") <= pl.duration(days=ACUTE_DAYS)
    return dated.filter(~(pl.col("is_acute") & within).fill_null(False)).drop("begun", "is_acute")


def _matching(known: pl.DataFrame, condition: Measured) -> list[str]:
    return [code for code in known["code"].unique().to_list() if condition.names(code)]


def compare(found: Shown, groups: Mapping[str, Mask], fewest: int = SMALLEST) -> list[Recording]:
    """Return a comparison for each group of at least `fewest` people, with as many outside it.  groups: masks [E].

    Exact: given how many are recorded in each stratum, the number recorded in the group is a sum of hypergeometric
    draws (the conditional test of a common odds ratio of 1; Mehta, Patel & Gray 1985).
    """
    comparisons = []
    for name, members in groups.items():
        if min(int(members.sum()), int((~members).sum())) < fewest:
            continue
        comparisons.append(
            Recording(
                found.condition,
                name,
                int(members.sum()),
                int(found.recorded[members].sum()),
                int((~members).sum()),
                int(found.recorded[~members].sum()),
                _few(found, members),
            )
        )
    return comparisons


def _few(found: Shown, members: Mask) -> float:
    """Return the probability of so few recorded in the group, or fewer, if recording did not depend on it."""
    chances, observed = np.ones(1), int(found.recorded[members].sum())
    for stratum in np.unique(found.stratum):
        here = found.stratum == stratum
        total, recorded, ours = int(here.sum()), int((here & found.recorded).sum()), int((here & members).sum())
        chances = np.convolve(chances, hypergeom.pmf(np.arange(ours + 1), total, recorded, ours))
    return float(min(1.0, chances[: observed + 1].sum()))
