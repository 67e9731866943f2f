"""What one week of records and forecasts comes to, in numbers that a detector can follow: inputs, outputs, labels.

`Reference` learns from the reference weeks which codes, values and units are usual; `measure` then gives {Key: Measure}
for any week. Counts are of people, not rows: one patient with forty results is one observation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from lifechart.core.errors import InputError
from lifechart.core.report import ATTRIBUTES
from lifechart.core.timeline import BIRTH
from lifechart.evaluate.forecasts import Forecasts

ALL = "all"
MEASURED = ("laboratory", "vital", "survey")
CLIP = 4.0
"""Standard deviations at which one result is cut off, so that an outlier does not speak for a week."""
YEAR_DAYS = 365.25
LIVED = 115
"""Years: an age outside 0 to this is none."""


class Key(NamedTuple):
    """Names a stream."""

    kind: str
    """A key of KINDS."""
    what: str
    """A code, a system of codes, an outcome; empty where the kind says it all."""
    where: str = ALL
    """`all`, or a subgroup as `site=north`."""


class Measure(NamedTuple):
    """One week of one stream."""

    value: float
    """On the detector's scale: arcsine of shares, standardised values."""
    weight: float
    """Observations that it rests on; the variance of `value` is inversely proportional to it."""
    shown: float
    """The same in natural units: a share, the median result, years of age, observed over expected."""


KINDS: Mapping[str, str] = {
    "demographic format": "people whose demographic is absent, unreadable or in words the reference never used",
    "result format": "results that have the usual unit and a number",
    "wording": "people with a word, of a result or a side, that the reference never used",
    "value": "what results of a code come to",
    "unseen code": "people with a code that the reference never had",
    "code": "people with a code, or with any code of a terminology (`SNOMED//*`)",
    "population": "age, and the share of people with a demographic",
    "novelty": "how unusual the charts are to the model",
    "embedding": "where the charts lie in the model's own space",
    "risk": "the risks that are forecast",
    "calibration": "outcomes observed over outcomes expected",
    "discrimination": "how those with the outcome rank among those without",
}
"""Every kind of signal, and what it measures."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One week of an institution."""

    name: str
    events: pl.DataFrame
    """MEDS rows with `unit` and `kind` of those who were seen; undated rows are their demographics."""
    sites: pl.DataFrame | None = None
    """`subject_id`, `site`: where each was seen."""
    forecasts: pl.DataFrame | None = None
    """Made this week; columns as in evaluate.forecasts.MADE."""
    matured: pl.DataFrame | None = None
    """Forecasts of earlier weeks whose label became known in this one; as in evaluate.forecasts.MATURED."""


class Reference:
    """What is usual."""

    def __init__(self, batches: Sequence[Batch], min_people: int) -> None:
        """Learn from the reference weeks. Raises InputError if there are none."""
        if not batches:
            raise InputError("reference", 0, "at least one week of records")
        self.min_people, weeks = min_people, len(batches)
        events = pl.concat([batch.events.with_columns(week=pl.lit(n)) for n, batch in enumerate(batches)])
        seen = events.group_by("code").agg(people=pl.struct("subject_id", "week").n_unique())
        self.codes = frozenset(seen["code"].to_list())
        system = pl.col("code").str.split("//").list.first()
        self.systems = sorted(
            events.filter(pl.col("time").is_not_null() & pl.col("code").str.contains("//"))
            .select(system.alias("system"))
            .unique()["system"]
            .to_list()
        )
        self.common = sorted(seen.filter(pl.col("people") >= min_people * weeks)["code"].to_list())
        results = events.filter(pl.col("kind").is_in(MEASURED) & pl.col("code").is_in(self.common))
        self.values = _values(results, min_people * weeks)
        self.words = _worded(events).select("kind", "text_value").unique()
        self.forecasts = Forecasts.learn([batch.forecasts for batch in batches], [batch.matured for batch in batches])

    def measure(self, batch: Batch) -> dict[Key, Measure]:
        """Return every stream that this week says something about."""
        events = batch.events
        people = float(events["subject_id"].n_unique())
        found: dict[Key, Measure] = {}
        if people:
            for part in (self._codes(events, people), self._people(events, people), self._results(batch)):
                found.update(part)
        for kind, what, where, value, count, shown in self.forecasts.measure(batch.forecasts, batch.matured):
            found[Key(kind, what, where)] = Measure(value, count, shown)
        return found

    def _codes(self, events: pl.DataFrame, people: float) -> Iterator[tuple[Key, Measure]]:
        dated = events.filter(pl.col("time").is_not_null())
        counted = dict(dated.group_by("code").agg(pl.col("subject_id").n_unique()).iter_rows())
        for code in self.common:
            if code.split("//")[0] not in (*ATTRIBUTES, BIRTH):
                yield Key("code", code), _share(counted.get(code, 0), people)
        of_system = dated.select("subject_id", system=pl.col("code").str.split("//").list.first()).unique()
        held = dict(of_system.group_by("system").len().iter_rows())
        for system in self.systems:
            yield Key("code", f"{system}//*"), _share(held.get(system, 0), people)
        unseen = dated.filter(~pl.col("code").is_in(self.codes))["subject_id"].n_unique()
        yield Key("unseen code", ""), _share(unseen, people)

    def _people(self, events: pl.DataFrame, people: float) -> Iterator[tuple[Key, Measure]]:
        births = events.filter(pl.col("code") == BIRTH).group_by("subject_id").agg(birth=pl.col("time").min())
        ages = (
            events.filter(pl.col("time").is_not_null() & (pl.col("code") != BIRTH))
            .group_by("subject_id")
            .agg(last=pl.col("time").max())
            .join(births, on="subject_id")
            .select("birth", age=(pl.col("last") - pl.col("birth")).dt.total_days() / YEAR_DAYS)
            .filter(pl.col("age").is_between(-1, LIVED))
        )
        yield Key("demographic format", BIRTH), _share(people - ages.height, people)
        if ages.height:
            january = ages.filter((pl.col("birth").dt.month() == 1) & (pl.col("birth").dt.day() == 1)).height
            yield Key("demographic format", f"{BIRTH} on 1 January"), _share(january, ages.height)
            age = ages["age"].to_numpy()
            yield Key("population", "age"), Measure(float(age.mean()), float(len(age)), float(age.mean()))
        stated = events.filter(pl.col("time").is_null()).select("subject_id", "code").unique()
        stated = stated.with_columns(system=pl.col("code").str.split("//").list.first())
        held = dict(stated.group_by("code").agg(pl.col("subject_id").n_unique()).iter_rows())
        for system in ATTRIBUTES:
            usual = [code for code in self.codes if code.startswith(f"{system}//")]
            if not usual:
                continue
            known = stated.filter((pl.col("system") == system) & pl.col("code").is_in(usual))["subject_id"].n_unique()
            yield Key("demographic format", system), _share(people - known, people)
            for code in usual:
                if code in self.common:
                    # Among those whose demographic is readable: a feed that stops sending it is no other population.
                    yield Key("population", code), _share(held.get(code, 0), known)

    def _results(self, batch: Batch) -> Iterator[tuple[Key, Measure]]:
        rows = batch.events.filter(pl.col("kind").is_in(MEASURED)).join(self.values, on="code")
        standard = ((pl.col("numeric_value") - pl.col("median")) / pl.col("scale")).clip(-CLIP, CLIP)
        usual = pl.col("numeric_value").is_not_null() & pl.col("unit").eq_missing(pl.col("usual_unit"))
        rows = rows.with_columns(standard=standard, usual=usual)
        per_person = rows.group_by("code", "subject_id").agg(
            pl.col("standard").mean(), pl.col("numeric_value").median(), usual=pl.col("usual").all()
        )
        for code, usual_, people in (
            per_person.group_by("code").agg(pl.col("usual").sum(), pl.len().alias("people")).iter_rows()
        ):
            yield Key("result format", code), _share(usual_, people)
        numbers = per_person.filter(pl.col("standard").is_not_null())
        yield from _means(numbers, ALL)
        if batch.sites is not None:
            for (site,), part in numbers.join(batch.sites, on="subject_id").group_by("site"):
                yield from _means(part, f"site={site}")
        worded = _worded(batch.events)
        strange = worded.join(self.words, on=["kind", "text_value"], how="anti")
        people = dict(strange.group_by("kind").agg(pl.col("subject_id").n_unique()).iter_rows())
        for kind, all_people in worded.group_by("kind").agg(pl.col("subject_id").n_unique()).iter_rows():
            yield Key("wording", kind), _share(people.get(kind, 0), all_people)


def _worded(events: pl.DataFrame) -> pl.DataFrame:
    """Return what is said in words: results, sides, body sites."""
    return events.filter(pl.col("numeric_value").is_null() & pl.col("text_value").is_not_null())


def _values(results: pl.DataFrame, least: int) -> pl.DataFrame:
    """Return `code`, `median`, `scale` (a robust standard deviation) and `usual_unit` of codes with enough results."""
    return (
        results.group_by("code")
        .agg(
            results=pl.col("numeric_value").count(),
            median=pl.col("numeric_value").median(),
            low=pl.col("numeric_value").quantile(0.25),
            high=pl.col("numeric_value").quantile(0.75),
            deviation=pl.col("numeric_value").std(),
            usual_unit=pl.col("unit").mode().sort().first(),
        )
        .filter((pl.col("results") >= least) & (pl.col("deviation") > 0))
        .with_columns(scale=pl.max_horizontal((pl.col("high") - pl.col("low")) / 1.349, pl.col("deviation") / 10))
        .select("code", "median", "scale", "usual_unit")
        .sort("code")
    )


def _means(numbers: pl.DataFrame, where: str) -> Iterator[tuple[Key, Measure]]:
    """Yield the mean result of each code; `numbers` has one row a person and code."""
    of_code = numbers.group_by("code").agg(pl.col("standard").mean(), pl.col("numeric_value").median(), pl.len())
    for code, mean, median, people in of_code.iter_rows():
        yield Key("value", code, where), Measure(mean, float(people), median)


def _share(part: float, whole: float) -> Measure:
    """Return a share on the arcsine scale (variance 1 / 4n whatever the share; Anscombe 1948)."""
    if whole <= 0:
        return Measure(0.0, 0.0, 0.0)
    at = np.clip((part + 0.375) / (whole + 0.75), 0.0, 1.0)
    return Measure(float(np.arcsin(np.sqrt(at))), float(whole), part / whole)
