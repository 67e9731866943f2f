"""First pass of ingestion: a unit of the source becomes rows without identities, in one file, a batch a bucket.

A unit's files are whole or absent, so a killed run takes up where it stopped. Real ids and dates never reach the disk
(in `year` mode, dates do until the second pass cuts them).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pyarrow as pa
import pyarrow.ipc as ipc

from lifechart.core import durable
from lifechart.data import notes
from lifechart.data.consent.admission import EVERYBODY, Admission, admit
from lifechart.data.deidentify import dates, structured
from lifechart.data.sources import Batch, Fault, Source, Unit, results

SPILLED: dict[str, Any] = {
    "subject_id": pl.Int64,
    "resource": pl.UInt64,
    "updated": pl.String,
    "revision": pl.Int64,
    "position": pl.Int64,
    "type": pl.String,
    "time": pl.Datetime("us"),
    "code": pl.String,
    "name": pl.String,
    "kind": pl.String,
    "numeric_value": pl.Float32,
    "unit": pl.String,
    "text_value": pl.String,
    "link": pl.UInt64,
}
"""Columns of a spilled row: as `sources.ROWS`, with keyed subject ids, shifted times, hashed resource ids and links;
what stood beside a value is in text_value."""

_SEED = 0x6C69_6665
# Resource ids are only ever compared within one run, so a fast hash of 64 bits does; it is not written to a data set.


@dataclass(frozen=True, slots=True)
class Plan:
    """What every worker of one run must know."""

    work: Path
    key: bytes
    buckets: int
    dates: str
    min_patients: int
    started: datetime
    """When this run began: nothing later can have been observed."""
    admission: Admission = EVERYBODY
    """Who may be in the data set."""
    notes: str = "hold"
    """What becomes of prose (data.notes.MODES)."""
    path: str = ""
    option: str = ""
    """Where the records lie, for what identifies patients."""

    def spill_file(self, unit: int) -> Path:
        """Rows of one unit."""
        return self.work / "spill" / f"{unit:06d}.arrow"

    @property
    def linked_file(self) -> Path:
        """What linked resources supply, of all units: columns link, supplied, supplied_name."""
        return self.work / "linked.arrow"

    @property
    def subjects_file(self) -> Path:
        """Subjects of all units: columns subject_id, offset, curtailment."""
        return self.work / "subjects.arrow"

    @property
    def dataset(self) -> Path:
        """The data set as it grows."""
        return self.work / "dataset"

    def bucket_file(self, bucket: int) -> Path:
        """Cleaned events of one bucket of subjects."""
        return self.work / "buckets" / f"{bucket:06d}.arrow"


@dataclass(slots=True)
class Spill:
    """What is known of one unit beside its rows."""

    counts: Counter[tuple[str, str]]
    withdrawn: Counter[tuple[str, str]]
    faults: list[Fault]
    linked: dict[int, tuple[str, str]]
    starts: list[int]
    lines: int
    last: str
    """Newest time in it that is not after the run itself (ISO 8601, unshifted); empty if none."""
    texts_held_back: int
    """Results in words that the allow-list does not hold."""
    removed: Counter[str] = field(default_factory=Counter)
    """Class -> identifiers taken out of prose."""

    def save(self, path: Path) -> None:
        """Write as JSON."""
        content = asdict(self) | {
            "counts": [[*key, n] for key, n in sorted(self.counts.items())],
            "withdrawn": [[*key, n] for key, n in sorted(self.withdrawn.items())],
            "linked": [[key, *pair] for key, pair in sorted(self.linked.items())],
            "removed": dict(self.removed),
        }
        durable.write_bytes(path, orjson.dumps(content))

    @classmethod
    def load(cls, path: Path) -> Spill:
        """Read what `save` wrote."""
        content = orjson.loads(path.read_bytes())
        return cls(
            **content
            | {
                "counts": Counter({(type_, outcome): n for type_, outcome, n in content["counts"]}),
                "withdrawn": Counter({(type_, status): n for type_, status, n in content["withdrawn"]}),
                "removed": Counter(content["removed"]),
                "linked": {key: (code, name) for key, code, name in content["linked"]},
                "faults": [Fault(**fault) for fault in content["faults"]],
            }
        )


def spill(source: Source, unit: Unit, number: int, plan: Plan) -> None:
    """Read one unit and write its rows, unless an earlier run already did."""
    file = plan.spill_file(number)
    note = file.with_suffix(".json")
    if note.exists():
        return
    frames: list[pl.DataFrame] = []
    people: list[pl.DataFrame] = []
    known = Spill(Counter(), Counter(), [], {}, [], 0, "", 0)
    for found in source.read(unit):
        batch = admit(found, plan.admission, plan.key)
        read, held_back = results.read(batch.rows)
        if plan.notes != "hold":
            told = notes.identities(source, Path(plan.path), plan.option, batch.rows)
            prose, removed = notes.deidentified(batch.rows, plan.notes, plan.key, told)
            read = read.with_columns(text_value=pl.coalesce(prose, "text_value"))
            known.removed += removed
            held_back -= prose.count()
        rows, subjects = _protect(read, plan)
        known.texts_held_back += held_back
        frames.append(rows)
        people.append(subjects)
        _add(known, batch, plan)
    frame = pl.concat(frames) if frames else pl.DataFrame(schema=SPILLED)
    _write(frame, file, plan.buckets)
    with durable.replacing(file.with_suffix(".subjects")) as aside:
        pl.concat(people).unique("subject_id").write_ipc(aside)
    known.save(note)


def _add(known: Spill, batch: Batch, plan: Plan) -> None:
    known.counts += batch.counts
    known.withdrawn += batch.withdrawn
    known.faults += batch.faults
    known.starts, known.lines = list(batch.starts), batch.lines
    hashes = pl.Series(list(batch.linked), dtype=pl.String).hash(_SEED).to_list()
    known.linked |= dict(zip(hashes, batch.linked.values(), strict=True))
    last: Any = batch.rows.filter(pl.col("time") < plan.started).get_column("time").max()
    known.last = max(known.last, last.isoformat() if last is not None else "")


def _protect(rows: pl.DataFrame, plan: Plan) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows without identities, and (subject_id, offset, curtailment) of the subjects in them."""
    patients = rows.get_column("patient").unique(maintain_order=True)
    keyed = pl.DataFrame(
        {
            "patient": patients,
            "subject_id": structured.subject_ids(plan.key, patients),
            "offset": dates.offsets(plan.key, patients),
            "curtailment": dates.curtailments(plan.key, patients),
        }
    )
    if plan.dates == "year":
        still = pl.lit(0, pl.Duration("us"))
        keyed = keyed.with_columns(offset=still, curtailment=still)
    joined = rows.join(keyed, on="patient", how="left", maintain_order="left")
    dated = joined.with_columns(
        resource=_hashed(pl.col("type") + "/" + pl.col("resource")),
        link=_hashed(pl.col("link")),
        time=pl.col("time") + pl.col("offset"),
        code=structured.widen_zips(pl.col("code")),
    )
    return dated.select(list(SPILLED)), keyed.drop("patient")


def _hashed(reference: pl.Expr) -> pl.Expr:
    return pl.when(reference.is_not_null()).then(reference.hash(_SEED))


def _write(frame: pl.DataFrame, file: Path, buckets: int) -> None:
    parts = frame.with_columns(bucket=pl.col("subject_id") % buckets)
    schema = frame.clear().to_arrow().schema
    options = ipc.IpcWriteOptions(compression="lz4")
    with durable.replacing(file) as aside, ipc.new_file(str(aside), schema, options=options) as writer:
        for bucket in range(buckets):
            part = frame if buckets == 1 else parts.filter(pl.col("bucket") == bucket).drop("bucket")
            table = part.to_arrow().combine_chunks()
            batches = table.to_batches()
            writer.write_batch(batches[0] if batches else pa.RecordBatch.from_pylist([], schema=schema))
