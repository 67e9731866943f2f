"""The forecaster keeps the contract of core.forecast: bulk and bedside agree, drivers are exact."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from lifechart.core.errors import InputError
from lifechart.core.forecast import Forecaster
from lifechart.core.timeline import COLUMNS, Timeline
from lifechart.model.checkpoint import model_digest
from lifechart.model.forecaster import NetworkForecaster, load_forecaster
from lifechart.model.questions import ask_prompts, label
from lifechart.model.tokens import tokenise
from tests.model.clinic import SICK, STROKE, VISIT, clinic


@pytest.fixture(scope="module")
def held_out() -> pl.DataFrame:
    return clinic(600, seed=9, start=50_000)


@pytest.fixture(scope="module")
def prompts(held_out: pl.DataFrame) -> pl.DataFrame:
    """The fourth visit: a moment that is chosen without looking at what comes after it."""
    visits = held_out.filter(pl.col("code") == VISIT).filter(pl.int_range(pl.len()).over("subject_id") == 3)
    return visits.select("subject_id", prediction_time="time")


def chart(events: pl.DataFrame, subject: int) -> Timeline:
    return Timeline.of(subject, events.filter(pl.col("subject_id") == subject).drop("subject_id"))


def test_it_keeps_the_contract(forecaster: NetworkForecaster) -> None:
    assert isinstance(forecaster, Forecaster)
    assert forecaster.horizons == (30, 90, 365, 1825)
    assert forecaster.outcomes == ("MEDS_DEATH", SICK, STROKE)


def test_nothing_after_a_prompt_changes_its_answer(
    forecaster: NetworkForecaster, held_out: pl.DataFrame, prompts: pl.DataFrame
) -> None:
    risks = forecaster.risks(held_out, prompts)
    known = held_out.join(prompts, on="subject_id").filter(
        pl.col("time").is_null() | (pl.col("time") <= pl.col("prediction_time"))
    )
    np.testing.assert_allclose(forecaster.risks(known.drop("prediction_time"), prompts), risks, rtol=2e-3, atol=1e-6)


def test_several_prompts_of_one_life_are_answered_as_if_each_were_alone(
    forecaster: NetworkForecaster, held_out: pl.DataFrame
) -> None:
    visits = held_out.filter(pl.col("code") == VISIT).select("subject_id", prediction_time="time").head(60)
    together = forecaster.risks(held_out, visits)
    alone = np.concatenate([forecaster.risks(held_out, visits[i : i + 1]) for i in range(0, 60, 7)])
    np.testing.assert_allclose(together[::7], alone, rtol=2e-3, atol=1e-6)
    backwards = forecaster.risks(held_out, visits.reverse())
    np.testing.assert_allclose(together, backwards[::-1], rtol=2e-3, atol=1e-6)


def test_one_chart_and_the_bulk_agree(
    forecaster: NetworkForecaster, held_out: pl.DataFrame, prompts: pl.DataFrame
) -> None:
    risks = forecaster.risks(held_out, prompts)
    for i in (0, 11, 200):
        subject, moment = prompts.row(i)
        forecast = forecaster.forecast(chart(held_out, subject), moment)
        told = np.array([each.probability for each in forecast.risks]).reshape(risks[i].shape)
        np.testing.assert_allclose(told, risks[i], rtol=2e-3, atol=1e-6)
        assert 0 <= forecast.novelty <= 1
        assert forecast.model_digest == forecaster.digest


def test_a_moved_life_gets_the_same_forecast(forecaster: NetworkForecaster, held_out: pl.DataFrame) -> None:
    subject = int(held_out["subject_id"][0])
    life = chart(held_out, subject)
    moment = life.events["time"].drop_nulls()[3]
    offset = timedelta(days=-7123)
    one = forecaster.forecast(life, moment)
    two = forecaster.forecast(life.shifted(offset), moment + offset)
    assert [risk.probability for risk in one.risks] == [risk.probability for risk in two.risks]


def test_it_tells_the_sick_to_be_from_the_others(
    forecaster: NetworkForecaster, held_out: pl.DataFrame, prompts: pl.DataFrame
) -> None:
    risks = forecaster.risks(held_out, prompts)[:, :, 3]
    tokens = tokenise(held_out, forecaster.model.vocabulary)
    labels = label(tokens, ask_prompts(tokens, prompts), 3)
    came = labels.days_to <= np.minimum(labels.observed[:, None], 1825)
    known = (labels.window[:, None] >= 1825) & ~labels.had
    for outcome, least in ((1, 0.68), (2, 0.6)):
        chosen = known[:, outcome]
        assert roc_auc_score(came[chosen, outcome], risks[chosen, outcome]) > least
    for outcome in range(3):
        chosen = known[:, outcome]
        assert risks[chosen, outcome].mean() == pytest.approx(came[chosen, outcome].mean(), rel=0.35)


def test_drivers_are_what_leaving_the_event_out_does(forecaster: NetworkForecaster, held_out: pl.DataFrame) -> None:
    sick = held_out.filter(pl.col("code") == SICK)
    subject, moment = sick.select("subject_id", "time").row(0)
    moment += timedelta(days=10)
    known = chart(held_out, subject).until(moment)
    risk = forecaster.forecast(known, moment).risk(STROKE, 1825)
    driver = next(each for each in risk.drivers if each.code == SICK)
    assert known.events["code"][driver.position] == SICK
    assert driver.effect > 0
    rest = known.events.with_row_index("n").filter(pl.col("n") != driver.position).drop("n")
    without = forecaster.forecast(Timeline.of(subject, rest), moment).risk(STROKE, 1825)
    change = np.log(-np.log1p(-risk.probability)) - np.log(-np.log1p(-without.probability))
    assert driver.effect == pytest.approx(change, abs=0.15)


def test_a_changed_byte_changes_the_digest(model_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in model_folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert model_digest(copy) == model_digest(model_folder)
    config = copy / "config.json"
    config.write_bytes(config.read_bytes().replace(b'"seed": 0', b'"seed": 1'))
    assert load_forecaster(copy).digest != model_digest(model_folder)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"weights\.npz"):
        load_forecaster(tmp_path)


def test_a_chart_without_events_is_refused(forecaster: NetworkForecaster) -> None:
    with pytest.raises(InputError, match="timeline"):
        forecaster.forecast(Timeline.of(1, pl.DataFrame(schema=dict(COLUMNS))), datetime(2020, 1, 1))
