"""The append-only log of signed statements: verify, trace."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from lifechart.cli.root import group
from lifechart.core.settings import load_settings

ledger = group("ledger", "The append-only log of signed statements.")


@ledger.command("verify")
def ledger_verify(
    folder: Annotated[Path | None, typer.Argument(help="A copy of a ledger; by default this institution's.")] = None,
    key: Annotated[Path | None, typer.Option(help="The public key that signed it.")] = None,
    earlier: Annotated[list[Path] | None, typer.Option(help="A checkpoint kept from before; may be repeated.")] = None,
) -> None:
    """Check every entry, hash and signature of a log; exit 1 if anything is wrong."""
    from lifechart.ledger.log import public_verifier
    from lifechart.ledger.verify import verify

    settings = load_settings()
    notes = [path.read_text() for path in earlier or []]
    found = verify(folder or settings.ledger, public_verifier(settings, key), earlier=notes)
    print(found)
    if not found.sound:
        raise typer.Exit(1)


@ledger.command("trace")
def ledger_trace(
    digest: Annotated[str, typer.Argument(help="SHA-256 of a data set, model, report …")],
) -> None:
    """Show what a thing rests on, down to the source extracts."""
    from lifechart.ledger.log import open_log
    from lifechart.ledger.trace import trace

    with closing(open_log(load_settings())) as log:
        print(trace(log, digest))
