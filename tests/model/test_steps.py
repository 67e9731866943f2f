"""What the next-event head learns from: every event once, deaths within a visit too, nothing after them."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
import torch

from lifechart.core.timeline import DEATH
from lifechart.model.batches import Collator, cut, in_groups
from lifechart.model.questions import sample_questions
from lifechart.model.steps import place_steps
from lifechart.model.tokens import DAY_US, Tokens, tokenise
from lifechart.model.vocabulary import Vocabulary
from tests.model.clinic import SCHEMA, SICK, TEST, VISIT

BORN = datetime(1950, 1, 1)


def steps_of(tokens: Tokens, vocabulary: Vocabulary):
    rows = np.arange(len(tokens))
    before_all = (np.zeros(1, np.int64), np.full(1, -DAY_US, np.int64))
    return place_steps(tokens, vocabulary, rows, rows, rows * 0, before_all, rows * 0)


def test_a_death_at_the_time_of_a_visit_is_learnt_and_nothing_after_it(vocabulary: Vocabulary) -> None:
    day = [BORN + timedelta(days=number) for number in (0, 9000, 9400)]
    rows = [
        (1, day[0], "MEDS_BIRTH", "demographic"), (1, day[1], VISIT, "encounter"), (1, day[2], VISIT, "encounter"),
        (1, day[2], TEST, "laboratory"), (1, day[2], DEATH, "death"), (1, day[2], SICK, "condition"),
    ]  # fmt: skip
    events = pl.DataFrame(
        [(who, when, code, None, None, None, kind) for who, when, code, kind in rows], SCHEMA, orient="row"
    )
    steps = steps_of(tokenise(events, vocabulary), vocabulary)
    names = [vocabulary.codes[code] for code in steps.code]
    assert names == [VISIT, TEST, DEATH]
    assert steps.same.tolist() == [False, True, True]
    assert steps.followed.all()
    assert steps.until[0] == pytest.approx(400.0)


def test_every_death_and_every_silence_is_learnt_once(tokens: Tokens, vocabulary: Vocabulary) -> None:
    steps = steps_of(tokens, vocabulary)
    died = int((tokens.code == vocabulary.rows[DEATH]).sum())
    assert (steps.code[steps.followed] == vocabulary.rows[DEATH]).sum() == died
    assert (~steps.followed).sum() <= tokens.num_subjects - died
    assert (steps.until >= steps.since).all()


def test_batches_show_each_event_in_one_window_and_never_an_anchor_from_after_it(
    tokens: Tokens, vocabulary: Vocabulary
) -> None:
    collator = Collator(vocabulary, 32, torch.device("cpu"), stride=1)
    questions = sample_questions(tokens, 12.0, np.random.default_rng(0))
    windows = cut(tokens, questions, 32, whole=True)
    seen: list[int] = []
    for group in in_groups(windows.sizes, np.arange(len(windows.first)), 2048):
        batch, asked = collator.batch(tokens, questions, windows, group)
        steps = batch.steps
        assert steps is not None
        place = np.flatnonzero(steps.fresh)
        micros = (batch.days_RT.numpy().reshape(-1)[steps.cell] * DAY_US).astype(np.int64)
        age = steps.anchor_days * DAY_US
        assert (steps.anchor_days >= 0).all()
        # Days are held in 32 bits: a few minutes in a life.
        np.testing.assert_allclose(questions.micros[asked][steps.anchor][place] + age[place], micros[place], atol=6e8)
        rows = questions.subject[asked][steps.anchor[place]] * 100_000 + batch.place_RT.numpy().reshape(-1)[
            steps.cell[place]
        ].astype(np.int64)
        seen += rows.tolist()
    assert len(seen) == len(set(seen))
    assert len(seen) > 0.8 * (~tokens.static).sum() * 0.9
