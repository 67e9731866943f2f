"""What stands in a table's cells, whatever the table stores them as: text, numbers, whole numbers, times."""

from __future__ import annotations

import polars as pl

_USUAL = (
    ("%Y-%m-%d", pl.Date),
    ("%Y-%m-%d %H:%M:%S", pl.Datetime("us")),
    ("%Y-%m-%dT%H:%M:%S", pl.Datetime("us")),
)

_YEARS = (1600, 2400)
"""Wide enough for data sets whose dates were moved by centuries."""


def text(name: str, frame: pl.DataFrame) -> pl.Expr:
    """Return a column as text without blanks at its ends, null where empty; numbers that are whole lose their `.0`."""
    dtype = frame.schema[name]
    if dtype.is_nested() or dtype == pl.Binary:
        return pl.lit(None, pl.String)
    found = pl.col(name).cast(pl.String)
    if dtype.is_float():
        return found.str.replace(r"\.0$", "")
    found = found.str.strip_chars()
    return pl.when(found != "").then(found)


def number(name: str, frame: pl.DataFrame) -> pl.Expr:
    """Return a column as a finite Float64; null where there is none, or none that is a number."""
    dtype = frame.schema[name]
    source = pl.col(name) if dtype.is_numeric() else text(name, frame)
    found = source.cast(pl.Float64, strict=False)
    return pl.when(found.is_finite()).then(found)


def whole(name: str, frame: pl.DataFrame) -> pl.Expr:
    """Return a column as Int64; null where it is not a whole number (`8507.0` is one)."""
    dtype = frame.schema[name]
    if dtype.is_integer():
        return pl.col(name).cast(pl.Int64, strict=False)
    if dtype.is_float():
        return pl.when(pl.col(name) == pl.col(name).floor()).then(pl.col(name)).cast(pl.Int64, strict=False)
    return text(name, frame).str.replace(r"\.0+$", "").cast(pl.Int64, strict=False)


def moment(name: str, frame: pl.DataFrame) -> pl.Expr:
    """Return a column of dates or times as naive wall-clock times.

    Text is `2015-06-01`, `20150601`, or either with a clock time after `T` or a blank. A day alone counts at its end,
    and so does midnight sharp, by which tables that have no clock time stand for the whole day.
    """
    dtype = frame.schema[name]
    if dtype == pl.Date or isinstance(dtype, pl.Datetime):
        known = pl.col(name).dt.replace_time_zone(None) if isinstance(dtype, pl.Datetime) else pl.col(name)
        found = known.cast(pl.Datetime("us"))
    else:
        found = written(text(name, frame))
    day_alone = found == found.dt.truncate("1d")
    return of_a_life(pl.when(day_alone).then(found + pl.duration(seconds=86_399)).otherwise(found))


def of_a_life(time: pl.Expr) -> pl.Expr:
    """Return times, null where they are of no patient's life (_YEARS): what is farther off cannot even be moved."""
    return pl.when(time.dt.year().is_between(*_YEARS)).then(time)


def parsed(words: pl.Series) -> pl.Series:
    """Return the times that texts stand for, as `written` does; quickly where all are written in the usual way."""
    for form, dtype in _USUAL:
        tried = words.str.strptime(dtype, form, strict=False)
        if tried.null_count() == words.null_count():
            return tried.cast(pl.Datetime("us"))
    return words.to_frame("words").select(written(pl.col("words"))).to_series().alias(words.name)


def written(words: pl.Expr) -> pl.Expr:
    """Return the times that texts stand for, a day alone at its beginning; null for what is no date."""
    plain = (
        pl.when(words.str.contains(r"^\d{8}(\D|$)"))
        .then(words.str.replace(r"^(\d{4})(\d{2})(\d{2})", "${1}-${2}-${3}"))
        .otherwise(words)
    )
    day = plain.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    clock = plain.str.slice(10).str.extract(r"^[T ](\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?)")
    seconds = pl.when(clock.str.len_chars() == 5).then(clock + ":00").otherwise(clock)
    time = seconds.str.slice(0, 8).str.to_time("%H:%M:%S", strict=False)
    unsaid = plain.str.len_chars() == 10
    return pl.when(unsaid).then(day).when(time.is_not_null()).then(day + time.cast(pl.Duration("us")))
