"""The drawings of the risk page, as SVG that loads nothing: who shares a class with how many, and unicity by events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from markupsafe import Markup

WIDTH, BAR = 640, 26
SQUARE_WIDTH, SQUARE_HEIGHT, LEFT, BOTTOM = 640, 300, 46, 40
_GREY = 'class="band hidden"'


def bands(counts: Mapping[str, int | None], records: int, title: str) -> Markup:
    """Draw one bar, divided by the size of the class that records are in; what is not published is one part of it."""
    published = {name: count for name, count in counts.items() if count is not None}
    rest = records - sum(published.values())
    parts, x = [], 0.0
    for number, name in enumerate(counts):
        width = WIDTH * published.get(name, 0) / records
        parts.append(f'<rect x="{x:.1f}" y="0" width="{width:.1f}" height="{BAR}" class="band b{number}"/>')
        x += width
    if rest:
        parts.append(f'<rect x="{x:.1f}" y="0" width="{WIDTH - x:.1f}" height="{BAR}" {_GREY}/>')
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {BAR}" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def curves(series: Mapping[str, Sequence[tuple[int, float, float, float]]]) -> Markup:
    """Draw unicity against the number of events known: {kind: (events, share, low, high), …}."""
    points = [row for rows in series.values() for row in rows]
    most = max((row[0] for row in points), default=1)
    width, height = SQUARE_WIDTH - LEFT - 12, SQUARE_HEIGHT - BOTTOM - 10

    def place(events: float, share: float) -> tuple[float, float]:
        return LEFT + (events - 0.5) / most * width, 10 + (1 - share) * height

    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = place(0, share)[1]
        parts.append(f'<path d="M{LEFT} {y:.1f}H{LEFT + width}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" class="tick side">{share:.0%}</text>')
    for events in sorted({row[0] for row in points}):
        x = place(events, 0)[0]
        parts.append(f'<text x="{x:.1f}" y="{SQUARE_HEIGHT - BOTTOM + 18}" class="tick">{events}</text>')
    for number, rows in enumerate(series.values()):
        line = " ".join("{:.1f},{:.1f}".format(*place(events, share)) for events, share, _, _ in rows)
        parts.append(f'<g class="s{number}"><polyline points="{line}" class="line"/>')
        for events, share, low, high in rows:
            x, y = place(events, share)
            parts.append(f'<path d="M{x:.1f} {place(0, low)[1]:.1f}V{place(0, high)[1]:.1f}" class="line thin"/>')
            parts.append(mark(number, x, y))
        parts.append("</g>")
    words = f'<text x="{LEFT + width / 2:.0f}" y="{SQUARE_HEIGHT - 4}" class="tick">events known of a person</text>'
    return Markup(
        f'<svg viewBox="0 0 {SQUARE_WIDTH} {SQUARE_HEIGHT}" aria-hidden="true" focusable="false">'
        f"{''.join(parts)}{words}</svg>"
    )


def mark(number: int, x: float, y: float) -> Markup:
    """Draw the mark of a series: a shape of its own, so that colour is not needed to tell them apart."""
    shapes = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" class="mark"/>',
        f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" class="mark"/>',
        f'<path d="M{x:.1f} {y - 5.5:.1f}l5.5 5.5-5.5 5.5-5.5-5.5z" class="mark"/>',
        f'<path d="M{x:.1f} {y - 5:.1f}l5.5 9.5h-11z" class="mark"/>',
        f'<path d="M{x:.1f} {y + 5:.1f}l5.5-9.5h-11z" class="mark"/>',
    )
    return Markup(shapes[number % len(shapes)])
