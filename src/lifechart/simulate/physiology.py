"""Measurements: the mean of each given age, sex, record, latents and hidden disease; noise; rounding; what derives.

A measurement is normal on its own scale: linear, or log above a floor. So, given a record, it is linear and Gaussian
in the latents, and two numbers an observation (count, sum of residuals) are all that its likelihood needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lifechart.simulate import tables
from lifechart.simulate.processes import SEXES, YEARS, Floats, loadings_of, names

SMOKING = "smoking_status"
ADULT = 18
"""Age from which tests diagnose."""


@dataclass(frozen=True)
class Physiology:
    """Arrays over the J measured quantities (those in physiology.csv) and all V observation keys."""

    measured: tuple[str, ...]
    observations: tuple[str, ...]
    index_J: NDArray[np.int64]
    """Position of each measured quantity among the observations."""
    floor_J: Floats
    """-inf marks a linear scale."""
    noise_J: Floats
    """Standard deviation from one measurement to the next, before rounding."""
    spread_J: Floats
    """The same with the variance of rounding added: what a likelihood should use."""
    decimals_V: NDArray[np.int64]
    setpoint: Floats
    """[sex, year, J]"""
    weights_FJ: Floats
    loadings_JD: Floats
    hidden_HJ: Floats
    """[1 + H, J]: shift while the hidden disease is there."""
    event_KJ: Floats
    """[K, J]: shift at the encounter that the process opens."""


@cache
def physiology() -> Physiology:
    """Build the measurement arrays from physiology, loadings, shifts and occult_effects."""
    measured, observations = tables.keys("physiology"), tables.keys("observations")
    setpoint = np.zeros((2, YEARS, len(measured)), np.float32)
    noise, floor = np.zeros(len(measured), np.float32), np.full(len(measured), -np.inf, np.float32)
    ages = [int(key.removeprefix("age_")) for key in tables.rows("physiology")[0] if key.startswith("age_")]
    for row in tables.rows("physiology"):
        index = measured.index(row["key"])
        values = [float(row[f"age_{age}"]) for age in ages]
        setpoint[SEXES.index(row["sex"]), :, index] = np.interp(np.arange(YEARS) + 0.5, ages, values)
        noise[index] = float(row["noise"])
        if row["transform"] == "log":
            floor[index] = float(row["floor"] or 0)
    decimals = np.array([int(row["decimals"]) for row in tables.rows("observations")])
    index_J = np.array([observations.index(key) for key in measured])
    # Rounding adds the variance of a uniform error; on a log scale it is small beside the noise.
    step = np.where(np.isinf(floor), 10.0 ** -decimals[index_J], 0.0)
    weights, hidden, event = _shifts(measured)
    return Physiology(
        measured, observations, index_J, floor, noise, np.sqrt(noise**2 + step**2 / 12).astype(np.float32), decimals,
        setpoint, weights, loadings_of(measured), hidden, event,
    )  # fmt: skip


def _shifts(measured: tuple[str, ...]) -> tuple[Floats, Floats, Floats]:
    name = names()
    weights = np.zeros((len(name.features), len(measured)), np.float32)
    event = np.zeros((len(name.processes), len(measured)), np.float32)
    hidden = np.zeros((1 + len(name.occults), len(measured)), np.float32)
    for row in tables.rows("shifts"):
        target = measured.index(row["to"])
        if row["from"].startswith("event:"):
            event[name.processes.index(row["from"].removeprefix("event:")), target] = float(row["shift"])
        else:
            weights[name.features.index(row["from"]), target] = float(row["shift"])
    for row in tables.rows("occult_effects"):
        if row["effect"] == "shifts":
            hidden[name.occults.index(row["key"]) + 1, measured.index(row["to"])] = float(row["size"])
    return weights, hidden, event


def to_scale(values: NDArray[np.float64], which: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return results of measured quantities `which` on their own (linear or log) scale."""
    body = physiology()
    floor = body.floor_J[which].astype(np.float64)
    half_step = 0.5 * 10.0 ** -body.decimals_V[body.index_J[which]]
    linear = np.isinf(floor)
    above = np.maximum(values - np.where(linear, 0.0, floor), half_step)
    return np.asarray(np.where(linear, values, np.log(np.where(linear, 1.0, above))))


def from_scale(scaled: NDArray[np.float64], which: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the printed results (rounded to their decimals) of measured quantities `which`."""
    body = physiology()
    floor = body.floor_J[which].astype(np.float64)
    linear = np.isinf(floor)
    values = np.where(linear, scaled, np.where(linear, 0.0, floor) + np.exp(np.where(linear, 0.0, scaled)))
    scale = 10.0 ** body.decimals_V[body.index_J[which]]
    return np.asarray(np.round(values * scale) / scale)


def egfr(creatinine: NDArray[np.float64], years: NDArray[np.int64], male: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the filtration rate (mL/min/1.73 m2) from creatinine (mg/dL): CKD-EPI 2021 (Inker, NEJM 2021)."""
    kappa, alpha = np.where(male, 0.9, 0.7), np.where(male, -0.302, -0.241)
    ratio = np.maximum(creatinine, 0.05) / kappa
    return (
        142.0 * np.minimum(ratio, 1.0) ** alpha * np.maximum(ratio, 1.0) ** -1.2
        * 0.9938**years * np.where(male, 1.0, 1.012)
    )  # fmt: skip


@cache
def creatinine_limit(rate: float) -> NDArray[np.float64]:
    """Return, per [sex, year], the creatinine (two decimals) above which the printed filtration is below `rate`."""
    grid = np.arange(0.05, 6.0, 0.01).round(2)
    limit = np.zeros((2, YEARS))
    for sex in range(2):
        for year in range(YEARS):
            low = np.round(egfr(grid, np.array(year), np.array(SEXES[sex] == "male"))) < rate
            limit[sex, year] = grid[np.argmax(low)] - 0.005
    return limit


def height_cm(adult: NDArray[np.float64], age: NDArray[np.float64], male: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the height at `age` (years) of people whose adult height is `adult`, to 0.1 cm."""
    growth = tables.parameters()["height"]
    share = np.where(
        male,
        np.interp(age, growth["ages"], growth["share_of_adult_male"]),
        np.interp(age, growth["ages"], growth["share_of_adult_female"]),
    )
    return np.asarray(np.round(adult * share, 1))
