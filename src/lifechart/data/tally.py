"""Counts over all subjects, and what follows from them: which codes, displays and units enough patients share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

import polars as pl

from lifechart.core import durable
from lifechart.data.deidentify import structured
from lifechart.data.units import usual_units


@dataclass(frozen=True, slots=True)
class Counts:
    """How many subjects hold what. One for a bucket; added up, one for all."""

    codes: pl.DataFrame
    """Columns code, num."""
    names: pl.DataFrame
    """Columns code, name, num."""
    units: pl.DataFrame
    """Columns unit, num."""
    holders: pl.DataFrame
    """Columns code, subject_id: who holds the codes that are rare within the bucket."""
    measures: pl.DataFrame
    """Columns code, unit, num: events of each code and unit."""

    def save(self, bucket_file: Path) -> None:
        """Write the counts beside a bucket's events."""
        for each in fields(self):
            with durable.replacing(bucket_file.with_suffix(f".{each.name}")) as aside:
                getattr(self, each.name).write_ipc(aside)

    @classmethod
    def load(cls, bucket_file: Path) -> Counts:
        """Read what `save` wrote."""
        names = [each.name for each in fields(cls)]
        return cls(**{name: pl.read_ipc(bucket_file.with_suffix(f".{name}")) for name in names})


@dataclass(frozen=True, slots=True)
class Rules:
    """What enough patients share, and what becomes of the rest."""

    becomes: Mapping[str, str | None]
    """Rare code -> the ancestor that stands for it, or None: not written."""
    units: tuple[str, ...]
    """Units that may be written."""
    descriptions: Mapping[str, str]
    """Code -> the display that most patients' records give it."""
    usual: Mapping[str, str] = field(default_factory=dict)
    """Code -> the unit that its values are written in, where they come in several (units.usual_units)."""


def count(events: pl.DataFrame, min_patients: int) -> Counts:
    """Count the subjects of each code, display and unit of one bucket."""

    def subjects_of(*columns: str) -> pl.DataFrame:
        pairs = events.select("subject_id", *columns).drop_nulls().unique()
        return pairs.group_by(columns).agg(num=pl.len().cast(pl.Int64))

    held = events.select("subject_id", "code").unique()
    codes = held.group_by("code").agg(num=pl.len().cast(pl.Int64))
    rare = codes.filter(pl.col("num") < min_patients)
    holders = held.join(rare.select("code"), on="code", how="semi").select("code", "subject_id")
    measured = events.filter(pl.col("unit").is_not_null(), pl.col("numeric_value").is_not_null())
    measures = measured.group_by("code", "unit").agg(num=pl.len().cast(pl.Int64))
    return Counts(codes, subjects_of("code", "name"), subjects_of("unit"), holders, measures)


def rules(counts: Iterable[Counts], min_patients: int) -> Rules:
    """Add up the counts of all buckets (whose subjects are disjoint) and decide what may be written."""
    parts = list(counts)
    num = dict(_sum((part.codes for part in parts), "code").iter_rows())
    becomes = structured.back_off(pl.concat(part.holders for part in parts), num, min_patients)
    units = _sum((part.units for part in parts), "unit").filter(pl.col("num") >= min_patients)
    named = _sum((part.names for part in parts), "code", "name").filter(pl.col("num") >= min_patients)
    best = named.sort("num", "name", descending=[True, False]).unique("code", keep="first", maintain_order=True)
    return Rules(
        becomes=becomes,
        units=tuple(units.get_column("unit").sort()),
        descriptions=dict(best.select("code", "name").iter_rows()),
        usual=usual_units(_sum((part.measures for part in parts), "code", "unit")),
    )


def _sum(frames: Iterable[pl.DataFrame], *keys: str) -> pl.DataFrame:
    return pl.concat(frames).group_by(keys).agg(pl.col("num").sum())
