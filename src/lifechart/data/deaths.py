"""One death a person: a register's date takes the place of the hospital's, which often knows of a death late or never.

Without a register, of several dates the latest counts: none of them may be known earlier than the record knew it.
"""

from __future__ import annotations

import polars as pl

from lifechart.core.timeline import DEATH

REGISTER, TUMOUR_PATIENT, TUMOUR = "death registry", "registry patient", "registry tumour"
REGISTERS = {REGISTER: 0, TUMOUR_PATIENT: 1, TUMOUR: 1}
"""Types of records whose date of death is believed before a hospital's; the lowest first."""


def superseded(rows: pl.DataFrame) -> pl.DataFrame | None:
    """Return the deaths that give way to another of the same subject (rows as they are), or None if there are none."""
    deaths = rows.filter(pl.col("code") == DEATH)
    if not deaths.get_column("subject_id").is_duplicated().any():
        return None
    order = pl.col("type").replace_strict(REGISTERS, default=len(REGISTERS), return_dtype=pl.Int32)
    ranked = deaths.with_columns(_order=order).sort(
        "subject_id", "_order", "time", "number", "position", descending=[False, False, True, False, False]
    )
    return ranked.filter(~pl.col("subject_id").is_first_distinct()).select(rows.columns)
