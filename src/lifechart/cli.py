"""The command `lifechart`: one verb a stage, no logic of its own.

Each verb imports its stage when it is called, so that `lifechart ledger verify` does not wait for torch.
"""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from lifechart.core.errors import LifechartError
from lifechart.core.settings import load_settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A clinical foundation model that a health institution owns, from the first record to the last answer.",
)
ledger = typer.Typer(no_args_is_help=True, help="The append-only log of signed statements.")
account = typer.Typer(no_args_is_help=True, help="Who may sign in.")
app.add_typer(ledger, name="ledger")
app.add_typer(account, name="account")

Out = Annotated[Path, typer.Option("--out", help="Folder to write.")]
Seed = Annotated[int, typer.Option("--seed", help="Same seed, same result.")]


def main() -> None:
    """Run the command line; a refusal prints its one message and exits 2."""
    try:
        app()
    except LifechartError as error:
        print(f"lifechart: {error}", file=sys.stderr)
        raise SystemExit(2) from None


@app.command()
def ingest(
    path: Annotated[Path, typer.Argument(help="FHIR bundles or Bulk NDJSON, tables, or MEDS shards; a file or folder.")],
    out: Out,
    source: Annotated[str | None, typer.Option(help="The source's name; by default whichever detects its format.")] = None,
    mapping: Annotated[Path | None, typer.Option(help="For tables: the YAML file that maps columns to events.")] = None,
    dates: Annotated[str, typer.Option(help="shift (by a keyed offset a patient) or year (years only).")] = "shift",
    as_of: Annotated[datetime | None, typer.Option(help="When observation ended; by default what the export says.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; by default one a core.")] = None,
) -> None:
    """Read records, de-identify them, and write a data set."""
    from lifechart.data import ingest as stage
    from lifechart.data.deidentify import structured
    from lifechart.ledger.log import open_log

    settings = load_settings()
    with open_log(settings) as log:
        found = stage.ingest(
            path,
            out,
            key=structured.load_key(settings),
            log=log,
            source=source,
            option=str(mapping or ""),
            workers=workers,
            dates=dates,
            as_of=as_of,
        )
    _print_rows(*found.table())


@app.command()
def train(
    dataset: Annotated[Path, typer.Argument(help="A data set that `lifechart ingest` wrote.")],
    out: Out,
    size: Annotated[str, typer.Option(help="xs, s, m or l.")] = "s",
    seed: Seed = 0,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data; by default the size's own.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; by default a GPU if there is one.")] = None,
) -> None:
    """Train a model of patient timelines; a killed run goes on where it was."""
    from lifechart.ledger.log import open_log
    from lifechart.model import train as stage

    with open_log(load_settings()) as log:
        result = stage.train(dataset, out, size=size, seed=seed, log=log, epochs=epochs, device=device)
    Console().print(result.summary())


@app.command()
def evaluate(
    dataset: Annotated[Path, typer.Argument(help="A data set; its held-out patients are asked about.")],
    model: Annotated[Path, typer.Option(help="A model that `lifechart train` wrote.")],
    out: Out,
    truth: Annotated[Path | None, typer.Option(help="A simulated hospital's truth folder: scores its oracles too.")] = None,
    baselines: Annotated[bool, typer.Option(help="Train boosted trees on the same data and score them.")] = True,
    max_prompts: Annotated[int | None, typer.Option(help="Ask at most this many questions, chosen by lot.")] = None,
    seed: Seed = 0,
) -> None:
    """Find out what a model is worth, beside boosted trees and, where it is known, the truth."""
    from lifechart.data.deidentify import structured
    from lifechart.evaluate import examine as stage
    from lifechart.ledger.log import open_log
    from lifechart.model.forecaster import load_forecaster

    settings = load_settings()
    with open_log(settings) as log:
        stage.examine(
            dataset,
            load_forecaster(model),
            out,
            log=log,
            baselines=baselines,
            truth=truth,
            key=structured.load_key(settings) if truth else None,
            max_prompts=max_prompts,
            seed=seed,
        )
    _print_rows(*stage.summary(out))


@ledger.command("verify")
def ledger_verify(
    folder: Annotated[Path | None, typer.Argument(help="A copy of a ledger; by default this institution's.")] = None,
    key: Annotated[Path | None, typer.Option(help="The public key that signed it.")] = None,
    earlier: Annotated[list[Path] | None, typer.Option(help="A checkpoint kept from before; may be repeated.")] = None,
) -> None:
    """Check every entry, hash and signature of a log; exit 1 if anything is wrong."""
    from lifechart.ledger import log, verify

    settings = load_settings()
    verifier = log.public_verifier(settings, key)
    found = verify.verify(folder or settings.ledger, verifier, earlier=[path.read_text() for path in earlier or []])
    print(found)
    if not found.sound:
        raise typer.Exit(1)


def _print_rows(header: tuple[str, ...], *rows: tuple[str, ...]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for position, name in enumerate(header):
        table.add_column(name, justify="left" if position == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
