"""What a model says of a timeline, and the protocol of whatever can say it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.core.errors import InputError
from lifechart.core.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Interval:
    """A range that holds the true value with probability `level`."""

    low: float
    high: float
    level: float = 0.95

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise InputError("Interval", (self.low, self.high), "low <= high")

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Driver:
    """One event's part in a risk: `effect` is the change of the log cumulative hazard that its presence makes."""

    position: int
    """Row of the event in `Timeline.events`."""
    code: str
    effect: float


@dataclass(frozen=True, slots=True)
class Risk:
    """The probability that an outcome first occurs within `horizon_days` of the time asked about."""

    outcome: str
    horizon_days: int
    probability: float
    interval: Interval
    drivers: tuple[Driver, ...] = ()
    already_recorded: bool = False
    """The outcome stands in the record before the time asked about: this is the risk of a recurrence."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.probability <= 1.0:
            raise InputError("Risk.probability", self.probability, "a number from 0 to 1")
        if self.probability not in self.interval:
            raise InputError("Risk.interval", self.interval, f"an interval around {self.probability}")


@dataclass(frozen=True, slots=True)
class Became:
    """What became of those among the people most alike who had not had an outcome before; counts are rounded."""

    outcome: str
    at_risk: int
    had: int | None
    """How many had it within the horizon; None: too few to be counted, none perhaps."""


@dataclass(frozen=True, slots=True)
class Alike:
    """The people most like this one among those that a model learnt from, in aggregates alone."""

    people: int
    """How many the counts are about."""
    among: int
    """How many there were to choose them from."""
    horizon_days: int
    became: tuple[Became, ...]
    digest: str
    """SHA-256 of the index that they were found in; empty where there is none."""
    refusal: str = ""
    """Why nobody is counted; empty where somebody is."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Risks of one patient at one time, by one model."""

    subject_id: int
    as_of: datetime
    risks: tuple[Risk, ...]
    novelty: float
    """Share of the training patients whose charts were less unusual than this one (0 to 1)."""
    model_digest: str
    alike: Alike | None = None
    """What became of the people most like this one; None where the model keeps no index of them."""

    def risk(self, outcome: str, horizon_days: int) -> Risk:
        """Return one risk; raises InputError if this model does not forecast it."""
        for risk in self.risks:
            if risk.outcome == outcome and risk.horizon_days == horizon_days:
                return risk
        known = sorted({(risk.outcome, risk.horizon_days) for risk in self.risks})
        raise InputError("Forecast.risk", (outcome, horizon_days), f"one of {known}")


@runtime_checkable
class Forecaster(Protocol):
    """Whatever forecasts: this project's network, boosted trees, a peer's model, an oracle.

    Evaluation and serving know only this. A forecaster never looks past the time it is asked about.
    """

    @property
    def name(self) -> str:
        """A short name for tables and plots."""

    @property
    def digest(self) -> str:
        """SHA-256 that names these exact weights (or this exact procedure)."""

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Codes whose first occurrence is forecast."""

    @property
    def horizons(self) -> tuple[int, ...]:
        """Horizons in days, rising."""

    def risks(self, events: pl.DataFrame, prompts: pl.DataFrame) -> NDArray[np.float32]:
        """Return probabilities of shape [prompts, outcomes, horizons].

        `events`: MEDS rows of all subjects asked about. `prompts`: columns `subject_id` and `prediction_time`.
        """

    def forecast(self, timeline: Timeline, as_of: datetime) -> Forecast:
        """Return every outcome at every horizon for one patient, with intervals and drivers."""


@runtime_checkable
class Situated(Protocol):
    """A forecaster that also tells where a chart lies in its own space; monitoring follows whether charts move."""

    def situate(self, events: pl.DataFrame, prompts: pl.DataFrame) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return states [prompts, D] and novelty [prompts], the share of charts learned from that were less unusual.

        Arguments as for `Forecaster.risks`.
        """


@runtime_checkable
class Bounded(Protocol):
    """A forecaster that also tells, for many prompts at once, within what its risks lie; examination asks whether so.

    The intervals are those of `Forecaster.forecast`.
    """

    def intervals(self, events: pl.DataFrame, prompts: pl.DataFrame) -> NDArray[np.float32]:
        """Return lower and upper 95% bounds, [prompts, outcomes, horizons, 2]. Arguments as for `Forecaster.risks`."""


@runtime_checkable
class Explaining(Protocol):
    """A forecaster that seeks the drivers of one outcome when asked to, rather than of those that stand out alone."""

    def explain(self, timeline: Timeline, as_of: datetime, outcome: str) -> Forecast:
        """Return what `Forecaster.forecast` does, with the drivers of this outcome sought for."""
