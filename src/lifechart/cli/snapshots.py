"""Records copied out of a database on a server, to be ingested as files."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from lifechart.cli.root import Out, app, print_rows
from lifechart.core.settings import load_settings


@app.command("snapshot-omop")
def snapshot_omop(
    url: Annotated[str, typer.Argument(help="SQLAlchemy's URL, or env:NAME of a variable that holds it.")],
    out: Out,
    schema: Annotated[str | None, typer.Option(help="Where the tables stand; by default the user's own.")] = None,
) -> None:
    """Copy what is read of an OMOP database into Parquet files, in one transaction."""
    from lifechart.data.sources.omop_snapshot import snapshot
    from lifechart.ledger.log import open_log

    with closing(open_log(load_settings())) as log:
        rows = snapshot(url, out, log=log, schema=schema)
    print_rows([("table", "rows"), *((table, f"{number:,}") for table, number in rows.items())])
