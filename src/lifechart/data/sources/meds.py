"""A MEDS data set, 0.3 or 0.4, in any layout of shards: another institution's, or one of our own to be cut anew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from lifechart.core.timeline import BIRTH, DEATH, KINDS, RECORD_END
from lifechart.data.sources import ENTRY_BITS, KEPT, QUARANTINED, ROWS, Batch, Fault, Span, Unit

_TYPE = "event"
_BATCH_ROWS = 250_000
_KIND_OF_SYSTEM = {
    **dict.fromkeys(("SNOMED", "ICD10CM", "ICD9CM", "ICD10", "DIAGNOSIS", "CONDITION"), "condition"),
    **dict.fromkeys(("RxNorm", "ATC", "NDC", "MEDICATION", "DRUG"), "medication"),
    **dict.fromkeys(("CPT", "CPT4", "HCPCS", "ICD10PCS", "ICD9Proc", "PROCEDURE"), "procedure"),
    **dict.fromkeys(("LOINC", "LAB"), "laboratory"),
    **dict.fromkeys(("ENCOUNTER", "VISIT", "Visit", "HOSPITAL_ADMISSION", "HOSPITAL_DISCHARGE"), "encounter"),
    **dict.fromkeys(("GENDER", "RACE", "ETHNICITY", "LANGUAGE"), "demographic"),
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
        return found is not None and {"subject_id", "time", "code"} <= set(pq.read_schema(found).names)

    def files(self, path: Path, option: str = "") -> list[Path]:
        """Return the shards and the metadata, sorted."""
        folders = (path / "data", path / "metadata")
        return sorted(file for folder in folders for file in folder.rglob("*") if file.is_file())

    def units(self, path: Path, option: str = "") -> list[Unit]:
        """Return one unit a shard: a subject never spans two."""
        shards = sorted((path / "data").rglob("*.parquet"))
        return [Unit(self.name, (Span(str(file)),), file.stat().st_size, option=str(path)) for file in shards]

    def record_end(self, path: Path, option: str = "") -> str | None:
        """Return None: each subject has a RECORD_END, or ends with the last event."""
        return None

    def read(self, unit: Unit) -> Iterator[Batch]:
        """Read a shard in batches of whole rows."""
        file = pq.ParquetFile(unit.spans[0].path)
        names = _descriptions(Path(unit.option))
        lines = 0
        last: pl.DataFrame | None = None
        for record_batch in file.iter_batches(_BATCH_ROWS):
            events = pl.DataFrame(record_batch)
            yield _batch(events, names, lines)
            lines += events.height
            last = _last(events, last)
        if last is not None:
            ends = last.filter(~pl.col("ended")).select("subject_id", "time", code=pl.lit(RECORD_END))
            batch = _batch(ends, names, lines)
            batch.counts.clear()
            batch.lines = lines
            yield batch


def _last(events: pl.DataFrame, before: pl.DataFrame | None) -> pl.DataFrame:
    """Return subject_id, time of the last event so far, and whether the subject has a RECORD_END."""
    here = events.filter(pl.col("time").is_not_null()).select("subject_id", "time", ended=pl.col("code") == RECORD_END)
    both = here if before is None else pl.concat([before, here.cast(before.schema)])
    return both.group_by("subject_id", maintain_order=True).agg(pl.col("time").max(), pl.col("ended").any())


def _batch(events: pl.DataFrame, names: dict[str, str], lines: int) -> Batch:
    position = (pl.int_range(pl.len(), dtype=pl.Int64) + lines) * (1 << ENTRY_BITS)
    code = pl.col("code").cast(pl.String)
    present = {"numeric_value", "text_value", "unit", "kind"} & set(events.columns)
    optional = {
        name: pl.col(name) if name in present else pl.lit(None) for name in ("numeric_value", "text_value", "unit")
    }
    stated = pl.col("kind").cast(pl.String) if "kind" in present else pl.lit(None, pl.String)
    system = code.str.split("//").list.first()
    guessed = (
        pl.when(code == RECORD_END)
        .then(pl.lit("record"))
        .when(code.str.starts_with(DEATH))
        .then(pl.lit("death"))
        .when(pl.col("time").is_null() | code.str.starts_with(BIRTH))
        .then(pl.lit("demographic"))
        .otherwise(system.replace_strict(_KIND_OF_SYSTEM, default="survey", return_dtype=pl.String))
    )
    columns = {
        "patient": pl.col("subject_id").cast(pl.String),
        "position": position,
        "type": pl.lit(_TYPE),
        "time": pl.col("time").cast(pl.Datetime("us")),
        "code": code,
        "name": code.replace_strict(names, default=None, return_dtype=pl.String),
        "kind": pl.when(stated.is_in(KINDS)).then(stated).otherwise(guessed),
        **optional,
    }
    rows = events.select(
        columns.get(name, pl.lit(None)).cast(dtype, strict=False).alias(name) for name, dtype in ROWS.items()
    )
    whole = pl.col("patient").is_not_null() & pl.col("code").is_not_null()
    broken = rows.filter(~whole).get_column("position").to_list()
    return Batch(
        rows=rows.filter(whole),
        counts=Counter({(_TYPE, KEPT): rows.height - len(broken), (_TYPE, QUARANTINED): len(broken)}),
        faults=[Fault(position, _TYPE, "no code") for position in broken],
        starts=[0],
        lines=lines + events.height,
    )


def _descriptions(dataset: Path) -> dict[str, str]:
    path = dataset / "metadata" / "codes.parquet"
    if not path.exists():
        return {}
    described = pl.read_parquet(path)
    if not {"code", "description"} <= set(described.columns):
        return {}
    return dict(described.select("code", "description").drop_nulls().unique("code").iter_rows())


source = Meds()
