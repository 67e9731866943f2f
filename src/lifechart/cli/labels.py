"""Forecasts for labels of one's own: predict. (`lifechart train --labels` makes the model.)"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from lifechart.cli.root import app, me, print_rows
from lifechart.core.errors import InputError
from lifechart.core.settings import load_settings


def refuse_beside_labels(given: Mapping[str, object]) -> None:
    """Raise InputError for an option of the network's training, which labels of one's own do not use."""
    for option, value in given.items():
        if value is not None:
            raise InputError(option, value, "not to be given with --labels, which trains no network")


def learn_labels(dataset: Path, labels: Path, out: Path, seed: int, horizon: float | None, everybody: bool) -> None:
    """Carry out `lifechart train --labels`: what it says, and how good it is for people not seen."""
    from lifechart.evaluate.predictions import figures_of
    from lifechart.ledger.log import open_log
    from lifechart.model.labelled.train import train_on_labels

    with closing(open_log(load_settings())) as log:
        made = train_on_labels(
            dataset, labels, out, seed=seed, log=log, horizon=horizon, everybody=everybody, actor=me()
        )
    print(made.summary())
    print("For subjects that a fold had not seen:")
    print_rows(figures_of(made.truths, made.unseen, made.owners))


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A model that `lifechart train --labels` wrote.")],
    dataset: Annotated[Path, typer.Argument(help="Any MEDS data set with the subjects asked about.")],
    labels: Annotated[Path, typer.Argument(help="Parquet: subject_id, prediction_time, perhaps boolean_value.")],
    out: Annotated[Path, typer.Option("--out", help="Parquet file to write.")],
) -> None:
    """Write the probability that each label is true; where the labels are given, say how good they are."""
    from lifechart.core import durable
    from lifechart.data.labels import read_labels
    from lifechart.data.meds_folder import read_events
    from lifechart.evaluate.predictions import figures, table
    from lifechart.model.labelled.forecaster import load_labelled

    forecaster = load_labelled(model)
    asked = read_labels(labels, told=False)
    made = table(asked, forecaster.probabilities(read_events(dataset, asked["subject_id"]), asked))
    with durable.replacing(out) as aside:
        made.write_parquet(aside)
    if rows := figures(made, forecaster.model.horizon):
        print_rows(rows)
    print(f"{made.height:,} predictions in {out}")
