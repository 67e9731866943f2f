"""A record read back: month by month through the simulator's own `State`, into what a likelihood needs of it.

Only what an export shows is used: birth, sex, ancestry and events. Nothing here knows the latents or hidden diseases.
Shapes: N lives of a block, P prompts, K processes, H hidden diseases, J measured quantities, A affected columns.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lifechart.simulate.events import KIND, NOTHING, Events, concatenate
from lifechart.simulate.physiology import SMOKING, physiology, to_scale
from lifechart.simulate.processes import Floats, hazards, names
from lifechart.simulate.record import Record
from lifechart.simulate.state import STEPS_A_YEAR, State


@dataclass(frozen=True)
class Affected:
    """The columns through which a hidden disease shows: A1 processes, then A2 measured quantities."""

    processes: NDArray[np.int64]
    measured: NDArray[np.int64]
    excess_HA: Floats
    """[H, A1]: multiplier with the disease less multiplier without."""
    log_ratio_HK: Floats
    """[H, K]: log of the multiplier with the disease over that without."""
    shift_HA: Floats
    """[H, A2]"""


@cache
def affected() -> Affected:
    """Work out which columns any hidden disease changes."""
    log_multiplier, hidden = hazards().log_multiplier_HK, physiology().hidden_HJ
    multiplier = np.exp(log_multiplier)
    processes = np.flatnonzero((np.abs(multiplier[1:] - multiplier[0]) > 1e-9).any(0))
    measured = np.flatnonzero(hidden.any(0))
    return Affected(
        processes, measured, (multiplier[1:] - multiplier[0])[:, processes],
        log_multiplier[1:] - log_multiplier[0], hidden[1:, measured],
    )  # fmt: skip


@dataclass
class Evidence:
    """What the likelihood of latents needs of P records, and where they stand."""

    row_P: NDArray[np.int64]
    step_P: NDArray[np.int64]
    when_P: NDArray[np.float64]
    """Part of the running month that is gone at the prompt."""
    state: State
    """At the start of the running month."""
    running: list[Events]
    """This month's events up to each prompt."""
    count_PK: Floats
    """[P, K + H]; the onset columns count diagnosed hidden diseases."""
    exposure_PK: Floats
    """[P, K + H]: rates summed over the time at risk."""
    results_PJ: Floats
    """How often each quantity was measured."""
    residual_PJ: Floats
    """Sum of results less their means without latents or hidden disease."""
    smoking_P3: Floats
    """How often each smoking status was recorded."""
    part_PA: Floats
    """The running month's row of `trail`."""
    fixed_PH: Floats
    onset_PH: Floats

    def take(self, rows: NDArray[np.int64]) -> Evidence:
        """Return some of the prompts."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        running = [self.running[row] for row in rows]
        picked = {name: value[rows] for name, value in values.items() if name not in ("state", "running")}
        return Evidence(**picked, state=self.state.take(rows), running=running)


@dataclass
class Trail:
    """What speaks for each hidden disease, month by month: log evidence is `fixed + columns . weight(z)`."""

    columns_NTA: Floats
    fixed_NTH: Floats
    onset_NTH: Floats
    diagnosed_NT: NDArray[np.int8]
    """1 + position of the disease diagnosed in that month; 0: none."""

    @classmethod
    def empty(cls, num: int, steps: int) -> Trail:
        """Return a trail of N lives and T months to be filled in."""
        wide = len(affected().processes) + len(affected().measured)
        shapes = [(num, steps, width) for width in (wide, len(names().occults), len(names().occults))]
        columns, fixed, onset = (np.zeros(shape, np.float32) for shape in shapes)
        return cls(columns, fixed, onset, np.zeros((num, steps), np.int8))


_FIELDS = ("count", "exposure", "results", "residual", "smoking")


class Replay:
    """Runs a block of records from birth and stops at prompts."""

    def __init__(self, record: Record, *, hidden: bool = True) -> None:
        """Get ready; without `hidden` no trail is kept, for those who need not ask what is hidden."""
        num, name, body = len(record.sex), names(), physiology()
        columns = len(name.processes) + len(name.occults)
        self._record, self._keep = record, hidden
        self._rows = np.arange(num)
        self._state = State.newborn(record.sex, record.ancestry)
        widths = (columns, columns, len(body.measured), len(body.measured), 3)
        self._sums = {field: np.zeros((num, width), np.float32) for field, width in zip(_FIELDS, widths, strict=True)}
        self.trail = Trail.empty(num, 0)

    def run(self, row_P: NDArray[np.int64], step_P: NDArray[np.int64], when_P: NDArray[np.float64]) -> Evidence:
        """Return the evidence at prompts, given as row, month and part of the month, sorted by month."""
        num, found = len(self._record.sex), []
        needed = np.full(num, -1)
        np.maximum.at(needed, row_P, step_P)
        if self._keep:
            self.trail = Trail.empty(num, int(step_P.max()) + 1)
        for step in range(int(step_P.max()) + 1):
            if step % STEPS_A_YEAR == 0:
                self._drop(np.flatnonzero(needed[self._rows] >= step))
            position = np.full(num, NOTHING)
            position[self._rows] = np.arange(len(self._rows))
            events = self._record.month(step)
            events = replace(events, row=position[events.row])
            events = events.take(events.row >= 0)
            rates = self._state.rates()
            here = slice(*np.searchsorted(step_P, [step, step + 1]))
            if row_P[here].size:
                found.append(self._stop(events, rates, position[row_P[here]], step, when_P[here]))
            self._pass(events, rates, step)
        return _joined(found)

    def _drop(self, kept: NDArray[np.int64]) -> None:
        """Go on with those lives only of which a prompt is still to come."""
        self._rows, self._state = self._rows[kept], self._state.take(kept)
        self._sums = {field: value[kept] for field, value in self._sums.items()}

    def _pass(self, events: Events, rates: Floats, step: int) -> None:
        """Take in a whole month."""
        month = Month(self._state, events, rates, np.ones(len(self._state)))
        for field, value in month.sums().items():
            self._sums[field] += value
        if self._keep:
            self.trail.columns_NTA[self._rows, step] = month.columns()
            self.trail.fixed_NTH[self._rows, step] = month.fixed()
            self.trail.onset_NTH[self._rows, step] = rates[:, len(names().processes) :]
            self.trail.diagnosed_NT[self._rows, step] = month.diagnosed
        self._state.observe(events)

    def _stop(
        self, events: Events, rates: Floats, rows: NDArray[np.int64], step: int, when: NDArray[np.float64]
    ) -> Evidence:
        """Take in the part of the month up to each prompt, leaving the replay as it was."""
        picked = [
            events.take((events.row == row) & (events.when <= part)) for row, part in zip(rows, when, strict=True)
        ]
        state = self._state.take(rows)
        month = Month(state, relabelled(picked), rates[rows], when)
        sums = {field: self._sums[field][rows] + value for field, value in month.sums().items()}
        return Evidence(
            self._rows[rows], np.full(len(rows), step), when, state, picked, sums["count"], sums["exposure"],
            sums["results"], sums["residual"], sums["smoking"], month.columns(), month.fixed(),
            rates[rows][:, len(names().processes) :],
        )  # fmt: skip


class Month:
    """One month (or its first part) of some records, measured."""

    def __init__(self, state: State, events: Events, rates: Floats, length: NDArray[np.float64]) -> None:
        name, body = names(), physiology()
        num, self._rates = len(state), rates
        opened = events.take((events.kind == KIND["encounter"]) | (events.kind == KIND["death"]))
        self.count = np.zeros_like(rates)
        self.count[opened.row, opened.process] = 1.0
        self.fraction = np.repeat(length[:, None], rates.shape[1], 1).astype(np.float32)
        self.fraction[opened.row, opened.process] = opened.when
        died = opened.take(opened.kind == KIND["death"])
        self.fraction[died.row] = np.minimum(self.fraction[died.row], died.when[:, None])
        self.results = np.zeros((num, len(body.measured)), np.float32)
        self.residual = np.zeros_like(self.results)
        self.smoking = np.zeros((num, 3), np.float32)
        self.diagnosed = np.zeros(num, np.int8)
        self._found_by = np.zeros(num, np.int64) - 1
        self._opened = opened
        if len(events):
            self._take_results(state, events)
            self._take_diagnoses(events, len(name.processes))

    def _take_results(self, state: State, events: Events) -> None:
        body = physiology()
        results = events.of("observation")
        told = results.take(results.key == body.observations.index(SMOKING))
        np.add.at(self.smoking, (told.row, told.value.astype(np.int64)), 1.0)
        measured = np.full(len(body.observations), NOTHING)
        measured[body.index_J] = np.arange(len(body.measured))
        which = measured[results.key]
        results, which = results.take(which >= 0), which[which >= 0]
        if not len(results):
            return
        scaled = to_scale(results.value.astype(np.float64), which)
        rows, inverse = np.unique(results.row, return_inverse=True)
        means = state.measurement_means(rows)[inverse, which] + body.event_KJ[results.process, which]
        np.add.at(self.results, (results.row, which), 1.0)
        np.add.at(self.residual, (results.row, which), scaled - means)

    def _take_diagnoses(self, events: Events, num_processes: int) -> None:
        name = names()
        found = events.of("condition")
        disease = np.full(len(name.conditions), NOTHING)
        disease[[name.conditions.index(key) for key in name.occults]] = np.arange(len(name.occults))
        which = disease[found.key]
        found, which = found.take(which >= 0), which[which >= 0]
        self.diagnosed[found.row] = which + 1
        self.count[found.row, num_processes + which] = 1.0
        self._found_by[found.row[found.found]] = found.process[found.found]

    def sums(self) -> dict[str, Floats]:
        """What adds up over months."""
        return {
            "count": self.count,
            "exposure": self._rates * self.fraction,
            "results": self.results,
            "residual": self.residual,
            "smoking": self.smoking,
        }

    def columns(self) -> Floats:
        """Exposures of affected processes, then precisions of affected results: [N, A]."""
        which = affected()
        exposure = self._rates[:, which.processes] * self.fraction[:, which.processes]
        precision = self.results[:, which.measured] / physiology().spread_J[which.measured] ** 2
        return np.concatenate([exposure, precision], axis=1)

    def fixed(self) -> Floats:
        """Log evidence for each hidden disease that does not depend on the latents: [N, H]."""
        which, name = affected(), names()
        evidence: Floats = self.count[:, : len(name.processes)] @ which.log_ratio_HK.T
        precision = physiology().spread_J[which.measured] ** -2.0
        evidence += (self.residual[:, which.measured] * precision) @ which.shift_HA.T
        evidence -= (self.results[:, which.measured] * precision) @ (which.shift_HA**2 / 2).T
        detection = hazards().detection_HK[1:]
        for process in np.flatnonzero(detection.any(0)):
            rows = self._opened.row[self._opened.process == process]
            seen = self._found_by[rows] == process
            # A screening that finds it is certain evidence, as a diagnosis is; one that does not speaks against it.
            positive = np.log(np.maximum(detection[:, process], np.exp(-60.0))) + 30.0
            evidence[rows] += np.where(seen[:, None], positive, np.log1p(-detection[:, process]))
        return evidence


def relabelled(parts: list[Events]) -> Events:
    """Join events of single prompts, numbering rows by prompt."""
    return concatenate([replace(part, row=np.full(len(part), index)) for index, part in enumerate(parts)])


def _joined(parts: list[Evidence]) -> Evidence:
    joined: dict[str, Any] = {}
    for field in fields(Evidence):
        values = [getattr(part, field.name) for part in parts]
        if field.name == "state":
            joined["state"] = State(*(np.concatenate([getattr(v, f.name) for v in values]) for f in fields(State)))
        elif field.name == "running":
            joined["running"] = [events for value in values for events in value]
        else:
            joined[field.name] = np.concatenate(values)
    return Evidence(**joined)
