"""CSV and Parquet tables under a declarative mapping (YAML): which columns of which table become which events.

A mapping, in short (examples/nafld/ has a whole one, docs/how-to-add/source.md the rules):

    name: my-cohort
    day_zero: 2000-01-01          # the date that stands for day 0, where times are in days
    tables:
      - file: people.csv
        subject: id
        persons: true             # a subject without a row here is quarantined
        events:
          - {kind: demographic, code: MEDS_BIRTH, time: {age: age_at_entry}}
          - {kind: demographic, code: {column: sex, values: {f: GENDER//female, m: GENDER//male}}}
          - {kind: record, code: RECORD_END, time: {days: follow_up}}
      - file: labs.parquet
        subject: id
        events:
          - {kind: laboratory, code: LOINC//2085-9, where: {test: hdl}, time: {column: taken}, value: mg, unit: mg/dL}

Only columns that the mapping names are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from lifechart.core.errors import InputError
from lifechart.core.timeline import KINDS
from lifechart.data.sources import (
    ENTRY_BITS,
    KEPT,
    NOT_MAPPED,
    QUARANTINED,
    ROWS,
    Batch,
    Fault,
    Unit,
    cells,
    frames,
)
from lifechart.data.sources.frames import LINE

MAPPING = "lifechart.yaml"
"""A folder that holds this file is read under it, if no other mapping is named."""
_DAYS_A_YEAR = 365.25
_MOST_DAYS = 1_000_000
"""From day zero; the calendar itself goes no farther."""
_EVENT_KEYS = {"kind", "code", "time", "value", "unit", "text", "where"}
_TIME_KEYS = ("age", "days", "column")


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a mapping."""

    file: str
    subject: str
    persons: bool
    events: tuple[dict[str, Any], ...]

    @property
    def columns(self) -> list[str]:
        """Every column that the mapping names, and so the only ones that are read."""
        found = {self.subject: None}
        for event in self.events:
            code, time = event["code"], event.get("time") or {}
            named = [event.get("value"), event.get("text"), *(event.get("where") or {})]
            named += [code["column"]] if isinstance(code, dict) else []
            named += [time[key] for key in _TIME_KEYS if isinstance(time.get(key), str)]
            found |= {name: None for name in named if name is not None}
        return list(found)


@dataclass(frozen=True, slots=True)
class Mapping:
    """A checked mapping."""

    path: str
    day_zero: date
    tables: tuple[Table, ...]
    names: dict[str, str]


def load_mapping(path: Path) -> Mapping:
    """Read and check a mapping; raises InputError that names the key."""
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise InputError("mapping", str(path), "a YAML file") from error
    if not isinstance(content, dict) or not content.get("tables"):
        raise InputError(str(path), "no tables", "a key `tables` with at least one table")
    day_zero = content.get("day_zero", date(2000, 1, 1))
    if not isinstance(day_zero, date):
        raise InputError(f"{path}: day_zero", day_zero, "a date as 2000-01-01")
    tables = tuple(_table(path, entry) for entry in content["tables"])
    return Mapping(str(path), day_zero, tables, dict(content.get("names") or {}))


def _table(path: Path, entry: dict[str, Any]) -> Table:
    for key in ("file", "subject", "events"):
        if not entry.get(key):
            raise InputError(f"{path}: tables", key, "a file, a subject column and events")
    where = f"{path}: {entry['file']}"
    for event in entry["events"]:
        unknown = set(event) - _EVENT_KEYS
        if unknown:
            raise InputError(where, sorted(unknown), f"only the keys {sorted(_EVENT_KEYS)}")
        if event.get("kind") not in KINDS:
            raise InputError(f"{where}: kind", event.get("kind"), f"one of {KINDS}")
        code = event.get("code")
        if not (isinstance(code, str) or (isinstance(code, dict) and {"column", "values"} <= set(code))):
            raise InputError(f"{where}: code", code, "a code, or a column and its values")
        time = event.get("time")
        if time is not None and sum(key in time for key in _TIME_KEYS) != 1:
            raise InputError(f"{where}: time", time, f"one of {_TIME_KEYS}")
    return Table(entry["file"], entry["subject"], bool(entry.get("persons")), tuple(entry["events"]))


class Tables:
    """The source `tables`; its option is the path of the mapping."""

    name = "tables"

    def detects(self, path: Path) -> bool:
        """Return whether the folder brings its own mapping."""
        return path.is_dir() and (path / MAPPING).exists()

    def files(self, path: Path, option: str) -> list[Path]:
        """Return the mapping and the tables that it names."""
        mapping = _mapping(path, option)
        return [Path(mapping.path), *sorted(_present(path, table) for table in mapping.tables)]

    def units(self, path: Path, option: str) -> list[Unit]:
        """Divide the tables into units of some tens of megabytes; raises InputError for a column that is not there."""
        mapping = _mapping(path, option)
        proof = next((table.file for table in mapping.tables if table.persons), "")
        found: set[Path] = set()
        for table in mapping.tables:
            file = _present(path, table)
            there = {name.strip().lower() for name in frames.columns(file)}
            missing = [name for name in table.columns if name.lower() not in there]
            if missing and file.stat().st_size:
                raise InputError(f"{mapping.path}: {table.file}", missing, "columns that the table has")
            found.add(file)
        return [unit for file in sorted(found) for unit in frames.plan(self.name, file, proof, mapping.path)]

    def record_end(self, path: Path, option: str) -> str | None:
        """Return None: a mapping says it by RECORD_END events, else the newest date counts."""
        return None

    def read(self, unit: Unit) -> Iterator[Batch]:
        """Read a part of one table in batches."""
        mapping = load_mapping(Path(unit.option))
        path = Path(unit.spans[0].path)
        table = next(table for table in mapping.tables if path.name == Path(table.file).name)
        for piece in frames.read(unit.spans[0], table.columns):
            texts = [cells.text(name, piece.frame).alias(name) for name in table.columns]
            batch = _batch(piece.frame.select(*texts, LINE), table, mapping)
            batch.faults += [Fault(line << ENTRY_BITS, table.file, reason) for line, reason in piece.broken]
            batch.counts[table.file, QUARANTINED] += len(piece.broken)
            batch.lines = piece.lines
            yield batch


def _mapping(path: Path, option: str) -> Mapping:
    return load_mapping(Path(option) if option else path / MAPPING)


def _present(path: Path, table: Table) -> Path:
    found = path / table.file
    if not found.exists():
        raise InputError("PATH", str(found), "the file that the mapping names")
    return found


def _batch(frame: pl.DataFrame, table: Table, mapping: Mapping) -> Batch:
    """Return the events of some rows. A row that no event of the mapping speaks of is not mapped, not at fault."""
    placed = frame.with_columns(position=pl.col(LINE) * (1 << ENTRY_BITS))
    rows = pl.concat([_events(placed, table, event, mapping) for event in table.events])
    spoken_of = pl.any_horizontal(_speaks(event) for event in table.events)
    kept = pl.col("position").is_in(rows.get_column("position").unique().to_list())
    fates = placed.select("position", kept=kept, spoken_of=spoken_of)
    broken = fates.filter(~pl.col("kept") & pl.col("spoken_of")).get_column("position").to_list()
    silent = fates.filter(~pl.col("kept") & ~pl.col("spoken_of")).height
    counts = {KEPT: frame.height - len(broken) - silent, NOT_MAPPED: silent, QUARANTINED: len(broken)}
    faults = [Fault(position, table.file, "no subject, time or value") for position in broken]
    return Batch(rows, Counter({(table.file, outcome): n for outcome, n in counts.items()}), faults=faults, starts=[0])


def _speaks(event: dict[str, Any]) -> pl.Expr:
    """Return whether an event of the mapping is about a row: its conditions hold and its code is one of those named."""
    speaks = _code(event["code"]).is_not_null()
    for column, wanted in (event.get("where") or {}).items():
        values = wanted if isinstance(wanted, list) else [wanted]
        speaks &= pl.col(column).is_in([str(value) for value in values])
    return speaks.fill_null(False)


def _events(frame: pl.DataFrame, table: Table, event: dict[str, Any], mapping: Mapping) -> pl.DataFrame:
    """Return the rows (columns ROWS) that one event of the mapping makes of a table's rows."""
    code = _code(event["code"])
    columns: dict[str, pl.Expr] = {
        "patient": pl.col(table.subject),
        "position": pl.col("position"),
        "type": pl.lit(table.file),
        "code": code,
        "name": code.replace_strict(mapping.names, default=None, return_dtype=pl.String),
        "kind": pl.lit(event["kind"]),
        "unit": pl.lit(event.get("unit")),
    }
    needed = [pl.col(table.subject)]
    if event.get("value"):
        columns["numeric_value"] = pl.col(event["value"]).cast(pl.Float64, strict=False)
        needed.append(columns["numeric_value"])
    if event.get("text"):
        columns["text_value"] = pl.col(event["text"])
    if event.get("time"):
        columns["time"] = _time(event["time"], mapping.day_zero)
        needed.append(columns["time"])
    whole = pl.all_horizontal(_speaks(event), *(expression.is_not_null() for expression in needed))
    return frame.filter(whole).select(
        columns.get(name, pl.lit(None)).cast(dtype).alias(name) for name, dtype in ROWS.items()
    )


def _code(stated: str | dict[str, Any]) -> pl.Expr:
    if isinstance(stated, str):
        return pl.lit(stated)
    values = {str(value): code for value, code in stated["values"].items()}
    return pl.col(stated["column"]).replace_strict(values, default=None, return_dtype=pl.String)


def _time(stated: dict[str, Any], day_zero: date) -> pl.Expr:
    """Return the time of an event: `age` years before day zero (a birth), `days` from it, or what a `column` holds.

    Null where there is none, and where it is no time of a patient's life.
    """
    if "column" in stated:
        time = pl.col(stated["column"]).str.to_datetime(stated.get("format"), time_unit="us", strict=False)
    else:
        number = stated["age"] if "age" in stated else stated["days"]
        days = (pl.col(number) if isinstance(number, str) else pl.lit(number)).cast(pl.Float64, strict=False)
        if "age" in stated:
            days = (-days * _DAYS_A_YEAR).floor()
        near = pl.when(days.is_between(-_MOST_DAYS, _MOST_DAYS)).then(days)
        time = pl.lit(day_zero).cast(pl.Datetime("us")) + pl.duration(days=near)
    return cells.of_a_life(time)


source = Tables()
