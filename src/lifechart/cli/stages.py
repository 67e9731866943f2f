"""From records to a report: simulate, ingest, train, evaluate."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from lifechart.cli.labels import learn_labels, refuse_beside_labels
from lifechart.cli.root import Out, Seed, app, me, print_rows
from lifechart.core.errors import InputError
from lifechart.core.settings import load_settings


@app.command()
def simulate(
    out: Out,
    lives: Annotated[int, typer.Option(help="How many lives.")] = 2000,
    seed: Seed = 0,
    today: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day the record ends.")] = None,
    underdiagnose: Annotated[
        str | None, typer.Option(help="Plant a bias: ATTRIBUTE=VALUE:CONDITION,CONDITION:SHARE that is never recorded.")
    ] = None,
    modalities: Annotated[
        str | None,
        typer.Option(
            help="Plant signals that only these carry, and export them too: note,image,variant (some or all)."
        ),
    ] = None,
) -> None:
    """Simulate a hospital whose truth is known, and export its records as FHIR."""
    from lifechart.ledger.log import open_log
    from lifechart.simulate import hospital, planted
    from lifechart.simulate.bias import Underdiagnosis

    bias = Underdiagnosis.parse(underdiagnose) if underdiagnose else None
    with closing(open_log(load_settings())) as log:
        day = (today or datetime.now().astimezone()).date()
        asked = planted.parse(modalities) if modalities else ()
        made = hospital.simulate(out, lives, seed, day, bias=bias, modalities=asked, log=log)
    print_rows(made.table())


@app.command()
def ingest(
    path: Annotated[Path, typer.Argument(help="FHIR bundles or Bulk NDJSON, tables or MEDS: a file or folder.")],
    out: Out,
    source: Annotated[str | None, typer.Option(help="The source; by default whichever detects its format.")] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(help="A YAML of columns; for images a CSV of patients; or a source's own."),
    ] = None,
    dates: Annotated[str, typer.Option(help="shift (by a keyed offset a patient) or year (years only).")] = "shift",
    as_of: Annotated[datetime | None, typer.Option(help="When observation ended; else what the export says.")] = None,
    notes: Annotated[str, typer.Option(help="Of notes' text: hold, deidentify (tags) or surrogates.")] = "hold",
    workers: Annotated[int | None, typer.Option(help="Processes; by default one a core.")] = None,
    purpose: Annotated[
        list[str] | None, typer.Option(help="What for, as in the consent register; by default training and evaluation.")
    ] = None,
    engine: Annotated[str, typer.Option(help="processes (this machine) or ray (a cluster).")] = "processes",
    encrypt: Annotated[list[str] | None, typer.Option(help="Encrypt the data set for age1…; may be repeated.")] = None,
    work: Annotated[Path | None, typer.Option(help="With --encrypt: where to work, such as a disk in memory.")] = None,
) -> None:
    """Read records, de-identify them, and write a data set of those who may be in it."""
    from lifechart.data import ingest as stage
    from lifechart.data.consent import holdings
    from lifechart.data.consent.register import open_register
    from lifechart.data.deidentify import structured
    from lifechart.ledger.log import open_log

    settings = load_settings()
    key = structured.load_key(settings)
    with closing(open_log(settings)) as log:
        found = stage.ingest(
            path,
            out,
            key=key,
            log=log,
            admission=holdings.admission_for(settings, log, key, path, purpose),
            evidence=holdings.evidence_folder(settings),
            source=source,
            option=str(mapping or ""),
            workers=workers,
            dates=dates,
            as_of=as_of,
            notes=notes,
            engine=engine,
            address=settings.ray_address,
            encrypt_to=encrypt or (),
            work=work,
        )
        late = holdings.reconcile(open_register(settings, key), log, key, holdings.evidence_folder(settings))
    print_rows(found.table())
    if late:
        print("Somebody withdrew while this was being made, and is in it: make it anew (`lifechart consent where`).")
    if found.values or found.codes_unsound:
        print_rows(found.values_table())
    print(f"{found.events:,} events of {found.subjects:,} patients in {out}")


@app.command()
def train(
    dataset: Annotated[Path, typer.Argument(help="A data set of `lifechart ingest`; with --labels any in MEDS.")],
    out: Out,
    size: Annotated[str, typer.Option(help="xs, s, m, l; auto: by the number of events.")] = "auto",
    seed: Seed = 0,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data; by default the size's own.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; by default a GPU if there is one.")] = None,
    parallel: Annotated[
        str, typer.Option(help="Under torchrun: ddp, the whole network in each process, or fsdp, a slice of it.")
    ] = "ddp",
    modalities: Annotated[
        str | None,
        typer.Option(help="Of note,image,variant those to read, or none; by default all that there are."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Parquet of labels (subject_id, prediction_time, boolean_value): forecast those."),
    ] = None,
    horizon: Annotated[float | None, typer.Option(help="With labels that have `days`: within how many.")] = None,
    everybody: Annotated[bool, typer.Option(help="With --labels: learn from held-out subjects too.")] = False,
    stack: Annotated[
        bool, typer.Option(help="Then fit boosted trees to what it leaves over, and keep what helps.")
    ] = False,
    private: Annotated[bool, typer.Option("--private", help="With differential privacy for each patient.")] = False,
    epsilon: Annotated[
        float | None, typer.Option(help="With --private: what a patient may lose; by default 8.")
    ] = None,
    delta: Annotated[float | None, typer.Option(help="With --private: its chance to fail; by default 1e-6.")] = None,
) -> None:
    """Train a model of patient timelines; a killed run goes on where it was (a private one begins anew)."""
    if private or epsilon is not None or delta is not None:
        from lifechart.cli.private import train_private

        if not private:
            raise InputError("--epsilon, --delta", epsilon or delta, "nothing without --private: no promise is made")

        given = {"--epochs": epochs, "--device": device, "--labels": labels, "--horizon": horizon}
        given |= {"--everybody": everybody or None, "--stack": stack or None}
        given |= {"--parallel": None if parallel == "ddp" else parallel}
        return train_private(dataset, out, epsilon, delta, seed, given)
    from lifechart.ledger.log import open_log
    from lifechart.model import train as stage
    from lifechart.model.distributed import world

    if labels is not None:
        refuse_beside_labels(
            {
                "--stack": stack or None,
                "--epochs": epochs,
                "--device": device,
                "--modalities": modalities,
                "--parallel": None if parallel == "ddp" else parallel,
            }
        )
        learn_labels(dataset, labels, out, seed, horizon, everybody)
        return
    with closing(open_log(load_settings())) as log:
        wanted = None if modalities is None else tuple(part.strip() for part in modalities.split(","))
        result = stage.train(
            dataset, out, size=size, seed=seed, log=log, epochs=epochs, device=device, modalities=wanted, actor=me(),
            parallel=parallel,
        )  # fmt: skip
        if not world().leads:
            return
        print(result.summary())
        if stack:
            from lifechart.model.stack import add_stack

            print(add_stack(out, dataset, seed=seed, log=log, actor=me()).summary())


@app.command()
def evaluate(
    dataset: Annotated[Path, typer.Argument(help="A data set; its held-out patients are asked about.")],
    model: Annotated[Path, typer.Option(help="A model that `lifechart train` wrote.")],
    out: Out,
    truth: Annotated[Path | None, typer.Option(help="A simulated hospital's truth: scores its oracles too.")] = None,
    baselines: Annotated[bool, typer.Option(help="Train boosted trees on the same data and score them.")] = True,
    max_prompts: Annotated[int | None, typer.Option(help="Ask at most this often, chosen by lot.")] = None,
    threshold: Annotated[
        list[str] | None, typer.Option(help="OUTCOME=RISK from which somebody acts; groups are compared there.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Find out what a model is worth, beside boosted trees and, where it is known, the truth."""
    from lifechart.care.risk import policy
    from lifechart.data.deidentify import structured
    from lifechart.evaluate import examine, fairness, summary
    from lifechart.ledger.log import open_log
    from lifechart.model.encoders.image import pictures_of
    from lifechart.model.forecaster import load_forecaster

    settings = load_settings()
    with closing(open_log(settings)) as log:
        report = examine.examine(
            dataset,
            load_forecaster(model, pictures=pictures_of(dataset)),
            out,
            log=log,
            baselines=baselines,
            truth=truth,
            key=structured.load_key(settings) if truth else None,
            max_prompts=max_prompts,
            thresholds=fairness.parse_thresholds(threshold or []),
            abstains_from=policy()["abstain_novelty"],
            seed=seed,
        )
    print_rows(summary.table(report))
    print_rows(summary.shares(report))
    print(f"the whole report: {out / 'report.html'}")
