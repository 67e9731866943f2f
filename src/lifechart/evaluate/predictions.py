"""Predictions of labels of one's own: the table that others score too, and how good it is."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.data.labels import DAYS
from lifechart.evaluate.metrics import Sample, bootstrap_weights, evaluate

_RESAMPLES, _SEED = 200, 0
_LIKELY = 0.5


def table(labels: pl.DataFrame, probabilities: NDArray[np.float64]) -> pl.DataFrame:
    """Return the labels, in their order, with the columns of meds-evaluation's predictions beside them."""
    return labels.with_columns(
        predicted_boolean_value=pl.Series(probabilities >= _LIKELY),
        predicted_boolean_probability=pl.Series(probabilities.astype(np.float64)),
    )


def figures(predictions: pl.DataFrame, horizon: float | None) -> list[tuple[str, ...]]:
    """Return a table of metrics with 95% intervals over subjects, header first; empty where nothing is known.

    For labels with `days` what is judged is whether the event came within `horizon` days, by those of whom it is known.
    """
    if "boolean_value" not in predictions.columns:
        return []
    known = predictions.drop_nulls("boolean_value")
    if DAYS in known.columns and horizon is not None:
        known = known.filter(pl.col("boolean_value") | (pl.col(DAYS) >= horizon)).with_columns(
            boolean_value=pl.col("boolean_value") & (pl.col(DAYS) <= horizon)
        )
    return figures_of(
        known["boolean_value"].to_numpy(),
        known["predicted_boolean_probability"].to_numpy(),
        known["subject_id"].to_numpy(),
    )


def figures_of(
    truths: NDArray[np.bool_], probabilities: NDArray[np.float64], subjects: NDArray[np.int64]
) -> list[tuple[str, ...]]:
    """Return a table of metrics with 95% intervals over subjects, header first; empty for truths of one kind only."""
    people, owner = np.unique(subjects, return_inverse=True)
    found = evaluate(Sample(truths, probabilities, owner), bootstrap_weights(len(people), _RESAMPLES, _SEED))
    rows = []
    for name, estimate in found.items():
        interval = estimate.interval()
        said = f"{interval.low:.3f} to {interval.high:.3f}" if interval else ""
        rows.append((name, f"{estimate.value:.3f}", said))
    return [("metric", "value", "95% interval"), *rows] if rows else []
