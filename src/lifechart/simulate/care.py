"""Encounters: what happens when processes fire. Class, measurements, diagnoses by test, screening, treatment.

Everything here depends on the latents through measurements alone; the rest is chance or the record. That is what keeps
the likelihood of a record short.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lifechart.simulate import tables
from lifechart.simulate.events import KIND, NOTHING, Collector, Events
from lifechart.simulate.orders import Orders, Treatment, orders, treatments
from lifechart.simulate.physiology import ADULT, SMOKING, egfr, from_scale, height_cm, physiology
from lifechart.simulate.processes import SEXES, VACCINES, Floats, hazards, names
from lifechart.simulate.state import STEPS_A_YEAR, State, crosses, diagnostic_tests, layout

MALE = SEXES.index("male")
AMBULATORY, EMERGENCY, INPATIENT = range(3)


@dataclass
class Bodies:
    """What care cannot see of N lives but through measurements."""

    measurement_NJ: Floats
    """Latents' effect on each measured quantity."""
    tobacco_N: Floats
    height_N: Floats
    """Adult height, cm."""
    hidden_N: NDArray[np.int64]
    """0: no hidden disease, else 1 + its position."""

    def take(self, rows: NDArray[np.int64]) -> Bodies:
        """Return some lives."""
        return Bodies(self.measurement_NJ[rows], self.tobacco_N[rows], self.height_N[rows], self.hidden_N[rows])


@dataclass(frozen=True)
class Fired:
    """Processes that fired in one month, sorted by row and time."""

    row: NDArray[np.int64]
    when: NDArray[np.float64]
    process: NDArray[np.int64]


def attend(state: State, fired: Fired, bodies: Bodies, rng: np.random.Generator) -> Events:
    """Return all events that follow from what fired, sorted by row and time."""
    name = names()
    out = Collector()
    dying = fired.process == name.processes.index("death")
    nobody = np.full(dying.sum(), NOTHING)
    out.add("death", 0, _at(fired.row[dying], fired.when[dying], nobody, fired.process[dying]))
    row, when, process = fired.row[~dying], fired.when[~dying], fired.process[~dying]
    visits = _at(row, when, np.arange(len(row)), process)
    classes = (rng.random(len(row))[:, None] >= orders().class_share_K3[process]).sum(1)
    out.add("encounter", classes, visits, value=_hours(process, classes, rng))
    _reasons(state, visits, out)
    eligible = orders().eligible_K[process] & (classes == AMBULATORY)
    ordered = _ordered(state, visits, classes, rng)
    results_EV = _measure(state, visits, ordered, bodies, eligible, out, rng)
    _test(state, visits, results_EV, eligible, out)
    _screen(visits, bodies, out, rng)
    _treat(state, visits, results_EV, out, rng)
    return once(out.events())


def once(events: Events) -> Events:
    """Drop a lasting condition or drug that is begun a second time in one month (by another encounter)."""
    where = layout()
    lasting = ((events.kind == KIND["condition"]) & where.chronic_condition[_capped(events, "condition")]) | (
        (events.kind == KIND["medication"]) & where.chronic_medication[_capped(events, "medication")]
    )
    code = (events.row * len(KIND) + events.kind) * 1000 + events.key
    code[~lasting] = -1 - np.arange((~lasting).sum())
    _, first = np.unique(code, return_index=True)
    return events if len(first) == len(events) else events.take(np.sort(first))


def _capped(events: Events, kind: str) -> NDArray[np.int64]:
    return np.where(events.kind == KIND[kind], events.key, 0).astype(np.int64)


def _at(
    row: NDArray[np.int64], when: NDArray[np.float64], encounter: NDArray[np.int64], process: NDArray[np.int64]
) -> Events:
    """Return where and when, as events still without a kind."""
    num = len(row)
    return Events(
        row, when, np.zeros(num, np.int8), np.zeros(num, np.int16), np.zeros(num, np.float32), encounter,
        process.astype(np.int16), np.zeros(num, np.bool_), np.zeros(num, np.bool_),
    )  # fmt: skip


def _hours(process: NDArray[np.int64], classes: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Length of each encounter: uniform, or gamma (shape 2) around the mean stay of the process."""
    care = tables.parameters()["care"]
    uniform = rng.random(len(process))
    stay = 24 * orders().stay_days_K[process] * rng.gamma(2.0, 0.5, len(process))
    short = [low + (high - low) * uniform for low, high in (care["ambulatory_hours"], care["emergency_hours"])]
    return np.round(np.choose(classes, [*short, np.clip(stay, 12.0, 24 * 28.0)]), 2)


@cache
def _reason_of() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(kind, key) of the event that each process is; kind -1 where the visit itself is all."""
    name = names()
    kinds, keys = np.full(len(name.processes), -1), np.zeros(len(name.processes), np.int64)
    tables_of = (
        ("condition", name.conditions), ("symptom", name.symptoms), ("procedure", name.procedures),
        ("allergy", name.allergies),
    )  # fmt: skip
    for index, process in enumerate(name.processes):
        for kind, table in tables_of:
            if process in table:
                kinds[index], keys[index] = KIND[kind], table.index(process)
        if process in VACCINES:
            kinds[index], keys[index] = KIND["immunization"], name.immunizations.index(VACCINES[process])
    return kinds, keys


def _reasons(state: State, visits: Events, out: Collector) -> None:
    kinds, keys = _reason_of()
    kind_of = {index: kind for kind, index in KIND.items()}
    for kind in ("condition", "symptom", "procedure", "allergy", "immunization"):
        these = visits.take(kinds[visits.process] == KIND[kind])
        out.add(kind_of[KIND[kind]], keys[these.process], these)
    name = names()
    due = visits.take(visits.process == name.processes.index("vaccination"))
    doses = state.doses[due.row]
    for index, row in enumerate(tables.rows("vaccination_schedule")):
        for key in row["immunizations"].split(";"):
            out.add("immunization", name.immunizations.index(key), due.take(doses == index))


def _ordered(state: State, visits: Events, classes: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return which panels each encounter orders, [E, P]."""
    order = orders()
    year = state.year[visits.row]
    probability = order.panel_KYP[visits.process, year]
    probability = 1 - (1 - probability) * (1 - order.panel_of_class_3P[classes])
    planned = np.flatnonzero(visits.process == names().processes.index("follow_up"))
    probability[planned] = 1 - (1 - probability[planned]) * np.exp(_log_without(state, visits.row[planned], order))
    female = state.sex[visits.row] != MALE
    probability[female, order.panels.index("psa")] = 0.0
    return np.asarray(rng.random(probability.shape, np.float32) < probability)


def _log_without(state: State, rows: NDArray[np.int64] | slice, order: Orders) -> Floats:
    """log P(a follow-up orders no such panel), from the conditions on record: [rows, P]."""
    return np.asarray(state.features_NF[rows, : len(order.log_without_CP)] @ order.log_without_CP)


def _measure(
    state: State, visits: Events, ordered: NDArray[np.bool_], bodies: Bodies, eligible: NDArray[np.bool_],
    out: Collector, rng: np.random.Generator,
) -> NDArray[np.float64]:  # fmt: skip
    """Draw results of what is ordered; return them as [E, V], NaN where not measured."""
    body = physiology()
    rows = visits.row
    wanted = (ordered @ orders().contents_PV) & True
    means = state.measurement_means(rows) + bodies.measurement_NJ[rows] + body.event_KJ[visits.process]
    means += body.hidden_HJ[bodies.hidden_N[rows]]
    scaled = means + body.noise_J * rng.standard_normal(means.shape, np.float32)
    results = np.full(wanted.shape, np.nan)
    which = np.broadcast_to(np.arange(len(body.measured)), scaled.shape)
    results[:, body.index_J] = from_scale(scaled.astype(np.float64), which)
    _derive(state, visits, bodies, results, rng)
    results[~wanted] = np.nan
    for index in np.flatnonzero(wanted.any(0)):
        these = np.flatnonzero(wanted[:, index])
        out.add("observation", int(index), visits.take(these), value=results[these, index], eligible=eligible[these])
    return results


def _derive(
    state: State, visits: Events, bodies: Bodies, results: NDArray[np.float64], rng: np.random.Generator
) -> None:
    """Fill in what follows from other results: filtration rate, total cholesterol, height, weight, smoking status."""
    body = physiology()
    column = {key: index for index, key in enumerate(body.observations)}
    rows, male = visits.row, state.sex[visits.row] == MALE
    results[:, column["egfr"]] = np.round(egfr(results[:, column["creatinine"]], state.year[rows], male))
    results[:, column["total_cholesterol"]] = np.round(
        results[:, column["ldl"]] + results[:, column["hdl"]] + results[:, column["triglycerides"]] / 5
    )
    height = height_cm(bodies.height_N[rows].astype(np.float64), (state.step[rows] + visits.when) / STEPS_A_YEAR, male)
    results[:, column["body_height"]] = height
    results[:, column["body_weight"]] = np.round(results[:, column["bmi"]] * (height / 100) ** 2, 1)
    smoking = tables.parameters()["smoking"]
    said = bodies.tobacco_N[rows] + smoking["misreport_sd"] * rng.standard_normal(len(rows))
    results[:, column[SMOKING]] = np.searchsorted(smoking["cuts"], said)


def _test(
    state: State, visits: Events, results: NDArray[np.float64], eligible: NDArray[np.bool_], out: Collector
) -> None:
    rows = visits.row
    adult = eligible & (state.year[rows] >= ADULT)
    for index, test in enumerate(diagnostic_tests()):
        values = results[:, test.observation]
        may = adult & ~np.isnan(values)
        if test.condition < 0 or not may.any():
            continue
        may &= state.features_NF[rows, test.condition] == 0
        if test.confirm:
            may &= state.crossed_NT[rows, index]
        if test.requires >= 0:
            may &= state.features_NF[rows, test.requires] == 1
        may[may] = crosses(test, values[may].astype(np.float32), state.sex[rows[may]], state.year[rows[may]])
        out.add("condition", test.condition, visits.take(may), found=True)


def _screen(visits: Events, bodies: Bodies, out: Collector, rng: np.random.Generator) -> None:
    """A screening finds the hidden disease that it looks for, with the procedure's sensitivity."""
    name = names()
    hidden = bodies.hidden_N[visits.row]
    sensitivity = hazards().detection_HK[hidden, visits.process]
    seen = rng.random(len(visits)) < sensitivity
    conditions = np.array([0, *(name.conditions.index(key) for key in name.occults)])
    out.add("condition", conditions[hidden[seen]], visits.take(seen), found=True)


def _treat(
    state: State, visits: Events, results: NDArray[np.float64], out: Collector, rng: np.random.Generator
) -> None:
    """Begin what new diagnoses and symptoms lead to; adjust and stop drugs at follow-ups."""
    known = out.events()
    for kind in ("condition", "symptom"):
        found = known.of(kind)
        present = set(np.unique(found.key).tolist())
        for treatment in treatments("diagnosis"):
            target = treatment.condition if kind == "condition" else treatment.symptom
            if target in present:
                _begin(state, treatment, found.take(found.key == target), results, out, rng)
    planned = visits.take(visits.process == names().processes.index("follow_up"))
    if not len(planned):
        return
    for treatment in treatments("follow_up"):
        has = state.features_NF[planned.row, treatment.condition] == 1
        if has.any():
            _begin(state, treatment, planned.take(has), results, out, rng)
    where = layout()
    drugs = state.features_NF[planned.row, where.medication : where.procedure] > 0
    stop = drugs & (rng.random(drugs.shape, np.float32) < tables.parameters()["care"]["stop_at_follow_up"])
    event, drug = np.nonzero(stop)
    out.add("medication_stop", drug, planned.take(event))


def _begin(
    state: State, treatment: Treatment, at: Events, results: NDArray[np.float64], out: Collector,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    where = layout()
    begun = rng.random(len(at)) < treatment.probability
    if treatment.kind == "medication":
        begun &= state.features_NF[at.row, where.medication + treatment.key] == 0
    if treatment.after >= 0:
        begun &= state.features_NF[at.row, where.medication + treatment.after] == 1
    if treatment.observation >= 0:
        begun &= np.nan_to_num(results[at.encounter, treatment.observation]) >= treatment.above
    days = float(tables.rows("medications")[treatment.key]["days"]) if treatment.kind == "medication" else np.nan
    out.add(treatment.kind, treatment.key, at.take(begun), value=days)
