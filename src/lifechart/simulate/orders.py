"""What care does at an encounter, as arrays: who is admitted, which panels are ordered, which treatment is begun."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lifechart.simulate import tables
from lifechart.simulate.physiology import physiology
from lifechart.simulate.processes import CLASSES, VISITS, YEARS, Floats, names


@dataclass(frozen=True)
class Orders:
    """Arrays over K processes, P panels, C conditions, V observations."""

    panels: tuple[str, ...]
    class_share_K3: Floats
    """Cumulative probability of ambulatory, emergency, inpatient for each process."""
    stay_days_K: Floats
    panel_KYP: Floats
    """[K, year of age, P]: probability that the encounter orders the panel."""
    panel_of_class_3P: Floats
    log_without_CP: Floats
    """log(1 - probability) that a follow-up orders a panel for having a condition."""
    contents_PV: NDArray[np.bool_]
    eligible_K: NDArray[np.bool_]
    """Ambulatory visits of these processes may diagnose by test."""


@cache
def orders() -> Orders:
    """Build from conditions, symptoms, procedures and panels."""
    name, body = names(), physiology()
    panels = tuple(dict.fromkeys(row["panel"] for row in tables.rows("observations")))
    process = {key: index for index, key in enumerate(name.processes)}
    base = np.zeros((len(process), YEARS, len(panels)), np.float32)
    of_class = np.zeros((3, len(panels)), np.float32)
    without = np.zeros((len(name.conditions), len(panels)), np.float32)
    for row in tables.rows("panels"):
        kind, _, key = row["on"].rpartition(":")
        panel, probability = panels.index(row["panel"]), float(row["probability"])
        if kind == "follow_up":
            without[name.conditions.index(key), panel] += np.log1p(-min(probability, 0.999))
        elif key in CLASSES:
            of_class[CLASSES.index(key), panel] = probability
        elif key in process:
            base[process[key], int(row["min_age"]) : int(row["max_age"]) + 1, panel] = probability
    contents = np.zeros((len(panels), len(body.observations)), np.bool_)
    for index, row in enumerate(tables.rows("observations")):
        contents[panels.index(row["panel"]), index] = True
    share, stay = _settings()
    eligible = np.array([key in ("routine", "follow_up", *name.symptoms) for key in name.processes])
    return Orders(panels, share, stay, base, of_class, without, contents, eligible)


def _settings() -> tuple[Floats, Floats]:
    """Cumulative shares of encounter classes and mean stays of each process."""
    name = names()
    inpatient, emergency = np.zeros(len(name.processes)), np.zeros(len(name.processes))
    stay = np.full(len(name.processes), 3.0, np.float32)
    for table in ("conditions", "symptoms", "procedures"):
        for row in tables.rows(table):
            if row["key"] in name.processes:
                index = name.processes.index(row["key"])
                inpatient[index] = float(row.get("inpatient", 0))
                emergency[index] = float(row.get("emergency", 0))
                stay[index] = float(row.get("stay_days", 3))
    admission = name.processes.index(VISITS[2])
    inpatient[admission], stay[admission] = 1.0, 4.0
    share = np.stack([1 - inpatient - emergency, 1 - inpatient, np.ones_like(inpatient)], axis=1)
    return share.astype(np.float32), stay


@dataclass(frozen=True)
class Treatment:
    """A drug or procedure that a condition or symptom leads to."""

    condition: int
    """Position among conditions, or -1."""
    symptom: int
    kind: str
    """`medication` or `procedure`."""
    key: int
    probability: float
    after: int
    """Medication that must be on already; -1: none."""
    observation: int
    """Observation whose result at this encounter must be above `above`; -1: none."""
    above: float


@cache
def treatments(at: str) -> tuple[Treatment, ...]:
    """Return the treatments begun at `diagnosis` or at `follow_up`."""
    name, body = names(), physiology()
    found = []
    for row in tables.rows("treatments"):
        if row["at"] != at:
            continue
        drug = row["treatment"] in name.medications
        table = name.medications if drug else name.procedures
        found.append(
            Treatment(
                name.conditions.index(row["condition"]) if row["condition"] in name.conditions else -1,
                name.symptoms.index(row["condition"]) if row["condition"] in name.symptoms else -1,
                "medication" if drug else "procedure",
                table.index(row["treatment"]),
                float(row["probability"]),
                name.medications.index(row["after"]) if row["after"] else -1,
                body.observations.index(row["observation"]) if row["observation"] else -1,
                float(row["above"] or 0),
            )
        )
    return tuple(found)
