"""The page that an expert-determination reviewer reads and signs: one self-contained HTML file made of risk.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from lifechart.core import durable
from lifechart.data.deidentify.risk import drawings
from lifechart.data.deidentify.risk.assess import STRICTER, Assessment
from lifechart.data.deidentify.risk.classes import least_class
from lifechart.data.deidentify.risk.fingerprints import KINDS

JSON, PAGE = "risk.json", "risk.html"
VERDICTS = {
    "everybody": "At or below the threshold for everybody",
    "on average": "At or below the threshold on average, not for everybody",
    "above": "Above the threshold",
}


def write(assessment: Assessment, out: Path, institution: str) -> None:
    """Write risk.json and risk.html into `out`, each whole or not at all."""
    content = assessment.to_json() | {"digest": assessment.digest}
    durable.write_json(out / JSON, content)
    durable.write_bytes(out / PAGE, render(content, institution).encode())


def render(content: dict[str, Any], institution: str) -> str:
    """Return the page's HTML from what stands in risk.json, and from nothing else. It loads nothing."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lifechart.data.deidentify.risk"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "probability": probability, "count": lambda number: f"{number:,}"}
    environment.globals["mark"] = drawings.mark
    series = {
        kind: [
            (row["points"], row["share"], row["interval"]["low"], row["interval"]["high"])
            for row in content["unicities"]
            if row["kind"] == kind
        ]
        for kind in KINDS
    }
    return environment.get_template("risk.html").render(
        **content,
        institution=institution,
        verdicts=VERDICTS,
        least=least_class(content["threshold"]),
        stricter=STRICTER,
        kinds=KINDS,
        series={kind: rows for kind, rows in series.items() if rows},
        bars={row["name"]: drawings.bands(row["bands"], row["records"], row["title"]) for row in content["findings"]},
        curves=drawings.curves(series),
    )


def percent(share: float | None) -> str:
    """Return a share for a table; a dash where it must not be told, because it would give a small count away.

    >>> percent(0.123), percent(0.0), percent(0.00004), percent(None)
    ('12%', '0%', '<0.01%', '–')
    """
    if share is None:
        return "–"
    hundred = 100 * share
    if 0 < hundred < 0.01:
        return "<0.01%"
    return f"{hundred:.0f}%" if hundred >= 10 or hundred == 0 else f"{hundred:.2g}%"


def probability(value: float | None) -> str:
    """Return a probability for a table, with two decimals, or three where it is small.

    >>> probability(0.5), probability(0.0123), probability(0.0001)
    ('0.50', '0.012', '<0.001')
    """
    if value is None:
        return "–"
    if 0 < value < 0.001:
        return "<0.001"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"
