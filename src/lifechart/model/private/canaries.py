"""Made-up patients, put into a twin of a training run to see what it remembers of any one of them.

Each holds a code that nobody else holds and, soon after, an outcome drawn by lot: his secret. Whether he is trained on
is decided by a coin. The weights of his code tell how well that can be guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from lifechart.core.timeline import BIRTH, RECORD_END
from lifechart.model.heads import BaseRates, HazardHead
from lifechart.model.network import NUM_QUESTION_FEATURES
from lifechart.model.private.learn import RANK, PrivateFitter
from lifechart.model.private.lot import Lot
from lifechart.model.private.moments import PLAIN, Moments, draw_moments, joined, prepare
from lifechart.model.private.plan import Plan
from lifechart.model.questions import NUM_PLAIN, ask, num_columns
from lifechart.model.tokens import DAY_US, tokenise
from lifechart.model.vocabulary import QUANTILES, Vocabulary, assemble

_PREFIX = "CANARY//"
_BORN = datetime(1950, 1, 1)  # noqa: DTZ001 - records bear no time zone
_CODE_AT, _ASKED_AT, _SECRET_AT, _ENDS_AT = 40.0, (41.0, 42.0, 43.0, 43.9), 44.0, 44.5
"""When, in years of age, a canary's code and secret come, and when he is asked about."""


@dataclass(frozen=True)
class Twin:
    """What a twin run kept of its canaries [M]: whether each was in, the weights of his code on every outcome [M, O],
    and which outcome was his secret.
    """

    included: NDArray[np.bool_]
    weights: NDArray[np.float64]
    secret: NDArray[np.int64]

    @property
    def scores(self) -> NDArray[np.float64]:
        """How far each one's code points to his secret, beyond where it points to all outcomes [M]."""
        own: NDArray[np.float64] = self.weights[np.arange(len(self.secret)), self.secret]
        scores: NDArray[np.float64] = own - self.weights.mean(axis=1)
        return scores

    @property
    def exposure(self) -> NDArray[np.float64]:
        """Bits by which the secret's rank among all outcomes is better than last [M] (Carlini et al., USENIX 2019)."""
        own = self.weights[np.arange(len(self.secret)), self.secret]
        above = (self.weights > own[:, None]).sum(axis=1)
        tied = (self.weights == own[:, None]).sum(axis=1) - 1
        bits: NDArray[np.float64] = np.log2(self.weights.shape[1]) - np.log2(1 + above + tied / 2)
        return bits


def with_markers(vocabulary: Vocabulary, number: int) -> Vocabulary:
    """Return the vocabulary with a code of his own for each canary, at its end."""
    codes = [*vocabulary.codes, *(f"{_PREFIX}{each}" for each in range(number))]
    units = [*vocabulary.units, *([None] * number)]
    nothing = np.full((number, len(QUANTILES)), np.nan, dtype=np.float32)
    known = [[int(wider) for wider in row if wider >= 0] for row in vocabulary.parents]
    knots = np.concatenate([vocabulary.knots, nothing])
    return assemble(codes, units, knots, vocabulary.outcomes, known + [[] for _ in range(number)])


def canary_events(secret: NDArray[np.int64], outcomes: tuple[str, ...]) -> pl.DataFrame:
    """Return the canaries' records: a birth, a code of one's own, a secret four years later, and the end."""
    rows = [
        (number, _BORN + timedelta(days=365.25 * age), code, kind)
        for number, each in enumerate(secret)
        for age, code, kind in (
            (0.0, BIRTH, "demographic"),
            (_CODE_AT, f"{_PREFIX}{number}", "order"),
            (_SECRET_AT, outcomes[each], "condition"),
            (_ENDS_AT, RECORD_END, "record"),
        )
    ]
    columns: dict[str, Any] = {"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String, "kind": pl.String}
    absent: dict[str, Any] = {"numeric_value": pl.Float32, "text_value": pl.String, "unit": pl.String}
    frame = pl.DataFrame(rows, schema=columns, orient="row")
    return frame.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in absent.items())


def canary_moments(secret: NDArray[np.int64], vocabulary: Vocabulary) -> Moments:
    """Return what a run learns from canaries with these secrets; `vocabulary` holds their codes."""
    tokens = tokenise(canary_events(secret, vocabulary.outcomes), vocabulary)
    subject = np.repeat(np.arange(len(secret)), len(_ASKED_AT))
    micros = np.tile((np.array(_ASKED_AT) * 365.25 * DAY_US).astype(np.int64), len(secret))
    return prepare(tokens, vocabulary, ask(tokens, subject, micros))


def train_twin(
    events: pl.DataFrame, vocabulary: Vocabulary, base: BaseRates, plan: Plan, number: int, seed: int,
    lot: Lot | None = None, report: Callable[[int, int], None] = lambda step, steps: None,
) -> Twin:  # fmt: skip
    """Train the head again on the same events under the same plan, with half of `number` canaries beside the patients.

    The twin's vocabulary and base rates are the model's own, so it tests the learning and not the statistics. It is
    thrown away: nothing of it is kept but the canaries' scores.
    """
    lot = lot or Lot()
    rng = lot.generator()
    wider = with_markers(vocabulary, number)
    secret = rng.integers(0, len(vocabulary.outcomes), number)
    included = rng.random(number) < 0.5
    tokens = tokenise(events, wider)
    ours = prepare(tokens, wider, draw_moments(tokens, rng))
    theirs = canary_moments(secret, wider)
    beside = theirs.only(np.flatnonzero(included))
    torch.manual_seed(seed)
    columns = num_columns(len(wider), int((wider.valued >= 0).sum()), len(QUANTILES))
    head = HazardHead(1, NUM_QUESTION_FEATURES, columns, RANK, base, 0.0)
    PrivateFitter(
        head, wider, joined(ours, beside), plan, tokens.num_subjects + float(included.sum()), lot, report
    ).run()
    rows = (len(vocabulary) + np.arange(number))[:, None] * NUM_PLAIN + np.array(PLAIN)
    return Twin(included, head.history.weight.detach().numpy()[rows, RANK:].sum(axis=1).astype(np.float64), secret)
