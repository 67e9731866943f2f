"""From token arrays and questions to packed batches: windows of long records, rows that patients share, tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from lifechart.model.encoders.event import DAYS_A_YEAR, age_basis, event_arrays
from lifechart.model.modalities import attach
from lifechart.model.network import Batch
from lifechart.model.questions import History, Questions, history, label, ragged
from lifechart.model.steps import Steps, joined, place_steps, question_steps
from lifechart.model.tokens import DAY_US, Tokens
from lifechart.model.vocabulary import QUANTILES, Vocabulary


@dataclass(frozen=True)
class Windows:
    """Stretches [first, last) of records that fit the context, and which window answers each question.

    A record longer than the context is cut into overlapping stretches, each beginning with the undated events; a
    question goes to the one that shows it the most of its past, at least half a context. What lies further back
    reaches the answer through the history alone.
    """

    subject: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    lead: NDArray[np.int64]
    """How many undated events of the subject are put in front (0 where the stretch holds them itself)."""
    of_question: NDArray[np.int64]
    owned_from: NDArray[np.int64]
    """The first row that no window before shows with as much of its past; what lies before is there to be looked at."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Events in each window."""
        return self.lead + self.last - self.first

    @cached_property
    def by_window(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Questions in the order of their windows, and where each window's begin [windows + 1]."""
        order = np.argsort(self.of_question, kind="stable")
        return order, np.searchsorted(self.of_question[order], np.arange(len(self.first) + 1))


def cut(tokens: Tokens, questions: Questions, context: int, *, whole: bool = False) -> Windows:
    """Choose the windows that the questions need, each no longer than `context`, ending at its last question.

    `whole` windows go on to the end of their stretch: where they end then says nothing of the future, as it would if
    the last question of a life were the last thing that is learnt from.
    """
    start = tokens.starts[questions.subject]
    statics = tokens.num_static
    lead = np.minimum(statics, context // 4)[questions.subject]
    body = context - lead
    half = np.maximum(body // 2, 1)
    seen = questions.stop - start
    number = np.where(seen <= context, 0, np.maximum(-(-(seen - body) // half), 1))
    first = start + number * half
    key = np.stack([questions.subject, first], axis=1)
    unique, inverse = np.unique(key, axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    last = np.zeros(len(unique), dtype=np.int64)
    np.maximum.at(last, inverse, questions.stop)
    if whole:
        reach = np.where(number == 0, context, body + number * half)
        last[inverse] = np.minimum(start + reach, tokens.starts[questions.subject + 1])
    later = unique[:, 1] > tokens.starts[unique[:, 0]]
    window_lead = np.zeros(len(unique), dtype=np.int64)
    window_lead[inverse] = lead
    owned_from = np.zeros(len(unique), dtype=np.int64)
    owned_from[inverse] = start + np.where(number == 0, 0, np.maximum(context, body + (number - 1) * half))
    return Windows(unique[:, 0], unique[:, 1], last, window_lead * later, inverse, owned_from)


def in_groups(sizes: NDArray[np.int64], order: NDArray[np.int64], batch_tokens: int) -> Iterator[NDArray[np.int64]]:
    """Split `order` into consecutive groups of about `batch_tokens` events."""
    filled = np.cumsum(sizes[order])
    edges = np.flatnonzero(np.diff(filled // batch_tokens, prepend=0))
    for group in np.split(order, edges):
        if len(group):
            yield group


LENGTHS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Lengths of rows. In 16 bits a CPU compiles every product anew for each shape it meets, and keeps what it compiled."""


def alike(sizes: NDArray[np.int64], chosen: NDArray[np.int64], most_places: int) -> list[NDArray[np.int64]]:
    """Split `chosen` into parts of similar sizes, longest first; rows x their length is at most `most_places` in each.

    One record a row then wastes little on padding: attention costs each record its own length squared, and no mask.
    All parts but the last have as many rows as their length of row allows, so few shapes come up.
    """
    order = chosen[np.argsort(-sizes[chosen], kind="stable")]
    parts, first = [], 0
    while first < len(order):
        last = first + whole_rows(most_places // padded(int(sizes[order[first]])))
        parts.append(order[first:last])
        first = last
    return parts


def whole_rows(most: int) -> int:
    """Return the largest number of rows up to `most` that padded_rows leaves as it is, and 1 at the least."""
    return max(rows for rows in range(1, max(most, 1) + 1) if padded_rows(rows) == rows)


def padded(size: int) -> int:
    """Return the length of a row that holds `size` events: one of LENGTHS, and past them whole multiples of the last."""
    return next((each for each in LENGTHS if each >= size), -(-size // LENGTHS[-1]) * LENGTHS[-1])


def padded_rows(rows: int) -> int:
    """Return how many rows hold `rows` records: a power of two, or half as many again."""
    power = 1 << (rows - 1).bit_length() if rows > 1 else 1
    return 3 * power // 4 if rows <= 3 * power // 4 and power >= 4 else power


@dataclass(frozen=True)
class Collator:
    """Builds batches for one vocabulary and device."""

    vocabulary: Vocabulary
    context: int
    device: torch.device
    stride: int = 0
    """The next-event head learns from every so manieth place and question; 0 where nothing is learnt."""

    def batch(
        self, tokens: Tokens, questions: Questions, windows: Windows, chosen: NDArray[np.int64]
    ) -> tuple[Batch, NDArray[np.int64]]:
        """Put each chosen window in a row; return the batch and which questions it answers, in its order."""
        num_rows = padded_rows(len(chosen))
        sizes = np.zeros(num_rows, dtype=np.int64)
        sizes[: len(chosen)] = windows.sizes[chosen]
        # A row too many repeats the first record and holds none of its events.
        held = np.append(chosen, np.full(num_rows - len(chosen), chosen[0]))
        places = np.arange(padded(int(sizes.max())))
        within = places < sizes[:, None]
        start, lead = tokens.starts[windows.subject[held]], windows.lead[held]
        later = windows.first[held] - lead
        members = np.where(places < lead[:, None], start[:, None], later[:, None]) + places
        token_rows = np.where(within, members, -1)
        segment = np.where(within, np.arange(num_rows)[:, None], -1)
        place = np.where(within, members - start[:, None], 0).astype(np.float32)
        origin = np.arange(num_rows) * len(places) - later
        asked, cell = self._cells(questions, windows, chosen, origin)
        put = questions.take(asked)
        had = label(tokens, put, len(self.vocabulary.outcomes)).had
        return (
            Batch(
                events=event_arrays(tokens, token_rows, self.vocabulary.valued, self.device),
                days_RT=self._tensor((tokens.micros[np.maximum(token_rows, 0)] / DAY_US).astype(np.float32)),
                place_RT=self._tensor(place),
                segment_RT=self._tensor(segment),
                cell_Q=self._tensor(cell),
                features_QF=self._tensor(question_features(tokens, put)),
                history=self.history(history(tokens, put, self.vocabulary.valued, len(QUANTILES))),
                had_QO=self._tensor(had),
                steps=self._steps(tokens, windows, chosen, (token_rows, segment), put, cell) if self.stride else None,
                modal=attach(tokens.items, put.subject, put.micros, token_rows),
            ),
            asked,
        )

    def history(self, past: History) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return a history as the tensors that the hazard head reads."""
        return self._tensor(past.column), self._tensor(past.weight), self._tensor(past.offsets)

    def _steps(
        self,
        tokens: Tokens,
        windows: Windows,
        chosen: NDArray[np.int64],
        packed: tuple[NDArray[np.int64], NDArray[np.int64]],
        put: Questions,
        cells: NDArray[np.int64],
    ) -> Steps:
        """Return every `stride`-th place and question of a batch, each event in the window that owns it."""
        token_rows, segment = (each.reshape(-1) for each in packed)
        place = np.flatnonzero(segment >= 0)
        rows, item = token_rows[place], segment[place]
        owned = np.flatnonzero(rows >= windows.owned_from[chosen[item]])[:: self.stride]
        place, rows, item = place[owned], rows[owned], item[owned]
        of_question, asked = segment[cells], np.arange(len(put))[:: self.stride]
        jumps = np.random.default_rng([len(rows), int(rows.sum())]).geometric(0.5, len(rows)) - 1
        return joined(
            [
                place_steps(tokens, self.vocabulary, rows, place, item, (of_question, put.micros), jumps),
                question_steps(tokens, self.vocabulary, put, cells, asked),
            ]
        )

    def _cells(
        self, questions: Questions, windows: Windows, chosen: NDArray[np.int64], origin: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        by_window, begins = windows.by_window
        item, place = ragged(begins[chosen], begins[chosen + 1])
        asked = by_window[place]
        return asked, origin[item] + questions.stop[asked] - 1

    def _tensor(self, array: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def question_features(tokens: Tokens, questions: Questions) -> NDArray[np.float32]:
    """Return what is known of the moment itself [Q, F]: age, silence since the last event, length of the record."""
    years = questions.micros / (DAY_US * DAYS_A_YEAR)
    last = questions.stop - 1
    start = tokens.starts[questions.subject]
    statics = tokens.num_static[questions.subject]
    first_dated = np.minimum(start + statics, last)
    silence = np.where(tokens.static[last], 0.0, (questions.micros - tokens.micros[last]) / DAY_US)
    known_for = np.where(tokens.static[last], 0.0, (questions.micros - tokens.micros[first_dated]) / DAY_US)
    plain = [
        years / 50.0,
        np.log1p(np.maximum(silence, 0)) / 6.0,
        np.log1p(np.maximum(known_for, 0)) / 9.0,
        np.log1p(questions.stop - start) / 6.0,
        tokens.birth_known[questions.subject].astype(np.float64),
    ]
    return np.concatenate([age_basis(years), np.stack(plain, axis=1)], axis=1).astype(np.float32)
