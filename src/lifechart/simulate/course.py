"""One month of many lives: hidden diseases begin, processes fire, care answers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lifechart.simulate.care import Fired
from lifechart.simulate.planted import driven
from lifechart.simulate.processes import MONTH_MINUTES, Floats, hazards, names


def effects(latents_ND: Floats) -> Floats:
    """Return the latents' factor on each rate, [N, K + H]; its mean over the population is 1.

    Columns behind LATENTS are planted traits (`planted`).
    """
    loadings, half_norm = driven(latents_ND.shape[1])
    log_effect = latents_ND @ loadings.T
    log_effect -= half_norm
    return np.asarray(np.exp(log_effect, out=log_effect))


def begin_hidden(rates: Floats, hidden: NDArray[np.int64], rng: np.random.Generator) -> None:
    """Let hidden diseases begin (in place) in lives without one; `rates` [N, K + H] include the latents."""
    onset = rates[:, len(names().processes) :].astype(np.float64)
    total = onset.sum(1)
    starts = np.flatnonzero((hidden == 0) & (rng.random(len(total)) < -np.expm1(-total)))
    if len(starts):
        share = np.cumsum(onset[starts], 1) / total[starts, None]
        hidden[starts] = 1 + (share < rng.random(len(starts))[:, None]).sum(1).clip(max=onset.shape[1] - 1)


def bend(rates: Floats, hidden: NDArray[np.int64]) -> Floats:
    """Return the K process rates under each life's hidden disease (in place: a view of `rates`)."""
    table, name = hazards(), names()
    bent = rates[:, : len(name.processes)]
    diagnoses = [name.processes.index(key) for key in name.occults]
    sick = np.flatnonzero(hidden)
    kept = bent[sick] * np.exp(table.log_multiplier_HK[hidden[sick]])
    bent[:, diagnoses] = 0.0
    bent[sick] = kept
    return bent


def fire(
    rates: Floats, rng: np.random.Generator, start: NDArray[np.float64] | None = None,
    blocked: NDArray[np.bool_] | None = None,
) -> Fired:  # fmt: skip
    """Draw which processes fire in a month, each at most once, and none after death.

    `rates` [N, K] hold for the month. With `start` (part of the month gone by) only the rest is drawn, and processes
    `blocked` [N, K] have fired in the part gone by. The superposition is drawn as one Poisson process and thinned to
    its marks, which is the same law as K separate ones at a fraction of the cost.
    """
    if blocked is not None:
        rates = np.where(blocked, 0.0, rates)
    length = np.ones(len(rates)) if start is None else 1.0 - start
    total = rates.sum(1, dtype=np.float64)
    row = np.repeat(np.arange(len(rates)), rng.poisson(total * length))
    when = 1.0 - length[row] * rng.random(len(row))
    when = (np.floor(when * MONTH_MINUTES) + 0.5) / MONTH_MINUTES  # a record keeps minutes
    marks = np.cumsum(rates[row], axis=1)
    process = (marks < (rng.random(len(row)) * marks[:, -1])[:, None]).sum(1).clip(max=rates.shape[1] - 1)
    order = np.lexsort((when, row))
    row, when, process = row[order], when[order], process[order]
    _, first = np.unique(row * rates.shape[1] + process, return_index=True)
    kept = np.sort(first)
    row, when, process = row[kept], when[kept], process[kept]
    dying = process == names().processes.index("death")
    end = np.full(len(rates), 2.0)
    end[row[dying]] = when[dying]
    alive = (when < end[row]) | dying
    return Fired(row[alive], when[alive], process[alive])
