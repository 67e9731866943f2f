"""What is usual at an age: the level that a code's values have on average, so that a value can be read as an excess.

A pressure of 135 says one thing at 20 and another at 80. The mean level of each code is a piecewise linear function of
age, drawn to the code's own mean where few values were taken.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.core.timeline import BIRTH

# Shapes: V codes, K knots of a value scale, A knots of age.

USUAL_AGES = (0.0, 1.0, 4.0, 10.0, 18.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0)
"""Knots, in years, between which the usual level is linear; it is constant beyond the last."""
_RIDGE = 20.0
"""Values' worth of pull to the code's mean at each knot."""
_DAYS_A_YEAR = 365.25


def hats(years: NDArray[np.float64], knots: tuple[float, ...]) -> NDArray[np.float64]:
    """Return a piecewise linear basis [..., len(knots)] of ages: it sums to 1, constant beyond the outer knots."""
    place = np.interp(years, knots, np.arange(len(knots)))
    basis: NDArray[np.float64] = np.maximum(0.0, 1.0 - np.abs(place[..., None] - np.arange(len(knots))))
    return basis


def usual_levels(valued: pl.DataFrame, events: pl.DataFrame, knots: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fit the usual levels [V, A] to training values.

    `valued`: rows (subject_id, time, row, numeric_value) in their code's unit; `events`: where births are read; `knots`
    [V, K]: the value scales. A code without a scale, or without values at a known age, has the middle of the scale.
    """
    births = events.filter(pl.col("code") == BIRTH).group_by("subject_id").agg(birth=pl.col("time").min())
    # The order decides the last bit of a sum, and the same data must give the same model.
    by = ["row", "subject_id", "time", "numeric_value"]
    dated = valued.join(births, on="subject_id").drop_nulls(["time", "birth"]).sort(by)
    days = (dated["time"] - dated["birth"]).dt.total_seconds().to_numpy() / 86_400
    basis = hats(days / _DAYS_A_YEAR, USUAL_AGES)
    rows, values = dated["row"].to_numpy(), dated["numeric_value"].to_numpy().astype(np.float64)
    usual = no_usual(len(knots), knots.shape[1])
    for row in np.flatnonzero(~np.isnan(knots[:, 0])):
        mine = slice(*np.searchsorted(rows, [row, row + 1]))
        if mine.start < mine.stop:
            level = np.interp(values[mine], knots[row], np.arange(knots.shape[1]))
            by_age = basis[mine]
            pulled = by_age.T @ by_age + _RIDGE * np.eye(len(USUAL_AGES))
            usual[row] = level.mean() + np.linalg.solve(pulled, by_age.T @ (level - level.mean()))
    return usual


def no_usual(num_codes: int, num_knots: int) -> NDArray[np.float32]:
    """Return levels [V, A] that say nothing of age: the middle of every scale."""
    return np.full((num_codes, len(USUAL_AGES)), (num_knots - 1) / 2, dtype=np.float32)


def usual_at(usual: NDArray[np.float32], code: NDArray[np.int64], years: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the usual level of each event's code at its age.  [V, A], [n], [n] -> [n]."""
    place = np.interp(years, USUAL_AGES, np.arange(len(USUAL_AGES)))
    low = np.minimum(place.astype(np.int64), len(USUAL_AGES) - 2)
    share = place - low
    level: NDArray[np.float64] = (1.0 - share) * usual[code, low] + share * usual[code, low + 1]
    return level
