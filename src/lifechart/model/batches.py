"""From token arrays and questions to packed batches: windows of long records, rows that patients share, tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lifechart.model.encoders.event import DAYS_A_YEAR, age_basis, event_arrays
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


def cut(tokens: Tokens, questions: Questions, context: int, *, whole: bool = False) -> Windows:
    """Choose the windows that the questions need, each no longer than `context`, ending at its last question.

    `whole` windows go on to the end of their stretch: where they end then says nothing of the future, as it would if
    the last question of a life were the last thing that is learnt from.
    """
    start = tokens.starts[questions.subject]
    statics = np.add.reduceat(tokens.static.astype(np.int64), tokens.starts[:-1])
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


def pack(sizes: NDArray[np.int64], length: int) -> list[list[int]]:
    """Return rows of item numbers that fit in `length`: first fit, longest first."""
    rows: list[list[int]] = []
    room: list[int] = []
    for item in np.argsort(-sizes, kind="stable"):
        size = int(sizes[item])
        place = next((row for row, left in enumerate(room) if left >= size), None)
        if place is None:
            rows.append([])
            room.append(length)
            place = len(rows) - 1
        rows[place].append(int(item))
        room[place] -= size
    return rows


def in_groups(sizes: NDArray[np.int64], order: NDArray[np.int64], batch_tokens: int) -> Iterator[NDArray[np.int64]]:
    """Split `order` into consecutive groups of about `batch_tokens` events."""
    filled = np.cumsum(sizes[order])
    edges = np.flatnonzero(np.diff(filled // batch_tokens, prepend=0))
    for group in np.split(order, edges):
        if len(group):
            yield group


@dataclass(frozen=True)
class Collator:
    """Builds batches for one vocabulary and device."""

    vocabulary: Vocabulary
    context: int
    device: torch.device
    most_steps: int = 0
    """Moments in a batch from which the next-event head learns; 0 where nothing is learnt."""

    def batch(
        self, tokens: Tokens, questions: Questions, windows: Windows, chosen: NDArray[np.int64]
    ) -> tuple[Batch, NDArray[np.int64]]:
        """Pack the chosen windows; return the batch and the numbers of the questions it answers, in its order."""
        sizes = windows.sizes[chosen]
        rows = pack(sizes, int(max(sizes.max(), min(self.context, sizes.sum()))))
        length = max(int(sizes[row].sum()) for row in rows)
        length = -(-length // 8) * 8
        token_rows = np.full((len(rows), length), -1, dtype=np.int64)
        segment = np.full((len(rows), length), -1, dtype=np.int64)
        place = np.zeros((len(rows), length), dtype=np.float32)
        origin = np.zeros(len(chosen), dtype=np.int64)
        for number, row in enumerate(rows):
            at = 0
            for item in row:
                window, size = chosen[item], int(sizes[item])
                start, lead = tokens.starts[windows.subject[window]], windows.lead[window]
                members = np.arange(windows.first[window] - lead, windows.last[window])
                members[:lead] = start + np.arange(lead)
                token_rows[number, at : at + size] = members
                segment[number, at : at + size] = item
                place[number, at : at + size] = members - start
                origin[item] = number * length + at - windows.first[window] + lead
                at += size
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
                steps=self._steps(tokens, windows, chosen, (token_rows, segment), put, cell)
                if self.most_steps
                else None,
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
        """Return `most_steps` moments at most, a third of them questions, each event in the window that owns it."""
        token_rows, segment = (each.reshape(-1) for each in packed)
        place = np.flatnonzero(segment >= 0)
        rows, item = token_rows[place], segment[place]
        owned = rows >= windows.owned_from[chosen[item]]
        place, rows, item = place[owned], rows[owned], item[owned]
        of_question = segment[cells]
        asked = np.arange(len(put))[:: max(1, -(-3 * len(put) // self.most_steps))]
        stride = max(1, -(-len(rows) // max(self.most_steps - len(asked), 1)))
        place, rows, item = place[::stride], rows[::stride], item[::stride]
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
        by_window = np.argsort(windows.of_question, kind="stable")
        ordered = windows.of_question[by_window]
        item, place = ragged(np.searchsorted(ordered, chosen), np.searchsorted(ordered, chosen, side="right"))
        asked = by_window[place]
        return asked, origin[item] + questions.stop[asked] - 1

    def _tensor(self, array: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def question_features(tokens: Tokens, questions: Questions) -> NDArray[np.float32]:
    """Return what is known of the moment itself [Q, F]: age, silence since the last event, length of the record."""
    years = questions.micros / (DAY_US * DAYS_A_YEAR)
    last = questions.stop - 1
    start = tokens.starts[questions.subject]
    statics = np.add.reduceat(tokens.static.astype(np.int64), tokens.starts[:-1])[questions.subject]
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
