"""Forecasts as signals: their level, the charts' novelty and embedding, and, once labels have matured, how well they
held. For everybody and for each subgroup.

Labels come late: a forecast of this week is judged in the week in which its label became known, and until then it
counts as nothing, neither for the model nor against it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import logit

from lifechart.core.errors import InputError

Floats = NDArray[np.float64]
Row = tuple[str, str, str, float, float, float]
"""kind, what, where, value, count, shown: see evaluate.signals."""

MADE: Mapping[str, str] = {
    "subject_id": "whose",
    "outcome": "a code",
    "horizon_days": "how far ahead",
    "probability": "the risk",
    "groups": "list of subgroups as `sex=female`, or none",
}
"""Columns of forecasts. Also read where there: `novelty` (0 to 1) and `embedding` (list of floats)."""
MATURED: Mapping[str, str] = {**MADE, "label": "whether it came to pass"}
DIRECTIONS = 4
"""Principal directions of the embedding that are followed."""
_CLIP = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Forecasts:
    """What is usual of forecasts."""

    level: Mapping[str, tuple[float, float]]
    """For each outcome@days mean and standard deviation of the log-odds forecast."""
    without: Mapping[str, Floats]
    """For each outcome@days the sorted risks of those without the outcome."""
    centre: Floats
    directions: Floats
    """[DIRECTIONS, D] principal directions of the embedding, each divided by its standard deviation."""

    @classmethod
    def learn(cls, made: Sequence[pl.DataFrame | None], matured: Sequence[pl.DataFrame | None]) -> Forecasts:
        """Learn from the reference weeks, which may hold no forecasts; raises InputError for absent columns."""
        level, without = {}, {}
        whole, known = _joined(made, MADE), _joined(matured, MATURED)
        for pair, part in _pairs(whole):
            odds = _odds(part)
            level[pair] = (float(odds.mean()), max(float(odds.std()), 1e-6))
        for pair, part in _pairs(known):
            without[pair] = np.sort(part.filter(~pl.col("label"))["probability"].to_numpy())
        vectors = _vectors(whole)
        if vectors is None or len(vectors) < 2 * DIRECTIONS:
            return cls(level, without, np.zeros(0), np.zeros((0, 0)))
        centre = vectors.mean(0)
        _, sizes, axes = np.linalg.svd(vectors - centre, full_matrices=False)
        spread = np.maximum(sizes / np.sqrt(len(vectors) - 1), 1e-9)
        return cls(level, without, centre, (axes / spread[:, None])[:DIRECTIONS])

    def measure(self, made: pl.DataFrame | None, matured: pl.DataFrame | None) -> Iterator[Row]:
        """Yield what one week's forecasts, and the labels that it brought, come to."""
        if made is not None and made.height:
            yield from self._outputs(made)
        if matured is not None and matured.height:
            for pair, part in _pairs(matured):
                for where, members in _groups(part):
                    yield from self._judged(pair, where, members)

    def _outputs(self, made: pl.DataFrame) -> Iterator[Row]:
        for pair, part in _pairs(made):
            if pair not in self.level:
                continue
            mean, spread = self.level[pair]
            for where, members in _groups(part):
                value = float(((_odds(members) - mean) / spread).mean())
                yield "risk", pair, where, value, members.height, float(members["probability"].mean())  # type: ignore[arg-type]
        people = made.unique("subject_id", maintain_order=True)
        if "novelty" in people.columns:
            value = float(people["novelty"].mean())  # type: ignore[arg-type]
            yield "novelty", "", "all", value, people.height, value
        vectors = _vectors(people)
        if vectors is not None and len(self.directions):
            along = (vectors - self.centre) @ self.directions.T
            for number, mean in enumerate(along.mean(0).tolist(), start=1):
                yield "embedding", f"direction {number}", "all", mean, len(along), mean
            far = float(np.log1p((along**2).sum(1)).mean())
            yield "embedding", "distance", "all", far, len(along), far

    def _judged(self, pair: str, where: str, part: pl.DataFrame) -> Iterator[Row]:
        risk = np.clip(part["probability"].to_numpy(), _CLIP, 1 - _CLIP)
        label = part["label"].to_numpy()
        expected = float(risk.sum())
        # One scoring step towards the calibration intercept, whose variance is the reciprocal of the information.
        information = float((risk * (1 - risk)).sum())
        yield (
            "calibration", pair, where, float(label.sum() - expected) / information, information,
            float(label.sum()) / expected,
        )  # fmt: skip
        others = self.without.get(pair)
        if others is not None and len(others) and label.any():
            cases = part.filter(pl.col("label"))["probability"].to_numpy()
            below = np.searchsorted(others, cases, "left") + np.searchsorted(others, cases, "right")
            rank = float((below / (2 * len(others))).mean())
            yield "discrimination", pair, where, rank, len(cases), rank


def _joined(frames: Sequence[pl.DataFrame | None], columns: Mapping[str, str]) -> pl.DataFrame | None:
    given = [frame for frame in frames if frame is not None]
    for frame in given:
        if missing := sorted(set(columns) - set(frame.columns)):
            raise InputError("forecasts: missing columns", missing, f"the columns {list(columns)}")
    return pl.concat(given) if given else None


def _pairs(frame: pl.DataFrame | None) -> Iterator[tuple[str, pl.DataFrame]]:
    if frame is not None:
        for (outcome, days), part in frame.group_by(["outcome", "horizon_days"], maintain_order=True):
            yield f"{outcome}@{days}", part


def _groups(part: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    yield "all", part
    exploded = part.explode("groups", empty_as_null=True, keep_nulls=True).filter(pl.col("groups").is_not_null())
    for (group,), members in exploded.group_by(["groups"], maintain_order=True):
        yield str(group), members


def _odds(part: pl.DataFrame) -> Floats:
    odds: Floats = logit(np.clip(part["probability"].to_numpy(), _CLIP, 1 - _CLIP))
    return odds


def _vectors(frame: pl.DataFrame | None) -> Floats | None:
    if frame is None or "embedding" not in frame.columns:
        return None
    return np.array(frame["embedding"].to_list(), float)
