"""What was known and what came of it, against a slow twin."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from lifechart.core.errors import InputError
from lifechart.model import questions
from lifechart.model.questions import (
    FACT_AGES,
    NUM_LEVELS,
    NUM_PLAIN,
    ask,
    ask_prompts,
    history,
    label,
    num_columns,
    sample_questions,
)
from lifechart.model.tokens import DAY_US, RECENT_DAYS, Tokens
from lifechart.model.usual import USUAL_AGES
from lifechart.model.vocabulary import QUANTILES, Vocabulary

KNOTS = len(QUANTILES)


def test_a_question_knows_exactly_what_lies_at_or_before_it(tokens: Tokens) -> None:
    questions = sample_questions(tokens, 8, np.random.default_rng(0))
    for subject, micros, stop in zip(questions.subject, questions.micros, questions.stop, strict=True):
        rows = np.arange(tokens.starts[subject], tokens.starts[subject + 1])
        known = tokens.static[rows] | (tokens.micros[rows] <= micros)
        assert known[: stop - rows[0]].all()
        assert not known[stop - rows[0] :].any()


def test_a_question_at_the_microsecond_of_an_event_knows_it_and_one_before_does_not(tokens: Tokens) -> None:
    row = tokens.starts[4] - 1
    at = np.array([tokens.micros[row], tokens.micros[row] - 1])
    stops = ask(tokens, np.array([3, 3]), at).stop
    assert stops[0] == row + 1
    assert stops[1] <= row


def test_labels_agree_with_a_plain_loop(tokens: Tokens, vocabulary: Vocabulary) -> None:
    questions = sample_questions(tokens, 3, np.random.default_rng(1))
    labels = label(tokens, questions, len(vocabulary.outcomes))
    for q, (subject, micros) in enumerate(zip(questions.subject, questions.micros, strict=True)):
        for outcome in range(len(vocabulary.outcomes)):
            rows = np.arange(tokens.starts[subject], tokens.starts[subject + 1])
            times = tokens.micros[rows[tokens.outcome[rows] == outcome]]
            later = times[times > micros]
            expected = (later.min() - micros) / DAY_US if len(later) else np.inf
            np.testing.assert_allclose(labels.days_to[q, outcome], expected, rtol=1e-6)
            assert labels.had[q, outcome] == (times <= micros).any()
        np.testing.assert_allclose(labels.observed[q], (tokens.end[subject] - micros) / DAY_US, rtol=1e-6)


def test_sampled_questions_estimate_a_known_hazard_without_bias(tokens: Tokens, vocabulary: Vocabulary) -> None:
    questions = sample_questions(tokens, 60, np.random.default_rng(2))
    labels = label(tokens, questions, len(vocabulary.outcomes))
    within_a_year = np.minimum(np.minimum(labels.days_to[:, 0], labels.observed), 365).sum()
    deaths = (labels.days_to[:, 0] <= np.minimum(labels.observed, 365)).sum()
    assert deaths / within_a_year * 365.25 == pytest.approx(0.02, rel=0.2)


def test_the_history_agrees_with_a_plain_loop(tokens: Tokens, vocabulary: Vocabulary) -> None:
    questions = sample_questions(tokens, 0.3, np.random.default_rng(3))
    valued = vocabulary.valued
    past = history(tokens, questions, valued, KNOTS)
    width = num_columns(len(vocabulary), int((valued >= 0).sum()), KNOTS)
    ends = np.append(past.offsets[1:], len(past.column))
    for q in range(len(questions)):
        dense = np.zeros(width)
        np.add.at(dense, past.column[past.offsets[q] : ends[q]], past.weight[past.offsets[q] : ends[q]])
        rows = np.arange(tokens.starts[questions.subject[q]], questions.stop[q])
        expected = np.zeros(width)
        for code in np.unique(tokens.code[rows]):
            mine = rows[tokens.code[rows] == code]
            years = (questions.micros[q] - tokens.micros[mine]) / DAY_US / 365.25
            dated = not tokens.static[mine[0]]
            age = questions.micros[q] / DAY_US / 365.25
            if dated:
                plain = [np.log1p(np.exp(-years).sum()), np.exp(-12 * years[-1]), np.exp(-3 * years[-1])]
                plain += [np.log1p(years[0]) / 3, np.log1p(years[-1]) / 3]
                by_age = [(age - 50) / 30, (age - 50) / 30 * np.log(len(mine))]
            else:
                knots = np.array(FACT_AGES)
                basis = [np.interp(age, knots, np.eye(len(knots))[k]) for k in range(len(knots))]
                plain, by_age = basis[:5], basis[5:]
            start = code * NUM_PLAIN
            expected[start : start + 7] = [1, np.log(len(mine)), *plain]
            expected[start + 11 : start + 13] = by_age
            if valued[code] >= 0:
                levels = tokens.level[mine]
                fade = np.exp((tokens.micros[mine] - tokens.micros[mine[-1]]) / DAY_US / RECENT_DAYS)
                trust = len(mine) / (len(mine) + 1.5)
                scaled = [(levels[-1] - levels.mean()) / 3, levels[-1] / 4 - 1, (levels.mean() / 4 - 1) * trust]
                scaled += [(levels * fade).sum() / fade.sum() / 4 - 1]
                expected[start + 7 : start + 11] = scaled
                ages = tokens.micros[mine] / DAY_US / 365.25
                excess = levels - np.interp(ages, USUAL_AGES, vocabulary.usual[code])
                shrunk = [excess.mean() / 4 * len(mine) / (len(mine) + doubt) for doubt in (1.5, 6)]
                expected[start + 13 : start + 16] = [excess[-1] / 4, *shrunk]
                base = len(vocabulary) * NUM_PLAIN + valued[code] * NUM_LEVELS * KNOTS
                for place, value in enumerate((levels[-1], levels.mean(), levels.min(), levels.max())):
                    hats = np.maximum(0, 1 - np.abs(value - np.arange(KNOTS)))
                    expected[base + place * KNOTS : base + (place + 1) * KNOTS] = hats
        np.testing.assert_allclose(dense, expected, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 50, 700])
def test_a_history_worked_out_in_slices_is_the_same(
    tokens: Tokens, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    put = sample_questions(tokens, 4, np.random.default_rng(1))
    put = put.take(np.random.default_rng(2).permutation(len(put)))
    whole = history(tokens, put, vocabulary.valued, KNOTS)
    monkeypatch.setattr(questions, "_ROWS_AT_ONCE", rows)
    sliced = history(tokens, put, vocabulary.valued, KNOTS)
    for name in ("column", "weight", "offsets", "token"):
        np.testing.assert_array_equal(getattr(sliced, name), getattr(whole, name), err_msg=name)


def test_nothing_asked_has_no_history(tokens: Tokens, vocabulary: Vocabulary) -> None:
    none = sample_questions(tokens, 4, np.random.default_rng(1)).take(np.zeros(0, dtype=np.int64))
    assert len(history(tokens, none, vocabulary.valued, KNOTS).column) == 0


def test_a_prompt_for_somebody_without_events_is_refused(tokens: Tokens) -> None:
    prompt = pl.DataFrame({"subject_id": [987_654], "prediction_time": [0]}).with_columns(
        pl.col("prediction_time").cast(pl.Datetime("us"))
    )
    with pytest.raises(InputError, match="subject_id"):
        ask_prompts(tokens, prompt)


def test_many_long_records_are_sampled_evenly(tokens: Tokens) -> None:
    """The microseconds of some thousand lives together do not fit in 64 bits."""
    far = replace(tokens, end=np.full(tokens.num_subjects, 2**61), window=np.full(tokens.num_subjects, 2**61))
    questions = sample_questions(far, 8, np.random.default_rng(4))
    assert len(questions) == pytest.approx(8 * tokens.num_subjects, rel=0.1)
