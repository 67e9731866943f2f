"""The latent oracle's engine against plain simulation from the same states."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lifechart.simulate import futures
from lifechart.simulate.events import concatenate
from lifechart.simulate.processes import LATENTS, names
from lifechart.simulate.record import read
from lifechart.simulate.replay import Replay, relabelled
from tests.simulate.plain import frequencies

OUTCOMES = (
    "type2_diabetes", "hypertension", "heart_failure", "depression", "pneumonia", "urinary_tract_infection",
    "colorectal_cancer", "prostate_cancer", "myasthenia_gravis", "copd_exacerbation", "death", "inpatient",
)  # fmt: skip
HORIZONS = np.array([0.4, 3.0, 18.0])
COPIES = 4000


def start_of(truth: Path, life: int, age: float, hidden: str | None) -> tuple[futures.Start, np.ndarray]:
    """Return COPIES of one life of the hospital at an age, with its true latents and a hidden disease of our choice."""
    people = pl.read_parquet(truth / "people.parquet").filter(pl.col("life") == life)
    events = pl.read_parquet(truth / "events.parquet").filter(pl.col("life") == life)
    latent = pl.read_parquet(truth / "latent.parquet").filter(pl.col("life") == life)
    step = int(age * 12)
    evidence = Replay(read(people, events), hidden=False).run(np.array([0]), np.array([step]), np.array([0.37]))
    disease = 0 if hidden is None else 1 + names().occults.index(hidden)
    probabilities = np.zeros((COPIES, 1 + len(names().occults)))
    probabilities[:, disease] = 1.0
    running = evidence.running[0]
    start = futures.Start(
        evidence.state.take(np.zeros(COPIES, np.int64)),
        np.full(COPIES, 0.37),
        relabelled([running] * COPIES) if len(running) else concatenate([]),
        np.repeat(latent.select(LATENTS).to_numpy().astype(np.float32), COPIES, 0),
        probabilities,
    )
    return start, np.full(COPIES, disease)


def oldest(truth: Path, rank: int) -> int:
    people = pl.read_parquet(truth / "people.parquet").filter(pl.col("death").is_null()).sort("birth")
    return int(people["life"][rank])


@pytest.mark.parametrize(
    ("rank", "age", "hidden"), [(0, 78.0, None), (7, 70.2, "prostate_cancer"), (15, 66.0, "myasthenia_gravis")]
)
def test_compensators_agree_with_plain_simulation(truth: Path, rank: int, age: float, hidden: str | None) -> None:
    start, disease = start_of(truth, oldest(truth, rank), age, hidden)
    plain_start, _ = start_of(truth, oldest(truth, rank), age, hidden)
    expected = frequencies(plain_start, disease, OUTCOMES, HORIZONS, seed=1).mean(0)
    risks = futures.risks(start, OUTCOMES, HORIZONS, np.random.Generator(np.random.SFC64(2)))
    mean = risks.mean(0)
    # Standard error of the difference, and one event's worth for outcomes that hardly ever come.
    error = np.sqrt(mean * (1 - mean) / COPIES + risks.var(0) / COPIES) + 1 / COPIES
    scores = (expected - mean) / error
    assert np.abs(scores).max() < 4.0, dict(zip(OUTCOMES, scores.round(1).tolist(), strict=True))
    assert np.sqrt((scores**2).mean()) < 1.5


def test_compensators_are_less_noisy_than_counting(truth: Path) -> None:
    start, _ = start_of(truth, oldest(truth, 3), 70.0, None)
    risks = futures.risks(start, ("death", "heart_failure"), HORIZONS, np.random.Generator(np.random.SFC64(2)))
    mean = risks.mean(0)
    assert (risks.var(0) < 0.5 * mean * (1 - mean)).all()


def test_risks_rise_with_the_horizon_and_stay_probabilities(truth: Path) -> None:
    start, _ = start_of(truth, oldest(truth, 2), 60.0, None)
    risks = futures.risks(start, OUTCOMES, HORIZONS, np.random.Generator(np.random.SFC64(2))).mean(0)
    assert (np.diff(risks, axis=1) >= -1e-6).all()
    assert risks.min() >= 0
    assert risks.max() <= 1
