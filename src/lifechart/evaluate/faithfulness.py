"""Are the drivers what moves a forecast? Take them out of the chart, or put them into an empty one, and look.

Delete: the events that an order names are taken out one by one; the sooner the log cumulative hazard moves, the truer
the order. Insert: they are put one by one into a chart that holds the person's demographics alone; the sooner the
forecast comes back, the truer (deletion and insertion curves; Petsiuk, Das & Saenko 2018). An order is as good as its
curve beside a random order's, on the same charts. Knows of a forecaster what core.forecast says of it.

Legend: C cases, K events taken out at most.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from lifechart.core.forecast import Driver, Forecast, Forecaster
from lifechart.core.timeline import BIRTH, Timeline
from lifechart.evaluate.metrics import Estimate, Floats

MOST_EVENTS = 5
_RESAMPLES, _AT_ONCE = 400, 400
_LEAST_RISK = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One chart up to a moment, and the risk that is to be explained."""

    known: Timeline
    """Ends at `as_of`."""
    as_of: datetime
    outcome: str
    horizon_days: int
    drivers: tuple[Driver, ...]


Order = Callable[[Case], Sequence[int]]
"""Returns rows of the chart, those said to matter most first."""


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """How far the log cumulative hazard moves, and how far it is still off, after each of K events; by order."""

    deleted: dict[str, Floats]
    """[C, K] distance from the whole chart's, after deleting."""
    inserted: dict[str, Floats]
    """[C, K] distance from the whole chart's that is left after inserting."""

    def area(self, kind: str, order: str, beside: str | None = None) -> Estimate:
        """Return the mean height of a curve over K and C, or its difference from another's, resampled over cases."""
        table = getattr(self, kind)
        heights = table[order].mean(axis=1) - (table[beside].mean(axis=1) if beside else 0.0)
        drawn = np.random.default_rng(0).integers(0, len(heights), (_RESAMPLES, len(heights)))
        return Estimate(float(heights.mean()), heights[drawn].mean(axis=1))


def by_drivers(case: Case) -> Sequence[int]:
    """Return the rows of the forecast's own drivers, in its order."""
    return [driver.position for driver in case.drivers]


def at_random(seed: int) -> Order:
    """Return an order by lot among the chart's events."""

    def order(case: Case) -> Sequence[int]:
        moment = case.as_of.toordinal()
        rows = _open(case.known)
        found: list[int] = np.random.default_rng([seed, len(case.known), moment]).permutation(rows).tolist()
        return found

    return order


def case_of(forecaster: Forecaster, timeline: Timeline, as_of: datetime, horizon_days: int) -> Case | None:
    """Return the first onset of one chart whose drivers move it most; None where nothing has any driver."""
    known = timeline.until(as_of)
    forecast = forecaster.forecast(known, as_of)
    risks = [
        risk
        for risk in forecast.risks
        if risk.horizon_days == horizon_days and risk.drivers and not risk.already_recorded
    ]
    if not risks:
        return None
    strongest = max(risks, key=lambda risk: abs(risk.drivers[0].effect))
    return Case(known, as_of, strongest.outcome, horizon_days, strongest.drivers)


def curves(forecaster: Forecaster, cases: Sequence[Case], orders: Mapping[str, Order]) -> Curves:
    """Return both curves of every order on the same cases. An order that names fewer events stays where it ended."""
    named = {name: [list(order(case))[:MOST_EVENTS] for case in cases] for name, order in orders.items()}
    charts: list[tuple[pl.DataFrame, Case]] = []
    for number, case in enumerate(cases):
        few = _demographic(case.known)
        charts.append((case.known.events, case))
        for rows in (every[number] for every in named.values()):
            for length in range(1, MOST_EVENTS + 1):
                gone, come = set(rows[:length]), sorted({*few, *rows[:length]})
                kept = [row for row in range(len(case.known)) if row not in gone]
                charts += [(case.known.events[kept], case), (case.known.events[come], case)]
    height = _log_hazards(forecaster, charts).reshape(len(cases), -1)
    whole, steps = height[:, :1], height[:, 1:].reshape(len(cases), len(named), MOST_EVENTS, 2)
    return Curves(
        {name: np.abs(whole - steps[:, place, :, 0]) for place, name in enumerate(named)},
        {name: np.abs(whole - steps[:, place, :, 1]) for place, name in enumerate(named)},
    )


def first_is_cause(forecast: Forecast, outcome: str, horizon_days: int, causes: Collection[str]) -> tuple[bool, bool]:
    """Return whether the strongest driver that raises a risk is one of the `causes` (codes), and whether any is."""
    drivers = [driver for driver in forecast.risk(outcome, horizon_days).drivers if driver.effect > 0]
    return bool(drivers) and drivers[0].code in causes, any(driver.code in causes for driver in drivers)


def _open(known: Timeline) -> list[int]:
    """Return the rows that may be taken out: dated, and not the birth."""
    closed = set(_demographic(known))
    return [row for row in range(len(known)) if row not in closed]


def _demographic(known: Timeline) -> list[int]:
    codes, times = known.events.get_column("code"), known.events.get_column("time")
    return [row for row, (code, time) in enumerate(zip(codes, times, strict=True)) if time is None or code == BIRTH]


def _log_hazards(forecaster: Forecaster, charts: Sequence[tuple[pl.DataFrame, Case]]) -> Floats:
    """Return the log cumulative hazard that each chart gives its case's risk, asked in bulk."""
    found = []
    for start in range(0, len(charts), _AT_ONCE):
        some = charts[start : start + _AT_ONCE]
        subjects = pl.Series(range(len(some)), dtype=pl.Int64)
        events = pl.concat([events.with_columns(subject_id=pl.lit(n, pl.Int64)) for n, (events, _) in enumerate(some)])
        moments = pl.Series([case.as_of for _, case in some], dtype=pl.Datetime("us"))
        risks = forecaster.risks(events, pl.DataFrame({"subject_id": subjects, "prediction_time": moments}))
        places = [
            (forecaster.outcomes.index(case.outcome), forecaster.horizons.index(case.horizon_days)) for _, case in some
        ]
        own = np.array([risks[n, o, h] for n, (o, h) in enumerate(places)], dtype=np.float64)
        found.append(np.log(-np.log1p(-np.clip(own, _LEAST_RISK, 1 - _LEAST_RISK))))
    return np.concatenate(found)
