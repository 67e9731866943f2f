"""A released model at another institution: adapt."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from lifechart.cli.root import Out, Seed, app, me, print_rows
from lifechart.core.errors import InputError
from lifechart.core.settings import load_settings

REPORT, SCRATCH = "report", "scratch"
"""Folders beside an adapted model: its local validation, and the model of local records alone that it stands beside."""


@app.command("adapt")
def adapt_model(
    model: Annotated[Path, typer.Argument(help="A released model: its folder, or that of a release of it.")],
    dataset: Annotated[Path, typer.Argument(help="A data set of `lifechart ingest`, of this institution.")],
    out: Out,
    method: Annotated[
        str, typer.Option(help="head, or lora: low-rank changes of the network besides (needs peft).")
    ] = "head",
    release_key: Annotated[Path | None, typer.Option(help="The owner's public key of releases, for a release.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="A checkpoint of the owner's log, to name it by.")] = None,
    log_key: Annotated[Path | None, typer.Option(help="The public key of that log.")] = None,
    scratch: Annotated[
        bool, typer.Option(help="Train a model of the local records alone too, to stand beside it.")
    ] = True,
    baselines: Annotated[bool, typer.Option(help="Train boosted trees on them too.")] = True,
    max_prompts: Annotated[int | None, typer.Option(help="In validation, ask at most this often, by lot.")] = None,
    seed: Seed = 0,
) -> None:
    """Adapt a released model to local records, and validate it on local patients whom it has not seen."""
    from lifechart.evaluate import side_by_side
    from lifechart.evaluate.examine import examine
    from lifechart.evaluate.headline import LOCAL, RELEASED
    from lifechart.ledger.log import open_log
    from lifechart.model import train as training
    from lifechart.model.adapt.run import adapt
    from lifechart.model.encoders.image import pictures_of
    from lifechart.model.forecaster import load_forecaster

    base, owner = _of_owner(model, release_key, checkpoint, log_key)
    with closing(open_log(load_settings())) as log:
        made = adapt(base, dataset, out, method=method, seed=seed, log=log, actor=me(), owner=owner)
        print_rows(made.reading.table())
        for code, events in made.reading.most_unread:
            print(f"  not read: {code}, {events:,} events")
        print(made.summary())
        pictures = pictures_of(dataset)
        others: list[Any] = [Named(RELEASED, load_forecaster(base, pictures=pictures))]
        if scratch:
            training.train(dataset, out / SCRATCH, size=made.size, seed=seed, log=log, actor=me())
            others.append(Named(LOCAL, load_forecaster(out / SCRATCH, pictures=pictures)))
        report = examine(
            dataset, load_forecaster(out, pictures=pictures), out / REPORT, log=log, baselines=baselines,
            opponents=others, max_prompts=max_prompts, seed=seed,
        )  # fmt: skip
    print_rows(side_by_side.table(report))
    print(f"the whole report: {out / REPORT / 'report.html'}")


class Named:
    """A forecaster under another name, for a report in which there are several."""

    def __init__(self, name: str, forecaster: Any) -> None:
        self.name, self._forecaster = name, forecaster

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._forecaster, attribute)


def _of_owner(
    model: Path, release_key: Path | None, checkpoint: Path | None, log_key: Path | None
) -> tuple[Path, dict[str, Any]]:
    """Return the model's folder and where its lineage is held; IntegrityError for what its owner did not sign."""
    from lifechart.ledger import checkpoint as checkpoints
    from lifechart.ledger.keys import PublicKey, Verifier
    from lifechart.release import manifest as manifests

    owner: dict[str, Any] = {}
    if (model / manifests.MANIFEST).is_file():
        if release_key is None:
            raise InputError("--release-key", None, "the public key of the owner's releases: this is a release")
        found = manifests.verify(model, Verifier([PublicKey.load(release_key)]), handed_over=True)
        owner = {"manifest": found.digest, "capability": found.capability, "version": found.version}
        model = model / "model"
    if (checkpoint is None) != (log_key is None):
        raise InputError(
            "--checkpoint, --log-key", checkpoint or log_key, "both: a checkpoint is only as good as its key"
        )
    if checkpoint is not None and log_key is not None:
        head = checkpoints.verify(checkpoint.read_text(), Verifier([PublicKey.load(log_key)]))
        owner |= {"origin": head.origin, "size": head.size, "root": head.root.hex()}
    return model, owner
