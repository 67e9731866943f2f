"""Discrimination and accuracy where not everybody was observed to the end: concordance and Brier score with censoring.

Legend of shapes: n people, T times. Every function takes plain arrays and a bootstrap is a matter of weights [n].

Harrell's C counts pairs of which one is known to have had the event first (Harrell et al. 1982); Uno's C weights them
by the chance of not having been censored, so that it does not depend on the censoring (Uno et al. 2011). With a risk
that changes with the horizon, the time-dependent C compares both at the time of the earlier event (Antolini et al.
2005). The Brier score and the AUROC at a horizon are weighted the same way (Graf et al. 1999; Blanche et al. 2013).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def kaplan_meier(times: Floats, events: Bools, weights: Floats | None = None) -> tuple[Floats, Floats]:
    """Return (distinct times rising, probability of no event up to and including each)."""
    own: Floats = np.ones(len(times)) if weights is None else weights
    distinct, place = np.unique(times.astype(np.float64), return_inverse=True)
    happened = np.bincount(place, weights=own * events, minlength=len(distinct))
    leaving = np.bincount(place, weights=own, minlength=len(distinct))
    at_risk = np.cumsum(leaving[::-1])[::-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        survival = np.cumprod(np.where(at_risk > 0, 1 - happened / at_risk, 1.0)).astype(np.float64)
    return distinct, survival


def step(distinct: Floats, survival: Floats, at: Floats, *, before: bool = False) -> Floats:
    """Return a Kaplan-Meier curve at `at`, or just before it."""
    place = np.searchsorted(distinct, at, side="left" if before else "right")
    found: Floats = np.append(1.0, survival)[place]
    return found


def harrell(risk: Floats, times: Floats, events: Bools, weights: Floats | None = None) -> float:
    """Return Harrell's C: pairs in which the one with the earlier event had the higher risk; ties in risk count half.

    Of two at one time, only an event and a censoring compare; an event is then the earlier. O(n log n) in time.
    """
    own = np.ones(len(times)) if weights is None else weights
    return _concordance(risk, times, events, own, np.ones(len(times)))


def uno(risk: Floats, times: Floats, events: Bools, *, until: float, weights: Floats | None = None) -> float:
    """Return Uno's C up to a time: as Harrell's, each pair weighted by 1 / G(t-)² of its earlier event at t < until."""
    own = np.ones(len(times)) if weights is None else weights
    distinct, stays = kaplan_meier(times, ~events, own)
    # Where nobody is left to be censored the weight is not defined; such events come at the very end.
    free = step(distinct, stays, times, before=True)
    factor = np.where((times < until) & (free > 0), 1 / np.clip(free, 1e-12, None) ** 2, 0.0)
    return _concordance(risk, times, events, own, factor)


def time_dependent(risks: Floats, grid: Floats, times: Floats, events: Bools, weights: Floats | None = None) -> float:
    """Return the time-dependent C of risks [n, T] of an event by each time of `grid` (rising).

    At each event the risks by then are compared with those of all who were event-free and observed for longer.
    """
    own = np.ones(len(times)) if weights is None else weights
    column = np.clip(np.searchsorted(grid, times, side="left"), 0, len(grid) - 1)
    good = total = 0.0
    for person in np.flatnonzero(events):
        later = (times > times[person]) | ((times == times[person]) & ~events)
        mine, theirs = risks[person, column[person]], risks[later, column[person]]
        mass = own[person] * own[later]
        good += float((mass * ((mine > theirs) + 0.5 * (mine == theirs))).sum())
        total += float(mass.sum())
    return good / total if total else float("nan")


def weights_at(times: Floats, events: Bools, horizon: float, weights: Floats | None = None) -> Floats:
    """Return inverse probability of censoring weights [n] at a horizon; 0 for who left before it without the event."""
    own = np.ones(len(times)) if weights is None else weights
    distinct, stays = kaplan_meier(times, ~events, own)
    had = events & (times <= horizon)
    free = np.where(had, step(distinct, stays, times, before=True), step(distinct, stays, np.array([horizon]))[0])
    known = had | (times > horizon)
    found: Floats = np.where(known & (free > 0), own / np.clip(free, 1e-12, None), 0.0)
    return found


def brier(risk: Floats, times: Floats, events: Bools, horizon: float, weights: Floats | None = None) -> float:
    """Return the Brier score of the risk of an event by `horizon`, weighted for censoring (Graf et al. 1999)."""
    own = np.ones(len(times)) if weights is None else weights
    mass = weights_at(times, events, horizon, own)
    had = events & (times <= horizon)
    return float((mass * (had - risk) ** 2).sum() / own.sum())


def auroc(risk: Floats, times: Floats, events: Bools, horizon: float, weights: Floats | None = None) -> float:
    """Return the cumulative/dynamic AUROC at `horizon`, weighted for censoring (Blanche et al. 2013)."""
    mass = weights_at(times, events, horizon, weights)
    had = events & (times <= horizon)
    order = np.argsort(risk, kind="stable")
    levels, place = np.unique(risk[order], return_inverse=True)
    cases = np.bincount(place, weights=(mass * had)[order], minlength=len(levels))
    others = np.bincount(place, weights=(mass * ~had)[order], minlength=len(levels))
    below = np.cumsum(others) - others
    whole = cases.sum() * others.sum()
    return float((cases * (below + 0.5 * others)).sum() / whole) if whole else float("nan")


def _concordance(risk: Floats, times: Floats, events: Bools, own: Floats, factor: Floats) -> float:
    """Return the weighted share of comparable pairs that agree, by a tree of counts over risks (Fenwick 1994)."""
    levels, rank = np.unique(risk, return_inverse=True)
    size = len(levels)
    tree = np.zeros(size + 1)

    def add(place: int, amount: float) -> None:
        place += 1
        while place <= size:
            tree[place] += amount
            place += place & -place

    def below(place: int) -> float:
        found = 0.0
        while place > 0:
            found += tree[place]
            place -= place & -place
        return found

    order = np.lexsort((events, -times))
    good = total = present = 0.0
    start = 0
    # From the latest time on, the censored of a moment come before its events: they outlast them.
    while start < len(order):
        stop = start
        while (
            stop < len(order)
            and times[order[stop]] == times[order[start]]
            and events[order[stop]] == events[order[start]]
        ):
            stop += 1
        group = order[start:stop]
        if events[group[0]]:
            for person in group:
                mass = own[person] * factor[person]
                lower = below(int(rank[person]))
                tied = below(int(rank[person]) + 1) - lower
                good += mass * (lower + 0.5 * tied)
                total += mass * present
        for person in group:
            add(int(rank[person]), float(own[person]))
            present += float(own[person])
        start = stop
    return good / total if total else float("nan")
