"""The page that an ethics board reads: one self-contained HTML file made from a Report and its curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from lifechart.core import durable
from lifechart.core.forecast import Interval
from lifechart.core.report import EVERYONE, Metric, Report
from lifechart.evaluate import answering, figures, followed, missing, verdicts
from lifechart.evaluate.baselines import NAME as TREES
from lifechart.evaluate.fairness import Fairness
from lifechart.evaluate.findings import SUBGROUP_METRICS, Curves, Worth
from lifechart.evaluate.headline import ALL_OUTCOMES, LATENT, MIN_REACHABLE, RECORD, SURELY_REACHABLE
from lifechart.evaluate.metrics import METRICS
from lifechart.evaluate.question import MIN_PEOPLE
from lifechart.evaluate.tasks import Task

MAX_SQUARES = 12
SERIES = {TREES: "trees", RECORD: "best"}
"""How each opponent is drawn; the model that is examined is drawn as `model`, and the latent oracle is not."""
COLUMNS = {
    "auroc": ("AUROC", 3),
    "average_precision": ("Average precision", 3),
    "observed_expected": ("Observed / expected", 2),
    "calibration_slope": ("Calibration slope", 2),
    "calibration_intercept": ("Calibration intercept", 2),
    "brier": ("Brier score", 4),
    "ece": ("ECE", 4),
}
"""Heading and decimals of each metric in the full tables."""


@dataclass(frozen=True, slots=True, eq=False)
class Examination:
    """Everything that the page shows: the Report and what it was made from."""

    report: Report
    task: Task
    model: str
    """Name of the forecaster that is examined; its opponents have names of their own."""
    curves: Curves
    worth: Sequence[Worth]
    """Net benefit and smooth calibration of the commonest outcomes."""
    fairness: Fairness
    """Every group beside everybody else, and what was found."""
    facts: Mapping[str, Any]
    """Counts of people and prompts, resamples, the rule of the overall figures, seed, outcomes withheld."""


def write(examination: Examination, path: Path) -> None:
    """Render the page to `path`, whole or not at all."""
    durable.write_bytes(path, render(examination).encode())


def render(examination: Examination) -> str:
    """Return the page's HTML. It loads nothing: style and drawings are inside."""
    assert set(COLUMNS) == set(METRICS), "a metric without a column"
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lifechart.evaluate"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure, "interval": interval, "percent": figures.percent, "days": days}
    environment.filters["count"] = lambda number: f"{number:,}"
    report, main = examination.report, examination.task.main_horizon_days
    index = {(m.name, m.forecaster, m.outcome, m.horizon_days, m.onset, m.subgroup): m for m in report.metrics}
    forecasters = _in_order({metric.forecaster for metric in report.metrics}, examination.model)
    return environment.get_template("report.html").render(
        report=report,
        task=examination.task,
        facts=examination.facts,
        model=examination.model,
        main=main,
        names=report.outcome_names,
        titles={**TITLES, examination.model: "The model"},
        forecasters=forecasters,
        headline=_headline(index, examination.model, main),
        forest=_forest(report, examination.model, main),
        axis=figures.forest_axis(),
        squares=_squares(examination, main),
        worth=_worth(examination),
        followed=_followed(report),
        missing=_missing(report, examination.model),
        certain=answering.section(report, examination.model, examination.facts.get("abstains_from")),
        groups=_groups(report, examination.model),
        fairness=verdicts.section(examination.fairness, report.outcome_names),
        tables=_tables(index, forecasters, report.outcome_names),
        columns=COLUMNS,
        rules={
            "people": MIN_PEOPLE,
            "events": examination.facts["min_events"],
            "reachable": MIN_REACHABLE,
            "surely": SURELY_REACHABLE,
        },
    )


TITLES = {TREES: "Boosted trees", RECORD: "Best reachable", LATENT: "All-knowing"}
Index = dict[tuple[str, str, str, int, str, str], Metric]


def _in_order(forecasters: Iterable[str], model: str) -> list[str]:
    place = {model: 0, TREES: 1, RECORD: 2, LATENT: 3}
    return sorted(forecasters, key=lambda name: (place.get(name, 4), name))


def _headline(index: Index, model: str, main: int) -> dict[str, dict[str, Metric]]:
    """Return {metric: {forecaster: row}} of the means over all outcomes that enter."""
    found: dict[str, dict[str, Metric]] = {"reachable_share": {}, "mean_auroc": {}, "auroc_gain": {}}
    for (name, forecaster, outcome, horizon, _, _), metric in index.items():
        if outcome == ALL_OUTCOMES and horizon == main and name in found:
            found[name][forecaster] = metric
    return found


def _forest(report: Report, model: str, main: int) -> list[dict[str, Any]]:
    """Return a row per outcome, most events first: its AUROCs by forecaster, and their drawing."""
    by_outcome: dict[str, dict[str, Metric]] = {}
    for metric in report.select(name="auroc", horizon_days=main, onset="new", subgroup=EVERYONE):
        by_outcome.setdefault(metric.outcome, {})[metric.forecaster] = metric
    found = []
    for outcome, metrics in sorted(by_outcome.items(), key=lambda item: -item[1][model].num_events):
        drawn = [("model", metrics[model])]
        drawn += [(series, metrics[name]) for name, series in SERIES.items() if name in metrics and name != model]
        found.append({"outcome": outcome, "metrics": metrics, "drawing": figures.forest_row(drawn)})
    return found


def _squares(examination: Examination, main: int) -> list[dict[str, Any]]:
    """Return the model's reliability drawings of the commonest outcomes."""
    found: list[dict[str, Any]] = []
    curves = {each.outcome: each.curve for each in examination.worth}
    for metric in examination.report.select(
        name="observed_expected", forecaster=examination.model, horizon_days=main, onset="new", subgroup=EVERYONE
    ):
        points = examination.curves.get((metric.outcome, main, examination.model), [])
        if len(points) > 1:
            title = examination.report.outcome_names[metric.outcome]
            smooth = curves.get(metric.outcome)
            drawing = figures.reliability_square(title, points, smooth)
            found.append({"title": title, "ratio": metric, "curve": smooth, "drawing": drawing})
    return sorted(found, key=lambda square: -square["ratio"].num_events)[:MAX_SQUARES]


def _worth(examination: Examination) -> list[dict[str, Any]]:
    """Return, for each of the commonest outcomes, its decision curve's drawing and the rows of its threshold table."""
    found = []
    for each in examination.worth:
        title = examination.report.outcome_names[each.outcome]
        series = {
            "model" if name == examination.model else SERIES[name]: actions for name, actions in each.actions.items()
        }
        useful = [action for action in each.actions[examination.model] if action.num_alerts]
        drawing = figures.decision_curve(title, series, useful)
        found.append({"title": title, "drawing": drawing, "actions": useful})
    return found


def _followed(report: Report) -> list[dict[str, Any]]:
    """Return a row per outcome and forecaster of the figures that count those whose follow-up was cut short."""
    found: dict[tuple[str, str], dict[str, Metric]] = {}
    for metric in report.metrics:
        if metric.name in (followed.CONCORDANCE, followed.BRIER):
            found.setdefault((metric.outcome, metric.forecaster), {})[metric.name] = metric
    return [
        {"outcome": outcome, "forecaster": forecaster, "any": next(iter(metrics.values())), "metrics": metrics}
        for (outcome, forecaster), metrics in found.items()
    ]


def _missing(report: Report, model: str) -> list[dict[str, Any]]:
    """Return a row per scenario: what is left out, the AUROC lost, observed over expected."""
    by_name = {metric.name: metric for metric in report.select(outcome=ALL_OUTCOMES, forecaster=model)}
    return [
        {"title": title, "lost": by_name[missing.LOST + name], "ratio": by_name[missing.RATIO + name]}
        for name, (title, _) in missing.SCENARIOS.items()
        if missing.LOST + name in by_name
    ]


def _groups(report: Report, model: str) -> list[dict[str, Any]]:
    """Return a row per subgroup: means over the outcomes it has figures for, beside everyone's for the same."""
    everyone = {
        (m.name, m.outcome): m.value
        for m in report.select(forecaster=model, onset="new", subgroup=EVERYONE)
        if m.horizon_days == _horizon_of_groups(report)
    }
    groups: dict[str, list[Metric]] = {}
    for metric in report.metrics:
        if metric.subgroup != EVERYONE and metric.name in SUBGROUP_METRICS:
            groups.setdefault(metric.subgroup, []).append(metric)
    found = []
    for name, metrics in sorted(groups.items()):
        auroc = [metric for metric in metrics if metric.name == "auroc"]
        ratio = [metric for metric in metrics if metric.name == "observed_expected"]
        attribute, _, value = name.partition("=")
        found.append(
            {
                "attribute": attribute,
                "value": value.replace("_", " "),
                "outcomes": len(auroc),
                "events": sum(metric.num_events for metric in auroc),
                "prompts": max(metric.num_prompts for metric in auroc),
                "auroc": float(np.mean([metric.value for metric in auroc])),
                "everyone": float(np.mean([everyone["auroc", metric.outcome] for metric in auroc])),
                "ratio": float(np.exp(np.mean([np.log(max(metric.value, 1e-6)) for metric in ratio]))),
            }
        )
    return found


def _horizon_of_groups(report: Report) -> int | None:
    named = (metric for metric in report.metrics if metric.name in SUBGROUP_METRICS)
    return next((metric.horizon_days for metric in named if metric.subgroup != EVERYONE), None)


def _tables(index: Index, forecasters: list[str], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return a table per horizon and onset, in which each outcome has a row per forecaster."""
    parts: dict[tuple[str, int], dict[str, dict[str, dict[str, Metric]]]] = {}
    for (name, forecaster, outcome, horizon, onset, subgroup), metric in index.items():
        if subgroup == EVERYONE and name in COLUMNS and outcome != ALL_OUTCOMES:
            outcomes = parts.setdefault((onset, horizon), {})
            outcomes.setdefault(outcome, {}).setdefault(forecaster, {})[name] = metric
    found = []
    for (onset, horizon), outcomes in sorted(parts.items()):
        lines = [
            {"outcome": outcome, "forecasters": [(name, by[name]) for name in forecasters if name in by]}
            for outcome, by in sorted(outcomes.items(), key=lambda item: names.get(item[0], item[0]).lower())
        ]
        found.append({"onset": onset, "horizon": horizon, "rows": lines})
    return found


def figure(value: float, digits: int = 3) -> str:
    """Return a number for a table: fixed decimals, a true minus.

    >>> figure(-0.5, 2)
    '−0.50'
    """
    return f"{value:.{digits}f}".replace("-", "−")


def interval(bounds: Interval | None, digits: int = 3) -> str:
    """Return an interval for a table; empty where there is none."""
    return "" if bounds is None else f"{figure(bounds.low, digits)} to {figure(bounds.high, digits)}"


def days(horizon: int) -> str:
    """Return a horizon in words.

    >>> days(30), days(365), days(1825)
    ('30 days', '1 year', '5 years')
    """
    years, rest = divmod(horizon, 365)
    if rest or not years:
        return f"{horizon} days"
    return "1 year" if years == 1 else f"{years} years"
