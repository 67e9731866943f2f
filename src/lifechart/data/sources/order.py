"""Which of several events of one moment comes first: the same answer for training data and for a live chart.

A visit opens before what was found in it, a discharge closes after it, death and the record's end come last; between
the rest the content decides, never the order of files or search results.
"""

from __future__ import annotations

import polars as pl

from lifechart.core.timeline import BIRTH

_RANKS = {"demographic": 1, "encounter": 2, "death": 8, "record": 9}
_BIRTH, _ORDINARY, _DISCHARGE = 0, 5, 7
_LEAVING = "DISCHARGE//"

KEYS = ("time", "rank", "code", "numeric_value", "text_value", "unit", "kind")
"""What events of one subject are sorted by; nothing stated comes before anything stated."""


def rank(code: str, kind: str) -> int:
    """Return the place of an event within its moment."""
    if code == BIRTH:
        return _BIRTH
    return _DISCHARGE if code.startswith(_LEAVING) else _RANKS.get(kind, _ORDINARY)


def rank_expression() -> pl.Expr:
    """Return `rank` of the columns code and kind."""
    return (
        pl.when(pl.col("code") == BIRTH)
        .then(_BIRTH)
        .when(pl.col("code").str.starts_with(_LEAVING))
        .then(_DISCHARGE)
        .otherwise(pl.col("kind").replace_strict(_RANKS, default=_ORDINARY, return_dtype=pl.Int32))
    )
