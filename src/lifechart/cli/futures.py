"""Generated futures: what lies ahead of the patients that a task asks about."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lifechart.cli.root import Out, Seed, app, print_rows


@app.command()
def futures(
    model: Annotated[Path, typer.Argument(help="A model that `lifechart train` wrote.")],
    dataset: Annotated[Path, typer.Argument(help="A data set; its held-out patients are asked about.")],
    task: Annotated[Path, typer.Option(help="A task in the ACES format: whom, when, and what is to be foreseen.")],
    out: Out,
    number: Annotated[int, typer.Option("--futures", min=1, help="How many futures of each patient.")] = 20,
    estimator: Annotated[
        str,
        typer.Option(help="scope (probabilities summed), reach (the outcome kept out) or count (share of futures)."),
    ] = "scope",
    split: Annotated[str, typer.Option(help="train, tuning or held_out.")] = "held_out",
    days: Annotated[float | None, typer.Option(help="How far ahead, where the task's windows end at events.")] = None,
    keep: Annotated[bool, typer.Option(help="Also write every generated event.")] = False,
    limit: Annotated[int | None, typer.Option(help="Ask at most this often: the first by subject and time.")] = None,
    seed: Seed = 0,
) -> None:
    """Foresee a task's outcome by generated futures, and write predictions that any MEDS evaluation reads."""
    from rich.console import Console
    from rich.progress import Progress

    from lifechart.core.errors import InputError
    from lifechart.data import shards
    from lifechart.evaluate import foretold
    from lifechart.evaluate.aces import load_aces
    from lifechart.evaluate.realise import realise
    from lifechart.model.forecaster import NetworkForecaster, load_forecaster
    from lifechart.model.foresee import foresee, whole_lives
    from lifechart.model.generate import Ask

    forecaster = load_forecaster(model)
    if not isinstance(forecaster, NetworkForecaster):
        raise InputError("model", str(model), "a model of timelines; one trained on labels generates no futures")
    asked = load_aces(task)
    plan = foretold.plan(asked, estimator, days)
    events = shards.read_split(dataset, split)
    labels = foretold.prompts(realise(events, asked), limit)
    ask = Ask(
        futures=number, days=plan.days, seed=seed, targets=plan.targets, gap=plan.gap,
        until_met=plan.by_target and not keep, without=estimator == "reach",
    )  # fmt: skip
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        shown = bar.add_task("futures", total=1.0)
        foreseen = foresee(forecaster, events, labels, ask, lambda share: bar.update(shown, completed=share))
    if plan.by_target:
        chance = foreseen.probability()[:, 0, 0]
    else:
        chance = foretold.counted(whole_lives(events, labels, foreseen), labels, asked, number)
    table = foretold.write(out, labels, chance, foreseen.rows if keep else None)
    print_rows(table)
