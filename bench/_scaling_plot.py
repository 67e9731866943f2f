"""The isoFLOP curves as a small SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench._scaling_laws import Curve
from bench._scaling_study import Point
from lifechart.core import durable

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 400, 70, 20, 44, 52
_COLOURS = ("#005eb8", "#00703c", "#aa3377", "#8a5a00")


def draw(points: Sequence[Point], curves: Sequence[Curve], path: Path) -> None:
    """Draw loss against parameters, a colour a budget: the runs, the parabola through them and its lowest point."""
    x = np.log10([each.cost.parameters for each in points])
    y = np.array([each.loss for each in points])
    low, high = (x.min() - 0.1, x.max() + 0.1), (y.min() - 0.04 * np.ptp(y), y.max() + 0.06 * np.ptp(y))

    def at(log_parameters: float, loss: float) -> tuple[float, float]:
        across = _LEFT + (log_parameters - low[0]) / (low[1] - low[0]) * (_WIDTH - _LEFT - _RIGHT)
        down = _TOP + (high[1] - loss) / (high[1] - high[0]) * (_HEIGHT - _TOP - _BOTTOM)
        return round(float(across), 1), round(float(down), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="13" role="img"><title>Loss of the next event against parameters at equal FLOPs</title>'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
    ]
    bottom, left = _HEIGHT - _BOTTOM, _LEFT
    parts.append(f'<path d="M{left} {_TOP}V{bottom}H{_WIDTH - _RIGHT}" fill="none" stroke="#425563"/>')
    for parameters in (4_000, 8_000, 15_000, 30_000, 60_000, 120_000, 250_000, 500_000, 1_000_000):
        across = at(np.log10(parameters), high[0])[0]
        if left <= across <= _WIDTH - _RIGHT:
            parts.append(f'<text x="{across}" y="{bottom + 18}" text-anchor="middle">{parameters // 1000}k</text>')
    for loss in np.linspace(high[0], high[1], 6)[1:-1]:
        parts.append(f'<text x="{left - 8}" y="{at(low[0], loss)[1] + 4}" text-anchor="end">{loss:.2f}</text>')
    parts.append(f'<text x="{left}" y="{_HEIGHT - 10}">parameters that multiply something at each event</text>')
    parts.append('<text x="8" y="20">loss of the next event, nats (other lives), at equal FLOPs</text>')
    for colour, curve in zip(_COLOURS, curves, strict=False):
        mine = [each for each in points if each.budget == curve.budget]
        along = np.log10([p.cost.parameters for p in mine])
        lowest = int(np.argmin([mine[place].loss for place in np.argsort(along)]))
        near = np.sort(along)[max(0, lowest - 2) : lowest + 3]
        reach = np.linspace(near[0], near[-1], 40)
        best = np.log10(curve.best_parameters)
        line = " ".join("{},{}".format(*at(v, curve.best_loss + curve.curvature * (v - best) ** 2)) for v in reach)
        if curve.within:
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        for each in mine:
            across, down = at(np.log10(each.cost.parameters), each.loss)
            parts.append(f'<circle cx="{across}" cy="{down}" r="4" fill="{colour}"/>')
        across, down = at(best, curve.best_loss)
        parts.append(f'<path d="M{across - 6} {down}h12M{across} {down - 6}v12" stroke="{colour}" stroke-width="2"/>')
        last = max(mine, key=lambda each: each.cost.parameters)
        across, down = at(np.log10(last.cost.parameters), last.loss)
        where = f'x="{across - 8}" y="{down - 9}" text-anchor="end" fill="{colour}"'
        parts.append(f"<text {where}>{curve.budget:.1e} FLOPs</text>")
    parts.append("</svg>\n")
    with durable.replacing(path) as aside:
        aside.write_text("\n".join(parts))
