"""The oracles end to end: calibrated on what then happened, ordered by what they know, blind to the future."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest
from numpy.typing import NDArray

from lifechart.core.errors import InputError, IntegrityError
from lifechart.simulate import assess
from lifechart.simulate.oracle import Oracle
from lifechart.simulate.posterior import Posterior, posterior
from lifechart.simulate.processes import LATENTS

HORIZONS = (365, 1825)


@pytest.fixture(scope="module")
def oracle(truth: Path) -> Oracle:
    return Oracle.load(truth)


@pytest.fixture(scope="module")
def prompts(oracle: Oracle) -> pl.DataFrame:
    """One prompt a life, at a random time whose horizons the record covers, if alive then."""
    rng = np.random.default_rng(0)
    people = oracle.people.with_columns(last=pl.lit(datetime(2021, 1, 1))).filter(pl.col("last") > pl.col("birth"))
    share = pl.Series(rng.random(people.height))
    minutes = ((people["last"] - people["birth"]).dt.total_minutes() * share).cast(pl.Int64)
    asked = people.with_columns(prediction_time=pl.col("birth") + (minutes * 60_000_000).cast(pl.Duration("us")))
    alive = pl.col("death").is_null() | (pl.col("death") > pl.col("prediction_time"))
    return asked.filter(alive).select("life", "prediction_time")


@pytest.fixture(scope="module")
def happened(truth: Path, oracle: Oracle, prompts: pl.DataFrame) -> NDArray[np.bool_]:
    """Whether each outcome came within each horizon, [P, O, Z]."""
    events = pl.read_parquet(truth / "events.parquet").filter(pl.col("kind").is_in(["condition", "death", "encounter"]))
    joined = events.join(prompts.with_row_index("prompt"), on="life")
    joined = joined.filter(pl.col("time") > pl.col("prediction_time"))
    came = np.zeros((prompts.height, len(oracle.outcomes), len(HORIZONS)), np.bool_)
    for index, key in enumerate(oracle.outcomes.values()):
        for horizon, days in enumerate(HORIZONS):
            within = pl.col("time") <= pl.col("prediction_time") + timedelta(days=days)
            came[joined.filter((pl.col("key") == key) & within)["prompt"].to_numpy(), index, horizon] = True
    return came


@pytest.fixture(scope="module")
def record(oracle: Oracle, prompts: pl.DataFrame) -> NDArray[np.float32]:
    return oracle.record_risks(prompts, list(oracle.outcomes.values()), HORIZONS, draws=8)


@pytest.fixture(scope="module")
def latent(oracle: Oracle, prompts: pl.DataFrame) -> NDArray[np.float32]:
    return oracle.latent_risks(prompts, list(oracle.outcomes.values()), HORIZONS, draws=8)


def log_scores(risks: NDArray[np.float32], happened: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Log score of each prompt, summed over outcomes and horizons; higher is better."""
    risks = np.clip(risks.astype(np.float64), 1e-7, 1 - 1e-7)
    return np.where(happened, np.log(risks), np.log1p(-risks)).sum((1, 2))


@pytest.mark.parametrize("which", ["record", "latent"])
def test_risks_are_calibrated(which: str, request: pytest.FixtureRequest, happened: NDArray[np.bool_]) -> None:
    risks = request.getfixturevalue(which).astype(np.float64)
    for low, high in ((0, 0.003), (0.003, 0.01), (0.01, 0.03), (0.03, 0.1), (0.1, 0.3), (0.3, 1.01)):
        these = (risks >= low) & (risks < high)
        # Outcomes of one life depend on each other: the variance is taken over lives.
        excess = np.where(these, happened - risks, 0.0).sum((1, 2))
        assert abs(excess.sum()) < 4 * np.sqrt((excess**2).sum()) + 1, (low, high, excess.sum(), these.sum())


def test_each_outcome_comes_as_often_as_expected(
    oracle: Oracle, record: NDArray[np.float32], happened: NDArray[np.bool_]
) -> None:
    expected, seen = record[:, :, 1].astype(np.float64), happened[:, :, 1]
    scores = (seen.sum(0) - expected.sum(0)) / np.sqrt((expected * (1 - expected)).sum(0) + 0.5)
    assert np.abs(scores).max() < 4.5, dict(zip(oracle.outcomes.values(), scores.round(1), strict=True))
    assert np.sqrt((scores**2).mean()) < 1.4


def test_knowing_more_forecasts_better(
    oracle: Oracle, prompts: pl.DataFrame, record: NDArray[np.float32], latent: NDArray[np.float32],
    happened: NDArray[np.bool_], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def prior(evidence: object, trail: object, draws: int, rng: np.random.Generator, dims: int) -> Posterior:
        """Latents as if the record told nothing of them: what its conditions and drugs tell is still there."""
        found = posterior(evidence, trail, draws, rng, dims)  # type: ignore[arg-type]
        shape = found.weights_PR.shape
        ignorant = rng.standard_normal((*shape, len(LATENTS)), np.float32)
        return Posterior(ignorant, np.full(shape, 1 / draws), found.hidden_PRH)

    monkeypatch.setattr(assess, "posterior", prior)
    worse = oracle.record_risks(prompts, list(oracle.outcomes.values()), HORIZONS, draws=8)
    for better, other in ((record, worse), (latent, record)):
        gain = log_scores(better, happened) - log_scores(other, happened)
        assert gain.mean() > 2 * gain.std() / np.sqrt(len(gain))


def test_record_oracle_sees_only_the_past(truth: Path, prompts: pl.DataFrame, oracle: Oracle) -> None:
    asked = prompts.head(40)
    events = pl.read_parquet(truth / "events.parquet")
    known = events.join(asked, on="life").filter(pl.col("time") <= pl.col("prediction_time")).drop("prediction_time")
    people = oracle.people.filter(pl.col("life").is_in(asked["life"].implode())).with_columns(
        death=pl.lit(None, pl.Datetime("us"))
    )
    empty = pl.DataFrame(schema={"life": pl.Int32})
    blind = Oracle(people, known, empty, empty, seed=11)
    full = Oracle(oracle.people, events, empty, empty, seed=11)
    keys = ["death", "type2_diabetes", "colorectal_cancer"]
    np.testing.assert_array_equal(
        blind.record_risks(asked, keys, (365,), draws=4), full.record_risks(asked, keys, (365,), draws=4)
    )


def test_the_dead_have_no_risk(oracle: Oracle) -> None:
    dead = oracle.people.drop_nulls("death").head(3)
    asked = dead.select("life", prediction_time=pl.col("death") + timedelta(days=1))
    assert (oracle.record_risks(asked, ["death", "stroke"], (365,), draws=2) == 0).all()


def test_workers_change_nothing(oracle: Oracle, prompts: pl.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lifechart.simulate.oracle.BLOCK", 15)
    asked = prompts.head(30)
    alone = oracle.record_risks(asked, ["death"], (365,), draws=2)
    np.testing.assert_array_equal(alone, oracle.record_risks(asked, ["death"], (365,), draws=2, workers=2))


def test_refusals(oracle: Oracle, prompts: pl.DataFrame, truth: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="keys"):
        oracle.record_risks(prompts, ["ennui"], (365,))
    with pytest.raises(InputError, match="even"):
        oracle.record_risks(prompts, ["death"], (365,), draws=3)
    with pytest.raises(InputError, match="life"):
        oracle.latent_risks(prompts.with_columns(life=pl.lit(10**6)), ["death"], (365,))
    with pytest.raises(InputError, match="before birth"):
        oracle.latent_risks(prompts.with_columns(prediction_time=pl.lit(datetime(1800, 1, 1))), ["death"], (365,))
    about = orjson.loads((truth / "truth.json").read_bytes())
    (tmp_path / "truth.json").write_bytes(orjson.dumps({**about, "tables": "0" * 64}))
    with pytest.raises(IntegrityError, match=r"truth\.json"):
        Oracle.load(tmp_path)
