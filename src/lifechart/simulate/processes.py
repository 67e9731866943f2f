"""The tables as arrays: which counting processes there are, what drives each, and which hidden diseases bend them.

The intensity of process k in one month of a life with latents z, sex s, age a and recorded features x is

    lambda_k = exp(AGE[s, a, k] + x . W[:, k]) * exp(b_k . z - |b_k|^2 / 2) * multiplier[hidden disease, k]

It is constant within a month, so a life's log likelihood needs one count and one exposure a process, however long the
record (the Poisson process likelihood; Andersen, Borgan, Gill and Keiding 1993, chapter II).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lifechart.simulate import tables

Floats = NDArray[np.float32]

MONTH_MINUTES = 43_830
"""One step: 30.4375 days. Steps start at midnight of the birth date."""
YEARS = 121
NEVER = -30.0
"""Log rate of what cannot happen; a `needs` rule lifts it."""
LATENTS = (
    "glycemia", "adiposity", "pressure", "lipids", "renal", "airway", "cardiac", "mood", "immune", "oncogenic",
    "frailty", "tobacco", "alcohol", "neural", "care",
)  # fmt: skip
"""Lifelong traits, independent standard normals."""
SEXES = ("female", "male")
VISITS = ("routine", "follow_up", "admission")
VACCINES = {
    "influenza_vaccine": "influenza",
    "pneumococcal_vaccine": "pneumococcal",
    "zoster_vaccine": "zoster",
    "td_vaccine": "td",
}
"""Adult immunisations: process to key. Childhood ones share the process `vaccination`."""
KINDS = (
    "encounter", "condition", "symptom", "observation", "medication", "medication_stop", "procedure", "immunization",
    "allergy", "death",
)  # fmt: skip
"""Kinds of event, in the order in which one encounter lists them."""
CLASSES = ("ambulatory", "emergency", "inpatient")


@dataclass(frozen=True)
class Names:
    """The axes of every array. K processes, H hidden diseases, F features, D latents."""

    conditions: tuple[str, ...]
    symptoms: tuple[str, ...]
    medications: tuple[str, ...]
    procedures: tuple[str, ...]
    immunizations: tuple[str, ...]
    allergies: tuple[str, ...]
    windows: tuple[str, ...]
    ancestries: tuple[str, ...]
    processes: tuple[str, ...]
    occults: tuple[str, ...]
    features: tuple[str, ...]


@cache
def names() -> Names:
    """Return the axes, in table order."""
    conditions, symptoms = tables.keys("conditions"), tables.keys("symptoms")
    procedures, allergies = tables.keys("procedures"), tables.keys("allergies")
    tested = {row["condition"] for row in tables.rows("tests")}
    rated = {row["key"] for row in tables.rows("incidence")}
    processes = (
        *(key for key in conditions if key not in tested),
        *symptoms,
        *VISITS,
        "vaccination",
        *VACCINES,
        *allergies,
        *(key for key in procedures if key in rated),
        "death",
    )
    windows = (*(name for name in tables.keys("windows") if name != "symptom"), *symptoms)
    ancestries = tables.keys("ancestries")
    features = (
        *conditions,
        *(f"on:{key}" for key in tables.keys("medications")),
        *procedures,
        *tables.keys("immunizations"),
        *(f"allergy:{key}" for key in allergies),
        *(f"recent:{name}" for name in windows),
        *(f"ancestry:{key}" for key in ancestries),
        "chronic",
        "vaccine_due",
    )
    return Names(
        conditions, symptoms, tables.keys("medications"), procedures, tables.keys("immunizations"), allergies, windows,
        ancestries, processes, tables.keys("occult"), features,
    )  # fmt: skip


@dataclass(frozen=True)
class Hazards:
    """Rates of K processes and, behind them in the same columns, of the H hidden onsets."""

    age: Floats
    """[sex, year of age, K + H]: log rate per month."""
    weights_FK: Floats
    """[F, K + H]: log rate ratios."""
    loadings_KD: Floats
    """[K + H, D]"""
    half_norm_K: Floats
    """|b|^2 / 2, which makes the latents' mean effect 1."""
    log_multiplier_HK: Floats
    """[1 + H, K]; row 0 is no hidden disease. A disease's diagnosis cannot happen but in its own row."""
    detection_HK: Floats
    """[1 + H, K]: probability that this procedure finds the hidden disease."""


@cache
def hazards() -> Hazards:
    """Build the rate arrays from incidence, risk factors, requirements, loadings and the occult tables."""
    name = names()
    columns = [*name.processes, *(f"onset:{key}" for key in name.occults)]
    column = {key: index for index, key in enumerate(columns)}
    feature = {key: index for index, key in enumerate(name.features)}
    weights = np.zeros((len(name.features), len(columns)), np.float32)
    for row in tables.rows("risk_factors"):
        if row["to"] in column:
            weights[feature[row["from"]], column[row["to"]]] += np.log(float(row["rr"]))
    age = np.log(np.maximum(published() * _corrections(columns) / 12_000, np.exp(NEVER)))
    for row in tables.rows("requirements"):
        needs = row["rule"] == "needs"
        weights[feature[row["feature"]], column[row["process"]]] += -NEVER if needs else NEVER
        if needs:
            age[:, :, column[row["process"]]] += NEVER
    for row in tables.rows("conditions"):
        if row["chronic"] == "1" and row["key"] in column:
            weights[feature[row["key"]], column[row["key"]]] += NEVER
    for key in name.allergies:
        weights[feature[f"allergy:{key}"], column[key]] += NEVER
    loadings = loadings_of(columns)
    multiplier, detection = _occult(column)
    return Hazards(
        age.astype(np.float32), weights, loadings, 0.5 * (loadings**2).sum(1), multiplier, detection
    )  # fmt: skip


def loadings_of(targets: list[str] | tuple[str, ...]) -> Floats:
    """Return the latents' loadings of processes or observations, [targets, D]."""
    weights = np.zeros((len(targets), len(LATENTS)), np.float32)
    index = {key: position for position, key in enumerate(targets)}
    for row in tables.rows("loadings"):
        if row["target"] in index:
            weights[index[row["target"]], LATENTS.index(row["latent"])] = float(row["weight"])
    return weights


def published() -> NDArray[np.float64]:
    """Return the tables' rates per 1,000 person-years, [sex, year of age, K + H], interpolated between their ages."""
    columns = [*names().processes, *(f"onset:{key}" for key in names().occults)]
    rates = np.zeros((2, YEARS, len(columns)))
    ages = [int(key.removeprefix("age_")) for key in tables.rows("incidence")[0] if key.startswith("age_")]
    for row in tables.rows("incidence"):
        values = [float(row[f"age_{age}"]) for age in ages]
        curve = _between(ages, values)
        for index, sex in enumerate(SEXES):
            if row["sex"] in (sex, "both"):
                rates[index, :, columns.index(row["key"])] = curve
    for row in tables.rows("occult"):
        rates[:, :, columns.index(row["key"])] = 1000 * float(row["diagnoses_per_year"])
        rates[:, :, columns.index(f"onset:{row['key']}")] *= float(row["enrichment"])
    return rates


def _between(ages: list[int], values: list[float]) -> NDArray[np.float64]:
    """Rates at each year of age: geometric between two positive values, linear where one is zero."""
    middle = np.arange(YEARS) + 0.5
    geometric = np.exp(np.interp(middle, ages, np.log(np.maximum(values, 1e-12))))
    positive = np.interp(middle, ages, (np.array(values) > 0).astype(float)) == 1.0
    return np.asarray(np.where(positive, geometric, np.interp(middle, ages, values)))


def _corrections(columns: list[str]) -> NDArray[np.float64]:
    """Factors that make the population's rates equal the published ones, from calibration.csv (see `calibrate`)."""
    factors = np.ones((2, YEARS, len(columns)))
    for row in tables.rows("calibration"):
        if row["key"] in columns:
            knots = [float(row[name]) for name in CALIBRATION_COLUMNS]
            curve = np.exp(np.interp(np.arange(YEARS) + 0.5, CALIBRATION_AGES, np.log(knots)))
            factors[SEXES.index(row["sex"]), :, columns.index(row["key"])] = curve
    return factors


CALIBRATION_AGES = (2.5, 10.0, 22.5, 35.0, 45.0, 55.0, 65.0, 75.0, 85.0, 95.0)
CALIBRATION_EDGES = (0, 5, 15, 30, 40, 50, 60, 70, 80, 90, YEARS)
CALIBRATION_COLUMNS = tuple(f"age_{age:g}" for age in CALIBRATION_AGES)


def _occult(column: dict[str, int]) -> tuple[Floats, Floats]:
    """Multipliers (log) and detection probabilities of each hidden disease, [1 + H, K]."""
    name = names()
    num = len(name.processes)
    multiplier = np.zeros((1 + len(name.occults), num), np.float32)
    detection = np.zeros_like(multiplier)
    for index, key in enumerate(name.occults):
        multiplier[:, column[key]] = NEVER
        multiplier[index + 1, column[key]] = 0.0
    for row in tables.rows("occult_effects"):
        index = name.occults.index(row["key"]) + 1
        if row["effect"] == "multiplies":
            multiplier[index, column[row["to"]]] = np.log(float(row["size"]))
        elif row["effect"] == "detects":
            detection[index, column[row["to"]]] = float(row["size"])
    return multiplier, detection
