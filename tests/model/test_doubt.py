"""What a twin of half the patients tells of the whole model's error, and what intervals are made of it."""

from dataclasses import fields, replace

import numpy as np
import polars as pl
import pytest

from lifechart.model.calibration import TAILS, around
from lifechart.model.doubt import LEAST, MOST, excess_loss, of_subjects
from lifechart.model.first_stage import Lesson
from lifechart.model.fit import Recipe, base_rates
from lifechart.model.forecaster import NetworkForecaster
from lifechart.model.tokens import Tokens, tokenise
from lifechart.model.vocabulary import Vocabulary


def test_tokens_of_some_subjects_are_those_of_their_events_alone(
    events: pl.DataFrame, tokens: Tokens, vocabulary: Vocabulary
) -> None:
    chosen = np.array([0, 3, 4, 17, 399])
    mine = of_subjects(tokens, chosen)
    alone = tokenise(events.filter(pl.col("subject_id").is_in(tokens.subject_ids[chosen].tolist())), vocabulary)
    for each in fields(Tokens):
        if each.name not in ("items", "row"):
            np.testing.assert_array_equal(getattr(mine, each.name), getattr(alone, each.name), each.name)


def test_fewer_patients_leave_more_to_lose(
    forecaster: NetworkForecaster, tokens: Tokens, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lifechart.model.first_stage.LEAST_STEPS", 60)
    monkeypatch.setattr("lifechart.model.first_stage.LEAST_EPOCHS", 1)
    head, recipe = forecaster.model.network.hazards, Recipe()
    start = base_rates(tokens, len(vocabulary.outcomes), 0)

    def excess(some: Tokens) -> np.ndarray:
        lesson = Lesson(some, vocabulary, recipe.recurrence_weight, recipe.prior)
        return excess_loss(head, start, lesson, tokens, 0)

    whole, few = excess(tokens), excess(of_subjects(tokens, np.arange(30)))
    assert whole.shape == (3,)
    assert ((whole >= LEAST) & (few <= MOST)).all()
    assert few.mean() > 1.5 * whole.mean()
    assert not head.training
    assert not any(each.requires_grad for each in head.parameters())


def test_bounds_hold_the_risk_widen_with_doubt_and_lie_where_the_tails_say(forecaster: NetworkForecaster) -> None:
    plain = forecaster.model.calibration
    state = np.random.default_rng(0).normal(size=(50, len(plain.state_mean))).astype(np.float32)
    risk = np.random.default_rng(1).uniform(0, 1, (50, 3, 4)).astype(np.float32)
    expected = around(risk, plain.errors(state)[:, :, None])
    for ours, theirs in zip(plain.bounds(risk, state), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    usual = np.full(3, 1e9, np.float32)
    widths = []
    for doubt in (0.05, 0.5):
        calibration = replace(plain, usual_error=usual, doubt=np.full(3, doubt, np.float32))
        low, high = calibration.bounds(risk, state)
        assert ((low <= risk) & (risk <= high) & (low >= 0) & (high <= 1)).all()
        widths.append((high - low).mean())
        # With nothing of the last layer's own, the spread is that of the excess loss, but for the part left out.
        usual_risk = (risk > 0.01) & (risk < 0.9)
        moved = np.log(np.log1p(-low[usual_risk]) / np.log1p(-risk[usual_risk]))
        np.testing.assert_allclose(moved, TAILS[0] * np.sqrt(2 * doubt * 0.8), rtol=2e-3)
    assert widths[1] > widths[0]


def test_who_is_unusual_to_the_last_layer_has_the_wider_interval(forecaster: NetworkForecaster) -> None:
    plain = forecaster.model.calibration
    calibration = replace(plain, doubt=np.full(3, 0.3, np.float32))
    near, far = (np.full((1, len(plain.state_mean)), value, np.float32) for value in (0.0, 4.0))
    risk = np.full((1, 3, 4), 0.1, np.float32)
    assert (calibration.bounds(risk, far)[1] > calibration.bounds(risk, near)[1]).all()
