"""One evaluation, from a data set and a forecaster to a Report, its page and a statement in the ledger."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.core.forecast import Forecaster
from lifechart.core.report import Report
from lifechart.data import shards
from lifechart.evaluate import certainty, fairness, findings, followed, headline, missing, page, side_by_side
from lifechart.evaluate.baselines import NAME as TREES
from lifechart.evaluate.baselines import BoostedTrees
from lifechart.evaluate.fairness import Fairness
from lifechart.evaluate.findings import Reportable
from lifechart.evaluate.oracle import load_oracles
from lifechart.evaluate.question import MIN_PEOPLE, Question, Scorer, ask, check_no_look_ahead, score
from lifechart.evaluate.tasks import Task, default_task
from lifechart.ledger.log import Log
from lifechart.ledger.statement import Statement, Subject

METHOD = "5"
"""Raised whenever the same protocol file would give other numbers."""

Advance = Callable[[float, str], None]


def examine(
    dataset: Path,
    forecaster: Forecaster,
    out: Path,
    *,
    log: Log,
    baselines: bool = True,
    truth: Path | None = None,
    key: bytes | None = None,
    opponents: Sequence[Scorer] = (),
    task: Task | None = None,
    horizons: Sequence[int] | None = None,
    max_prompts: int | None = None,
    bootstrap: int = 200,
    min_events: int = headline.MIN_EVENTS,
    seed: int = 0,
    registered: str = "",
    thresholds: Mapping[str, float] | None = None,
    abstains_from: float | None = None,
    progress: bool | None = None,
) -> Report:
    """Examine `forecaster` on the data set's held-out patients; write `out`/report.json, fairness.json and report.html.

    `baselines`: train boosted trees on the same data and score them at the main horizon. `truth` and `key`: a simulated
    hospital's truth/ folder and the de-identification key; its record oracle is then scored too. `opponents`: others to
    score beside it, such as a peer's model. `horizons`: days, default those of the task that the forecaster offers.
    `max_prompts`: keep that many by lot. `bootstrap`: resamples of the patients behind each interval. `min_events`:
    occurrences with which an outcome enters the overall figures. `registered`: digest of the registered protocol that
    is carried out by this, if one is (release.protocol). `thresholds`: by outcome, the risk from which somebody acts,
    at which groups are compared (see `fairness`). `abstains_from`: the novelty above which the capability that is to
    use the model declines to answer; the page marks it. `progress`: None shows a bar on a terminal. Returns the Report.
    Raises InputError where the forecaster breaks its contract, looks ahead, or nothing can be asked.
    """
    started = time.monotonic()
    task = task or default_task()
    if horizons is not None:
        main = task.main_horizon_days if task.main_horizon_days in horizons else max(horizons)
        task = task.model_copy(update={"horizons_days": tuple(sorted(horizons)), "main_horizon_days": main})
    if truth is not None and key is None:
        raise InputError("key", key, "the de-identification key, since the truth is to be matched")
    with _bar(progress) as bar:
        step = bar.add_task("", total=1.0)

        def advance(share: float, doing: str) -> None:
            bar.update(step, completed=share, description=f"evaluate: {doing}")

        advance(0.0, "prompts")
        names = shards.names(dataset)
        question = ask(shards.read_split(dataset, "held_out"), forecaster, task, max_prompts, bootstrap, seed)
        check_no_look_ahead(forecaster, question.events, question.prompts)
        reportable = question.reportable()
        scorers: list[Scorer] = [forecaster, *opponents]
        if baselines:
            scorers += _trees(dataset, question, reportable, seed, advance)
        if truth is not None and key is not None:
            scorers += load_oracles(truth, key, (task.main_horizon_days,))
        metrics, curves, worth, fair = _find(question, scorers, reportable, names, min_events, thresholds, advance)
    report = Report(
        model_digest=forecaster.digest,
        data_digest=shards.dataset_digest(dataset),
        protocol_digest=protocol_digest(task, max_prompts, bootstrap, min_events, seed),
        created=log.now().isoformat(timespec="seconds"),
        metrics=tuple(metrics),
        outcome_names={headline.ALL_OUTCOMES: "All outcomes with enough events"}
        | {outcome: names.get(outcome, outcome) for outcome in question.outcomes},
    )
    facts = {
        "people": len(np.unique(question.owner)),
        "prompts": question.prompts.height,
        "bootstrap": bootstrap,
        "min_events": min_events,
        "seed": seed,
        "withheld": sorted(set(question.outcomes) - {outcome for outcome, _, _ in reportable}),
        "abstains_from": abstains_from,
        "seconds": round(time.monotonic() - started, 1),
    }
    report.save(out / "report.json")
    durable.write_json(out / "fairness.json", fair.content())
    page.write(page.Examination(report, task, forecaster.name, curves, worth, fair, facts), out / "report.html")
    log.append(_statement(report, forecaster, facts, fair, registered))
    return report


def protocol_digest(task: Task, max_prompts: int | None, bootstrap: int, min_events: int, seed: int) -> str:
    """Return the SHA-256 that names how a report was made: the task, the draw of prompts, the method's version."""
    draw = {"max_prompts": max_prompts, "bootstrap": bootstrap, "seed": seed}
    rules = {"min_events": min_events, "min_people": MIN_PEOPLE, "method": METHOD}
    return durable.digest_of({"task": task.model_dump(mode="json"), **draw, **rules})


def _trees(dataset: Path, question: Question, reportable: Reportable, seed: int, advance: Advance) -> list[Scorer]:
    """Return boosted trees trained at the main horizon for whatever can be reported there, if anything can."""
    main = question.task.main_horizon_days
    outcomes = list(dict.fromkeys(outcome for outcome, horizon, _ in reportable if horizon == main))
    if not outcomes:
        return []
    train, tuning = shards.read_split(dataset, "train"), shards.read_split(dataset, "tuning")
    fitted = BoostedTrees.fit(
        train,
        tuning,
        question.task,
        outcomes,
        (main,),
        seed=seed,
        advance=lambda share: advance(0.05 + 0.5 * share, "boosted trees"),
    )
    return [fitted]


def _find(
    question: Question,
    scorers: Sequence[Scorer],
    reportable: Reportable,
    names: Mapping[str, str],
    min_events: int,
    thresholds: Mapping[str, float] | None,
    advance: Advance,
) -> tuple[list[Any], findings.Curves, list[findings.Worth], Fairness]:
    """Return the Report's metrics, the reliability curves, and of the commonest outcomes their worth and fairness."""
    scores = {}
    for number, scorer in enumerate(scorers):
        advance(0.55 + 0.35 * number / len(scorers), scorer.name)
        scores[scorer.name] = score(scorer, question)
    advance(0.9, "metrics")
    metrics, estimates = findings.measure(question, scorers, scores, reportable)
    metrics += headline.rows(estimates, question.task.main_horizon_days, min_events)
    metrics += side_by_side.beside(question, scorers, scores, min_events)
    model = scorers[0].name
    metrics += findings.by_subgroup(question, model, scores[model], reportable, names)
    drawn = {name: table for name, table in scores.items() if name in (model, TREES)}
    worth = findings.worth(question, drawn, reportable, model, page.MAX_SQUARES)
    metrics += [row for found in worth for row in findings.worth_metrics(question, found, scores, model)]
    metrics += followed.metrics(question, worth, scores)
    advance(0.93, "records that hold less")
    metrics += missing.metrics(question, scorers[0], scores[model], min_events)
    advance(0.94, "intervals")
    metrics += certainty.metrics(question, scorers[0], scores, names, min_events)
    advance(0.95, "groups")
    fair = fairness.examine(question, scores[model], [each.outcome for each in worth], names, thresholds)
    return metrics, findings.curves(question, scores, reportable), worth, fair


def _statement(
    report: Report, forecaster: Forecaster, facts: dict[str, Any], fair: Fairness, registered: str
) -> Statement:
    predicate = {
        "model": report.model_digest,
        "data": report.data_digest,
        "protocol": report.protocol_digest,
        "forecaster": forecaster.name,
        "people": facts["people"],
        "prompts": facts["prompts"],
        "fairness": durable.digest_of(fair.content()),
        "under_recorded": sorted({f"{each.condition.condition}: {each.group}" for each in fair.under_recorded}),
        "worse_for": sorted({f"{each.outcome}: {each.group}" for each in fair.worse}),
        "registered": registered or None,
    }
    return Statement("evaluate", (Subject("report", report.digest),), predicate)


def _bar(progress: bool | None) -> Progress:
    shown = sys.stderr.isatty() if progress is None else progress
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not shown, transient=True)
