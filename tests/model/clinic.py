"""A small clinic with known hazards: lives drawn event by event, as MEDS rows. For tests of the model alone."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl

SICK, STROKE, TEST, VISIT = "SNOMED//1", "SNOMED//2", "LOINC//9-9", "ENCOUNTER//ambulatory"
SCHEMA = {
    "subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String, "numeric_value": pl.Float32,
    "text_value": pl.String, "unit": pl.String, "kind": pl.String,
}  # fmt: skip


def clinic(lives: int, seed: int, start: int = 0) -> pl.DataFrame:
    """Yearly visits with a test whose level sets the hazard of a sickness, which triples the hazard of a stroke."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[int, datetime | None, str, float | None, str | None, str | None, str]] = []
    for subject in range(start, start + lives):
        birth = datetime(1930, 1, 1) + timedelta(days=float(rng.integers(0, 20_000)))
        level, woman = rng.normal(), rng.random() < 0.5
        rows.append((subject, None, "GENDER//female" if woman else "GENDER//male", None, None, None, "demographic"))
        rows.append((subject, birth, "MEDS_BIRTH", None, None, None, "demographic"))
        enters, leaves = rng.uniform(20, 50), rng.uniform(60, 85)
        sick = enters + rng.exponential(1 / (0.02 * np.exp(1.2 * level)))
        stroke = enters + rng.exponential(1 / 0.01)
        if stroke > sick:
            stroke = sick + rng.exponential(1 / 0.05)
        dies = enters + rng.exponential(1 / 0.02)
        end = min(dies, leaves)
        for age in np.arange(enters, end, 1.0) + rng.uniform(0, 0.5):
            if age < end:
                at = birth + timedelta(days=365.25 * float(age))
                rows.append((subject, at, VISIT, None, None, None, "encounter"))
                rows.append((subject, at, TEST, 100 + 15 * (level + 0.3 * rng.normal()), None, "mg/dL", "laboratory"))
        for age, code, kind in (
            (sick, SICK, "condition"),
            (stroke, STROKE, "condition"),
            (dies, "MEDS_DEATH", "death"),
        ):
            if age <= end:
                rows.append((subject, birth + timedelta(days=365.25 * float(age)), code, None, None, None, kind))
        if dies > leaves:
            rows.append((subject, birth + timedelta(days=365.25 * leaves), "RECORD_END", None, None, None, "record"))
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    return frame.sort("subject_id", "time", nulls_last=False, maintain_order=True)
