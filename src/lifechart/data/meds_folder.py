"""Any MEDS data set, read where it lies: what others wrote, without our ingest's splits, kinds, units or manifest.

Nothing is de-identified and no id is changed here: labels that name its subjects keep naming them.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from lifechart.core.errors import InputError
from lifechart.data import shards
from lifechart.data.vault import sealed

EVENTS = {
    "subject_id": pl.Int64(),
    "time": pl.Datetime("us"),
    "code": pl.String(),
    "numeric_value": pl.Float32(),
    "text_value": pl.String(),
}
"""What is read of an event. A missing column of the last two counts as empty."""
_NEEDED = ("subject_id", "time", "code")
_SPLITS = Path("metadata") / "subject_splits.parquet"


def read_events(dataset: Path, subjects: pl.Series | None = None) -> pl.DataFrame:
    """Return the events (columns EVENTS) of a MEDS data set, by subject and time, exact duplicates once.

    `dataset`: a folder with Parquet files under data/ (any layout), or one such file. `subjects`: read only theirs.
    Rows without a code say nothing and are left out; a time in a zone becomes UTC, numbers that are not finite become
    null. Raises InputError that names the file and the column for anything that is not MEDS.
    """
    if dataset.is_dir() and sealed.is_sealed(dataset):
        frames = [_typed(shards.read_split(dataset, split), dataset.name) for split in shards.SPLITS]
        events = pl.concat(frames)
    else:
        events = pl.concat([_read(file, subjects) for file in _files(dataset)])
    if subjects is not None:
        events = events.filter(pl.col("subject_id").is_in(subjects.unique().implode()))
    value = pl.col("numeric_value")
    return (
        events.drop_nulls("code")
        .with_columns(pl.when(value.is_finite()).then(value))
        .unique(maintain_order=True)
        .sort("subject_id", "time", maintain_order=True, nulls_last=False)
    )


def held_out(dataset: Path) -> pl.Series:
    """Return the subjects that the data set itself keeps for testing; none where it states no splits."""
    path = dataset / _SPLITS
    if not dataset.is_dir() or not path.exists():
        return pl.Series("subject_id", [], dtype=pl.Int64)
    splits = pl.read_parquet(path)
    if not {"subject_id", "split"} <= set(splits.columns):
        raise InputError(str(_SPLITS), splits.columns, "columns subject_id and split")
    kept = splits.filter(pl.col("split").cast(pl.String) == shards.SPLITS[2])
    return subject_ids(kept["subject_id"], str(_SPLITS)).drop_nulls()


def as_times(times: pl.Series, where: str) -> pl.Series:
    """Return times as naive microseconds (of UTC where they name a zone); raises InputError for what is no time."""
    if times.dtype == pl.Null:
        return times.cast(EVENTS["time"])
    if times.dtype == pl.Date or isinstance(times.dtype, pl.Datetime):
        if isinstance(times.dtype, pl.Datetime) and times.dtype.time_zone:
            times = times.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return times.cast(EVENTS["time"])
    raise InputError(where, str(times.dtype), "timestamps, as MEDS has them")


def subject_ids(ids: pl.Series, where: str) -> pl.Series:
    """Return subject ids as int64; raises InputError where they are no whole numbers."""
    try:
        cast = ids.cast(pl.Int64)
    except pl.exceptions.PolarsError as error:
        raise InputError(where, str(ids.dtype), "subject_id as int64, as MEDS has it") from error
    if ids.dtype.is_float() and not (ids.drop_nulls() == cast.drop_nulls()).all():
        raise InputError(where, str(ids.dtype), "subject_id as int64, as MEDS has it")
    return cast


def _files(dataset: Path) -> list[Path]:
    if dataset.is_file():
        return [dataset]
    files = sorted((dataset / "data").rglob("*.parquet"))
    if not files:
        raise InputError("DATASET", str(dataset), "a MEDS data set: a folder with Parquet files under data/")
    return files


def _read(file: Path, subjects: pl.Series | None) -> pl.DataFrame:
    try:
        found = pl.read_parquet_schema(file)
        missing = [name for name in _NEEDED if name not in found]
        if missing:
            raise InputError(f"{file.name}: columns", sorted(found), f"MEDS events, with {', '.join(missing)}")
        frame = pl.read_parquet(file, columns=[name for name in EVENTS if name in found])
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError("DATASET", str(file), f"a Parquet file ({error})") from error
    if subjects is not None:
        ids = subject_ids(frame["subject_id"], f"{file.name}: subject_id")
        frame = frame.filter(ids.is_in(subjects.unique().implode()))
    return _typed(frame, file.name)


def _typed(frame: pl.DataFrame, where: str) -> pl.DataFrame:
    ids = subject_ids(frame["subject_id"], f"{where}: subject_id")
    if ids.null_count():
        raise InputError(f"{where}: subject_id", f"{ids.null_count()} null", "a subject for every event")
    columns = {
        "subject_id": ids,
        "time": as_times(frame["time"], f"{where}: time"),
        "code": frame["code"].cast(pl.String),
        "numeric_value": _optional(frame, "numeric_value"),
        "text_value": _optional(frame, "text_value"),
    }
    return pl.DataFrame(columns)


def _optional(frame: pl.DataFrame, name: str) -> pl.Series:
    if name not in frame.columns:
        return pl.Series(name, [None] * frame.height, dtype=EVENTS[name])
    column = frame[name]
    if column.dtype == pl.Categorical:
        column = column.cast(pl.String)
    return column.cast(EVENTS[name], strict=False)
