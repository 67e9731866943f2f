"""Renews tables/calibration.csv: factors that make the simulated population's rates equal the published ones.

Published incidence is a population's; risk factors and latents multiply it, and those at risk are not a random sample.
Each round simulates a few thousand lives and divides every rate, by sex and age band, by what the round's multipliers
averaged among those at risk. Run `python -m lifechart.simulate.calibrate` after any change of the other tables.
"""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lifechart.core import durable
from lifechart.simulate import population, tables
from lifechart.simulate.lives import live
from lifechart.simulate.processes import (
    CALIBRATION_COLUMNS,
    CALIBRATION_EDGES,
    SEXES,
    Floats,
    hazards,
    names,
    published,
)
from lifechart.simulate.state import State

PATH = Path(__file__).parent / "tables" / "calibration.csv"
_AT_RISK = 1e-10
"""Monthly rates below this are those of people who cannot have the event."""
_RANGE = (0.01, 20.0)


def calibrate(lives: int = 4000, seed: int = 0, rounds: int = 4, path: Path = PATH) -> None:
    """Write the factors, starting from the present ones."""
    for turn in range(rounds):
        expected, actual = _round(lives, seed + turn)
        ratio = np.where((expected > 0) & (actual > 0), expected / np.maximum(actual, 1e-12), 1.0)
        _write(path, np.clip(_present() * ratio, *_RANGE))
        tables.rows.cache_clear()
        hazards.cache_clear()


def _round(lives: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return events expected at published rates, and by the present tables: [sex, age band, K + H]."""
    rng = np.random.Generator(np.random.SFC64(seed))
    people = population.draw(lives, 0, date(2026, 1, 1), rng)
    target = published() / 12_000
    shape = (len(SEXES), len(CALIBRATION_COLUMNS), target.shape[2])
    expected, actual = np.zeros(shape), np.zeros(shape)

    def watch(state: State, rates: Floats, rows: NDArray[np.int64]) -> None:
        at_risk = rates > _AT_RISK
        year = int(state.year[0])
        band = int(np.searchsorted(CALIBRATION_EDGES, year, side="right")) - 1
        for sex in range(len(SEXES)):
            these = state.sex == sex
            expected[sex, band] += at_risk[these].sum(0) * target[sex, year]
            actual[sex, band] += np.where(at_risk[these], rates[these], 0.0).sum(0)

    live(people, np.datetime64("2026-01-01", "m"), rng, watch)
    return expected, actual


def _columns() -> list[str]:
    return [*names().processes, *(f"onset:{key}" for key in names().occults)]


def _present() -> NDArray[np.float64]:
    columns = _columns()
    factors = np.ones((len(SEXES), len(CALIBRATION_COLUMNS), len(columns)))
    for row in tables.rows("calibration"):
        factors[SEXES.index(row["sex"]), :, columns.index(row["key"])] = [float(row[k]) for k in CALIBRATION_COLUMNS]
    return factors


def _write(path: Path, factors: NDArray[np.float64]) -> None:
    with durable.replacing(path) as aside, open(aside, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["key", "sex", *CALIBRATION_COLUMNS])
        for column, key in enumerate(_columns()):
            for sex, label in enumerate(SEXES):
                writer.writerow([key, label, *(f"{value:.4g}" for value in factors[sex, :, column])])


if __name__ == "__main__":
    calibrate()
