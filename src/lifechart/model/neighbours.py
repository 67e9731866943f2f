"""The people most like this one, and what became of them: an index of training patients that tells aggregates alone.

One moment a patient, by lot, of those whose next five years are known. Two people are alike where the model expects
alike of them: the distance is between their log hazards of all outcomes, each in its own spread, along the directions
in which people differ most. Nobody's id is kept, and rows stand in an order by lot.

What it tells, no counting of answers gives back: counts are of the 200 nearest, rounded to a multiple of 5, and a count
below 11, or one that leaves fewer than 11, is not told. The file itself holds one row a person: it stays with the data
set's guardians, and a model that leaves the house leaves without it (its digest in the configuration remains).

Shapes: P people, O outcomes, D directions.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lifechart.core import durable
from lifechart.core.errors import IntegrityError
from lifechart.core.forecast import Alike, Became
from lifechart.core.suppression import SMALLEST
from lifechart.model.inference import Told
from lifechart.model.questions import Labels

NEIGHBOURS = "neighbours.npz"
HORIZON = 1825
"""Days within which it is told what became of people."""
NEAREST, ROUNDED = 200, 5
MOST_PEOPLE = 20_000
FEWEST = 50
"""Fewer of the nearest than this say nothing."""
_SHARE = 5
"""Of the people in the index at most one in so many counts as most alike."""
_DIRECTIONS = 32


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The index. `had`, `came` [P, O]: whether an outcome stood in the record, and whether it first came after."""

    outcomes: tuple[str, ...]
    middle: NDArray[np.float32]
    spread: NDArray[np.float32]
    axes: NDArray[np.float32]
    """[O, D]."""
    place: NDArray[np.float32]
    """[P, D], kept in 16 bits."""
    had: NDArray[np.bool_]
    came: NDArray[np.bool_]
    digest: str = ""

    def alike(self, log_hazard: NDArray[np.float32]) -> Alike:
        """Return what became of those nearest to one moment.  log_hazard: [O, B]."""
        among = len(self.place)
        people = min(NEAREST, among // _SHARE)
        if people < FEWEST:
            refusal = f"the model learnt from too few people whose next five years are known ({among:,})"
            return Alike(0, among, HORIZON, (), self.digest, refusal)
        here = (log_hazard.mean(axis=1) - self.middle) / self.spread @ self.axes
        distance = np.square(self.place - here).sum(axis=1)
        nearest = np.argpartition(distance, people - 1)[:people]
        at_risk = ~self.had[nearest]
        risked, had = at_risk.sum(axis=0), (self.came[nearest] & at_risk).sum(axis=0)
        became = [_became(*each) for each in zip(self.outcomes, risked.tolist(), had.tolist(), strict=True)]
        return Alike(people, among, HORIZON, tuple(each for each in became if each is not None), self.digest)

    def save(self, folder: Path) -> str:
        """Write the index beside the weights, whole or not at all; return its SHA-256."""
        content = io.BytesIO()
        np.savez_compressed(
            content, outcomes=np.array(self.outcomes), middle=self.middle, spread=self.spread, axes=self.axes,
            place=self.place.astype(np.float16), had=np.packbits(self.had, axis=1), came=np.packbits(self.came, axis=1),
        )  # fmt: skip
        durable.write_bytes(folder / NEIGHBOURS, content.getvalue())
        return hashlib.sha256(content.getvalue()).hexdigest()

    @classmethod
    def load(cls, folder: Path, digest: str) -> Neighbours | None:
        """Read what `save` wrote; None if the model came without it. Raises IntegrityError if it is another index."""
        path = folder / NEIGHBOURS
        if not path.is_file():
            return None
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise IntegrityError(f"{path}: not the index that the model was trained with")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            outcomes = tuple(arrays["outcomes"].tolist())
            had, came = (np.unpackbits(arrays[name], axis=1, count=len(outcomes)) > 0 for name in ("had", "came"))
            middle, spread, axes = (arrays[name] for name in ("middle", "spread", "axes"))
            return cls(outcomes, middle, spread, axes, arrays["place"].astype(np.float32), had, came, digest)


def index_of(
    told: Told,
    labels: Labels,
    subject: NDArray[np.int64],
    outcomes: tuple[str, ...],
    hazards: NDArray[np.float32],
    rng: np.random.Generator,
) -> Neighbours:
    """Make an index from questions put to training patients.  hazards: the told log hazards, recalibrated [Q, O, B].

    A question serves if five years after it are known, a death within them included.
    """
    order = rng.permutation(np.flatnonzero(labels.window >= HORIZON))
    _, first = np.unique(subject[order], return_index=True)
    chosen = rng.permutation(order[first])[:MOST_PEOPLE]
    level = hazards.mean(axis=2)
    middle = level.mean(axis=0) if len(level) else np.zeros(len(outcomes), np.float32)
    spread = np.maximum(level.std(axis=0), 1e-3) if len(level) else np.ones(len(outcomes), np.float32)
    standard = (level[chosen] - middle) / spread
    axes = (
        np.linalg.svd(standard, full_matrices=False)[2][:_DIRECTIONS].T if len(chosen) else np.zeros((len(middle), 0))
    )
    came = labels.days_to <= np.minimum(labels.observed, HORIZON)[:, None]
    return Neighbours(
        outcomes,
        middle.astype(np.float32),
        spread.astype(np.float32),
        axes.astype(np.float32),
        (standard @ axes).astype(np.float32),
        told.had[chosen],
        came[chosen],
    )


def private(reason: str) -> Alike:
    """Return the refusal of a model that keeps no index because it promised so."""
    return Alike(0, 0, HORIZON, (), "", reason)


def _became(outcome: str, at_risk: int, had: int) -> Became | None:
    """Return what may be told; None where even how many did not have it would be of few."""
    if at_risk < FEWEST or at_risk - had < SMALLEST:
        return None
    risked = ROUNDED * round(at_risk / ROUNDED)
    return Became(outcome, risked, None if had < SMALLEST else ROUNDED * round(had / ROUNDED))
