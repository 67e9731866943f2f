"""Moves dates so that intervals survive and calendars do not: a keyed offset per patient, or the year alone.

`shift`: every time of one patient moves by the same whole number of days, 1 to 365 either way and never 0, drawn by
HMAC-SHA256 from the institution's key and the patient's id. Nothing moves by more than a year, so secular change (a new
vaccine, a new guideline) stays roughly in place. If every record ended on the day of the export, that day would give
each offset away; so a patient's observation ends a keyed 1 to 180 days before it (`curtailments`), and what happened
later is left out. A patient who is seen every week still shows where the export's date lies, to within those days:
what a shift cannot hide an expert determination must weigh, or `year` be used.

`year`: Safe Harbor (45 CFR 164.514(b)(2)): every time becomes the first of January of its year.

Either way nobody is older than 90 (`cap_ages`), measured against the record's own last date and never the wall clock.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

import polars as pl

from lifechart.core.timeline import BIRTH

MODES = ("shift", "year")
MAX_OFFSET_DAYS = 365
MAX_CURTAILMENT_DAYS = 180
OLDEST = pl.duration(days=32_872)
"""90 years of 365.25 days, rounded down: the age that stands for everyone of 90 and over."""


def offsets(key: bytes, patient_ids: pl.Series) -> pl.Series:
    """Return each patient's shift as a Duration: whole days, 1 to 365 either way."""
    return _days(key, b"offset", patient_ids, _offset)


def curtailments(key: bytes, patient_ids: pl.Series) -> pl.Series:
    """Return by how much each patient's observation ends before the export, as a Duration of 1 to 180 whole days."""
    return _days(key, b"curtailment", patient_ids, lambda draw: 1 + draw % MAX_CURTAILMENT_DAYS)


def _offset(draw: int) -> int:
    size = 1 + (draw >> 1) % MAX_OFFSET_DAYS
    return size if draw & 1 else -size


def _days(key: bytes, purpose: bytes, patient_ids: pl.Series, of_draw: Callable[[int], int]) -> pl.Series:
    draws = (hmac.digest(key, purpose + b"\0" + str(id_).encode(), "sha256") for id_ in patient_ids)
    days = [of_draw(int.from_bytes(draw[:8], "big")) for draw in draws]
    return (pl.Series(patient_ids.name, days, dtype=pl.Int64) * 86_400_000_000).cast(pl.Duration("us"))


def cap_ages(events: pl.DataFrame) -> pl.DataFrame:
    """Return events (sorted or not) in which nobody is older than 90 at their own last date.

    Whoever is, is born later: exactly 90 years before that date. Events from before the moved birth are left out, since
    a record that reaches back further than 90 years tells the age as well.
    """
    birth = pl.col("time").filter(pl.col("code") == BIRTH).first().over("subject_id")
    earliest = pl.col("time").max().over("subject_id") - OLDEST
    marked = events.with_columns(birth=birth, earliest=earliest)
    old = pl.col("birth") < pl.col("earliest")
    time = pl.when(old & (pl.col("code") == BIRTH)).then("earliest").otherwise("time")
    too_early = (old & (pl.col("time") < pl.col("earliest"))).fill_null(False)
    return marked.with_columns(time=time).filter(~too_early | (pl.col("code") == BIRTH)).drop("birth", "earliest")


def years(time: pl.Expr) -> pl.Expr:
    """Return the first instant of the year of each time."""
    return time.dt.truncate("1y")
