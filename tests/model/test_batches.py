"""Records into rows of like length: every window once, no part over its size."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from lifechart.model.batches import Collator, alike, cut, in_groups, padded, padded_rows
from lifechart.model.questions import sample_questions
from lifechart.model.tokens import Tokens
from lifechart.model.vocabulary import Vocabulary


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 200))
def test_parts_hold_every_window_once_and_keep_to_their_size(sizes: list[int], most: int) -> None:
    array = np.array(sizes)
    parts = alike(array, np.arange(len(sizes)), most)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(sizes)))
    assert all(len(part) == 1 or len(part) * padded(array[part].max()) <= most for part in parts)
    longest = [array[part].max() for part in parts]
    assert longest == sorted(longest, reverse=True)


@given(st.integers(1, 5000))
def test_few_shapes_hold_everything(number: int) -> None:
    assert number <= padded(number) <= max(16, 2 * number)
    assert number <= padded_rows(number) < 2 * number
    assert len({padded(size) for size in range(1, 1025)}) == 12
    assert len({padded_rows(rows) for rows in range(1, 65)}) == 12


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_groups_keep_the_order_and_lose_nothing(sizes: list[int]) -> None:
    order = np.random.default_rng(0).permutation(len(sizes))
    groups = list(in_groups(np.array(sizes), order, 64))
    assert np.concatenate(groups).tolist() == order.tolist()


def test_windows_fit_the_context_and_show_each_question_half_of_it_at_least(tokens: Tokens) -> None:
    questions = sample_questions(tokens, 10, np.random.default_rng(0))
    for context in (16, 32, 64):
        windows = cut(tokens, questions, context)
        assert (windows.sizes <= context).all()
        mine = windows.of_question
        assert (windows.subject[mine] == questions.subject).all()
        assert (questions.stop <= windows.last[mine]).all()
        shown = questions.stop - windows.first[mine] + windows.lead[mine]
        known = questions.stop - tokens.starts[questions.subject]
        assert (shown >= np.minimum(known, context // 2)).all()


def test_each_question_looks_from_its_own_last_known_event(tokens: Tokens, vocabulary: Vocabulary) -> None:
    questions = sample_questions(tokens, 6, np.random.default_rng(1))
    windows = cut(tokens, questions, 32)
    collator = Collator(vocabulary, 32, torch.device("cpu"))
    answered = []
    for group in in_groups(windows.sizes, np.arange(len(windows.first)), 1000):
        batch, asked = collator.batch(tokens, questions, windows, group)
        last = questions.stop[asked] - 1
        assert batch.events.code.flatten()[batch.cell_Q].tolist() == tokens.code[last].tolist()
        np.testing.assert_allclose(batch.days_RT.flatten()[batch.cell_Q].numpy(), tokens.days[last])
        answered.append(asked)
    assert sorted(np.concatenate(answered).tolist()) == list(range(len(questions)))
