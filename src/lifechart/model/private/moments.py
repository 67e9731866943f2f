"""Moments to learn from, drawn for each patient from his own record alone, and their histories.

The plain fit shares a number of moments out over all lives, so one life's share depends on the others'. Here the rate
is a public constant: a moment in so many years of observation, and one in so many events.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lifechart.model.batches import question_features
from lifechart.model.questions import NUM_PLAIN, History, Labels, Questions, ask, history, label, num_columns, ragged
from lifechart.model.tokens import DAY_US, Tokens
from lifechart.model.vocabulary import QUANTILES, Vocabulary

_YEARS_EACH, _EVENTS_EACH = 14.0, 140.0
MOST = 12
"""Moments of one life at most, of either kind."""
PLAIN = (0, 2, 9)
"""Columns of the history that are learnt from, of those that every code has (see questions.history): presence, recent
count and mean level. Each further one widens what the noise falls on; the knots of values and the other columns lost
by it (docs/lab-notes)."""


@dataclass(frozen=True)
class Moments:
    """Questions sorted by patient, with all that is learnt from them. `first` [S + 1]: each patient's questions."""

    first: NDArray[np.int64]
    questions: Questions
    past: History
    features: NDArray[np.float32]
    labels: Labels

    def pick(self, patients: NDArray[np.int64]) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Labels, Tensor]:
        """Return history, features, labels and whose (place in `patients`) of the questions of some patients."""
        which, row = ragged(self.first[patients], self.first[patients + 1])
        bounds = np.append(self.past.offsets, len(self.past.column))
        _, entry = ragged(bounds[row], bounds[row + 1])
        sizes = np.diff(bounds)[row]
        offsets = np.cumsum(sizes) - sizes
        taken = Labels(*(getattr(self.labels, each.name)[row] for each in fields(Labels)))
        columns = torch.from_numpy(self.past.column[entry].astype(np.int64))
        read = (columns, torch.from_numpy(self.past.weight[entry]), torch.from_numpy(offsets))
        return read, torch.from_numpy(self.features[row]), taken, torch.from_numpy(which)

    def only(self, patients: NDArray[np.int64]) -> Moments:
        """Return the moments of some patients, who are numbered anew."""
        (column, weight, offsets), features, labels, which = self.pick(patients)
        _, row = ragged(self.first[patients], self.first[patients + 1])
        questions = Questions(which.numpy(), self.questions.micros[row], self.questions.stop[row])
        past = History(column.numpy().astype(np.int32), weight.numpy(), offsets.numpy(), self.past.token)
        first = np.searchsorted(questions.subject, np.arange(len(patients) + 1))
        return Moments(first, questions, past, features.numpy(), labels)


def joined(ours: Moments, more: Moments) -> Moments:
    """Return the moments of both, the patients of `more` after ours."""
    asked, held = len(ours.questions), len(ours.past.column)
    both = [(getattr(ours.labels, each.name), getattr(more.labels, each.name)) for each in fields(Labels)]
    return Moments(
        np.concatenate([ours.first, more.first[1:] + asked]),
        Questions(
            np.concatenate([ours.questions.subject, more.questions.subject + len(ours.first) - 1]),
            np.concatenate([ours.questions.micros, more.questions.micros]),
            np.concatenate([ours.questions.stop, more.questions.stop]),
        ),
        History(
            np.concatenate([ours.past.column, more.past.column]),
            np.concatenate([ours.past.weight, more.past.weight]),
            np.concatenate([ours.past.offsets, more.past.offsets + held]),
            ours.past.token,
        ),
        np.concatenate([ours.features, more.features]),
        Labels(*(np.concatenate(each) for each in both)),
    )


def draw_moments(tokens: Tokens, rng: np.random.Generator, share: float = 1.0) -> Questions:
    """Draw each life's moments, sorted by life; `share` of the usual number."""
    first_dated = tokens.starts[:-1] + tokens.num_static
    dated = first_dated < tokens.starts[1:]
    start = np.where(dated, tokens.micros[np.minimum(first_dated, len(tokens) - 1)], tokens.end)
    span = np.maximum(tokens.end - start, 0)
    room = (tokens.starts[1:] - first_dated) * (span > 0)

    def owners(expected: NDArray[np.float64]) -> NDArray[np.int64]:
        number = np.minimum(np.floor(expected * share + rng.random(len(expected))), MOST).astype(np.int64)
        return np.repeat(np.arange(len(expected)), number * (span > 0))

    by_time, by_event = owners(span / (DAY_US * 365.25 * _YEARS_EACH)), owners(room / _EVENTS_EACH)
    anywhere = start[by_time] + (rng.random(len(by_time)) * span[by_time]).astype(np.int64)
    at_event = tokens.micros[first_dated[by_event] + (rng.random(len(by_event)) * room[by_event]).astype(np.int64)]
    at_event += (rng.random(len(by_event)) * DAY_US).astype(np.int64)
    subject, micros = np.concatenate([by_time, by_event]), np.concatenate([anywhere, at_event])
    order = np.lexsort((micros, subject))
    order = order[micros[order] < tokens.end[subject[order]]]
    return ask(tokens, subject[order], micros[order])


def columns_read(vocabulary: Vocabulary) -> NDArray[np.bool_]:
    """Return which columns of the history are learnt from."""
    plain = np.zeros((len(vocabulary), NUM_PLAIN), dtype=bool)
    plain[:, PLAIN] = True
    every = num_columns(len(vocabulary), int((vocabulary.valued >= 0).sum()), len(QUANTILES))
    return np.concatenate([plain.ravel(), np.zeros(every - plain.size, dtype=bool)])


def prepare(tokens: Tokens, vocabulary: Vocabulary, questions: Questions) -> Moments:
    """Read the histories of questions sorted by life, the columns that are learnt from alone."""
    past = history(tokens, questions, vocabulary.valued, len(QUANTILES))
    kept = columns_read(vocabulary)[past.column]
    before = np.concatenate([[0], np.cumsum(kept)])
    read = History(past.column[kept].astype(np.int32), past.weight[kept], before[past.offsets], past.token[:0])
    return Moments(
        np.searchsorted(questions.subject, np.arange(tokens.num_subjects + 1)),
        questions,
        read,
        question_features(tokens, questions),
        label(tokens, questions, len(vocabulary.outcomes)),
    )
