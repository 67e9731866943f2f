"""Records out of an EHR: a bulk export from its FHIR server, and the key by which it knows us."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer

from lifechart.cli.root import Out, app, print_rows
from lifechart.core.settings import load_settings


@app.command()
def export(
    url: Annotated[str, typer.Argument(help="Base address of the FHIR server.")],
    out: Out,
    level: Annotated[str, typer.Option(help="system, patient or group.")] = "system",
    group: Annotated[str, typer.Option(help="The Group's id, with --level group.")] = "",
    types: Annotated[str, typer.Option("--type", help="Resource types, with commas between them.")] = "",
    since: Annotated[str, typer.Option(help="Only what changed since, as 2026-01-31T00:00:00Z.")] = "",
    type_filter: Annotated[list[str] | None, typer.Option(help="A search; may be repeated.")] = None,
    client_id: Annotated[str, typer.Option(help="By default LIFECHART_FHIR_CLIENT_ID.")] = "",
    key: Annotated[Path | None, typer.Option(help="Private key; by default the one of export-key.")] = None,
    token_url: Annotated[str, typer.Option(help="Where tokens are given; by default what the server says.")] = "",
    scope: Annotated[str, typer.Option(help="system/*.read, or system/*.rs for SMART 2.")] = "system/*.read",
    packed: Annotated[bool, typer.Option("--gzip", help="Write .ndjson.gz.")] = False,
    hours: Annotated[float, typer.Option(help="How long to wait for the server to be ready.")] = 24.0,
) -> None:
    """Fetch a FHIR bulk export; the same command goes on with one that was broken off."""
    from lifechart.data.sources import fhir_export
    from lifechart.data.sources.fhir_server import Client

    settings = load_settings()
    known = client_id or settings.fhir_client_id
    private = key or (settings.fhir_key if known and settings.fhir_key.exists() else None)
    found = fhir_export.export(
        url,
        out,
        Client(known, private, settings.fhir_token.get_secret_value(), scope, token_url),
        fhir_export.Request(
            level, group, tuple(one for one in types.split(",") if one), since, tuple(type_filter or ())
        ),
        packed=packed,
        patience=hours * 3600,
    )
    print_rows(found.table())
    print(f"{found.files:,} files, {found.bytes / 1e6:,.1f} MB, as of {found.transaction_time}, in {out}")
    if found.resources["error"]:
        print(f"The server reports {found.resources['error']:,} errors: {out}/error.*.ndjson")


@app.command("export-key")
def export_key() -> None:
    """Print the public key to register with the EHR (a JWK set); it is made on first use."""
    from lifechart.data.sources.fhir_server import new_key, public_key

    path = load_settings().fhir_key
    if not path.exists():
        new_key(path)
    print(orjson.dumps({"keys": [public_key(path)]}, option=orjson.OPT_INDENT_2).decode())
