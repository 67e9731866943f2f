"""Labels of one's own: whom to ask about, when, and what came true. A MEDS label file, read from Parquet.

`subject_id`, `prediction_time` and `boolean_value`, as MEDS defines them. A column `days`, which MEDS does not have,
turns them into survival: days from the prediction time to the event, or to where observation ended without it.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from lifechart.core.errors import InputError
from lifechart.data.meds_folder import as_times, subject_ids

DAYS = "days"
_TRUTHS = {"true": True, "false": False, "1": True, "0": False}


def read_labels(path: Path, *, told: bool = True) -> pl.DataFrame:
    """Return `subject_id`, `prediction_time` and, if they are there, `boolean_value` and `days`, in the file's order.

    `path`: a Parquet file, or a folder of them. `told`: without `boolean_value` there is nothing to learn, so that
    its absence, or a null in it, is an InputError; as is any other column that is not what it should be.
    """
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise InputError("LABELS", str(path), "a Parquet file, or a folder of them")
    return pl.concat([_read(file, told) for file in files], how="vertical")


def _read(file: Path, told: bool) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError("LABELS", str(file), f"a Parquet file ({error})") from error
    needed = ("subject_id", "prediction_time", *(("boolean_value",) if told else ()))
    if missing := [name for name in needed if name not in frame.columns]:
        raise InputError(f"{file.name}: columns", frame.columns, f"a MEDS label file, with {', '.join(missing)}")
    columns = {
        "subject_id": subject_ids(frame["subject_id"], f"{file.name}: subject_id"),
        "prediction_time": as_times(frame["prediction_time"], f"{file.name}: prediction_time"),
    }
    if "boolean_value" in frame.columns and (told or frame["boolean_value"].null_count() < frame.height):
        columns["boolean_value"] = _truths(frame["boolean_value"], f"{file.name}: boolean_value", told)
    if DAYS in frame.columns:
        columns[DAYS] = _days(frame[DAYS], f"{file.name}: {DAYS}")
    for name in ("subject_id", "prediction_time"):
        if empty := columns[name].null_count():
            raise InputError(f"{file.name}: {name}", f"{empty} null", "a value in every row")
    return pl.DataFrame(columns)


def _truths(values: pl.Series, where: str, told: bool) -> pl.Series:
    if told and values.null_count():
        raise InputError(where, f"{values.null_count()} null", "true or false in every row")
    if values.dtype == pl.Boolean:
        return values
    text = values.cast(pl.String).str.to_lowercase().str.strip_suffix(".0")
    found = text.replace_strict(_TRUTHS, default=None, return_dtype=pl.Boolean)
    if found.null_count() > values.null_count():
        raise InputError(where, str(values.dtype), "true or false (or 1 and 0) in every row")
    return found


def _days(values: pl.Series, where: str) -> pl.Series:
    try:
        days = values.cast(pl.Float64)
    except pl.exceptions.PolarsError as error:
        raise InputError(where, str(values.dtype), "numbers of days") from error
    if days.null_count() or not days.is_finite().all() or (days.min() or 0) < 0:  # type: ignore[operator]
        raise InputError(where, "a null, endless or negative number", "days from the prediction time on, 0 or more")
    return days
