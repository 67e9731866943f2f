"""A Report in a terminal's width: the mean over outcomes, then each outcome at the main horizon."""

from __future__ import annotations

from lifechart.core.report import EVERYONE, Metric, Report
from lifechart.evaluate.headline import ALL_OUTCOMES, NOT_MODELS

Rows = list[tuple[str, ...]]
SHOWN = 15
"""Outcomes in the terminal; the rest stands in the report."""


def table(report: Report) -> Rows:
    """Return a header and rows: new-onset AUROC with interval, by outcome (most events first) and forecaster."""
    aurocs = list(report.select(name="auroc", onset="new", subgroup=EVERYONE))
    means = list(report.select(name="mean_auroc"))
    horizon = means[0].horizon_days if means else max((m.horizon_days for m in aurocs), default=0)
    cells = {(m.outcome, m.forecaster): m for m in [*aurocs, *means] if m.horizon_days == horizon}
    forecasters = sorted({name for _, name in cells}, key=lambda name: (name in NOT_MODELS, name))
    events = {code: max(m.num_events for (c, _), m in cells.items() if c == code) for code, _ in cells}
    order = sorted(events, key=lambda code: (code != ALL_OUTCOMES, -events[code], code))
    rows = [
        (
            "mean over outcomes" if code == ALL_OUTCOMES else report.outcome_names.get(code, code)[:36],
            str(events[code]),
            *(_cell(cells.get((code, name))) for name in forecasters),
        )
        for code in order
    ]
    more = (
        [(f"and {len(rows) - SHOWN} more in the report", *[""] * (1 + len(forecasters)))] if len(rows) > SHOWN else []
    )
    return [(f"AUROC, new within {horizon} days", "events", *forecasters), *rows[:SHOWN], *more]


def shares(report: Report) -> Rows:
    """Return the share of the best reachable that each forecaster has, or nothing where the truth is not known."""
    rows = [(m.forecaster, _cell(m)) for m in report.select(name="reachable_share", outcome=ALL_OUTCOMES)]
    return [("share of the best reachable", "mean over outcomes"), *rows] if rows else []


def _cell(metric: Metric | None) -> str:
    if metric is None:
        return "–"
    if metric.interval is None:
        return f"{metric.value:.3f}"
    return f"{metric.value:.3f} ({metric.interval.low:.3f}–{metric.interval.high:.3f})"
