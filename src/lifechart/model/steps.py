"""What came next: from a moment in a record to its next event, its time, code and value. The next-event head's targets.

Two sorts of moment are learnt from. A place: right after an event, when another one at the same time may follow. A
question: somewhere in the silence after an event, which is where a generated future begins. Either sort is drawn with
one density in every life, so neither makes rates of events too high or too low.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lifechart.model.questions import Questions
from lifechart.model.tokens import DAY_US, Tokens
from lifechart.model.vocabulary import QUANTILES, Vocabulary

# Shapes: M steps, B intervals of waiting, V codes, X kinds of value.

WAITS = (0.0, 1 / 96, 1 / 24, 0.25, 1.0, 3.0, 7.0, 14.0, 30.0, 60.0, 91.0, 182.0, 365.0, 730.0)
"""Days since the last event at which the hazard of the next one changes; the last interval is open."""
NUM_WAITS = len(WAITS)
NO_VALUE = len(QUANTILES) + 1
"""Kinds of value: below the outer knots (0), between each pair of them, above them, and none at all (this)."""
NUM_VALUES = NO_VALUE + 1
_PSEUDO = 5.0
_TWO_CENTURIES_MS = 200 * 366 * DAY_US // 1000


@dataclass(frozen=True)
class Steps:
    """Moments [M] and what came next. `cell` is the place of the last event, flat in R x T."""

    cell: NDArray[np.int64]
    anchor: NDArray[np.int64]
    """The question of the batch whose forecast is known at this moment."""
    anchor_days: NDArray[np.float32]
    """How old that forecast is."""
    since: NDArray[np.float32]
    """Days of silence that had passed."""
    until: NDArray[np.float32]
    """Days from the last event to the next one, or to where observation ended."""
    fresh: NDArray[np.bool_]
    """Nothing had passed: the next event may share the last one's time."""
    same: NDArray[np.bool_]
    followed: NDArray[np.bool_]
    last_code: NDArray[np.int64]
    code: NDArray[np.int64]
    value: NDArray[np.int64]
    """The kind of value that the next event carries; -1 where its code never carries one."""
    levels: NDArray[np.float32]
    """The last value and the mean of values of the next event's code before it [M, 2], as levels; NaN without any."""

    def __len__(self) -> int:
        return len(self.cell)


@dataclass(frozen=True)
class StartRates:
    """Where the next-event head starts from: what the training split says before anything is learnt."""

    same: float
    """Log odds that an event is followed by another at its time."""
    waits: NDArray[np.float32]
    """Log hazard a day in each interval of waiting [B]."""
    codes: NDArray[np.float32]
    """Log share of each code among events at the same time, and among those that come in each interval [1 + B, V]."""


def value_kind(tokens: Tokens, rows: NDArray[np.int64], valued: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which kind of value each row carries [M], -1 where its code has no value scale."""
    level, tail = tokens.level[rows], tokens.tail[rows]
    between = 1 + np.clip(np.nan_to_num(level).astype(np.int64), 0, len(QUANTILES) - 2)
    kind = np.where(tail < 0, 0, np.where(tail > 0, len(QUANTILES), between))
    kind = np.where(np.isnan(level), NO_VALUE, kind)
    return np.where(valued[tokens.code[rows]] >= 0, kind, -1)


def place_steps(
    tokens: Tokens,
    vocabulary: Vocabulary,
    rows: NDArray[np.int64],
    cells: NDArray[np.int64],
    window: NDArray[np.int64],
    questions: tuple[NDArray[np.int64], NDArray[np.int64]],
    jumps: NDArray[np.int64],
) -> Steps:
    """Return the steps that begin right after the events in `rows` [M], which lie in `window` [M] at `cells` [M].

    `questions`: (window, micros) of the batch's questions, sorted by both. A place reads the forecast of a question
    strictly before it: the last one, or so many (`jumps`) before that; places before any question are left out.
    """
    asked_window, asked_micros = questions
    anchor = np.arange(len(rows))
    if len(asked_micros):
        # In milliseconds, so that two centuries and a million windows fit 64 bits together.
        key = asked_window * _TWO_CENTURIES_MS + asked_micros // 1000
        ours = window * _TWO_CENTURIES_MS + tokens.micros[rows] // 1000
        anchor = np.searchsorted(key, ours) - 1
        first = np.searchsorted(asked_window, window)
        anchor = np.where(anchor >= first, np.maximum(anchor - jumps, first), -1)
    else:
        anchor[:] = -1
    kept = (anchor >= 0) & ~tokens.static[rows] & (tokens.micros[rows] < tokens.end[_owner(tokens, rows)])
    rows, cells, anchor = rows[kept], cells[kept], anchor[kept]
    age = (tokens.micros[rows] - asked_micros[anchor]) / DAY_US
    return _steps(tokens, vocabulary, rows, cells, anchor, age, tokens.micros[rows], fresh=True)


def question_steps(
    tokens: Tokens, vocabulary: Vocabulary, put: Questions, cells: NDArray[np.int64], chosen: NDArray[np.int64]
) -> Steps:
    """Return the steps that begin at the `chosen` questions, each with its own forecast."""
    rows, micros = put.stop[chosen] - 1, put.micros[chosen]
    kept = ~tokens.static[rows] & (micros < tokens.end[put.subject[chosen]])
    rows, micros, chosen = rows[kept], micros[kept], chosen[kept]
    age = np.zeros(len(rows))
    return _steps(tokens, vocabulary, rows, cells[chosen], chosen, age, micros, fresh=False)


def joined(parts: list[Steps]) -> Steps:
    """Return several groups of steps as one."""
    return Steps(*(np.concatenate([getattr(part, name) for part in parts]) for name in Steps.__dataclass_fields__))


def start_rates(tokens: Tokens, vocabulary: Vocabulary) -> StartRates:
    """Count waits and codes over all events, with a pseudo-count each."""
    rows = np.arange(len(tokens))
    before_all = (np.zeros(1, np.int64), np.full(1, -DAY_US, np.int64))
    steps = place_steps(tokens, vocabulary, rows, rows, rows * 0, before_all, rows * 0)
    share = (steps.same.sum() + 1.0) / (len(steps) + 2.0)
    later = ~steps.same
    low, high = np.array(WAITS), np.array([*WAITS[1:], np.inf])
    exposure = np.clip(np.minimum(steps.until[later, None], high) - low, 0.0, None).sum(axis=0)
    place = np.searchsorted(low, steps.until[later & steps.followed], side="left") - 1
    number = np.bincount(np.maximum(place, 0), minlength=NUM_WAITS)
    overall = (number.sum() + 1.0) / (exposure.sum() + 1e3)
    waits = np.log((number + 2.0) / (exposure + 2.0 / overall))
    when = np.where(steps.same, 0, 1 + np.maximum(np.searchsorted(low, steps.until, side="left") - 1, 0))
    cell = (when * len(vocabulary) + steps.code)[steps.followed]
    codes = np.bincount(cell, minlength=(1 + NUM_WAITS) * len(vocabulary)).reshape(-1, len(vocabulary)).astype(float)
    # A few events of each interval are drawn to the shares of all that come later.
    later_codes = codes[1:].sum(axis=0) + 0.1
    codes[1:] += _PSEUDO * later_codes / later_codes.sum()
    codes += 1e-3
    shares = np.log(codes / codes.sum(axis=1, keepdims=True))
    return StartRates(float(np.log(share / (1 - share))), waits.astype(np.float32), shares.astype(np.float32))


def _owner(tokens: Tokens, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.searchsorted(tokens.starts, rows, side="right") - 1


def _steps(
    tokens: Tokens,
    vocabulary: Vocabulary,
    rows: NDArray[np.int64],
    cells: NDArray[np.int64],
    anchor: NDArray[np.int64],
    anchor_days: NDArray[np.float64],
    micros: NDArray[np.int64],
    *,
    fresh: bool,
) -> Steps:
    owner = _owner(tokens, rows)
    following = rows + 1
    inside = following < tokens.starts[owner + 1]
    following = np.where(inside, following, rows)
    end = tokens.end[owner]
    inside &= tokens.micros[following] <= end
    last = tokens.micros[rows]
    until = (np.where(inside, tokens.micros[following], end) - last) / DAY_US
    before = tokens.previous_same[following]
    levels = np.stack([tokens.last_level[before], tokens.mean_level[before]], axis=1)
    levels[before < 0] = np.nan
    return Steps(
        cell=cells,
        anchor=anchor,
        anchor_days=anchor_days.astype(np.float32),
        since=((micros - last) / DAY_US).astype(np.float32),
        until=until.astype(np.float32),
        fresh=np.full(len(rows), fresh),
        same=inside & (tokens.micros[following] == last) & fresh,
        followed=inside,
        last_code=tokens.code[rows],
        code=tokens.code[following],
        value=np.where(inside, value_kind(tokens, following, vocabulary.valued), -1),
        levels=levels.astype(np.float32),
    )
