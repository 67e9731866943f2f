"""The root of the command line, and what its verbs have in common: shared options, who is asking, tables."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A clinical foundation model that a health institution owns, from the first record to the last answer.",
)

Out = Annotated[Path, typer.Option("--out", help="Folder to write.")]
Seed = Annotated[int, typer.Option("--seed", help="Same seed, same result.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, in a sentence; it stands in the ledger.")]


def group(name: str, summary: str) -> typer.Typer:
    """Add a group of verbs (`lifechart NAME verb`) and return it."""
    made = typer.Typer(no_args_is_help=True, help=summary)
    app.add_typer(made, name=name)
    return made


def me() -> str:
    """Return who is asking: the name of the operating system's user."""
    return getpass.getuser()


def print_rows(rows: Iterable[tuple[str, ...]]) -> None:
    """Print a table whose first row is its header."""
    header, *body = [*rows] or [()]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for position, name in enumerate(header):
        table.add_column(name, justify="left" if position == 0 else "right")
    for row in body:
        table.add_row(*row)
    if header:
        # A file or a pipe has no width of its own: give the table the room it wants.
        Console(width=None if sys.stdout.isatty() else 140).print(table)
