"""What a record shows so far, as far as it drives what comes next. Only events change it, so a record can be replayed.

`State.rates` and `State.observe` are the two halves of one step. The simulator, the replay of a record and the
oracles' futures all call them, so the three cannot drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lifechart.simulate import tables
from lifechart.simulate.events import KIND, Events
from lifechart.simulate.physiology import creatinine_limit, physiology
from lifechart.simulate.processes import CLASSES, SEXES, VACCINES, YEARS, Floats, hazards, names

STEPS_A_YEAR = 12


@dataclass(frozen=True)
class Layout:
    """Where things are among the features, and how long each window stays open (months)."""

    medication: int
    procedure: int
    immunization: int
    allergy: int
    window: int
    ancestry: int
    chronic: int
    vaccine_due: int
    months: NDArray[np.int16]
    chronic_condition: NDArray[np.bool_]
    chronic_medication: NDArray[np.bool_]
    windows_of: dict[tuple[int, int], tuple[int, ...]]
    """(kind, key) of an event to the windows that it opens."""
    schedule: tuple[int, ...]
    """Ages in months at which childhood doses fall due."""


@cache
def layout() -> Layout:
    """Work out the feature layout once."""
    name = names()
    starts = np.cumsum(
        [len(part) for part in (name.conditions, name.medications, name.procedures, name.immunizations,
                                name.allergies, name.windows, name.ancestries)]
    )  # fmt: skip
    months = {row["name"]: int(row["months"]) for row in tables.rows("windows")}
    window = {key: index for index, key in enumerate(name.windows)}
    opens: dict[tuple[int, int], tuple[int, ...]] = {}
    for kind, table in (("condition", name.conditions), ("symptom", name.symptoms), ("procedure", name.procedures)):
        for index, key in enumerate(table):
            if key in window:
                opens[KIND[kind], index] = (window[key],)
    for row in tables.rows("procedures"):
        if row["surgical"] == "1" and row["approach"] in ("open", "laparoscopic"):
            index = name.procedures.index(row["key"])
            opens[KIND["procedure"], index] = (window["surgery"], window[f"surgery_{row['approach']}"])
    for process, key in VACCINES.items():
        if process in window:
            opens[KIND["immunization"], name.immunizations.index(key)] = (window[process],)
    opens[KIND["encounter"], CLASSES.index("inpatient")] = (window["inpatient"], window["inpatient_year"])
    medication, procedure, immunization, allergy, window_start, ancestry, chronic = (int(start) for start in starts)
    return Layout(
        medication,
        procedure,
        immunization,
        allergy,
        window_start,
        ancestry,
        chronic,
        chronic + 1,
        np.array([months.get(key, months["symptom"]) for key in name.windows], np.int16),
        np.array([row["chronic"] == "1" for row in tables.rows("conditions")]),
        np.array([row["chronic"] == "1" for row in tables.rows("medications")]),
        opens,
        tuple(int(row["age_months"]) for row in tables.rows("vaccination_schedule")),
    )


@dataclass(frozen=True)
class Test:
    """A result that counts as found: it opens a window, or diagnoses a condition."""

    name: str
    observation: int
    """Position among observations."""
    measured: int
    """Position among the measured quantities that decides it."""
    high: bool
    limit: NDArray[np.float64]
    """[sex, year]: the result, before rounding, at which it crosses."""
    confirm: bool
    condition: int
    """-1: opens the window `name` instead."""
    requires: int
    """Feature that must be there; -1: none."""


@cache
def diagnostic_tests() -> tuple[Test, ...]:
    """Return the tests in table order."""
    name, body = names(), physiology()
    found = []
    for row in tables.rows("tests"):
        observation = body.observations.index(row["observation"])
        half_step = 0.5 * 10.0 ** -float(body.decimals_V[observation])
        limits = [float(row[f"threshold_{sex}"]) - half_step for sex in SEXES]
        limit, high = np.repeat(np.array(limits)[:, None], YEARS, 1), row["direction"] == "high"
        measured = row["observation"]
        if measured == "egfr":
            measured, high, limit = "creatinine", True, creatinine_limit(float(row["threshold_male"]))
        found.append(
            Test(
                row["name"], observation, body.measured.index(measured), high, limit, row["confirm"] == "1",
                name.conditions.index(row["condition"]) if row["condition"] else -1,
                name.features.index(row["requires"]) if row["requires"] else -1,
            )
        )  # fmt: skip
    return tuple(found)


@dataclass
class State:
    """N lives at the start of a month. F features, W windows, T tests."""

    sex: NDArray[np.int8]
    """Position in SEXES."""
    step: NDArray[np.int64]
    """Months since birth."""
    features_NF: Floats
    left_NW: NDArray[np.int16]
    """Months for which each window stays open."""
    doses: NDArray[np.int16]
    """Childhood vaccination visits so far."""
    crossed_NT: NDArray[np.bool_]
    """The last eligible result crossed its limit."""

    @classmethod
    def newborn(cls, sex: NDArray[np.int8], ancestry: NDArray[np.int8]) -> State:
        """Return N lives at birth."""
        num, where = len(sex), layout()
        features = np.zeros((num, len(names().features)), np.float32)
        features[np.arange(num), where.ancestry + ancestry.astype(np.int64)] = 1.0
        return cls(
            sex.astype(np.int8), np.zeros(num, np.int64), features,
            np.zeros((num, len(where.months)), np.int16), np.zeros(num, np.int16),
            np.zeros((num, len(diagnostic_tests())), np.bool_),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.sex)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> State:
        """Return copies of some lives."""
        return State(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def year(self) -> NDArray[np.int64]:
        """Whole years of age, capped at the tables' end."""
        return np.minimum(self.step // STEPS_A_YEAR, YEARS - 1)

    def rates(self) -> Floats:
        """Return the rates per month of the K processes and H onsets, before latents and hidden disease: [N, K + H]."""
        table = hazards()
        log_rates = self.features_NF @ table.weights_FK
        log_rates += table.age[self.sex, self.year]
        np.exp(np.minimum(log_rates, 3.0, out=log_rates), out=log_rates)
        return np.asarray(log_rates)

    def measurement_means(self, rows: NDArray[np.int64], columns: NDArray[np.int64] | slice = slice(None)) -> Floats:
        """Return means (own scale) of measured quantities before latents, hidden disease and event: [rows, J]."""
        body = physiology()
        means = self.features_NF[rows] @ body.weights_FJ[:, columns]
        means += body.setpoint[self.sex[rows], self.year[rows]][:, columns]
        return means

    def observe(self, events: Events) -> None:
        """Move on by a month in which these events happened (sorted by row and time)."""
        where = layout()
        np.maximum(self.left_NW - 1, 0, out=self.left_NW)
        self._set(events, "condition", 0)
        self._set(events, "procedure", where.procedure)
        self._set(events, "immunization", where.immunization)
        self._set(events, "allergy", where.allergy)
        self._medicate(events)
        self._vaccinate(events)
        self._open_windows(events)
        self._test(events.of("observation"))
        self.step += 1
        self.features_NF[:, where.window : where.ancestry] = self.left_NW > 0
        ages = np.array((*where.schedule, 10_000))
        self.features_NF[:, where.vaccine_due] = self.step >= ages[np.minimum(self.doses, len(where.schedule))]

    def _set(self, events: Events, kind: str, start: int) -> None:
        found = events.of(kind)
        self.features_NF[found.row, start + found.key] = 1.0
        if kind == "condition":
            lasting = layout().chronic_condition[found.key]
            self.features_NF[found.row[lasting], layout().chronic] = 1.0

    def _medicate(self, events: Events) -> None:
        where = layout()
        for kind, on in (("medication", 1.0), ("medication_stop", 0.0)):
            found = events.of(kind)
            lasting = where.chronic_medication[found.key]
            self.features_NF[found.row[lasting], where.medication + found.key[lasting]] = on

    def _vaccinate(self, events: Events) -> None:
        visits = events.of("encounter")
        due = visits.take(visits.process == names().processes.index("vaccination"))
        self.doses[due.row] += 1

    def _open_windows(self, events: Events) -> None:
        where, name = layout(), names()
        code = events.kind.astype(np.int64) * 1000 + events.key
        for present in np.unique(code):
            for window in where.windows_of.get((int(present) // 1000, int(present) % 1000), ()):
                self.left_NW[events.row[code == present], window] = where.months[window]
        visits = events.of("encounter")
        routine = name.windows.index("routine")
        rows = visits.row[visits.process == name.processes.index("routine")]
        self.left_NW[rows, routine] = where.months[routine]

    def _test(self, results: Events) -> None:
        results = results.take(results.eligible)
        for index, test in enumerate(diagnostic_tests()):
            found = results.take(results.key == test.observation)
            if not len(found):
                continue
            crossed = crosses(test, found.value, self.sex[found.row], self.year[found.row])
            self.crossed_NT[found.row, index] = crossed
            if test.condition < 0:
                window = names().windows.index(test.name)
                self.left_NW[found.row[crossed], window] = layout().months[window]


def crosses(
    test: Test, values: NDArray[np.float32], sex: NDArray[np.int8], year: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return whether printed results cross a test's limit in people of that sex and age."""
    if physiology().observations[test.observation] == "egfr":
        threshold = next(float(row["threshold_male"]) for row in tables.rows("tests") if row["name"] == test.name)
        return np.asarray(values < threshold - 0.25)
    limit = test.limit[sex, year]
    return np.asarray(values > limit if test.high else values < limit)
