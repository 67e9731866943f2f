"""What each source of the data contributed: combine, contribution."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lifechart.cli.root import Out, Seed, app, me, print_rows
from lifechart.core.errors import InputError
from lifechart.core.settings import Settings, load_settings

if TYPE_CHECKING:
    from lifechart.ledger.log import Log

FILE = "contribution.json"
_TASK_HELP = "by default `source` for data sets of `lifechart combine`, else `kind` of chart item"


@app.command("combine")
def combine_datasets(
    datasets: Annotated[list[str], typer.Argument(help="NAME=FOLDER of each data set, the most trusted first.")],
    out: Out,
) -> None:
    """Join data sets that were made with one key; every event then says which of them it came from."""
    from lifechart.data import combine
    from lifechart.ledger.log import open_log

    given = {}
    for each in datasets:
        name, mark, folder = each.partition("=")
        if not (name and mark and folder) or name in given:
            raise InputError("DATASETS", each, "NAME=FOLDER, each name once")
        given[name] = Path(folder)
    with closing(open_log(load_settings())) as log:
        print_rows(combine.combine(given, out, log=log).table())


@app.command("contribution")
def contribution(
    model: Annotated[Path, typer.Argument(help="A model that `lifechart train` wrote.")],
    dataset: Annotated[Path, typer.Argument(help="The data set that it was trained on.")],
    out: Out,
    by: Annotated[str | None, typer.Option(help=f"What a source is: {_TASK_HELP}.")] = None,
    method: Annotated[
        str, typer.Option(help="What is learnt without each source: head, or whole (many times longer).")
    ] = "head",
    repeats: Annotated[int, typer.Option(help="Seeds that each is learnt with.")] = 2,
    report: Annotated[Path | None, typer.Option(help="The report.json that this belongs to.")] = None,
    max_prompts: Annotated[int | None, typer.Option(help="Ask at most this often, by lot.")] = None,
    seed: Seed = 0,
) -> None:
    """Find how much each source of the data contributed to each capability, and state it in the ledger."""
    from rich.console import Console
    from rich.progress import Progress

    from lifechart.core import durable
    from lifechart.core.report import Report
    from lifechart.data import shards
    from lifechart.data.combine import sources_of
    from lifechart.evaluate import contribution as measuring
    from lifechart.evaluate.question import ask
    from lifechart.evaluate.tasks import default_task
    from lifechart.ledger.log import open_log
    from lifechart.ledger.statement import Statement, Subject
    from lifechart.model.forecaster import NetworkForecaster, load_forecaster
    from lifechart.model.leave_out import LeaveOut, Silenced

    settings = load_settings()
    forecaster = load_forecaster(model)
    if not isinstance(forecaster, NetworkForecaster):
        raise InputError("MODEL", str(model), "a model of outcomes, not of labels of one's own")
    data = shards.dataset_digest(dataset)
    if forecaster.model.config.get("data_digest") != data:
        raise InputError("DATASET", str(dataset), "the data set that the model was trained on")
    bound = Report.load(report) if report else None
    if bound is not None and bound.model_digest != forecaster.digest:
        raise InputError("--report", str(report), "a report of this model")
    leave_out = LeaveOut.of(dataset, forecaster.outcomes, by)
    with closing(open_log(settings)) as log:
        chosen = _chosen(settings, log, forecaster.digest)
        question = ask(shards.read_split(dataset, "held_out"), forecaster, default_task(), max_prompts, 200, seed)
        with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
            task = bar.add_task("contribution", total=1.0)
            found = measuring.contributions(
                question, leave_out.sources, lambda source, number: leave_out.learnt(source, method, number),
                lambda source: forecaster if source is None else Silenced(forecaster, leave_out.by, source),
                range(seed, seed + max(repeats, 1)), chosen,
                advance=lambda share, doing: bar.update(task, completed=share, description=doing),
            )  # fmt: skip
        digests = sources_of(dataset) if leave_out.by == "source" else {}
        content = {
            "model": forecaster.digest, "dataset": data, "report": bound.digest if bound else None, "by": leave_out.by,
            "method": method, "repeats": repeats, "seed": seed, "horizon_days": question.task.main_horizon_days,
            "sources": digests,
            "capabilities": {name: [asdict(each) for each in mine] for name, mine in found.items()},
        }  # fmt: skip
        durable.write_json(out / FILE, content)
        what = "; ".join(f"{name}: {', '.join(each.said for each in mine)}" for name, mine in found.items())
        of = {
            digest: "; ".join(
                f"{name}: {each.said}" for name, mine in found.items() for each in mine if each.source == source
            )
            for source, digest in digests.items()
        }  # fmt: skip
        subjects = [Subject("model", forecaster.digest), *(Subject(name, each) for name, each in digests.items())]
        log.append(Statement("contribution", tuple(subjects), {**content, "what": what, "of": of, "actor": me()}))
    print_rows(measuring.table(found))
    print(f"{out / FILE}")


def _chosen(settings: Settings, log: Log, model: str) -> dict[str, tuple[str, ...]]:
    """Return the outcomes of each capability that rests on forecasts: those released of this model; none: all."""
    from lifechart.core import plugs
    from lifechart.core.capability import Capability
    from lifechart.evaluate.tasks import default_task
    from lifechart.release.shelf import open_shelf

    chosen: dict[str, tuple[str, ...]] = {}
    shelf = open_shelf(settings, log)
    for name, plug in plugs.load("lifechart.capabilities", Capability).items():
        assert isinstance(plug, Capability)
        if default_task().name not in plug.declaration.evidence_tasks:
            continue
        chosen[name] = ()
        if shelf.state(name).version is not None:
            released = shelf.current(name)
            if released.manifest.model_digest == model:
                chosen[name] = tuple(dict.fromkeys(outcome for outcome, _ in released.released))
    return chosen
