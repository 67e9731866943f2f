"""Trials simulated by the tens of thousands: do the designs keep their error and power, and is cheating refused?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import norm

from bench._cheats import CHEATS
from bench._institution import Institution
from lifechart.core.errors import LifechartError
from lifechart.release import sequential
from lifechart.release.trial import allocation, power
from lifechart.release.trial.analysis import Comparison

ALPHA = 0.025
"""One-sided; what is counted is rejections on either side against twice this."""
QUARTERS = (0.25, 0.5, 0.75, 1.0)
GOLDEN = {0.025: (4.333, 2.963, 2.359, 2.014), 0.05: (3.74955, 2.53994, 2.01607, 1.72018)}
"""One-sided alpha to published bounds (O'Brien-Fleming-type spending, four equal looks)."""
_BATCHES = 400
Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], tuple[Comparison, Floats]]
"""(generator, number of the batch, trials in it) to an allocation and the outcomes of those trials under it."""


@dataclass(frozen=True)
class Design:
    """One design with an effect, and the probability to reject that it should have."""

    name: str
    draw: Draw
    nominal: float


def main(quick: bool) -> dict[str, float]:
    """Simulate, print the table and return the figures."""
    trials = 4_000 if quick else 40_000
    table = Table(title=f"{trials:,} simulated trials a design", box=None, header_style="bold")
    for column in ("design", "effect", "rejected", "should be", "z"):
        table.add_column(column, justify="left" if column == "design" else "right")
    worst = 0.0
    for design in [*_designs(effect=False), *_designs(effect=True)]:
        rate, effect = _rejected(design, trials), design.nominal != 2 * ALPHA
        z = (rate - design.nominal) / np.sqrt(design.nominal * (1 - design.nominal) / trials)
        table.add_row(design.name, "yes" if effect else "none", f"{rate:.4f}", f"{design.nominal:.4f}", f"{z:+.2f}")
        worst = worst if effect else max(worst, abs(z))
    for name, rate, nominal in _sequential(trials):
        z = (rate - nominal) / np.sqrt(nominal * (1 - nominal) / trials)
        table.add_row(name, "none" if nominal < 0.5 else "yes", f"{rate:.4f}", f"{nominal:.4f}", f"{z:+.2f}")
        worst = max(worst, abs(z)) if nominal < 0.5 else worst
    error = _bounds_error()
    Console().print(table)
    refused = _cheats()
    return {
        "type1_max_z": round(float(worst), 2),
        "bounds_max_error": round(float(error), 6),
        "cheats_refused": refused,
        "cheats_total": len(CHEATS),
    }


def _designs(effect: bool) -> Iterator[Design]:
    """Yield every design; without an effect each should reject in 2 ALPHA of trials, with one as its formula says."""

    def nominal(powered: float) -> float:
        return powered if effect else 2 * ALPHA

    shift = 0.3 * effect
    number = 200
    size = float(norm.sf(norm.isf(ALPHA) - 0.3 / np.sqrt(power.individual_variance(number, 1.0))))
    yield Design("individual, permuted blocks", _individual(number, shift), nominal(size))
    yield Design("individual, a proportion", _proportion(400, 0.12 * effect), nominal(_proportion_power(400, 0.12)))
    for clusters in (16, 30):
        powered = power.cluster_power(0.3, 1.0, clusters, 20, 0.05, alpha=ALPHA)
        yield Design(f"cluster, {clusters} of 20", _clusters(clusters, 20, 0.05, shift), nominal(powered))
    for clusters, steps in ((12, 4), (20, 5)):
        powered = power.stepped_wedge_power(0.3, 1.0, clusters, steps, 10, 0.05, alpha=ALPHA)
        drawn = _wedge(clusters, steps, 10, 0.05, shift)
        yield Design(f"stepped wedge, {clusters} in {steps} steps", drawn, nominal(powered))


def _rejected(design: Design, trials: int) -> float:
    rng = np.random.default_rng([2026, *design.name.encode(), int(design.nominal * 1e6)])
    each = trials // _BATCHES
    bound = norm.isf(ALPHA)
    rejected = 0
    for batch in track(range(_BATCHES), design.name, transient=True, console=Console(stderr=True)):
        comparison, outcomes = design.draw(rng, batch, each)
        rejected += int((np.abs(comparison.test(outcomes).z) > bound).sum())
    return rejected / (each * _BATCHES)


def _individual(number: int, effect: float) -> Draw:
    def draw(rng: np.random.Generator, batch: int, trials: int) -> tuple[Comparison, Floats]:
        strata = np.arange(number) % 3
        arms = _blocked(batch, strata)
        outcomes = rng.standard_normal((number, trials)) + (effect * arms + 0.5 * strata)[:, None]
        return Comparison(arms, strata=strata), outcomes

    return draw


def _proportion(number: int, effect: float) -> Draw:
    def draw(rng: np.random.Generator, batch: int, trials: int) -> tuple[Comparison, Floats]:
        arms = _blocked(batch, np.zeros(number, dtype=np.int64))
        outcomes = rng.random((number, trials)) < (0.2 + effect * arms)[:, None]
        return Comparison(arms), outcomes.astype(np.float64)

    return draw


def _proportion_power(number: int, effect: float) -> float:
    each = number / 2
    deviation = np.sqrt(0.2 * 0.8 / each + (0.2 + effect) * (0.8 - effect) / each)
    return float(norm.sf(norm.isf(ALPHA) - effect / deviation))


def _blocked(batch: int, strata: NDArray[np.int64]) -> NDArray[np.int64]:
    arms = np.zeros(len(strata), dtype=np.int64)
    for stratum in np.unique(strata):
        own = np.flatnonzero(strata == stratum)
        arms[own] = list(islice(allocation.blocks(f"bench {batch}".encode(), str(stratum), (4, 6, 8)), len(own)))
    return arms


def _clusters(number: int, size: int, icc: float, effect: float) -> Draw:
    names = [str(place) for place in range(number)]

    def draw(rng: np.random.Generator, batch: int, trials: int) -> tuple[Comparison, Floats]:
        allotted = allocation.clusters(f"bench {batch}".encode(), names)
        clusters = np.repeat(np.arange(number), size)
        arms = np.array([allotted[name] for name in names])[clusters]
        outcomes = _correlated(rng, clusters, icc, trials) + effect * arms[:, None]
        return Comparison(arms, clusters=clusters, icc=icc), outcomes

    return draw


def _wedge(number: int, steps: int, size: int, icc: float, effect: float) -> Draw:
    names = [str(place) for place in range(number)]

    def draw(rng: np.random.Generator, batch: int, trials: int) -> tuple[Comparison, Floats]:
        step = allocation.steps(f"bench {batch}".encode(), names, steps)
        clusters = np.repeat(np.arange(number), (steps + 1) * size)
        periods = np.tile(np.repeat(np.arange(steps + 1), size), number)
        arms = (periods >= np.array([step[name] for name in names])[clusters]).astype(np.int64)
        outcomes = _correlated(rng, clusters, icc, trials) + (effect * arms + 0.1 * periods)[:, None]
        return Comparison(arms, clusters=clusters, periods=periods, icc=icc), outcomes

    return draw


def _correlated(rng: np.random.Generator, clusters: NDArray[np.int64], icc: float, trials: int) -> Floats:
    between = np.sqrt(icc) * rng.standard_normal((clusters.max() + 1, trials))
    made: Floats = between[clusters] + np.sqrt(1 - icc) * rng.standard_normal((len(clusters), trials))
    return made


def _sequential(trials: int) -> Iterator[tuple[str, float, float]]:
    """Yield (name, rate of efficacy, what it should be) of trials with four looks at accruing participants."""
    plan = sequential.boundaries(ALPHA, QUARTERS, power=0.9)
    assert plan.drift is not None
    number, rng = 400, np.random.default_rng(4)
    arms = _blocked(0, np.zeros(number, dtype=np.int64))
    looks = [(Comparison(arms[: int(number * look)]), look) for look in QUARTERS]
    cases = (("futility overruled", 0.0, False, ALPHA), ("futility obeyed", plan.drift, True, 0.9))
    for name, drift, binding, nominal in cases:
        effect = drift * np.sqrt(power.individual_variance(number, 1.0))
        wins = np.zeros(trials, dtype=bool)
        for start in range(0, trials, 1000):
            outcomes = rng.standard_normal((number, min(1000, trials - start))) + effect * arms[:, None]
            z = np.array([one.test(outcomes[: int(number * look)]).z for one, look in looks])
            alive = np.ones(z.shape[1], dtype=bool)
            for look in range(len(QUARTERS)):
                wins[start : start + z.shape[1]] |= alive & (z[look] >= plan.efficacy[look])
                alive &= (z[look] > plan.futility[look]) | (not binding)
        yield f"four looks, {name}", float(wins.mean()), nominal


def _bounds_error() -> float:
    """Return the largest difference from the published bounds, beyond their own rounding."""
    worst = 0.0
    for alpha, golden in GOLDEN.items():
        for found, published in zip(sequential.efficacy_bounds(alpha, QUARTERS), golden, strict=True):
            digits = len(str(published).split(".")[1])
            worst = max(worst, abs(round(found, digits) - published))
    return worst


def _cheats() -> int:
    """Try every way to cheat; print what was said to it, and return how many were refused."""
    table = Table(title="Ways to cheat", box=None, header_style="bold")
    table.add_column("attempt", no_wrap=True)
    table.add_column("refusal")
    refused = 0
    for name, (attempt, _) in CHEATS.items():
        with tempfile.TemporaryDirectory() as folder:
            try:
                attempt(Institution(Path(folder)))
                said = "NOT REFUSED"
            except LifechartError as error:
                refused, said = refused + 1, str(error)
        table.add_row(name, said.replace(str(Path(tempfile.gettempdir())), ""))
    Console().print(table)
    return refused
