"""The medicine of the simulated hospital: tables that each name their source and the date to review them by.

`rows("conditions")` reads a CSV, `parameters()` the TOML. Rates are per 1,000 person-years at the ages in the header;
risk factors are rate ratios; loadings are log rates (or transformed laboratory units) per standard deviation of a
latent. In `risk_factors.csv` a feature is a key (ever recorded), `recent:key` (within its window), `on:drug` or
`ancestry:key`; a process is a key, or `onset:disease` for the hidden beginning of a disease.
"""

from __future__ import annotations

import csv
import hashlib
import tomllib
from functools import cache
from importlib import resources
from typing import Any

Row = dict[str, str]


@cache
def rows(name: str) -> tuple[Row, ...]:
    """Return the rows of one CSV table, as text."""
    return tuple(csv.DictReader(_text(f"{name}.csv").splitlines()))


@cache
def keys(name: str) -> tuple[str, ...]:
    """Return the first column of a table, in its order."""
    first = next(iter(rows(name)[0]))
    return tuple(dict.fromkeys(row[first] for row in rows(name)))


@cache
def parameters() -> dict[str, Any]:
    """Return population.toml."""
    return tomllib.loads(_text("population.toml"))


_EXPORT_ONLY = ("identity_", "note_", "report_")
"""Tables that shape the export and not the lives."""


@cache
def digest() -> str:
    """Return the SHA-256 of the tables that lives depend on: a truth can be asked about with the same ones only."""
    sha256 = hashlib.sha256()
    for file in sorted(resources.files(__package__).iterdir(), key=lambda file: file.name):
        if file.name.endswith((".csv", ".toml")) and not file.name.startswith(_EXPORT_ONLY):
            sha256.update(file.name.encode() + file.read_bytes())
    return sha256.hexdigest()


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
