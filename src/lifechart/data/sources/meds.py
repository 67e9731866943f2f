"""A MEDS data set, 0.3 or 0.4, in any layout of shards: another institution's, or one of our own to be cut anew.

The two differ in what they name (0.4 added `text_value`), in the types of columns (codes as dictionaries, times in
other units) and in their metadata; columns of either are found by name and read whatever they are stored as. Splits are
not taken over: they are drawn from the keyed ids, as for every source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from lifechart.core.timeline import BIRTH, DEATH, KINDS, RECORD_END
from lifechart.data.sources import ENTRY_BITS, KEPT, QUARANTINED, ROWS, Batch, Fault, Span, Unit, cells, frames

_TYPE = "event"
_COLUMNS = ["subject_id", "time", "code", "numeric_value", "text_value", "unit", "kind"]
_KIND_OF_SYSTEM = {
    **dict.fromkeys(("SNOMED", "ICD10CM", "ICD9CM", "ICD10", "DIAGNOSIS", "CONDITION"), "condition"),
    **dict.fromkeys(("RxNorm", "ATC", "NDC", "MEDICATION", "DRUG"), "medication"),
    **dict.fromkeys(("CPT", "CPT4", "HCPCS", "ICD10PCS", "ICD9Proc", "PROCEDURE"), "procedure"),
    **dict.fromkeys(("LOINC", "LAB"), "laboratory"),
    **dict.fromkeys(("ENCOUNTER", "VISIT", "Visit", "HOSPITAL_ADMISSION", "HOSPITAL_DISCHARGE"), "encounter"),
    **dict.fromkeys(("GENDER", "RACE", "ETHNICITY", "LANGUAGE"), "demographic"),
    **dict.fromkeys(("VARIANT", "PGS", "PGS_OVERLAP"), "genomic"),
    "DEATH_CAUSE": "death",
    "CVX": "immunization",
    "VITAL": "vital",
}
"""First part of a code -> kind, for data sets without our column `kind`; `survey` for the rest."""


class Meds:
    """The source `meds`."""

    name = "meds"

    def detects(self, path: Path) -> bool:
        """Return whether `path` is a folder with MEDS shards under data/."""
        found = next(iter(sorted((path / "data").rglob("*.parquet"))), None) if path.is_dir() else None
        return found is not None and {"subject_id", "time", "code"} <= set(frames.columns(found))

    def files(self, path: Path, option: str = "") -> list[Path]:
        """Return the shards and the metadata, sorted."""
        folders = (path / "data", path / "metadata")
        return sorted(file for folder in folders for file in folder.rglob("*") if file.is_file())

    def units(self, path: Path, option: str = "") -> list[Unit]:
        """Return the shards, large ones cut by rows."""
        shards = sorted((path / "data").rglob("*.parquet"))
        return [unit for file in shards for unit in frames.plan(self.name, file, "", str(path))]

    def record_end(self, path: Path, option: str = "") -> str | None:
        """Return None: each subject has a RECORD_END, or ends with the last event."""
        return None

    def read(self, unit: Unit) -> Iterator[Batch]:
        """Read a part of a shard in batches of whole rows."""
        names = _descriptions(Path(unit.option))
        lines = 0
        last: pl.DataFrame | None = None
        for piece in frames.read(unit.spans[0], _COLUMNS):
            batch = _batch(piece, names)
            yield batch
            lines = piece.lines
            last = _last(batch.rows, last)
        if last is not None:
            yield Batch(_ends(last), starts=[0], lines=lines)


def _last(rows: pl.DataFrame, before: pl.DataFrame | None) -> pl.DataFrame:
    """Return each patient's last row so far, and whether the patient has a RECORD_END."""
    here = rows.filter(pl.col("time").is_not_null()).with_columns(ended=pl.col("code") == RECORD_END)
    both = here if before is None else pl.concat([before, here])
    ended = pl.col("ended").any().over("patient")
    return (
        both.with_columns(ended=ended)
        .sort("time", maintain_order=True)
        .unique("patient", keep="last", maintain_order=True)
    )


def _ends(last: pl.DataFrame) -> pl.DataFrame:
    """Return a RECORD_END at the last event of each patient without one, as a second event of the same row.

    Where a patient's rows are in several units each gives one, and the latest counts.
    """
    marks = {"code": RECORD_END, "kind": "record"}
    empty = [name for name in ROWS if name not in ("patient", "position", "type", "time", *marks)]
    ends = last.filter(~pl.col("ended")).with_columns(pl.lit(None, ROWS[name]).alias(name) for name in empty)
    return ends.with_columns(pl.lit(value).alias(name) for name, value in marks.items()).select(list(ROWS))


def _batch(piece: frames.Piece, names: dict[str, str]) -> Batch:
    frame = piece.frame
    code, stated = cells.text("code", frame), cells.text("kind", frame)
    system = code.str.split("//").list.first()
    guessed = (
        pl.when(code == RECORD_END)
        .then(pl.lit("record"))
        .when(code.str.starts_with(DEATH))
        .then(pl.lit("death"))
        .when(frame.get_column("time").is_null() | code.str.starts_with(BIRTH))
        .then(pl.lit("demographic"))
        .otherwise(system.replace_strict(_KIND_OF_SYSTEM, default="survey", return_dtype=pl.String))
    )
    columns = {
        "patient": cells.text("subject_id", frame),
        "position": pl.col(frames.LINE) * (1 << ENTRY_BITS),
        "type": pl.lit(_TYPE),
        "time": _time(frame),
        "code": code,
        "name": code.replace_strict(names, default=None, return_dtype=pl.String),
        "kind": pl.when(stated.is_in(KINDS)).then(stated).otherwise(guessed),
        "numeric_value": cells.number("numeric_value", frame),
        "text_value": cells.text("text_value", frame),
        "unit": cells.text("unit", frame),
    }
    reason = (
        pl.when(columns["patient"].is_null())
        .then(pl.lit("no subject"))
        .when(code.is_null())
        .then(pl.lit("no code"))
        .when(columns["time"].is_null() & frame.get_column("time").is_not_null())
        .then(pl.lit("date not valid"))
    )
    rows = frame.select(
        *(columns.get(name, pl.lit(None)).cast(dtype, strict=False).alias(name) for name, dtype in ROWS.items()),
        _reason=reason,
    )
    bad = rows.filter(pl.col("_reason").is_not_null()).select("position", "_reason").rows()
    faults = [Fault(position, _TYPE, why) for position, why in bad]
    faults += [Fault(line << ENTRY_BITS, _TYPE, why) for line, why in piece.broken]
    good = rows.filter(pl.col("_reason").is_null()).drop("_reason")
    counts = Counter({(_TYPE, KEPT): good.height, (_TYPE, QUARANTINED): len(faults)})
    return Batch(good, counts, faults=faults, starts=[0], lines=piece.lines)


def _time(frame: pl.DataFrame) -> pl.Expr:
    """Return the times as they stand: wall clock, in microseconds, whatever unit or zone a writer chose."""
    dtype = frame.schema["time"]
    if isinstance(dtype, pl.Datetime):
        return pl.col("time").dt.replace_time_zone(None).cast(pl.Datetime("us"))
    if dtype == pl.Date:
        return pl.col("time").cast(pl.Datetime("us"))
    return cells.written(cells.text("time", frame))


def _descriptions(dataset: Path) -> dict[str, str]:
    path = dataset / "metadata" / "codes.parquet"
    found: dict[str, str] = {}
    if path.exists():
        for piece in frames.read(Span(str(path)), ["code", "description"]):
            pairs = piece.frame.select(
                code=cells.text("code", piece.frame), name=cells.text("description", piece.frame)
            )
            found |= dict(pairs.drop_nulls().iter_rows())
    return found


source = Meds()
