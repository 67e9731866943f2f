"""The source `omop`: an OMOP Common Data Model 5.3 or 5.4, as CSV or Parquet tables in a folder or as an SQLite file.

A database on a server is first copied to Parquet, in one transaction, by `lifechart snapshot-omop` (omop_snapshot).
`omop_tables.toml` is the table of what is read; `omop_files` finds the tables, `omop_vocabulary` names their concepts,
`omop_rows` makes rows of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from lifechart.data.sources import Batch, Unit, cells, frames, omop_files, omop_rows
from lifechart.data.sources.omop_mapping import CONCEPT, LOCATION, PERIODS, PERSON, tables
from lifechart.data.sources.omop_vocabulary import vocabulary

BELIEVED_AFTER = timedelta(days=180)
"""A patient's observation that ends less than this before the newest one is taken to go on to the end of the export:
most exports end all of them on one day, which, stated for each, would give every date offset away. Such a patient's
observation ends where ingestion's keyed curtailment puts it. It is that curtailment's largest."""


class Omop:
    """The source `omop`."""

    name = "omop"

    def detects(self, path: Path) -> bool:
        """Return whether there is a table of persons with OMOP's columns."""
        found = omop_files.files(path, PERSON)
        if not found:
            return False
        if omop_files.is_database(path):
            return True
        return {"person_id", "gender_concept_id"} <= {name.lower() for name in frames.columns(found[0])}

    def files(self, path: Path, option: str = "") -> list[Path]:
        """Return the tables that are read, sorted."""
        found = {file for table in (*tables(), CONCEPT, LOCATION) for file in omop_files.files(path, table)}
        return sorted(found)

    def units(self, path: Path, option: str = "") -> list[Unit]:
        """Divide the tables into units of some tens of megabytes."""
        return [unit for table in tables() for unit in omop_files.units(self.name, path, table, PERSON)]

    def record_end(self, path: Path, option: str = "") -> str | None:
        """Return when the newest observation period ends, if there are any."""
        end = _newest_period(path, _stamp(path))
        return end.isoformat() if end else None

    def read(self, unit: Unit) -> Iterator[Batch]:
        """Read a part of one table in batches."""
        place, _, name = unit.option.rpartition("\n")
        root, table = Path(place), tables()[name]
        stamp = _stamp(root)
        newest = _newest_period(root, stamp) if name == PERIODS else None
        latest = newest - BELIEVED_AFTER if newest and newest.year > 1 else None
        zips = _zips(root) if name == PERSON else pl.DataFrame()
        words = vocabulary(root, stamp)
        for piece in omop_files.read(unit.spans[0], name, table.columns):
            yield omop_rows.batch(piece, table, words, latest=latest, zips=zips)


def _stamp(root: Path) -> tuple[int, ...]:
    """Return what changes when the tables that others lean on do."""
    found = [file for table in (CONCEPT, PERIODS) for file in omop_files.files(root, table)]
    return tuple(number for file in found for number in (file.stat().st_size, file.stat().st_mtime_ns))


@lru_cache(maxsize=4)
def _newest_period(root: Path, stamp: tuple[int, ...]) -> datetime | None:
    table = tables()[PERIODS]
    newest: datetime | None = None
    now = datetime.now()  # noqa: DTZ005 -- wall clock at the place of care, as the records
    for piece in _pieces(root, PERIODS, table.columns):
        ends = (pl.coalesce(cells.moment(name, piece.frame) for name in group) for group in table.times)
        # A day to come is a way of writing that no end is known.
        found: Any = piece.frame.select(end=pl.max_horizontal(*ends)).filter(pl.col("end") <= now).to_series().max()
        newest = max(filter(None, (newest, found)), default=None)
    return newest


def _zips(root: Path) -> pl.DataFrame:
    """Return location_id and zip3 of the locations with a US ZIP code."""
    parts = []
    for piece in _pieces(root, LOCATION, ["location_id", "zip"]):
        zip_ = cells.text("zip", piece.frame)
        listed = piece.frame.select(
            location_id=cells.text("location_id", piece.frame), zip3=zip_.str.extract(r"^(\d{3})\d{2}(\D|$)")
        )
        parts.append(listed.drop_nulls())
    return pl.concat(parts).unique("location_id") if parts else pl.DataFrame()


def _pieces(root: Path, table: str, columns: list[str]) -> Iterator[frames.Piece]:
    for span in omop_files.spans(root, table):
        yield from omop_files.read(span, table, columns)


source = Omop()
