"""The drawings of a report page, as SVG that needs nothing from the net: intervals in rows, reliability in squares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from markupsafe import Markup

from lifechart.core.report import Metric
from lifechart.evaluate.benefit import Action
from lifechart.evaluate.calibration import Point
from lifechart.evaluate.smooth import Curve

WIDTH, ROW, MARGIN = 320, 14, 10
AUROC_TICKS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SQUARE, PAD = 230, 46
_MARKS = {
    "model": '<circle cx="{x:.1f}" cy="{y}" r="4.6" class="mark"/>',
    "trees": '<rect x="{left:.1f}" y="{top}" width="8" height="8" class="mark"/>',
    "best": '<path d="M{x:.1f} {up}l5 5-5 5-5-5z" class="mark"/>',
}


def forest_row(metrics: Sequence[tuple[str, Metric]]) -> Markup:
    """Draw one outcome's AUROCs with intervals under each other. `metrics`: (series, metric), series a key of marks.

    Hidden from screen readers, since the same figures stand in the cells beside it.
    """
    height = ROW * len(metrics) + 6
    parts = [_grid(height)]
    for number, (series, metric) in enumerate(metrics):
        y = ROW * number + 10
        x = _across(metric.value)
        line = ""
        if metric.interval is not None:
            low, high = _across(metric.interval.low), _across(metric.interval.high)
            line = f'<path d="M{low:.1f} {y}H{high:.1f}" class="line"/>'
        mark = _MARKS[series].format(x=x, y=y, left=x - 4, top=y - 4, up=y - 5)
        parts.append(f'<g class="{series}">{line}{mark}</g>')
    return Markup(f'<svg viewBox="0 0 {WIDTH} {height}" aria-hidden="true" focusable="false">{"".join(parts)}</svg>')


def forest_axis() -> Markup:
    """Draw the scale above the rows."""
    labels = "".join(f'<text x="{_across(tick):.1f}" y="12" class="tick">{tick:.1f}</text>' for tick in AUROC_TICKS)
    return Markup(f'<svg viewBox="0 0 {WIDTH} 16" aria-hidden="true" focusable="false">{labels}</svg>')


def _grid(height: int) -> str:
    return "".join(f'<path d="M{_across(tick):.1f} 0V{height}" class="grid"/>' for tick in AUROC_TICKS)


def _across(value: float) -> float:
    low, high = AUROC_TICKS[0], AUROC_TICKS[-1]
    return MARGIN + (min(max(value, low), high) - low) / (high - low) * (WIDTH - 2 * MARGIN)


def reliability_square(title: str, points: Sequence[Point], smooth: Curve | None = None) -> Markup:
    """Draw observed against forecast risk with intervals and the smooth curve's band, and say it in words."""
    highest = max(max(point.forecast, point.interval.high if point.interval else point.observed) for point in points)
    top = nice_ceiling(highest)
    size = SQUARE - PAD - 12

    def place(forecast: float, observed: float) -> tuple[float, float]:
        return PAD + forecast / top * size, SQUARE - PAD - min(observed, top) / top * size

    parts = [f'<path d="M{PAD} {SQUARE - PAD}L{PAD + size} {SQUARE - PAD - size}" class="ideal"/>']
    for share in (0, 0.5, 1):
        x, y = place(share * top, share * top)
        text = percent(share * top)
        parts.append(f'<path d="M{x:.1f} {SQUARE - PAD}V{SQUARE - PAD - size}" class="grid"/>')
        parts.append(f'<path d="M{PAD} {y:.1f}H{PAD + size}" class="grid"/>')
        parts.append(f'<text x="{x:.1f}" y="{SQUARE - PAD + 14}" class="tick">{text}</text>')
        parts.append(f'<text x="{PAD - 5}" y="{y + 4:.1f}" class="tick side">{text}</text>')
    if smooth is not None:
        inside = smooth.forecast <= top
        lower, upper = (side[inside] for side in smooth.band())
        at = smooth.forecast[inside]
        outline = [*zip(at, upper, strict=True), *zip(at[::-1], lower[::-1], strict=True)]
        band = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in outline if math.isfinite(y))
        line = " ".join(
            "{:.1f},{:.1f}".format(*place(x, y)) for x, y in zip(at, smooth.observed[0][inside], strict=True)
        )
        parts.append(f'<polygon points="{band}" class="band"/><polyline points="{line}" class="curve"/>')
    for point in points:
        x, y = place(point.forecast, point.observed)
        if point.interval is not None:
            low, high = place(0, point.interval.low)[1], place(0, point.interval.high)[1]
            parts.append(f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" class="line"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="mark"/>')
    parts.append(f'<text x="{PAD + size / 2}" y="{SQUARE - 8}" class="axis">forecast risk</text>')
    parts.append(
        f'<text transform="translate(11 {SQUARE - PAD - size / 2}) rotate(-90)" class="axis">share who had it</text>'
    )
    said = "; ".join(f"of those told about {percent(p.forecast)}, {percent(p.observed)} had it" for p in points)
    return Markup(
        f'<svg viewBox="0 0 {SQUARE} {SQUARE}" role="img" aria-label="{escape(f"{title}: {said}.", quote=True)}" '
        f'class="model">{"".join(parts)}</svg>'
    )


def decision_curve(title: str, series: Mapping[str, Sequence[Action]], drawn: Sequence[Action]) -> Markup:
    """Draw net benefit against the threshold: each series, acting on everybody, and acting on nobody (the axis).

    `drawn`: the actions whose thresholds are on the axis. The table beside it says the same in numbers.
    """
    width, height, left, bottom = 300, 190, 52, 36
    thresholds = [action.threshold for action in drawn]
    values = [
        action.net_benefit.value for actions in series.values() for action in actions if action.threshold in thresholds
    ]
    values += [action.treat_all.value for action in drawn]
    top = max(nice_ceiling(max(values, default=0.0)), 1e-4) if max(values, default=0.0) > 0 else 0.01
    floor = -top / 4

    def place(number: int, value: float) -> tuple[float, float]:
        x = left + number / max(1, len(thresholds) - 1) * (width - left - 12)
        return x, 8 + (top - max(value, floor)) / (top - floor) * (height - bottom - 8)

    parts = []
    for share in (0.0, 0.5, 1.0):
        y = place(0, share * top)[1]
        parts.append(f'<path d="M{left} {y:.1f}H{width - 12}" class="{"ideal" if share == 0 else "grid"}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" class="tick side">{share * top * 100:.2g}</text>')
    for number, threshold in enumerate(thresholds):
        parts.append(
            f'<text x="{place(number, 0)[0]:.1f}" y="{height - bottom + 16}" class="tick">{percent(threshold)}</text>'
        )
    parts.append(_polyline([place(n, action.treat_all.value) for n, action in enumerate(drawn)], "everybody"))
    for name, actions in series.items():
        own = {action.threshold: action.net_benefit.value for action in actions}
        points = [place(n, own[threshold]) for n, threshold in enumerate(thresholds)]
        marks = "".join(_MARKS[name].format(x=x, y=y, left=x - 4, top=y - 4, up=y - 5) for x, y in points)
        parts.append(f'<g class="{name}">{_polyline(points, "line")}{marks}</g>')
    parts.append(f'<text x="{(left + width) / 2}" y="{height - 6}" class="axis">acting from a risk of</text>')
    said = "; ".join(f"from {percent(a.threshold)}, {a.net_benefit.value * 100:.2f} in 100" for a in drawn)
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(f"{title}, net benefit of the model: {said}.", quote=True)}">{"".join(parts)}</svg>'
    )


def _polyline(points: Sequence[tuple[float, float]], class_: str) -> str:
    return f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" class="{class_}"/>'


def nice_ceiling(value: float) -> float:
    """Return the least of 1, 2, 3, 4, 5, 6, 8 or 10 times a power of ten that is not below `value`, at most 1.

    >>> nice_ceiling(0.034), nice_ceiling(0.72)
    (0.04, 0.8)
    """
    power = 10.0 ** math.floor(math.log10(max(value, 1e-6)))
    steps = (round(step * power, 9) for step in (1, 2, 3, 4, 5, 6, 8, 10))
    return min(1.0, next(step for step in steps if step >= value * 0.9999))


def percent(share: float) -> str:
    """Return a share as a percentage with two significant figures at most.

    >>> percent(0.1234), percent(0.0123), percent(0.00051), percent(0)
    ('12%', '1.2%', '0.051%', '0%')
    """
    hundred = share * 100
    return f"{hundred:.0f}%" if hundred >= 10 or hundred == 0 else f"{hundred:.2g}%"
