"""What one patient can change: in a noisy sum at most 1, in a gradient at most the clip; and a run end to end."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lifechart.core.errors import InputError
from lifechart.core.settings import Settings
from lifechart.data import shards
from lifechart.ledger.log import open_log
from lifechart.model.checkpoint import load_model
from lifechart.model.forecaster import load_forecaster
from lifechart.model.heads import HazardHead
from lifechart.model.inference import Told
from lifechart.model.network import NUM_QUESTION_FEATURES
from lifechart.model.private import audit as auditing
from lifechart.model.private.canaries import train_twin
from lifechart.model.private.learn import RANK, PrivateFitter
from lifechart.model.private.lot import Lot
from lifechart.model.private.moments import draw_moments, prepare
from lifechart.model.private.plan import Plan, plan
from lifechart.model.private.recalibration import distance_parts, outcome_parts
from lifechart.model.private.statistics import (
    Noises,
    _noisy_names,
    private_rates,
    private_vocabulary,
    rate_parts,
    threshold,
)
from lifechart.model.private.train import train_private
from lifechart.model.questions import label, num_columns
from lifechart.model.tokens import Tokens, tokenise
from lifechart.model.vocabulary import QUANTILES, Vocabulary
from tests.model.clinic import SICK, STROKE, TEST, clinic
from tests.model.test_train import scattered

LITTLE = Noises(0.3, 0.3, 0.3, 1e-7)
KEY = bytes(range(32))
LIGHT = Plan(50.0, 1e-6, 0.3, 25, 10.0, 0.3, LITTLE, 0.5)


class Silent(Lot):
    """A lot without noise, so that sums can be compared."""

    def normal(self, size: int) -> np.ndarray:
        """Return nothing but zeros."""
        return np.zeros(size)


def _fitter(tokens: Tokens, vocabulary: Vocabulary, of: Plan = LIGHT) -> PrivateFitter:
    torch.manual_seed(0)
    base = private_rates(tokens, len(vocabulary.outcomes), LITTLE, Silent()).base
    columns = num_columns(len(vocabulary), int((vocabulary.valued >= 0).sum()), len(QUANTILES))
    head = HazardHead(1, NUM_QUESTION_FEATURES, columns, RANK, base, 0.0)
    moments = prepare(tokens, vocabulary, draw_moments(tokens, np.random.default_rng(0)))
    return PrivateFitter(head, vocabulary, moments, of, tokens.num_subjects, Lot(KEY))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 100.0))
def test_no_patient_changes_a_sum_of_gradients_by_more_than_the_clip(
    vocabulary: Vocabulary, seed: int, clip: float
) -> None:
    fitter = _fitter(tokenise(clinic(12, seed), vocabulary), vocabulary, replace(LIGHT, clip=clip))
    everybody = np.arange(len(fitter.moments.first) - 1)
    whole = fitter.clipped_sum(everybody)
    for gone in (0, len(everybody) // 2):
        without = fitter.clipped_sum(np.delete(everybody, gone))
        change = math.sqrt(sum(float((a - b).square().sum()) for a, b in zip(whole, without, strict=True)))
        assert change <= clip + 1e-5


def test_a_gradient_that_is_no_number_counts_nothing(vocabulary: Vocabulary, tokens: Tokens) -> None:
    fitter = _fitter(tokens, vocabulary)
    asked = np.flatnonzero(np.diff(fitter.moments.first))[:6]
    spoilt = int(fitter.moments.first[asked[0]])
    fitter.moments.features[spoilt] = np.nan
    for with_him, without in zip(fitter.clipped_sum(asked), fitter.clipped_sum(asked[1:]), strict=True):
        torch.testing.assert_close(with_him, without, rtol=1e-4, atol=1e-5)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_no_patient_gives_more_than_1_to_a_sum_of_rates_or_of_calibration(vocabulary: Vocabulary, seed: int) -> None:
    tokens = tokenise(clinic(20, seed), vocabulary)
    rng = np.random.default_rng(seed)
    outcomes = len(vocabulary.outcomes)
    questions = draw_moments(tokens, rng, 3.0)
    shape = (len(questions), outcomes, 4)
    told = Told(
        rng.normal(-8, 6, shape).astype(np.float32),
        rng.normal(0, 9, (len(questions), 3)).astype(np.float32),
        label(tokens, questions, outcomes).had,
    )
    labels = label(tokens, questions, outcomes)
    parts = [
        rate_parts(tokens, outcomes),
        outcome_parts(told, labels, questions.subject, tokens.num_subjects, np.full(outcomes, -8.0)),
        distance_parts(told.state, questions.subject, tokens.num_subjects, np.zeros(3), np.eye(3)),
    ]
    for part in parts:
        assert np.linalg.norm(part, axis=1).max() <= 1 + 1e-9


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000))
def test_no_patient_changes_the_sum_of_names_by_more_than_1(seed: int) -> None:
    rows = clinic(15, seed).filter(pl.col("code") != "MEDS_BIRTH").select(
        "subject_id", token="code", scale=pl.lit(None, pl.String), onset=pl.lit(False)
    )  # fmt: skip
    all_told = Noises(1e-9, 1.0, 1.0, 0.5)

    def sums(frame: pl.DataFrame) -> dict[str, float]:
        return dict(_noisy_names(frame.with_columns(copy=1), all_told, Silent()).select("token", "noisy").iter_rows())

    monkey = pytest.MonkeyPatch()
    monkey.setattr("lifechart.model.private.statistics.threshold", lambda noises: 0.0)
    try:
        whole, without = sums(rows), sums(rows.filter(pl.col("subject_id") != 3))
    finally:
        monkey.undo()
    change = [whole[name] - without.get(name, 0.0) for name in whole]
    assert math.sqrt(sum(each**2 for each in change)) <= 1 + 1e-9


def test_what_one_patient_alone_holds_is_not_told() -> None:
    events = clinic(400, 1)
    alone = events.head(1).with_columns(code=pl.lit("LOINC//only-his"), kind=pl.lit("survey"))
    found = private_vocabulary(pl.concat([events, alone]), LITTLE, Lot(KEY))
    assert "LOINC//only-his" not in found.rows
    assert TEST in found.rows
    assert threshold(LITTLE) > 1.0


def test_noisy_scales_lie_near_the_true_ones(vocabulary: Vocabulary) -> None:
    found = private_vocabulary(clinic(400, 1), LITTLE, Lot(KEY))
    assert found.units[found.rows[TEST]] == "mg/dL"
    knots, true = found.knots[found.rows[TEST]], vocabulary.knots[vocabulary.rows[TEST]]
    assert np.abs(knots - true)[1:-1].max() < 4.0
    assert {SICK, STROKE, "MEDS_DEATH"} <= set(found.outcomes)


def test_a_plan_spends_what_it_may() -> None:
    made = plan(3.0, 1e-6, 0.2, 20)
    training, tuning = made.spent
    assert 2.9 < training <= 3.0
    assert 2.9 < tuning <= 3.0
    for epsilon, delta in ((0.0, 1e-6), (1.0, 0.1), (1.0, 1e-15)):
        with pytest.raises(InputError):
            plan(epsilon, delta)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("private") / "dataset"
    shards.write_dataset(folder, scattered(clinic(500, seed=1)), {SICK: "Sickness"})
    return folder


def test_a_run_promises_in_ledger_and_configuration_and_forecasts(dataset: Path, tmp_path: Path) -> None:
    log = open_log(Settings(home=tmp_path / "home"))
    made = [train_private(dataset, tmp_path / name, LIGHT, seed=3, log=log) for name in ("a", "b")]
    assert made[0].digest != made[1].digest, "the seed must not decide the noise"
    statement = (
        log.entries()[0].statement.predicate
        if isinstance(log.entries(), list)
        else next(iter(log.entries())).statement.predicate
    )
    assert statement["privacy"]["spent"]["train"] == pytest.approx(LIGHT.spent[0])
    assert "events" not in statement, "a count of what was learnt from would be a count of somebody's record"
    assert load_model(tmp_path / "a").config["privacy"]["noise"] == LIGHT.noise
    events = shards.read_split(dataset, "held_out")
    prompts = events.drop_nulls("time").group_by("subject_id").agg(prediction_time=pl.col("time").median()).drop_nulls()
    risks = load_forecaster(tmp_path / "a").risks(events, prompts)
    assert np.isfinite(risks).all()
    assert (risks > 0).all()
    found = auditing.audit(tmp_path / "a", dataset, tmp_path / "audit", canaries=0, seed=0, log=log)
    assert found.by_loss.low <= found.by_loss.auroc <= found.by_loss.high
    assert (tmp_path / "audit" / auditing.FILE).exists()


def test_an_audit_tells_a_run_from_one_whose_noise_is_switched_off(vocabulary: Vocabulary, tokens: Tokens) -> None:
    events = clinic(300, 7)
    base = private_rates(tokens, len(vocabulary.outcomes), LITTLE, Lot(KEY)).base
    honest = plan(1.0, 1e-6, 0.2, 20)
    found = [
        auditing.findings_of(train_twin(events, vocabulary, base, each, 120, 0, Lot(KEY)), 1e-6)
        for each in (honest, replace(honest, noise=0.0))
    ]
    assert found[0].within(1.0)
    assert not found[1].within(1.0)
    assert found[1].proven > 1.0
    assert math.isinf(found[1].estimated)
    assert found[1].exposure_in > found[1].exposure_out


def test_an_epsilon_without_private_is_refused_and_so_are_options_that_a_private_run_has_not(tmp_path: Path) -> None:
    from lifechart.cli.stages import train as verb

    with pytest.raises(InputError, match="--private"):
        verb(tmp_path, tmp_path / "out", epsilon=1.0)
    with pytest.raises(InputError, match="--epochs"):
        verb(tmp_path, tmp_path / "out", private=True, epochs=3)
