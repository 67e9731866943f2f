"""Notes on their way into a data set: held back, or de-identified where they are read: no other text is stored.

What a patient's own record says of them (names, numbers, addresses) is looked for in their notes, if the source can
tell (`identifiers`); it stays in memory and goes with the batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import polars as pl

from lifechart.data.deidentify.text.known import Known, known
from lifechart.data.deidentify.text.redact import Request, redact
from lifechart.data.deidentify.text.surrogates import Surrogates

MODES = ("hold", "deidentify", "surrogates")
"""`hold`: no note enters a data set. `deidentify`: tags stand for what was taken out. `surrogates`: as of nobody."""
KINDS = ("note", "report")
"""Kinds of events whose text is prose."""
_TOGETHER = 64


@runtime_checkable
class Identifies(Protocol):
    """A source that can say how a patient's own record identifies them."""

    def identifiers(self, path: Path, option: str, patients: set[str]) -> Mapping[str, Mapping[str, Sequence[str]]]:
        """Return {patient: {type of text.spans: values}} of those asked for, so far as the record tells."""


def deidentified(
    rows: pl.DataFrame, mode: str, key: bytes, identities: Mapping[str, Known]
) -> tuple[pl.Series, Counter[str]]:
    """Return the prose of rows (columns sources.ROWS) as a data set may hold it, and how many spans of each class went.

    Null where a row has no prose.
    """
    removed: Counter[str] = Counter()
    prose = _is_prose(rows)
    nothing = pl.Series("text_value", [None] * rows.height, dtype=pl.String)
    if not prose.any():
        return nothing, removed
    where = prose.arg_true()
    chosen = rows.select("patient", "text_value")[where]
    written: list[str] = []
    people: dict[str, Surrogates] = {}
    for batch in chosen.iter_slices(_TOGETHER):
        requests = [
            Request(
                text,
                known=identities.get(patient),
                surrogates=people.setdefault(patient, Surrogates(key, patient)) if mode == "surrogates" else None,
            )
            for patient, text in batch.iter_rows()
        ]
        for result in redact(requests):
            written.append(result.text)
            removed.update(span.class_ for span in result.spans)
    return nothing.scatter(where, pl.Series(written, dtype=pl.String)), removed


def identities(source: object, path: Path, option: str, rows: pl.DataFrame) -> dict[str, Known]:
    """Return what the source tells of the patients whose prose stands in rows."""
    if not isinstance(source, Identifies):
        return {}
    patients = set(rows.filter(_is_prose(rows)).get_column("patient").drop_nulls())
    if not patients:
        return {}
    return {patient: known(told) for patient, told in source.identifiers(path, option, patients).items()}


def _is_prose(rows: pl.DataFrame) -> pl.Series:
    return rows.get_column("kind").is_in(KINDS) & rows.get_column("text_value").is_not_null()
