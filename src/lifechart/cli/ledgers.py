"""The append-only log of signed statements: verify, openlineage."""

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


@ledger.command("openlineage")
def ledger_openlineage(
    out: Annotated[Path, typer.Option(help="NDJSON to write: one event a line.")],
    answers: Annotated[bool, typer.Option(help="A run for each answer too.")] = False,
) -> None:
    """Write the log's lineage as OpenLineage events, for tools that draw it."""
    from contextlib import closing

    import orjson

    from lifechart.core import durable
    from lifechart.ledger.log import open_log
    from lifechart.ledger.openlineage import events

    count = 0
    with closing(open_log(load_settings())) as log, durable.replacing(out) as aside, aside.open("wb") as file:
        for event in events(log, answers=answers):
            file.write(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE))
            count += 1
    print(f"{count:,} events in {out}")
