"""The source `notes`: texts of patients, in `notes*.csv`, `.parquet` or `.ndjson`, or in files that such a table lists.

Fields: patient, time, text or file (relative to the table), and if there are any type, id and updated. A note's text is
a row of the kind `note`; what may be kept of it is for de-identification to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from lifechart.data.sources import ENTRY_BITS, KEPT, QUARANTINED, ROWS, Batch, Fault, Unit, cells, flat
from lifechart.data.sources.frames import LINE

TYPE = "note"
FIELDS: flat.Fields = {
    "patient": ("patient", "patient_id", "subject_id", "person_id", "mrn"),
    "time": ("time", "datetime", "charttime", "date", "chartdate", "note_datetime", "note_date"),
    "text": ("text", "note_text", "note", "content"),
    "file": ("file", "path", "filename"),
    "type": ("type", "note_type", "category", "loinc"),
    "id": ("id", "note_id", "row_id"),
    "updated": ("updated", "storetime", "last_updated"),
}
MAX_FILE = 8 << 20
"""A file of more bytes than this is no note."""
_LOINC = r"^\d{1,5}-\d$"
_LOCAL = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$"


class Notes:
    """The source `notes`; its option may name a YAML with the columns' names."""

    name = "notes"

    def detects(self, path: Path) -> bool:
        """Return whether there is a table of notes."""
        return any({"patient", "time"} <= set(flat.present(file, FIELDS)) for file in flat.find(path, "notes"))

    def files(self, path: Path, option: str = "") -> list[Path]:
        """Return the tables and every text file beside them, sorted."""
        tables = flat.find(path, "notes")
        texts = path.rglob("*.txt") if path.is_dir() else path.parent.rglob("*.txt")
        beside = (
            {file for file in texts if file.is_file()} if any(self._lists(file, option) for file in tables) else set()
        )
        return sorted({*tables, *beside, *([Path(option)] if option else [])})

    def units(self, path: Path, option: str = "") -> list[Unit]:
        """Divide the tables into units."""
        flat.renamed(FIELDS, option)
        return [unit for file in flat.find(path, "notes") for unit in flat.plan(self.name, file, option)]

    def record_end(self, path: Path, option: str = "") -> str | None:
        """Return None: notes do not say."""
        return None

    def read(self, unit: Unit) -> Iterator[Batch]:
        """Read a part of a table, and the files that it lists."""
        fields = flat.renamed(FIELDS, unit.option)
        folder = Path(unit.spans[0].path).parent
        for records in flat.read(unit.spans[0], fields):
            yield _batch(records, folder)

    def _lists(self, table: Path, option: str) -> bool:
        return "file" in flat.present(table, flat.renamed(FIELDS, option))


def _batch(records: flat.Records, folder: Path) -> Batch:
    listed = pl.col("file").map_elements(lambda name: _content(folder, name), return_dtype=pl.String)
    frame = records.frame
    if frame.get_column("file").null_count() < frame.height:
        frame = frame.with_columns(text=pl.coalesce("text", listed))
    time = cells.moment("time", frame)
    reason = (
        pl.when(pl.col("patient").is_null())
        .then(pl.lit("no patient"))
        .when(pl.col("time").is_null())
        .then(pl.lit("no date"))
        .when(time.is_null())
        .then(pl.lit("date not valid"))
        .when(pl.col("text").is_null())
        .then(pl.lit("no text"))
    )
    judged = frame.with_columns(reason=reason, at=time)
    type_ = pl.col("type")
    code = (
        pl.when(type_.str.contains(_LOINC))
        .then(pl.lit("LOINC//") + type_)
        .when(type_.str.contains(_LOCAL))
        .then(pl.lit("OTHER//") + type_)
        .otherwise(pl.lit("OTHER//*"))
    )
    columns = {
        "patient": pl.col("patient"),
        "resource": pl.col("id"),
        "updated": pl.col("updated"),
        "position": flat.position(frame),
        "type": pl.lit(TYPE),
        "time": pl.col("at"),
        "code": code,
        "kind": pl.lit("note"),
        "text_value": pl.col("text"),
    }
    good = judged.filter(pl.col("reason").is_null())
    rows = good.select(columns.get(name, pl.lit(None)).cast(dtype).alias(name) for name, dtype in ROWS.items())
    bad = judged.filter(pl.col("reason").is_not_null()).select(LINE, "reason").rows() + records.broken
    faults = [Fault(line << ENTRY_BITS, TYPE, reason) for line, reason in bad]
    counts = Counter({(TYPE, KEPT): good.height, (TYPE, QUARANTINED): len(faults)})
    return Batch(rows, counts, faults=faults, starts=[0], lines=records.lines)


def _content(folder: Path, name: str) -> str | None:
    """Return what stands in a file below `folder`; None for one that is elsewhere, absent, too long or no text."""
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()) or path.suffix != ".txt" or path.stat().st_size > MAX_FILE:
            return None
        return path.read_text(encoding="utf-8").strip() or None
    except (OSError, ValueError):
        return None


source = Notes()
