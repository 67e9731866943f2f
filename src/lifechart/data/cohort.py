"""Who is in a data set: one row a subject, filters over it, and the summary that documents and model cards print."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import polars as pl

from lifechart.core.suppression import suppress
from lifechart.core.timeline import BIRTH, DEATH, RECORD_END

AGE_BANDS = (0, 18, 40, 65, 80)
"""Lower bounds, in years, of the bands in which ages are counted."""
_YEAR = 365.25 * 86_400_000_000
_DEMOGRAPHICS = {"sex": "GENDER//", "race": "RACE//", "ethnicity": "ETHNICITY//"}


def subjects(events: pl.DataFrame) -> pl.DataFrame:
    """Return one row a subject, sorted by id.

    Columns: subject_id; sex, race, ethnicity (null where not recorded); age (years at the last date); years (from the
    first event after birth to the last date); num_events (dated, without birth and record end); died.
    """
    code, time = pl.col("code"), pl.col("time")
    clinical = time.is_not_null() & ~code.is_in([BIRTH, RECORD_END])
    stated = {
        name: code.filter(code.str.starts_with(prefix)).first().str.strip_prefix(prefix)
        for name, prefix in _DEMOGRAPHICS.items()
    }
    grouped = events.group_by("subject_id").agg(
        **stated,
        birth=time.filter(code == BIRTH).first(),
        first=time.filter(clinical).min(),
        last=time.max(),
        num_events=clinical.sum().cast(pl.Int64),
        died=(code == DEATH).any(),
    )
    years = {"age": pl.col("last") - pl.col("birth"), "years": pl.col("last") - pl.col("first")}
    spans = [(span.dt.total_microseconds() / _YEAR).alias(name) for name, span in years.items()]
    columns = ("subject_id", *_DEMOGRAPHICS, "age", "years", "num_events", "died")
    return grouped.with_columns(spans).select(columns).sort("subject_id")


def select(
    people: pl.DataFrame,
    *,
    min_events: int = 0,
    min_years: float = 0.0,
    ages: tuple[float, float] = (0.0, float("inf")),
    sexes: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Return the rows of `people` (as `subjects` makes them) that meet every condition; `ages` is half open."""
    wanted = (pl.col("num_events") >= min_events) & (pl.col("years").fill_null(0.0) >= min_years)
    if ages != (0.0, float("inf")):
        wanted &= (pl.col("age") >= ages[0]) & (pl.col("age") < ages[1])
    if sexes is not None:
        wanted &= pl.col("sex").is_in(list(sexes))
    return people.filter(wanted)


def summary(people: pl.DataFrame) -> pl.DataFrame:
    """Return who there is, by group (all, sex, age, race) and value.

    Columns: group, value, num_subjects, share, died, median_years, median_events.
    """
    groups: dict[str, pl.Expr] = {
        "all": pl.lit("all"),
        "sex": pl.col("sex"),
        "age": _band(pl.col("age")),
        "race": pl.col("race"),
    }
    parts = [
        people.with_columns(group=pl.lit(name), value=value.fill_null("not recorded"))
        .group_by("group", "value")
        .agg(
            num_subjects=pl.len(),
            share=pl.len() / people.height,
            died=pl.col("died").sum(),
            median_years=pl.col("years").median(),
            median_events=pl.col("num_events").median(),
        )
        .sort("value")
        for name, value in groups.items()
    ]
    return pl.concat(parts)


def _hide(rows: list[dict[str, Any]]) -> bool:
    """Hide the small cells of one group's rows: who died and who did not, by value, with their totals.

    Returns whether the number of all who died may be told beside them.
    """
    cells = suppress([[row["died"], row["num_subjects"] - row["died"]] for row in rows])
    for row, (died, _, subjects) in zip(rows, cells, strict=False):
        row["died"] = died
        if subjects is None:
            row |= dict.fromkeys(("num_subjects", "share", "median_years", "median_events"))
    return bool(cells) and cells[-1][0] is not None


_COLUMNS = {
    "num_subjects": "{:,}",
    "share": "{:.1%}",
    "died": "{:,}",
    "median_years": "{:.1f}",
    "median_events": "{:.0f}",
}


def _band(age: pl.Expr) -> pl.Expr:
    labels = [
        pl.when((age >= low) & (age < high)).then(pl.lit(f"{low}-{high - 1}")) for low, high in pairwise(AGE_BANDS)
    ]
    return pl.coalesce(*labels, pl.when(age >= AGE_BANDS[-1]).then(pl.lit(f"{AGE_BANDS[-1]} and over")))


def table(people: pl.DataFrame) -> list[tuple[str, ...]]:
    """Return `summary` as a header and rows of text, for a terminal or a document; small cells are hidden."""
    rows: list[dict[str, Any]] = summary(people).to_dicts()
    by_group = {group: [row for row in rows if row["group"] == group] for group in ("sex", "age", "race", "all")}
    died_told = [_hide(ours) for ours in by_group.values()]
    if not all(died_told):
        # Another group's rows need it hidden, and everybody's row would give it back.
        by_group["all"][0]["died"] = None
    header = ("", "subjects", "share", "died", "years observed (median)", "events (median)")
    return [
        header,
        *(
            (
                row["value"] if row["group"] == "all" else f"{row['group']}: {row['value']}",
                *("–" if row[name] is None else form.format(row[name]) for name, form in _COLUMNS.items()),
            )
            for row in rows
        ),
    ]
