"""What may come: risks of outcomes from a known state and known latents, by simulating the months ahead.

A future is drawn from the law of what will be *seen*: the hidden disease stays a probability, updated by each month's
events, and is drawn anew each month only to draw that month's events. The risk adds, month by month, the probability
that the outcome comes next (its compensator), not the outcome itself: unbiased, at a small part of the variance
(Rao-Blackwell; Andersen, Borgan, Gill and Keiding 1993, chapter II.4). Two things that both first happen in one month
are weighed by half of the one's rate, which leaves an error of the second order in a monthly rate.
Shapes: N futures, K processes, H hidden diseases, O outcomes, Z horizons, T tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from lifechart.simulate import course
from lifechart.simulate.care import INPATIENT, Bodies, attend
from lifechart.simulate.events import KIND, Events, concatenate
from lifechart.simulate.orders import orders
from lifechart.simulate.physiology import ADULT, SMOKING, physiology, to_scale
from lifechart.simulate.processes import CLASSES, LATENTS, Floats, hazards, loadings_of, names
from lifechart.simulate.replay import Month, affected
from lifechart.simulate.state import State, diagnostic_tests

DEATH, ADMISSION = "death", "inpatient"
"""Outcomes beside the conditions' keys."""


@dataclass
class Start:
    """Where N futures start: within the running month, after `running` events of it."""

    state: State
    when: NDArray[np.float64]
    running: Events
    """Rows are positions among the N."""
    latents: Floats
    hidden: NDArray[np.float64]
    """[N, 1 + H]"""


def risks(
    start: Start, outcomes: tuple[str, ...], horizons: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the risk of each outcome by each horizon (months, rising): [N, O, Z], one future a row."""
    return _Futures(start, outcomes, rng).run(horizons)


class _Futures:
    def __init__(self, start: Start, outcomes: tuple[str, ...], rng: np.random.Generator) -> None:
        self._rng, self._outcomes = rng, outcomes
        self._state, self._hidden = start.state, start.hidden
        self._effects = course.effects(start.latents)
        num = len(start.state)
        self._bodies = Bodies(
            start.latents[:, : len(LATENTS)] @ physiology().loadings_JD.T,
            start.latents[:, : len(LATENTS)] @ loadings_of([SMOKING])[0],
            np.full(num, 170.0, np.float32),  # height drives nothing but itself
            np.zeros(num, np.int64),
        )
        self._start = start.when
        self._running: Events | None = start.running
        self._alive = np.ones(num, np.bool_)
        self._pending = np.ones((num, len(outcomes)), np.bool_)
        self._done = np.zeros((num, len(outcomes)), np.float32)
        self._known = np.zeros((num, len(names().conditions)), np.bool_)
        diagnosed = start.running.of("condition")
        self._known[diagnosed.row, diagnosed.key] = True

    def run(self, horizons: NDArray[np.float64]) -> NDArray[np.float32]:
        num = len(self._state)
        ends = self._start[:, None] + horizons
        risks = np.zeros((num, len(self._outcomes), len(horizons)), np.float32)
        for month in range(int(np.ceil(ends.max()))):
            rates = self._state.rates()
            rates *= self._effects
            if month > 0:
                self._hidden = begin(self._hidden, rates)
            begun = self._start if month == 0 else np.zeros(num)
            for index in range(len(horizons)):
                here = np.flatnonzero((ends[:, index] > month) & (ends[:, index] <= month + 1))
                if len(here):
                    length = ends[here, index] - month - begun[here]
                    risks[here, :, index] = self._done[here] + self._next(rates, here, length)
            if month + 1 < ends.max():
                self._done += self._next(rates, np.arange(num), 1.0 - begun)
                self._advance(rates, month == 0)
        return np.minimum(risks, 1.0)

    def _next(self, rates: Floats, rows: NDArray[np.int64], length: NDArray[np.float64]) -> Floats:
        """Probability that each outcome first comes within `length` of this month: [rows, O]."""
        name = names()
        table, num = hazards(), len(name.processes)
        hidden = self._hidden[rows]
        multiplier = hidden.astype(np.float32) @ np.exp(table.log_multiplier_HK)
        fires = -np.expm1(-rates[rows, :num] * multiplier * length[:, None].astype(np.float32))
        if self._running is not None:
            fires = np.where(self._blocked()[rows], 0.0, fires)
        dies = fires[:, name.processes.index(DEATH)]
        screened = self._screened(rates[rows, :num], hidden, fires, length)
        tested = self._tested(rows, fires)
        chances = np.zeros((len(rows), len(self._outcomes)), np.float32)
        for index, outcome in enumerate(self._outcomes):
            if outcome == DEATH:
                chances[:, index] = dies
                continue
            if outcome == ADMISSION:
                chance = _admitted(fires)
            else:
                own = {**tested, **screened}
                chance = own[outcome] if outcome in own else fires[:, name.processes.index(outcome)]
                chance = np.where(self._known_now(rows, outcome), 0.0, chance)
            chances[:, index] = chance * (1 - dies / 2)
        return np.asarray(chances * (self._pending[rows] & self._alive[rows, None]))

    def _known_now(self, rows: NDArray[np.int64], outcome: str) -> NDArray[np.bool_]:
        """Whether a lasting condition was recorded earlier in the running month."""
        return np.asarray(self._known[rows, names().conditions.index(outcome)])

    def _blocked(self) -> NDArray[np.bool_]:
        """[N, K]: processes that fired in the running month before the start."""
        blocked = np.zeros((len(self._state), len(names().processes)), np.bool_)
        if self._running is None:
            return blocked
        opened = self._running.take(self._running.kind == KIND["encounter"])
        blocked[opened.row, opened.process] = True
        return blocked

    def _screened(
        self, rates: Floats, hidden: NDArray[np.float64], fires: Floats, length: NDArray[np.float64]
    ) -> dict[str, Floats]:
        """Chance that each hidden disease is there and is diagnosed, by its own process or by a screening."""
        name, table = names(), hazards()
        found = {}
        for index, key in enumerate(name.occults):
            process = name.processes.index(key)
            missed = np.exp(-rates[:, process] * length)
            for screening in np.flatnonzero(table.detection_HK[index + 1]):
                missed *= 1 - fires[:, screening] * table.detection_HK[index + 1, screening]
            found[key] = (hidden[:, index + 1] * (1 - missed)).astype(np.float32)
        return found

    def _tested(self, rows: NDArray[np.int64], fires: Floats) -> dict[str, Floats]:
        """Chance that a test diagnoses each of its conditions."""
        name, order, body, state = names(), orders(), physiology(), self._state
        tests = [test for test in diagnostic_tests() if test.condition >= 0]
        if not {name.conditions[test.condition] for test in tests} & set(self._outcomes):
            return {}
        columns = np.array([test.measured for test in tests])
        means = state.measurement_means(rows, columns) + self._bodies.measurement_NJ[rows][:, columns]
        means = means + self._hidden[rows] @ body.hidden_HJ[:, columns]
        ambulatory = fires * (order.class_share_K3[:, 0] * order.eligible_K)
        found = {}
        for index, test in enumerate(tests):
            panel = int(np.flatnonzero(order.contents_PV[:, test.observation])[0])
            spread = body.noise_J[test.measured]
            limit = to_scale(test.limit, np.array(test.measured))[state.sex[rows], state.year[rows]]
            crossing = ndtr((means[:, index] - limit) / spread * (1 if test.high else -1))
            may = (state.year[rows] >= ADULT) & (state.features_NF[rows, test.condition] == 0)
            if test.confirm:
                may &= state.crossed_NT[rows, diagnostic_tests().index(test)]
            if test.requires >= 0:
                may &= state.features_NF[rows, test.requires] == 1
            missed = self._missed(rows, ambulatory, panel, crossing)
            found[name.conditions[test.condition]] = np.where(may, 1 - missed, 0.0).astype(np.float32)
        return found

    def _missed(
        self, rows: NDArray[np.int64], ambulatory: Floats, panel: int, crossing: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Probability that no eligible visit of the month orders the panel with a crossing result."""
        name, order, state = names(), orders(), self._state
        year = state.year[rows]
        routine, follow_up = name.processes.index("routine"), name.processes.index("follow_up")
        conditions = state.features_NF[rows, : len(order.log_without_CP)]
        planned = 1 - (1 - order.panel_KYP[follow_up, year, panel]) * np.exp(
            conditions @ order.log_without_CP[:, panel]
        )
        missed = 1 - ambulatory[:, follow_up] * planned * crossing
        missed *= 1 - ambulatory[:, routine] * order.panel_KYP[routine, year, panel] * crossing
        symptoms = _ordering(panel)
        ordered = ambulatory[:, symptoms] * order.panel_KYP[symptoms, :, panel].T[year]
        return np.asarray(missed * np.exp(-ordered.sum(1) * crossing))

    def _advance(self, rates: Floats, first: bool) -> None:
        """Draw the rest of the month as it will be seen, and take it in."""
        name, rng = names(), self._rng
        drawn = (np.cumsum(self._hidden, axis=1) < rng.random(len(self._hidden))[:, None]).sum(1)
        self._bodies.hidden_N = drawn.clip(max=self._hidden.shape[1] - 1)
        bent = course.bend(rates.copy(), self._bodies.hidden_N)
        bent[~self._alive] = 0.0
        fired = course.fire(bent, rng, self._start if first else None, self._blocked() if first else None)
        events = attend(self._state, fired, self._bodies, rng)
        self._update_hidden(events, rates, first)
        self._settle(events)
        joined = concatenate([self._running, events]) if self._running is not None else events
        self._running = None
        self._known[:] = False
        self._state.observe(joined)
        cured = joined.of("condition")
        diseases = [name.conditions.index(key) for key in name.occults]
        rows = cured.row[np.isin(cured.key, diseases)]
        self._hidden[rows] = 0.0
        self._hidden[rows, 0] = 1.0

    def _update_hidden(self, events: Events, rates: Floats, first: bool) -> None:
        """Weigh the hidden diseases by what the month showed (Bayes)."""
        which = affected()
        begun = self._start if first else np.zeros(len(rates))
        month = Month(self._state, events, rates, np.ones(len(rates)))
        month.fraction -= begun[:, None].astype(np.float32)
        if first:
            month.fraction[:, : len(names().processes)][self._blocked()] = 0.0
        columns, fixed = month.columns(), month.fixed()
        wide = len(which.processes)
        by_result = self._bodies.measurement_NJ[:, which.measured]
        log_ratio = fixed - columns[:, :wide] @ which.excess_HA.T
        log_ratio -= (columns[:, wide:] * by_result) @ which.shift_HA.T
        log_ratio[~self._alive] = 0.0
        self._hidden[:, 1:] *= np.exp(np.clip(log_ratio, -60.0, 60.0))
        self._hidden /= self._hidden.sum(1, keepdims=True)

    def _settle(self, events: Events) -> None:
        """Strike off outcomes that came, and the dead."""
        name = names()
        for index, outcome in enumerate(self._outcomes):
            if outcome == DEATH:
                came = events.kind == KIND["death"]
            elif outcome == ADMISSION:
                came = (events.kind == KIND["encounter"]) & (events.key == CLASSES.index(ADMISSION))
            else:
                came = (events.kind == KIND["condition"]) & (events.key == name.conditions.index(outcome))
            self._pending[events.row[came], index] = False
        self._alive[events.row[events.kind == KIND["death"]]] = False


def begin(hidden: NDArray[np.float64], rates: Floats) -> NDArray[np.float64]:
    """Return the hidden disease's probabilities after new ones may have begun; `rates` include the latents."""
    onset = rates[:, len(names().processes) :].astype(np.float64)
    total = onset.sum(1, keepdims=True)
    starts = onset / np.maximum(total, 1e-30) * -np.expm1(-total)
    return np.concatenate([hidden[:, :1] * np.exp(-total), hidden[:, 1:] + hidden[:, :1] * starts], axis=1)


@cache
def _ordering(panel: int) -> NDArray[np.int64]:
    """Symptoms that may order a panel."""
    name, order = names(), orders()
    may = order.eligible_K & order.panel_KYP[:, :, panel].any(1)
    may[[name.processes.index("routine"), name.processes.index("follow_up")]] = False
    return np.flatnonzero(may)


@cache
def _inpatient_share() -> Floats:
    return np.asarray(1 - orders().class_share_K3[:, INPATIENT - 1])


def _admitted(fires: Floats) -> Floats:
    share = _inpatient_share()
    which = np.flatnonzero(share > 0)
    return np.asarray(-np.expm1(np.log1p(-fires[:, which] * share[which]).sum(1)))
