"""A model of labels behind core's Forecaster protocol: one outcome, the label, at one horizon."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import beta

from lifechart.core.errors import InputError
from lifechart.core.forecast import Forecast, Interval, Risk
from lifechart.core.timeline import Timeline
from lifechart.model.labelled.folder import LabelledModel, Reliability, load

Matrix = NDArray[np.float32]

_NEIGHBOURS = 200
_GRID = 101
_UNUSUAL = 0.005


class LabelledForecaster:
    """Keeps the Forecaster contract. Stateless between calls."""

    def __init__(self, model: LabelledModel) -> None:
        self.model = model

    @property
    def name(self) -> str:
        """A short name for tables and plots."""
        return "lifechart"

    @property
    def digest(self) -> str:
        """SHA-256 that names these exact weights."""
        return self.model.digest

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The label's name."""
        return (self.model.name,)

    @property
    def horizons(self) -> tuple[int, ...]:
        """The horizon in days; 0 where the labels are a yes or no without one."""
        return (round(self.model.horizon or 0),)

    def risks(self, events: pl.DataFrame, prompts: pl.DataFrame) -> NDArray[np.float32]:
        """Return probabilities [prompts, 1, 1]. A subject without events has an empty record."""
        return self.probabilities(events, prompts).astype(np.float32)[:, None, None]

    def probabilities(
        self, events: pl.DataFrame, prompts: pl.DataFrame, advance: Callable[[float], None] = lambda share: None
    ) -> NDArray[np.float64]:
        """Return the probability of each prompt, in their order [P]."""
        features = self.model.summary.matrix(events, prompts, advance)
        return self.model.fitted.probabilities(self.model.fitted.scores(features), self.model.horizon)

    def forecast(self, timeline: Timeline, as_of: datetime) -> Forecast:
        """Return the one risk of one chart. Raises InputError for a chart without any event up to `as_of`."""
        known = timeline.until(as_of)
        if not len(known):
            raise InputError("timeline", "no event", f"a chart with events up to {as_of:%Y-%m-%d}")
        events = known.events.with_columns(subject_id=pl.lit(timeline.subject_id, pl.Int64))
        prompts = pl.DataFrame({"subject_id": [timeline.subject_id], "prediction_time": [as_of]})
        features = self.model.summary.matrix(events, prompts)
        fitted, sure = self.model.fitted, self.model.reliability
        probability = float(fitted.probabilities(fitted.scores(features), self.model.horizon)[0])
        low = min(probability, float(np.interp(probability, sure.probability, sure.low)))
        high = max(probability, float(np.interp(probability, sure.probability, sure.high)))
        risk = Risk(self.outcomes[0], self.horizons[0], probability, Interval(low, high))
        outside = ((features < sure.bounds[0]) | (features > sure.bounds[1])).sum()
        novelty = float(np.searchsorted(sure.unusual, outside, side="left") / len(sure.unusual))
        return Forecast(timeline.subject_id, as_of, (risk,), min(novelty, 1.0), self.digest)


def load_labelled(folder: Path) -> LabelledForecaster:
    """Load a model that `lifechart train --labels` wrote; raises InputError if the folder does not hold one."""
    return LabelledForecaster(load(folder))


def reliability_of(
    features: Matrix, probability: NDArray[np.float64], event: NDArray[np.bool_], weight: NDArray[np.float64]
) -> Reliability:
    """Measure how sure a probability is on rows that the members had not seen.

    Intervals are Clopper-Pearson's of the share that came true among the rows with about that probability; `weight` [P]
    is 0 for rows that were not observed long enough to say. Only a grid of them is kept, no row.
    """
    told = weight > 0
    order = np.argsort(probability[told], kind="stable")
    ranked, came = probability[told][order], event[told][order]
    grid = np.unique(np.quantile(ranked, np.linspace(0, 1, _GRID)))
    half = min(_NEIGHBOURS, max(len(ranked) // 10, 10)) // 2
    bounds = []
    for middle in np.searchsorted(ranked, grid):
        near = came[max(0, middle - half) : middle + half]
        yes, no = int(near.sum()), int((~near).sum())
        bounds.append(
            (beta.ppf(0.025, yes, no + 1) if yes else 0.0, beta.ppf(0.975, yes + 1, no) if no else 1.0)
        )  # fmt: skip
    low, high = np.array(bounds).T
    usual = np.nanquantile(np.where(np.isnan(features), np.float32(0), features), [_UNUSUAL, 1 - _UNUSUAL], axis=0)
    usual = usual.astype(np.float32)
    outside = ((features < usual[0]) | (features > usual[1])).sum(axis=1)
    return Reliability(grid, low, high, usual, np.quantile(outside, np.linspace(0, 1, 101)))
