"""A planted bias: a group whose true diseases are recorded less often. What happened stays in the truth."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import polars as pl

from lifechart.core.errors import InputError
from lifechart.simulate import tables
from lifechart.simulate.processes import names

ATTRIBUTES = ("ancestry", "sex", "language")
"""Columns of people.parquet that a group may be named by."""


@dataclass(frozen=True, slots=True)
class Underdiagnosis:
    """In `share` of a group's people with one of `conditions`, it is never recorded, nor treated by drug."""

    attribute: str
    value: str
    conditions: tuple[str, ...]
    share: float

    def __post_init__(self) -> None:
        known = names().conditions
        if self.attribute not in ATTRIBUTES:
            raise InputError("underdiagnose: attribute", self.attribute, f"one of {', '.join(ATTRIBUTES)}")
        strangers = [key for key in self.conditions if key not in known]
        if strangers or not self.conditions:
            raise InputError("underdiagnose: conditions", strangers, "keys of simulate/tables/conditions.csv")
        if not 0 < self.share <= 1:
            raise InputError("underdiagnose: share", self.share, "a number above 0, up to 1")

    @classmethod
    def parse(cls, text: str) -> Underdiagnosis:
        """Read `ATTRIBUTE=VALUE:CONDITION,CONDITION:SHARE`.

        >>> Underdiagnosis.parse("ancestry=african:type2_diabetes,hypertension:0.4").share
        0.4
        """
        try:
            group, conditions, share = text.split(":")
            attribute, value = group.split("=")
            return cls(attribute, value, tuple(conditions.split(",")), float(share))
        except ValueError as error:
            raise InputError("underdiagnose", text, "ATTRIBUTE=VALUE:CONDITION,CONDITION:SHARE") from error


def unrecorded(people: pl.DataFrame, bias: Underdiagnosis, seed: int) -> pl.DataFrame:
    """Return which conditions of which lives are never recorded, should they have them: columns life Int32, key.

    The lot depends on seed, life and condition alone, so that the order of lives makes no difference.
    """
    group = people.filter(pl.col(bias.attribute) == bias.value)["life"].to_list()
    missed = [(life, key) for life in group for key in bias.conditions if _lot(seed, life, key) < bias.share]
    return pl.DataFrame(missed, schema={"life": pl.Int32, "key": pl.String}, orient="row")


def recorded(events: pl.DataFrame, missed: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of events.parquet that reach the record: without `missed` conditions and the drugs against them.

    A visit whose reason was such a condition is recorded as a routine one. Results stay: they were measured.
    """
    drugs = pl.DataFrame(
        [(row["indication"], row["key"]) for row in tables.rows("medications")],
        schema={"key": pl.String, "drug": pl.String},
        orient="row",
    )
    against = missed.join(drugs, on="key").select("life", key="drug")
    of_conditions, of_drugs = pl.col("kind") == "condition", pl.col("kind").is_in(["medication", "medication_stop"])
    frame = events.with_row_index("_row")
    hidden = pl.concat(
        [
            frame.filter(of_conditions).join(missed, on=["life", "key"], how="semi"),
            frame.filter(of_drugs).join(against, on=["life", "key"], how="semi"),
        ]
    )
    kept = frame.join(hidden, on="_row", how="anti").join(
        missed.unique().select("life", detail="key", _reason=pl.lit(True)), on=["life", "detail"], how="left"
    )
    reason = pl.when(pl.col("_reason") & (pl.col("kind") == "encounter")).then(pl.lit("routine"))
    return kept.sort("_row").with_columns(detail=reason.otherwise("detail")).select(events.columns)


def _lot(seed: int, life: int, key: str) -> float:
    return int.from_bytes(hashlib.sha256(f"unrecorded:{seed}:{life}:{key}".encode()).digest()[:8]) / 2.0**64
