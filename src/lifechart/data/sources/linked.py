"""The source `linked`: several sources of one hospital made one data set, by a file `sources.yaml`:

    sources:
      - {source: fhir, path: fhir}                  # the first says who the patients are
      - {source: registry, path: deaths.csv, ids: {file: link.csv, from: register_number, to: patient_id}}
      - {source: vcf, path: genomes, option: genomes/vcf.yaml}

`ids` is a table that turns one source's patients into the first one's. Whoever it does not list, and whoever the first
source does not know, is quarantined as `patient absent`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import yaml

from lifechart.core.errors import InputError
from lifechart.data.sources import (
    KEPT,
    QUARANTINED,
    Attaching,
    Batch,
    Fault,
    Source,
    Span,
    Unit,
    cells,
    frames,
    sources,
)

MAPPING = "sources.yaml"
_KEYS = {"source", "path", "option", "ids"}
_ID_KEYS = {"file", "from", "to"}
ABSENT = "patient absent"


@dataclass(frozen=True, slots=True)
class Part:
    """One entry of the file."""

    source: Source
    path: Path
    option: str
    ids: tuple[str, str, str] | None
    """(file, column of this source's ids, column of the first one's)."""


class Linked:
    """The source `linked`."""

    name = "linked"

    def detects(self, path: Path) -> bool:
        """Return whether the folder, or `path` itself, is a sources.yaml."""
        return _file(path).is_file()

    def files(self, path: Path, option: str = "") -> list[Path]:
        """Return the files of all parts, the mapping and the tables of ids."""
        found = {_file(path)}
        for part in _parts(path):
            found |= {*part.source.files(part.path, part.option), *([Path(part.ids[0])] if part.ids else [])}
        return sorted(found)

    def units(self, path: Path, option: str = "") -> list[Unit]:
        """Return the units of all parts, under the anchor of the first."""
        parts = _parts(path)
        listed = [(part, unit) for part in parts for unit in part.source.units(part.path, part.option)]
        if not listed or listed[0][0] is not parts[0]:
            raise InputError("sources", parts[0].source.name, "at least one file of the first source")
        anchor = listed[0][1].anchor
        return [
            replace(unit, anchor=anchor, option=orjson.dumps([unit.anchor, unit.option, part.ids]).decode())
            for part, unit in listed
        ]

    def record_end(self, path: Path, option: str = "") -> str | None:
        """Return what the first part that knows says."""
        ends = (part.source.record_end(part.path, part.option) for part in _parts(path))
        return next((end for end in ends if end is not None), None)

    def read(self, unit: Unit) -> Iterator[Batch]:
        """Read a unit of a part, under the first part's ids."""
        anchor, option, ids = orjson.loads(unit.option)
        part = sources()[unit.source]
        known = _ids(*ids, Path(ids[0]).stat().st_mtime_ns) if ids else None
        for batch in part.read(replace(unit, anchor=anchor, option=option)):
            yield batch if known is None else _linked(batch, known)

    def attach(self, unit: Unit, number: int, dataset: Path, key: bytes, dates: str) -> None:
        """Let a part that has images put them beside the data set; a part that has none leaves an empty index."""
        from lifechart.data import images

        anchor, option, _ = orjson.loads(unit.option)
        part = sources()[unit.source]
        if isinstance(part, Attaching):
            part.attach(replace(unit, anchor=anchor, option=option), number, dataset, key, dates)
        else:
            images.attach((), dataset, number, key=key, patients={}, dates=dates)

    def gather(self, dataset: Path, num_units: int) -> None:
        """Make one index of the parts' images; a data set without any has none."""
        from lifechart.data import images

        images.gather(dataset, num_units, required=False)


def _linked(batch: Batch, known: pl.DataFrame) -> Batch:
    """Return a batch under other ids; records of which no row has one are at fault."""
    joined = batch.rows.join(known, on="patient", how="left", maintain_order="left")
    rows = joined.filter(pl.col("to").is_not_null()).with_columns(patient=pl.col("to")).drop("to")
    lost = joined.join(rows.select("position"), on="position", how="anti").unique("position", maintain_order=True)
    faults: list[Fault] = []
    counts = Counter(batch.counts)
    for position, type_ in lost.select("position", "type").iter_rows():
        # A row beside a record that was counted before (the end of an observation) is no record of its own.
        if counts[type_, KEPT] > 0:
            counts[type_, KEPT] -= 1
            counts[type_, QUARANTINED] += 1
            faults.append(Fault(position, type_, ABSENT))
    return replace(batch, rows=rows.select(batch.rows.columns), counts=counts, faults=[*batch.faults, *faults])


@lru_cache(maxsize=8)
def _ids(file: str, from_: str, to: str, stamp: int) -> pl.DataFrame:
    """Return columns patient, to."""
    parts = []
    for piece in frames.read(Span(file), [from_, to]):
        pair = piece.frame.select(patient=cells.text(from_, piece.frame), to=cells.text(to, piece.frame))
        parts.append(pair.drop_nulls())
    return pl.concat(parts).unique("patient", keep="first", maintain_order=True)


def _file(path: Path) -> Path:
    return path / MAPPING if path.is_dir() else path if path.name == MAPPING else path / MAPPING


def _parts(path: Path) -> list[Part]:
    """Return the parts; raises InputError that names the key."""
    file = _file(path)
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError("sources.yaml", str(file), "a YAML file") from error
    entries = content.get("sources") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{file}: sources", entries, "a list of sources")
    return [_part(file, entry) for entry in entries]


def _part(file: Path, entry: Any) -> Part:
    if not isinstance(entry, dict) or set(entry) - _KEYS or not {"source", "path"} <= set(entry):
        raise InputError(f"{file}: sources", entry, f"entries with the keys {sorted(_KEYS)}")
    plugs = sources()
    if entry["source"] not in plugs or entry["source"] == Linked.name:
        raise InputError(f"{file}: source", entry["source"], f"one of {sorted(set(plugs) - {Linked.name})}")
    path = file.parent / str(entry["path"])
    if not path.exists():
        raise InputError(f"{file}: path", entry["path"], "a file or folder that exists")
    ids = entry.get("ids")
    if ids is not None and (not isinstance(ids, dict) or set(ids) != _ID_KEYS):
        raise InputError(f"{file}: ids", ids, f"the keys {sorted(_ID_KEYS)}")
    if ids is not None and isinstance(plugs[entry["source"]], Attaching):
        # Its files are found again by what they themselves say, so the source's own table has to name the patients.
        raise InputError(f"{file}: ids", ids, "none for this source: it takes its table of patients as `option`")
    table = file.parent / str(ids["file"]) if ids else None
    if ids and table is not None:
        there = {name.lower() for name in frames.columns(table)} if table.is_file() else set()
        if not {str(ids["from"]).lower(), str(ids["to"]).lower()} <= there:
            raise InputError(f"{file}: ids", ids, "a table with both columns")
    option = str(file.parent / str(entry["option"])) if entry.get("option") else ""
    linked = (str(table), str(ids["from"]), str(ids["to"])) if ids else None
    return Part(plugs[entry["source"]], path, option, linked)


source = Linked()
