"""The local questions that an adaptation is fitted to: what the released model says of them, and what came.

Legend of shapes: Q questions, O outcomes, B intervals, C history columns, F features of a moment, Z states.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from lifechart.model.adapt.reading import Scale, moved
from lifechart.model.batches import Collator, question_features
from lifechart.model.checkpoint import Model
from lifechart.model.heads import WIDTHS
from lifechart.model.inference import tell
from lifechart.model.questions import EDGES, Labels, Questions, history, label, num_columns, sample_questions
from lifechart.model.tokens import Entries, Tokens, tokens_of
from lifechart.model.vocabulary import QUANTILES, Vocabulary

PER_LIFE, MOST_QUESTIONS = 12.0, 24_000
_PER_LIFE_OF_SCALES, _MOST_OF_SCALES = 6.0, 8_000
_CHUNK = 2048
_PSEUDO_EVENTS = 10.0
_NOTHING = np.empty(0, np.float32)


@dataclass(frozen=True, eq=False)
class Asked:
    """Questions of one local split."""

    log_hazard: NDArray[np.float32]
    """What the model says, raw [Q, O, B]."""
    state: NDArray[np.float32]
    features: NDArray[np.float32]
    past: csr_array
    """The history [Q, C]."""
    labels: Labels
    had: NDArray[np.bool_]
    subject: NDArray[np.int64]

    def at_risk(self, outcome: int) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """Return the questions that a first onset could follow, their days at risk and whether it came, [n, B]."""
        rows = np.flatnonzero(~self.had[:, outcome] & (self.labels.observed > 0))
        days, observed = self.labels.days_to[rows, outcome, None], self.labels.observed[rows, None]
        low, high = np.array(EDGES[:-1]), np.array(EDGES[1:])
        exposure = np.clip(np.minimum(days, observed) - low, 0.0, np.array(WIDTHS))
        seen = (days > low) & (days <= high) & (days <= observed)
        return rows, exposure.astype(np.float64), seen.astype(np.float64)


def ask_locally(model: Model, tokens: Tokens, seed: int, per_life: float = PER_LIFE) -> Asked:
    """Draw questions from local records and put them to the model."""
    questions = drawn(tokens, seed, per_life, MOST_QUESTIONS)
    collator = Collator(model.vocabulary, model.size.context, torch.device("cpu"))
    told = tell(model.network, collator, tokens, questions)
    labels = label(tokens, questions, len(model.vocabulary.outcomes))
    return Asked(
        told.log_hazard, told.state, question_features(tokens, questions),
        past_of(tokens, questions, model.vocabulary), labels, told.had, questions.subject,
    )  # fmt: skip


def drawn(tokens: Tokens, seed: int, per_life: float, most: int) -> Questions:
    """Draw questions as training does, `most` at most."""
    per_life = min(per_life, most / max(tokens.num_subjects, 1))
    return sample_questions(tokens, per_life, np.random.default_rng([seed, 31]))


def past_of(tokens: Tokens, questions: Questions, vocabulary: Vocabulary) -> csr_array:
    """Return the history as a sparse matrix [Q, C]."""
    found = history(tokens, questions, vocabulary.valued, len(QUANTILES))
    width = num_columns(len(vocabulary), int((vocabulary.valued >= 0).sum()), len(QUANTILES))
    pointers = np.append(found.offsets, len(found.column))
    return csr_array((found.weight, found.column, pointers), shape=(len(questions), width))


@dataclass
class ScaleTrial:
    """Says what moving some value scales adds to the local log likelihood, by the head on the history alone.

    Each outcome's overall rate is put right first, on either side, so that no scale is moved for what a rate explains.
    """

    model: Model
    read: Entries
    seed: int

    def __post_init__(self) -> None:
        self._before = self._losses(self.model.vocabulary)

    def gain(self, scales: list[Scale]) -> tuple[float, float]:
        """Return the gain in log likelihood, each event counted about once, and its standard error over people."""
        vocabulary = self.model.vocabulary
        knots = vocabulary.knots.copy()
        for row, scale in moved(vocabulary, scales).items():
            knots[row] = scale
        gained = self._before - self._losses(replace(vocabulary, knots=knots))
        return float(gained.sum()), float(np.sqrt(np.square(gained).sum()))

    def _losses(self, vocabulary: Vocabulary) -> NDArray[np.float64]:
        """Return the negative log likelihood by person."""
        tokens = tokens_of(self.read, vocabulary)
        questions = drawn(tokens, self.seed, _PER_LIFE_OF_SCALES, _MOST_OF_SCALES)
        labels = label(tokens, questions, len(vocabulary.outcomes))
        asked = Asked(
            self._said(tokens, questions, labels), _NOTHING, _NOTHING, csr_array((1, 1)), labels, labels.had,
            questions.subject,
        )  # fmt: skip
        losses = np.zeros(tokens.num_subjects)
        for outcome in range(len(vocabulary.outcomes)):
            rows, exposure, seen = asked.at_risk(outcome)
            expected = np.exp(asked.log_hazard[rows, outcome].astype(np.float64)) * exposure
            shift = np.log((seen.sum() + _PSEUDO_EVENTS) / (expected.sum() + _PSEUDO_EVENTS))
            each = (np.exp(shift) * expected - seen * (asked.log_hazard[rows, outcome] + shift)).sum(axis=1)
            np.add.at(losses, asked.subject[rows], each)
        return losses / max(1.0, _PER_LIFE_OF_SCALES / 2)

    def _said(self, tokens: Tokens, questions: Questions, labels: Labels) -> NDArray[np.float32]:
        head = self.model.network.hazards
        features = question_features(tokens, questions)
        said = []
        for first in range(0, len(questions), _CHUNK):
            some = np.arange(first, min(first + _CHUNK, len(questions)))
            past = history(tokens, questions.take(some), self.model.vocabulary.valued, len(QUANTILES))
            with torch.inference_mode():
                log_hazard, _ = head(
                    None, torch.from_numpy(features[some]),
                    (torch.from_numpy(past.column), torch.from_numpy(past.weight), torch.from_numpy(past.offsets)),
                    torch.from_numpy(labels.had[some]),
                )  # fmt: skip
            said.append(log_hazard.numpy())
        return self.model.calibration.hazards(np.concatenate(said))
