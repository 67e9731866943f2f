"""The small clinic with notes, images and genomes: what each tells, and what two of them tell together."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tests.model.clinic import SCHEMA, VISIT

LOW, FALL, HEART = "SNOMED//10", "SNOMED//20", "SNOMED//30"
SCORE = "PGS//PGS999999"
_SAYINGS = {
    True: ("tearful and withdrawn", "dreads every morning"),
    False: ("cheerful and rested", "enjoys the garden"),
}


@dataclass(frozen=True)
class Drawn:
    """Images of stripes, across or along; no files."""

    index: pl.DataFrame
    along: dict[str, bool]

    def load(self, image: str) -> NDArray[np.generic]:
        """Return one frame of 64 x 64."""
        rng = np.random.default_rng(int(image))
        stripes = np.sin(np.arange(64) * rng.uniform(0.8, 1.2) + rng.uniform(0, 6))
        plane = np.repeat(stripes[:, None], 64, 1) + 0.5 * rng.standard_normal((64, 64))
        plane = plane if self.along[image] else plane.T
        return np.clip(127 + 50 * plane, 0, 255).astype(np.uint8)[None, :, :, None]


def senses(lives: int, seed: int, start: int = 0, share: float = 0.8) -> tuple[pl.DataFrame, Drawn]:
    """Return events and images of lives in which LOW follows notes, FALL a gene, HEART stripes and score together."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[Any, ...]] = []
    images, along = [], {}
    for subject in range(start, start + lives):
        birth = datetime(1930, 1, 1) + timedelta(days=float(rng.integers(0, 20_000)))
        sad, carrier, stripes = rng.random(3) < (0.5, 0.3, 0.5)
        score = rng.normal()
        rates = {
            LOW: 0.06 if sad else 0.006,
            FALL: 0.08 if carrier else 0.01,
            HEART: 0.02 * np.exp(1.2 * score * (1 if stripes else -1)),
        }

        def at(age: float, birth: datetime = birth) -> datetime:
            return birth + timedelta(days=365.25 * float(age))

        rows.append((subject, None, "GENDER//female", None, None, None, "demographic"))
        rows.append((subject, birth, "MEDS_BIRTH", None, None, None, "demographic"))
        for age in np.arange(30, 60, 2.0) + rng.uniform(0, 1):
            rows.append((subject, at(age), VISIT, None, None, None, "encounter"))
            text = f"Seen by [NAME] on [DATE]. {rng.choice(_SAYINGS[bool(sad)])}. Advice given."
            rows.append((subject, at(age), "LOINC//11506-3", None, text, None, "note"))
        if rng.random() < share:
            code = "VARIANT//COL2A1//missense_variant//heterozygous"
            if carrier:
                rows.append((subject, at(31), code, None, None, None, "genomic"))
            rows.append((subject, at(31), SCORE, 5 + 2 * score, None, None, "genomic"))
        if rng.random() < share:
            images.append((subject, at(31), "OP", str(subject)))
            along[str(subject)] = bool(stripes)
            rows.append((subject, at(31), "DCM//OP", None, None, None, "imaging"))
        for code, rate in rates.items():
            came = 32 + rng.exponential(1 / rate)
            if came < 60:
                rows.append((subject, at(came), code, None, None, None, "condition"))
        rows.append((subject, at(60), "RECORD_END", None, None, None, "record"))
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    kinds: dict[str, Any] = {
        "subject_id": pl.Int64,
        "time": pl.Datetime("us"),
        "modality": pl.String,
        "image": pl.String,
    }
    index = pl.DataFrame(images, schema=kinds, orient="row")
    return frame.sort("subject_id", "time", nulls_last=False, maintain_order=True), Drawn(index, along)
