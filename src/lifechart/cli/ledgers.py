"""The append-only log of signed statements: verify."""

from __future__ import annotations

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
    witness: Annotated[list[Path] | None, typer.Option(help="A witness's public key; may be repeated.")] = None,
    quorum: Annotated[int, typer.Option(help="How many of the witnesses must have cosigned.")] = 0,
    entry: Annotated[int | None, typer.Option(help="Prove this entry alone, and print it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON.")] = False,
) -> None:
    """Check every entry, hash and signature of a log; exit 1 if anything is wrong.

    The same as the command `lifechart-verify`, a program of its own that shares no code with the one that writes.
    """
    from lifechart_verify.__main__ import main

    settings = load_settings()
    arguments = [folder or settings.ledger, "--key", key or settings.keys / "ledger.pub", "--quorum", quorum]
    for option, paths in (("--earlier", earlier), ("--witness", witness)):
        arguments += [part for path in paths or [] for part in (option, path)]
    arguments += ["--json"] if as_json else []
    arguments += ["--entry", entry] if entry is not None else []
    raise typer.Exit(main([str(argument) for argument in arguments]))
