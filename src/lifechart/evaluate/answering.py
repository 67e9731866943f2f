"""The Report page's section on certainty: a table of coverage, and error against share answered, drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from markupsafe import Markup

from lifechart.core.report import EVERYONE, Metric, Report
from lifechart.evaluate import abstention, coverage
from lifechart.evaluate.figures import percent
from lifechart.evaluate.headline import ALL_OUTCOMES

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 320, 200, 58, 36
_SERIES = {"novelty": "model", "width": "trees"}
"""Each order's class in the drawing, and so its colour and mark."""
_DIGITS = {"auroc": 3, "brier": 4, "excess_loss": 3}


def section(report: Report, model: str, abstains_from: float | None) -> dict[str, Any]:
    """Return the rows of the coverage table and the drawings; both empty where intervals were not examined.

    `abstains_from`: the novelty above which the deployed capability declines, to be marked.
    """
    rows = list(report.select(forecaster=model, outcome=ALL_OUTCOMES))
    by_group: dict[str, dict[str, Metric]] = {}
    for metric in rows:
        if metric.name in (coverage.TRUE, coverage.FREQUENCY, coverage.RATIO):
            by_group.setdefault(metric.subgroup, {})[metric.name] = metric
    by_name = {metric.name: metric for metric in rows if metric.subgroup == EVERYONE}
    declined = by_name.get(abstention.answered_name(abstains_from)) if abstains_from is not None else None
    figures = []
    for error, title in abstention.ERRORS.items():
        curves = {order: _curve(by_name, error, order) for order in abstention.ORDERS}
        curves = {order: points for order, points in curves.items() if len(points) > 1}
        if curves:
            drawing = drawn(title, curves, _DIGITS[error], declined.value if declined else None)
            figures.append({"title": title, "drawing": drawing, "curves": curves, "digits": _DIGITS[error]})
    return {
        "coverage": [{"group": _words(group), "metrics": metrics} for group, metrics in by_group.items()],
        "truth": any(coverage.TRUE in metrics for metrics in by_group.values()),
        "figures": figures,
        "orders": abstention.ORDERS,
        "declined": declined,
        "abstains_from": abstains_from,
    }


def _curve(by_name: Mapping[str, Metric], error: str, order: str) -> list[tuple[float, Metric]]:
    named = [(share, abstention.name_of(error, order, share)) for share in abstention.SHARES]
    return [(share, by_name[name]) for share, name in named if name in by_name]


def _words(group: str) -> str:
    if group == EVERYONE:
        return "Everybody"
    attribute, _, value = group.partition("=")
    return f"Outcomes of {value}" if attribute == "rarity" else f"{attribute.capitalize()}: {value.replace('_', ' ')}"


def drawn(
    title: str, curves: Mapping[str, Sequence[tuple[float, Metric]]], digits: int, declined: float | None
) -> Markup:
    """Draw an error against the share answered, everybody at the left; `declined`: the share answered as deployed."""
    ends = [end for points in curves.values() for _, metric in points for end in _ends(metric)]
    low, high = min(ends), max(ends)
    room = max((high - low) * 0.08, 10.0**-digits)
    low, high = low - room, high + room
    least = min(share for points in curves.values() for share, _ in points)

    def place(share: float, value: float) -> tuple[float, float]:
        x = _LEFT + (1 - share) / (1 - least) * (_WIDTH - _LEFT - 16)
        return x, 8 + (high - value) / (high - low) * (_HEIGHT - _BOTTOM - 8)

    parts = []
    for number in range(3):
        value = low + (high - low) * number / 2
        y = place(1.0, value)[1]
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - 16}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" class="tick side">{value:.{digits}f}</text>')
    for share in (1.0, 0.9, 0.8, 0.65, 0.5):
        x = place(share, low)[0]
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 16}" class="tick">{percent(share)}</text>')
    if declined is not None and declined >= least:
        x = place(declined, low)[0]
        parts.append(f'<path d="M{x:.1f} 8V{_HEIGHT - _BOTTOM}" class="ideal"/>')
    for order, points in curves.items():
        at = [place(share, metric.value) for share, metric in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        marks = [f'<polyline points="{line}" class="line"/>']
        for (x, y), (share, metric) in zip(at, points, strict=True):
            bottom, top = (place(share, end)[1] for end in _ends(metric))
            marks.append(f'<path d="M{x:.1f} {bottom:.1f}V{top:.1f}" class="line"/>')
            square = f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" class="mark"/>'
            marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="mark"/>' if order == "novelty" else square)
        parts.append(f'<g class="{_SERIES[order]}">{"".join(marks)}</g>')
    parts.append(f'<text x="{(_LEFT + _WIDTH) / 2}" y="{_HEIGHT - 6}" class="axis">share answered</text>')
    said = "; ".join(
        f"left out by {abstention.ORDERS[order]}: "
        + ", ".join(f"{percent(share)} answered {metric.value:.{digits}f}" for share, metric in points)
        for order, points in curves.items()
    )
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(f"{title} against share answered. {said}.", quote=True)}">{"".join(parts)}</svg>'
    )


def _ends(metric: Metric) -> tuple[float, float]:
    return (metric.interval.low, metric.interval.high) if metric.interval else (metric.value, metric.value)
