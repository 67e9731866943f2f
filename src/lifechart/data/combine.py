"""Several data sets of the same institution joined into one, in which every event says which of them it came from.

They must have been de-identified with one key: only then has a person the same identifier, split and offset of dates
in all of them. What two of them say alike is kept once, for the first of them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import orjson
import polars as pl
from rich.progress import track

from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.core.timeline import BIRTH, DEATH, RECORD_END
from lifechart.data import shards
from lifechart.ledger.log import Log
from lifechart.ledger.statement import Statement, Subject

SOURCES = "sources.json"
_ONCE = (BIRTH, DEATH, RECORD_END)
"""Said once of a person. Of ends of observation the earliest counts: after it, some source is silent."""
_SAME = ("subject_id", "time", "code", "numeric_value", "text_value", "unit")


@dataclass(frozen=True)
class Combined:
    """What was joined."""

    digest: str
    sources: Mapping[str, str]
    """Digest of each data set, by its name."""
    events: Mapping[str, int]
    """How many events came from each."""
    subjects: int
    repeated: int
    """Events left out because an earlier source says the same."""
    shared: int
    """People who are in more than one source."""

    def table(self) -> list[tuple[str, ...]]:
        """Return a header and rows for a terminal."""
        rows = [(name, f"{count:,}") for name, count in self.events.items()]
        said = [
            ("said twice", f"{self.repeated:,}"),
            ("people", f"{self.subjects:,}"),
            ("in several", f"{self.shared:,}"),
        ]
        return [("source", "events"), *rows, *said]


def combine(datasets: Mapping[str, Path], out: Path, *, log: Log, progress: bool | None = None) -> Combined:
    """Join data sets, by the name that their events are to carry, and write the joined one.

    Raises InputError for fewer than two, for one given twice, and for one that was joined itself.
    """
    digests = {name: shards.dataset_digest(folder) for name, folder in datasets.items()}
    if len(digests) < 2 or len(set(digests.values())) < len(digests):
        raise InputError("datasets", list(digests), "two or more different data sets, each under a name of its own")
    shown = sys.stderr.isatty() if progress is None else progress
    parts, units = [], []
    names: dict[str, str] = {}
    for name, folder in track(datasets.items(), "combine", disable=not shown, transient=True):
        # A split without anybody has no column of sources.
        held = pl.concat([shards.read_split(folder, split) for split in shards.SPLITS], how="diagonal")
        if "source" in held.columns:
            raise InputError(name, str(folder), "a data set that was not joined itself: name its parts instead")
        parts.append(held.with_columns(source=pl.lit(name)))
        names = shards.names(folder) | names
        if (folder / "metadata" / "units.parquet").exists():
            units.append(pl.read_parquet(folder / "metadata" / "units.parquet"))
    events = pl.concat(parts)
    whole = joined(events)
    people = events.group_by("subject_id").agg(sources=pl.col("source").n_unique())
    durable.write_json(out / "metadata" / SOURCES, {"sources": digests})
    if units:
        shards.write_units(out, pl.concat(units).unique(maintain_order=True))
    digest = shards.write_dataset(out, whole, names)
    counts = dict(whole.group_by("source").len().sort("source").iter_rows())
    made = Combined(
        digest, digests, counts, people.height, events.height - whole.height,
        people.filter(pl.col("sources") > 1).height,
    )  # fmt: skip
    said = {
        "sources": digests, "events": counts, "subjects": made.subjects, "repeated": made.repeated,
        "shared": made.shared,
    }  # fmt: skip
    log.append(Statement("combine", (Subject("dataset", digest),), said))
    return made


def joined(events: pl.DataFrame) -> pl.DataFrame:
    """Return events of several sources (column `source`, the first to be believed first) with nothing said twice.

    Observation ends where the first source's does; what is dated later is left out.
    """
    once = pl.col("code").is_in(_ONCE)
    facts = (
        events.filter(once)
        .sort("time", maintain_order=True)
        .unique(["subject_id", "code"], keep="first", maintain_order=True)
    )
    others = events.filter(~once).unique(list(_SAME), keep="first", maintain_order=True)
    ends = facts.filter(pl.col("code") == RECORD_END).select("subject_id", _end="time")
    both = pl.concat([facts, others]).join(ends, on="subject_id", how="left", maintain_order="left")
    late = pl.col("time").is_not_null() & (pl.col("time") > pl.col("_end"))
    return (
        both.filter(~late.fill_null(False))
        .drop("_end")
        .sort("subject_id", "time", nulls_last=False, maintain_order=True)
    )


def sources_of(dataset: Path) -> dict[str, str]:
    """Return {name: digest} of the data sets that one was joined of; empty if it was not joined."""
    path = dataset / "metadata" / SOURCES
    return dict(orjson.loads(path.read_bytes())["sources"]) if path.exists() else {}
