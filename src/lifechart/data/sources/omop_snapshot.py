"""Copies the tables that are read of an OMOP database on a server into Parquet files, as they stood at one moment.

Ingestion reads files: they can be hashed for the ledger, read again after a crash and divided among processes, none of
which holds for a database that goes on changing. Only the columns of the mapping are asked for, so that names and free
text never leave the server.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from rich.console import Console
from rich.progress import Progress

from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.data.sources import omop
from lifechart.data.sources.omop_mapping import CONCEPT, LOCATION, PERSON, tables
from lifechart.ledger import lineage
from lifechart.ledger.statement import Statement

FROM_ENVIRONMENT = "env:"
"""Before the name of an environment variable that holds the URL, so that a password need not stand in a command."""
_ROWS = 50_000
_CONCEPT_COLUMNS = ["concept_id", "concept_code", "concept_name", "vocabulary_id", "concept_class_id"]
_TYPES: tuple[tuple[type, pa.DataType], ...] = (
    (bool, pa.bool_()),
    (int, pa.int64()),
    (float, pa.float64()),
    (Decimal, pa.float64()),
    (datetime, pa.timestamp("us")),
    (date, pa.date32()),
)
Columns = dict[str, tuple[str, pa.DataType]]
"""Column as OMOP names it -> its name in this database, and the type that it is kept as."""


class Ledger(Protocol):
    """Where the statement goes."""

    def append(self, statement: Statement) -> object:
        """Write it durably, or raise AuditError."""


def snapshot(
    url: str, out: Path, *, log: Ledger, schema: str | None = None, progress: bool | None = None
) -> dict[str, int]:
    """Copy the database at `url` (SQLAlchemy's form, or `env:NAME`) into the folder `out`; return each table's rows.

    All tables are read in one transaction: REPEATABLE READ where the database knows it, so that they agree. `out`
    appears whole, with a statement in the log, or not at all. Raises InputError if there is no database, or no OMOP in
    it; what the driver says is left out, since it can hold the password.
    """
    if out.exists():
        raise InputError("--out", str(out), "a folder that does not exist yet")
    console = Console(stderr=True)
    shown = console.is_terminal if progress is None else progress
    counts: dict[str, int] = {}
    aside = out.with_name(f".{out.name}.snapshot")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True, mode=0o700)
    try:
        with _connected(url) as connection, Progress(console=console, disable=not shown) as bar:
            found = _present(connection, schema)
            task = bar.add_task("Copying", total=len(found))
            for table, (name, columns) in found.items():
                counts[table] = _copy(connection, name, schema, columns, aside / f"{table}.parquet")
                bar.advance(task)
        # The extract is named as the ingest of these files will name it, so that a trace leads here.
        inputs = [
            lineage.File(lineage.file_name(file, number), durable.file_digest(file), file.stat().st_size)
            for number, file in enumerate(omop.source.files(aside), start=1)
        ]
        for statement in lineage.extract(inputs, {"source": omop.source.name, "rows": counts}):
            log.append(statement)
        aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    durable.sync_directory(out.parent)
    return counts


@contextmanager
def _connected(url: str) -> Iterator[sa.Connection]:
    stated = os.environ.get(url.removeprefix(FROM_ENVIRONMENT), "") if url.startswith(FROM_ENVIRONMENT) else url
    try:
        engine = sa.create_engine(stated)
    except (sa.exc.SQLAlchemyError, ImportError, ValueError) as error:
        raise InputError("URL", _safe(stated), "a database URL whose driver is installed") from error
    if engine.dialect.name == "sqlite" and not Path(engine.url.database or "").is_file():
        raise InputError("URL", _safe(stated), "an SQLite file that exists")
    if engine.dialect.name != "sqlite":
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    try:
        with engine.connect() as connection:
            yield connection
    except sa.exc.SQLAlchemyError as error:
        raise InputError("URL", _safe(stated), f"a database that can be read ({type(error).__name__})") from None
    finally:
        engine.dispose()


def _safe(url: str) -> str:
    """Return a URL without user, password and query."""
    return f"{url.partition('://')[0]}://…/{url.rpartition('/')[2].partition('?')[0]}" if "://" in url else "…"


def _present(connection: sa.Connection, schema: str | None) -> dict[str, tuple[str, Columns]]:
    """Return {table: (its name here, {column: (its name here, type)})} of what is both mapped and there."""
    inspector = sa.inspect(connection)
    listed = [*inspector.get_table_names(schema), *inspector.get_view_names(schema)]
    names = {name.lower(): name for name in listed}
    wanted = {name: table.columns for name, table in tables().items()}
    wanted |= {CONCEPT: _CONCEPT_COLUMNS, LOCATION: ["location_id", "zip"]}
    strict = connection.dialect.name != "sqlite"
    found: dict[str, tuple[str, Columns]] = {}
    for table in wanted.keys() & names.keys():
        there = {column["name"].lower(): column for column in inspector.get_columns(names[table], schema)}
        found[table] = (
            names[table],
            {
                name: (there[name]["name"], _type(there[name]["type"]) if strict else pa.string())
                for name in wanted[table]
                if name in there
            },
        )
    if PERSON not in found:
        raise InputError("--schema", schema or "(the default)", "a schema that holds OMOP's table person")
    return dict(sorted(found.items()))


def _type(stated: Any) -> pa.DataType:
    """Return the Arrow type of a column; text where it has none of ours."""
    try:
        python = stated.python_type
    except NotImplementedError:
        return pa.string()
    return next((arrow for known, arrow in _TYPES if issubclass(python, known)), pa.string())


def _copy(connection: sa.Connection, name: str, schema: str | None, columns: Columns, out: Path) -> int:
    """Write one table as it streams in; return its rows."""
    table = sa.table(name, *(sa.column(here) for here, _ in columns.values()), schema=schema)
    query = sa.select(*table.columns).execution_options(stream_results=True, yield_per=_ROWS)
    arrow = pa.schema([(column, type_) for column, (_, type_) in columns.items()])
    total = 0
    with durable.replacing(out) as aside, pq.ParquetWriter(aside, arrow) as writer:
        for rows in connection.execute(query).partitions():
            arrays = [_array(values, field.type) for values, field in zip(zip(*rows, strict=True), arrow, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=arrow))
            total += len(rows)
    return total


def _array(values: tuple[Any, ...], type_: pa.DataType) -> pa.Array:
    if pa.types.is_string(type_):
        return pa.array([None if value is None else str(value) for value in values], type_)
    if pa.types.is_floating(type_):
        return pa.array([None if value is None else float(value) for value in values], type_)
    if pa.types.is_timestamp(type_):
        return pa.array([None if value is None else value.replace(tzinfo=None) for value in values], type_)
    return pa.array(values, type_)
