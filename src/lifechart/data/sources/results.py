"""Results in words, and the one way in which each is written: `Pos.`, `+` and `POSITIVE` are all "positive".

The same list is the allow-list of de-identification: words that are not on it do not reach a data set.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources

import polars as pl


@cache
def spellings() -> dict[str, str]:
    """Return the results as met in records, in lower case -> as written."""
    content = resources.files("lifechart.data.sources").joinpath("result_texts.csv").read_text(encoding="utf-8")
    return {row["text"]: row["written"] for row in csv.DictReader(content.splitlines())}


def as_written(text: str) -> str:
    """Return a result as written if it is on the list, else as it stands."""
    return spellings().get(text.strip().lower(), text)


def listed(text: pl.Expr) -> pl.Expr:
    """Return results as written, and null for whatever is not on the list."""
    return text.str.strip_chars().str.to_lowercase().replace_strict(spellings(), default=None, return_dtype=pl.String)
