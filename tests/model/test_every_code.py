"""Time to the first event of any code or group, within any number of days."""

import numpy as np
import polars as pl
import pytest
from scipy.integrate import quad

from lifechart.core.errors import InputError
from lifechart.core.timeline import DEATH
from lifechart.model.first_event import first_event_risks
from lifechart.model.fit_codes import first_events
from lifechart.model.forecaster import NetworkForecaster
from lifechart.model.heads import cumulative_incidence, incidence_within
from lifechart.model.questions import EDGES, sample_questions
from lifechart.model.tokens import DAY_US, Tokens, tokenise
from lifechart.model.vocabulary import Vocabulary
from tests.model.clinic import SICK, STROKE, TEST, VISIT


def test_incidence_within_any_days_joins_the_edges_and_is_the_integral() -> None:
    log_hazard = np.random.default_rng(0).normal(-6.5, 1.0, (6, 3, 4)).astype(np.float32)
    hazard, death = np.exp(log_hazard), np.exp(log_hazard[:, 0])
    is_death = np.array([True, False, False])
    at_edges = incidence_within(hazard, death, is_death, np.array(EDGES[1:]))
    np.testing.assert_allclose(at_edges, cumulative_incidence(log_hazard, 0), rtol=1e-4)
    days = np.array([1.0, 45.0, 200.0, 1000.0])
    found = incidence_within(hazard, death, is_death, days)

    def at(row: np.ndarray, day: float) -> float:
        return float(row[min(np.searchsorted(EDGES[1:], day, side="left"), 3)])

    def alive(q: int, c: int, day: float) -> float:
        passed = np.clip(day - np.array(EDGES[:-1]), 0, np.diff(EDGES))
        return float(np.exp(-((hazard[q, c] + (0 if c == 0 else death[q])) * passed).sum()))

    for q, c, h in ((0, 0, 1), (1, 1, 2), (5, 2, 3), (2, 1, 0)):
        inside = [edge for edge in EDGES[1:] if edge < days[h]]
        expected, _ = quad(lambda day, q=q, c=c: at(hazard[q, c], day) * alive(q, c, day), 0, days[h], points=inside)
        assert found[q, c, h] == pytest.approx(expected, rel=1e-3)


def test_first_events_equal_their_slow_twin(later_events: pl.DataFrame, vocabulary: Vocabulary) -> None:
    tokens = tokenise(later_events, vocabulary)
    questions = sample_questions(tokens, 1.0, np.random.default_rng(0)).take(np.arange(40))
    days, had = first_events(tokens, questions, vocabulary)
    for q in range(len(questions)):
        subject, asked, stop = questions.subject[q], questions.micros[q], questions.stop[q]
        expected = np.full(len(vocabulary), np.inf)
        came = np.zeros(len(vocabulary), bool)
        for row in range(tokens.starts[subject], tokens.starts[subject + 1]):
            for code in {int(tokens.code[row]), *vocabulary.parents[tokens.code[row]].tolist()} - {-1}:
                came[code] |= row < stop
                ahead = (tokens.micros[row] - asked) / DAY_US
                if row >= stop and ahead <= EDGES[-1]:
                    expected[code] = min(expected[code], ahead)
        np.testing.assert_allclose(days[q], expected, rtol=1e-4, atol=1e-3)
        np.testing.assert_array_equal(had[q], came)


def prompts_of(tokens: Tokens, number: int) -> tuple[pl.DataFrame, np.ndarray]:
    """Prompts in records that have begun and go on for a year, and which codes came within it."""
    questions = sample_questions(tokens, 4.0, np.random.default_rng(1))
    open_ = (tokens.window[questions.subject] - questions.micros) / DAY_US > 365
    questions = questions.take(np.flatnonzero(open_ & ~tokens.static[questions.stop - 1])[:number])
    moment = pl.Series(tokens.origin[questions.subject] + questions.micros).cast(pl.Datetime("us"))
    prompts = pl.DataFrame({"subject_id": tokens.subject_ids[questions.subject], "prediction_time": moment})
    return prompts, questions


def test_every_code_and_group_is_forecast_within_any_days(
    forecaster: NetworkForecaster, later_events: pl.DataFrame, vocabulary: Vocabulary
) -> None:
    tokens = tokenise(later_events, vocabulary)
    prompts, questions = prompts_of(tokens, 600)
    wanted = [VISIT, TEST, "ENCOUNTER//*", SICK, DEATH, (SICK, STROKE)]
    risks = first_event_risks(forecaster, later_events, prompts, wanted, [100.0, 365.0, 730.0])
    assert risks.shape == (len(questions), 6, 3)
    assert (np.diff(risks, axis=2) > 0).all()
    came, _ = first_events(tokens, questions, vocabulary)
    for number, code in enumerate(wanted[:3]):
        # Visits come to the day a year apart: hazards that are constant from day 90 to 365 follow that only roughly.
        observed = (came[:, vocabulary.rows[code]] <= 365).mean()
        assert risks[:, number, 1].mean() == pytest.approx(observed, abs=0.15), code
    # The outcomes' own head answers for them, and a set is at least as likely as either of it.
    np.testing.assert_allclose(
        risks[:, 3, 1], forecaster.risks(later_events, prompts)[:, vocabulary.outcomes.index(SICK), 2], rtol=1e-3
    )
    assert (risks[:, 5] >= risks[:, 3]).all()


@pytest.mark.parametrize(("code", "days", "key"), [("NONE//1", 30.0, "code"), (VISIT, 5000.0, "days")])
def test_what_was_not_learnt_is_refused(
    forecaster: NetworkForecaster, later_events: pl.DataFrame, code: str, days: float, key: str
) -> None:
    prompts = later_events.drop_nulls("time").group_by("subject_id").agg(prediction_time=pl.col("time").max()).head(2)
    with pytest.raises(InputError, match=key):
        first_event_risks(forecaster, later_events, prompts, [code], [days])
