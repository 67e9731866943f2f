"""The command `lifechart`: one verb a stage, no logic of its own."""

from __future__ import annotations

import sys

import typer

from lifechart.core.errors import LifechartError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A clinical foundation model that a health institution owns, from the first record to the last answer.",
)


def main() -> None:
    """Run the command line; a refusal prints its one message and exits 2."""
    try:
        app()
    except LifechartError as error:
        print(f"lifechart: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
