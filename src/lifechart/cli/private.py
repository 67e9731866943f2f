"""Private training, and audits of what a model remembers of single patients."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from lifechart.cli.root import Out, Seed, app, me, print_rows
from lifechart.core.errors import InputError
from lifechart.core.settings import load_settings


def train_private(dataset: Path, out: Path, epsilon: float, delta: float, seed: int, given: dict[str, Any]) -> None:
    """Train under a plan of `epsilon` and `delta`; raises InputError for options that a private run does not have."""
    from lifechart.ledger.log import open_log
    from lifechart.model.private.plan import plan
    from lifechart.model.private.train import train_private as stage

    for name, value in given.items():
        if value is not None:
            raise InputError(name, value, "nothing with --private: its plan is settled by --epsilon and --delta")
    if epsilon == float("inf"):
        raise InputError("--epsilon", epsilon, "a finite number: without --private nothing is promised")
    with closing(open_log(load_settings())) as log:
        print(stage(dataset, out, plan(epsilon, delta), seed=seed, log=log, actor=me()).summary())


@app.command("audit-privacy")
def audit_privacy(
    model: Annotated[Path, typer.Argument(help="A model that `lifechart train` wrote.")],
    dataset: Annotated[Path, typer.Argument(help="The data set that it was trained on.")],
    out: Out,
    canaries: Annotated[int, typer.Option(help="Made-up patients for the twin run; 0: no twin.")] = 1000,
    seed: Seed = 0,
) -> None:
    """Attack a model: who was in it, what a twin run remembers of made-up ones, and what epsilon that proves."""
    from lifechart.ledger.log import open_log
    from lifechart.model.private import audit

    with closing(open_log(load_settings())) as log:
        found = audit.audit(model, dataset, out, canaries=canaries, seed=seed, log=log)
    print_rows(found.table())
    print(f"{out / audit.FILE}: {'holds' if found.holds else 'DOES NOT HOLD'}")
    if not found.holds:
        raise typer.Exit(1)
