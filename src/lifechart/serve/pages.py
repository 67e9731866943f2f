"""Renders pages: Jinja templates with the words and number formats that every page shares."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lifechart.care.alike import horizon_in_words
from lifechart.core.suppression import shown
from lifechart.serve.bedside import house_of

HERE = Path(__file__).parent
STATIC = HERE / "static"


def percent(probability: float | None) -> str:
    """Return a probability (0 to 1) in per cent, with the digits that it can bear.

    >>> [percent(p) for p in (0.0004, 0.034, 0.126)]
    ['<0.1%', '3.4%', '13%']
    """
    if probability is None:
        return "–"
    value = 100 * probability
    if 0 < value < 0.1:
        return "<0.1%"
    return f"{value:.1f}%" if value < 9.95 else f"{value:.0f}%"


def one_in(probability: float) -> str:
    """Return a probability as a natural frequency.

    >>> [one_in(p) for p in (0.2, 0.7, 0.0371, 0.0002)]
    ['1 in 5', '7 in 10', '1 in 27', 'fewer than 1 in 1,000']
    """
    if probability < 0.001:
        return "fewer than 1 in 1,000"
    if probability > 0.4:
        return f"{round(10 * probability)} in 10"
    return f"1 in {round(1 / probability):,}"


def certainty(low: float, high: float) -> str:
    """Say in words how sure a risk is, from the ratio of the odds at the ends of its 95% interval."""
    odds = (high / max(1 - high, 1e-9)) / max(low / max(1 - low, 1e-9), 1e-9)
    if odds < 1.8:
        return "fairly certain"
    return "moderately certain" if odds < 3.5 else "rough: the interval is wide"


def day(moment: datetime | date | None) -> str:
    """Return a date that cannot be read the wrong way round.

    >>> day(date(1957, 3, 2))
    '02 Mar 1957'
    """
    return moment.strftime("%d %b %Y") if moment else "not recorded"


def number(value: float | None) -> str:
    """Return a measured value without digits that mean nothing."""
    return "–" if value is None else f"{value:.4g}"


_environment = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
    lstrip_blocks=True,
)  # fmt: skip
_environment.filters.update(
    percent=percent,
    one_in=one_in,
    day=day,
    number=number,
    horizon=horizon_in_words,
    short=lambda digest: digest[:12],
    at_least=shown,
)
_environment.globals.update(certainty=certainty)


def render(request: Request, template: str, context: dict[str, Any], status: int = 200) -> HTMLResponse:
    """Render a page with the institution's name and whoever is signed in."""
    user = getattr(request.state, "user", None)
    common = {
        "institution": house_of(request).settings.institution,
        "user": user,
        "path": request.url.path,
        "notices": getattr(request.state, "notices", []),
    }
    return HTMLResponse(_environment.get_template(template).render({**common, **context}), status)
