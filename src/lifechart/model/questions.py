"""Questions put to a record ("as of this day, what lies ahead?"), what could be read then, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lifechart.core.errors import InputError
from lifechart.model.tokens import DAY_US, RECENT_DAYS, YEAR_US, Tokens
from lifechart.model.usual import hats

EDGES = (0.0, 30.0, 90.0, 365.0, 1825.0)
"""Edges, in days, of the intervals in which a hazard is constant; all but the first are the horizons."""
HORIZONS = (30, 90, 365, 1825)
_MIDDLE_AGE = 50.0


@dataclass(frozen=True)
class Questions:
    """Moments [Q] to ask about. `stop` is one past the last row of Tokens known then: a row is known if its time is at
    or before `micros`, or if it is undated.
    """

    subject: NDArray[np.int64]
    micros: NDArray[np.int64]
    stop: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.subject)

    def take(self, chosen: NDArray[np.int64]) -> Questions:
        """Return some of the questions."""
        return Questions(self.subject[chosen], self.micros[chosen], self.stop[chosen])


@dataclass(frozen=True)
class Labels:
    """What came of each question [Q, O]: days to the first event after it (inf: none seen) and days observed [Q]."""

    days_to: NDArray[np.float32]
    observed: NDArray[np.float32]
    window: NDArray[np.float32]
    """Days that would have been observed had nobody died [Q]: a horizon within them can be counted without bias."""
    had: NDArray[np.bool_]
    """The outcome is on record at or before the question."""


def ask(tokens: Tokens, subject: NDArray[np.int64], micros: NDArray[np.int64]) -> Questions:
    """Find what was known at each moment, by bisection over each subject's rows."""
    low, high = tokens.starts[subject].copy(), tokens.starts[subject + 1].copy()
    known = (tokens.micros, tokens.static)
    while (open_ := low < high).any():
        middle = np.minimum((low + high) // 2, len(tokens) - 1)
        before = known[1][middle] | (known[0][middle] <= micros)
        low = np.where(open_ & before, middle + 1, low)
        high = np.where(open_ & ~before, middle, high)
    return Questions(subject, micros, low)


def ask_prompts(tokens: Tokens, prompts: pl.DataFrame) -> Questions:
    """Return the questions of a prompts frame (subject_id, prediction_time), in its order."""
    wanted = prompts["subject_id"].to_numpy()
    subject = np.searchsorted(tokens.subject_ids, wanted)
    found = np.minimum(subject, max(tokens.num_subjects - 1, 0))
    if tokens.num_subjects == 0 or (tokens.subject_ids[found] != wanted).any():
        raise InputError("prompts", "a subject_id", "only subjects that have events")
    micros = prompts["prediction_time"].cast(pl.Datetime("us")).cast(pl.Int64).to_numpy() - tokens.origin[found]
    return ask(tokens, found, micros)


def sample_questions(tokens: Tokens, per_subject: float, rng: np.random.Generator) -> Questions:
    """Draw moments to learn from: `per_subject` a life on average.

    Half of them lie within a day after an event and half anywhere in the observed time, so that the network learns both
    what a visit means and what silence after it means. Every event, and every day, has the same chance in every
    record: were short records sampled more densely, those who die young would be, and hazards would come out too high.
    """
    first_dated = tokens.starts[:-1] + np.add.reduceat(tokens.static.astype(np.int64), tokens.starts[:-1])
    has_dates = first_dated < tokens.starts[1:]
    start = np.where(has_dates, tokens.micros[np.minimum(first_dated, len(tokens) - 1)], tokens.end)
    span = np.maximum(tokens.end - start, 0)
    room = (tokens.starts[1:] - first_dated) * (span > 0)
    total = per_subject * tokens.num_subjects / 2

    def owners(share: NDArray[np.int64]) -> NDArray[np.int64]:
        # Microseconds of a few thousand lives together overflow 64 bits; as floats they do not.
        parts = share / max(float(share.sum(dtype=np.float64)), 1.0)
        number = np.floor(total * parts + rng.random(len(share))).astype(np.int64)
        return np.repeat(np.arange(len(share)), number * (share > 0))

    by_time, by_event = owners(span), owners(room)
    anywhere = start[by_time] + (rng.random(len(by_time)) * span[by_time]).astype(np.int64)
    at_event = tokens.micros[first_dated[by_event] + (rng.random(len(by_event)) * room[by_event]).astype(np.int64)]
    at_event += (rng.random(len(by_event)) * DAY_US).astype(np.int64)
    subject = np.concatenate([by_time, by_event])
    micros = np.concatenate([anywhere, at_event])
    order = np.lexsort((micros, subject))
    order = order[micros[order] < tokens.end[subject[order]]]
    return ask(tokens, subject[order], micros[order])


def label(tokens: Tokens, questions: Questions, num_outcomes: int) -> Labels:
    """Look up what came after each question; observation ends at death or at the record's end."""
    if tokens.truth is not None:
        moment = questions.micros + (tokens.origin - tokens.truth.origin)[questions.subject]
        return label(tokens.truth, ask(tokens.truth, questions.subject, moment), num_outcomes)
    marked = tokens.onsets
    first = np.searchsorted(marked, tokens.starts[questions.subject])
    last = np.searchsorted(marked, tokens.starts[questions.subject + 1])
    pair, place = ragged(first, last)
    row = marked[place]
    cell = pair * num_outcomes + tokens.outcome[row]
    later = row >= questions.stop[pair]
    days_to = np.full(len(questions) * num_outcomes, np.inf, dtype=np.float32)
    ahead = ((tokens.micros[row] - questions.micros[pair]) / DAY_US).astype(np.float32)
    np.minimum.at(days_to, cell[later], ahead[later])
    had = np.zeros(len(questions) * num_outcomes, dtype=bool)
    had[cell[~later]] = True
    shape = (len(questions), num_outcomes)
    observed = (tokens.end[questions.subject] - questions.micros) / DAY_US
    window = (tokens.window[questions.subject] - questions.micros) / DAY_US
    return Labels(days_to.reshape(shape), _not_negative(observed), _not_negative(window), had.reshape(shape))


def _not_negative(days: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.maximum(days, 0).astype(np.float32)


def ragged(first: NDArray[np.int64], last: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (which range, which member) for every member of the ranges [first, last)."""
    size = np.maximum(last - first, 0)
    which = np.repeat(np.arange(len(first)), size)
    within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    return which, np.repeat(first, size) + within


NUM_PLAIN = 16
"""Columns of the history that every code has, before those of its value scale."""
NUM_LEVELS = 4
"""Levels of each valued code that enter through knots: the last, the mean, the least and the greatest."""
FACT_AGES = (2.0, 15.0, 30.0, 45.0, 60.0, 75.0, 90.0)
"""Knots, in years, of the age basis in which an undated fact (sex, ancestry) is read."""
_ROWS_AT_ONCE = 32768
"""Events whose history is worked out at once."""
_OF_TIME = [2, 3, 4, 5, 6, 11, 12]
"""The plain columns that speak of time or age: those of an undated fact hold its age basis instead."""


@dataclass(frozen=True)
class History:
    """The whole past at each question, as a sparse matrix [Q, columns]: for each code met so far, how often, how long
    ago, its last value, the mean of its values and their extremes. `offsets` [Q] is where a question's entries begin.
    """

    column: NDArray[np.int64]
    weight: NDArray[np.float32]
    offsets: NDArray[np.int64]
    token: NDArray[np.int64]
    """The row of Tokens behind each entry: the last event of its code."""


def num_columns(num_codes: int, num_valued: int, num_knots: int) -> int:
    """Return the width of the history matrix."""
    return num_codes * NUM_PLAIN + num_valued * NUM_LEVELS * num_knots


def history(tokens: Tokens, questions: Questions, valued: NDArray[np.int64], num_knots: int) -> History:
    """Summarise what was known at each question, one group of entries a code.

    `valued` [V] gives each code's index among those that carry values (-1: none), as Vocabulary.valued does. Worked out
    for some questions at a time: what is needed in between is ten times as large as what comes of it.
    """
    seen = np.cumsum(questions.stop - tokens.starts[questions.subject])
    edges = np.flatnonzero(np.diff(seen // _ROWS_AT_ONCE, prepend=0))
    parts = [
        _entries(tokens, questions.take(some), valued, num_knots) for some in np.split(np.arange(len(seen)), edges)
    ]
    column, weight, number, token = (np.concatenate(each) for each in zip(*parts, strict=True))
    return History(column, weight, np.cumsum(number) - number, token)


def _entries(
    tokens: Tokens, questions: Questions, valued: NDArray[np.int64], num_knots: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Return a history's columns and weights, how many each question has, and the row of Tokens behind each."""
    which, row = ragged(tokens.starts[questions.subject], questions.stop)
    latest = tokens.next_same[row] >= questions.stop[which]
    which, row = which[latest], row[latest]
    code = tokens.code[row]
    # Few events carry values: what speaks of those is worked out for them alone, and is 0 for the others.
    scaled = np.flatnonzero((valued[code] >= 0) & (tokens.num_values[row] > 0))
    weight = np.zeros((len(row), NUM_PLAIN + 2 * NUM_LEVELS), dtype=np.float32)
    column = np.zeros(weight.shape, dtype=np.int64)
    _plain(tokens, row, questions.micros[which], scaled, (num_knots - 1) / 2, weight)
    column[:, :NUM_PLAIN] = code[:, None] * NUM_PLAIN + np.arange(NUM_PLAIN)
    base = len(valued) * NUM_PLAIN + valued[code[scaled]] * NUM_LEVELS * num_knots
    levels = (tokens.last_level, tokens.mean_level, tokens.least_level, tokens.greatest_level)
    for n, level in enumerate(levels):
        place, share = _between_knots(level[row[scaled]], num_knots)
        both = slice(NUM_PLAIN + 2 * n, NUM_PLAIN + 2 * n + 2)
        column[scaled, both], weight[scaled, both] = base[:, None] + n * num_knots + place, share
    used = weight != 0
    per_entry = used.sum(axis=1)
    number = np.bincount(np.repeat(which, per_entry), minlength=len(questions))
    return column[used], weight[used], number, np.repeat(row, per_entry)


def _plain(
    tokens: Tokens,
    row: NDArray[np.int64],
    asked: NDArray[np.int64],
    scaled: NDArray[np.int64],
    middle: float,
    into: NDArray[np.float32],
) -> None:
    """Write the plain columns [n, NUM_PLAIN] of each code's last event, at the moment it is `asked` about.

    What a code says depends on the age: so do its presence and its number, each once more times the age. `scaled`: the
    events that have values.
    """
    years = np.maximum(asked - tokens.micros[row], 0) / YEAR_US
    since_first = np.maximum(asked - tokens.first_micros[row], 0) / YEAR_US
    age = asked / YEAR_US
    number = np.log(tokens.count[row])
    into[:, 0] = 1.0
    into[:, 1] = number
    into[:, 2] = np.log1p(tokens.recent[row] * np.exp(-years * 365.25 / RECENT_DAYS))
    into[:, 3] = np.exp(-years * 12.0)
    into[:, 4] = np.exp(-years * 3.0)
    into[:, 5] = np.log1p(since_first) / 3.0
    into[:, 6] = np.log1p(years) / 3.0
    into[:, 11] = (age - _MIDDLE_AGE) / 30.0
    into[:, 12] = (age - _MIDDLE_AGE) / 30.0 * number
    with_value = row[scaled]
    last, mean, lately = (each[with_value] for each in (tokens.last_level, tokens.mean_level, tokens.recent_level))
    excess, values = tokens.mean_excess[with_value], tokens.num_values[with_value]
    # A mean of few noisy values says little of what lies behind them: draw it to the middle as a posterior mean would.
    trusted = tokens.count[with_value] / (tokens.count[with_value] + 1.5)
    into[scaled, 7] = (last - mean) / 3.0
    into[scaled, 8] = (last - middle) / middle
    into[scaled, 9] = (mean - middle) / middle * trusted
    into[scaled, 10] = (lately - middle) / middle
    into[scaled, 13] = tokens.last_excess[with_value] / middle
    into[scaled, 14] = excess / middle * values / (values + 1.5)
    into[scaled, 15] = excess / middle * values / (values + 6.0)
    static = np.flatnonzero(tokens.static[row])
    into[static[:, None], _OF_TIME] = hats(age[static], FACT_AGES)


def _between_knots(level: NDArray[np.float32], num_knots: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the two nearest knots [n, 2] and how near each is; weights are 0 where there is no value."""
    known = ~np.isnan(level)
    place = np.where(known, level, 0.0)
    low = np.minimum(place.astype(np.int64), num_knots - 2)
    share = (place - low).astype(np.float32)
    weights = np.stack([1.0 - share, share], axis=1) * known[:, None]
    return np.stack([low, low + 1], axis=1), weights.astype(np.float32)
