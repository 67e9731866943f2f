"""Models that learnt without one source of a data set, and a model that reads without it: what contribution is made of.

What is asked stays the same: the labels, and who had an outcome before, come from the whole records, so that a source
that tells outcomes is judged by what its records say of others. Birth, death and the end of observation always stay.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from lifechart.core.errors import InputError
from lifechart.core.timeline import BIRTH, DEATH, RECORD_END
from lifechart.data import shards
from lifechart.model.batches import Collator, question_features
from lifechart.model.first_stage import Lesson, fit_first_stage
from lifechart.model.fit import Fitter, Recipe, base_rates
from lifechart.model.forecaster import NetworkForecaster
from lifechart.model.heads import HazardHead, cumulative_incidence
from lifechart.model.inference import tell
from lifechart.model.network import NUM_QUESTION_FEATURES, Network
from lifechart.model.questions import HORIZONS, Questions, ask_prompts, history, label, num_columns
from lifechart.model.sizes import Size, size_named
from lifechart.model.tokens import Tokens, tokenise
from lifechart.model.vocabulary import QUANTILES, Vocabulary, build_vocabulary

METHODS = ("head", "whole")
BY = ("source", "kind")
_ALWAYS = (BIRTH, DEATH, RECORD_END)
_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class LeaveOut:
    """A data set whose sources can be left out: each by the name that `by` (a column) gives it."""

    train: pl.DataFrame
    tuning: pl.DataFrame
    by: str
    size: Size
    outcomes: tuple[str, ...]

    @classmethod
    def of(cls, dataset: Path, outcomes: tuple[str, ...], by: str | None = None, size: str = "xs") -> LeaveOut:
        """Read a data set. `by`: `source` for one that was joined (then the default), else `kind` of chart item."""
        train, tuning = (shards.read_split(dataset, split) for split in ("train", "tuning"))
        by = by or ("source" if "source" in train.columns else "kind")
        if by not in BY or by not in train.columns:
            raise InputError("--by", by, f"one of {', '.join(BY)}; `source` for data sets of `lifechart combine`")
        return cls(train, tuning, by, size_named(size), outcomes)

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the sources, in order."""
        held = self.train.filter(~pl.col("code").is_in(_ALWAYS))
        return tuple(held[self.by].drop_nulls().unique().sort().to_list())

    def learnt(
        self, without: str | None, method: str, seed: int, report: Callable[[float], None] = lambda share: None
    ) -> Blind:
        """Train on everything but one source (None: on everything); what comes of it does not read that source either.

        `head`: the hazard head on the history, which gives most of the skill at a fraction of the time. `whole`: the
        whole network. The same seed gives the same chance to all.
        """
        if method not in METHODS:
            raise InputError("--method", method, f"one of {', '.join(METHODS)}")
        seen = visible(self.train, self.by, without)
        vocabulary = replace(build_vocabulary(seen), outcomes=self.outcomes)
        train = tokens_with_truth(self.train, vocabulary, self.by, without)
        if method == "head":
            forecast = _head(train, vocabulary, self.size, seed, report)
        else:
            tuning = tokens_with_truth(self.tuning, vocabulary, self.by, without)
            forecast = _whole(train, tuning, vocabulary, self.size, seed, report)
        name = "everything" if without is None else f"without {without}"
        return Blind(name, vocabulary, self.by, without, forecast)


Forecast = Callable[[Tokens, Questions], NDArray[np.float32]]
"""Log hazards [Q, O, B]."""


@dataclass(frozen=True, eq=False)
class Blind:
    """A forecaster that does not read one source."""

    name: str
    vocabulary: Vocabulary
    by: str
    without: str | None
    forecast: Forecast

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Codes forecast."""
        return self.vocabulary.outcomes

    @property
    def horizons(self) -> tuple[int, ...]:
        """Horizons in days."""
        return HORIZONS

    def risks(self, events: pl.DataFrame, prompts: pl.DataFrame) -> NDArray[np.float32]:
        """Return probabilities [prompts, outcomes, horizons]; who else is unknown counts as blank."""
        asked = events.join(prompts.select("subject_id").unique(), on="subject_id", how="semi")
        tokens = tokenise(visible(asked, self.by, self.without), self.vocabulary)
        death = self.outcomes.index(DEATH) if DEATH in self.outcomes else None
        return cumulative_incidence(self.forecast(tokens, ask_prompts(tokens, prompts)), death)


@dataclass(frozen=True, eq=False)
class Silenced:
    """A model as it is, one source kept from it: what a feed that stops would cost, before anything is learnt anew."""

    forecaster: NetworkForecaster
    by: str
    without: str

    @property
    def name(self) -> str:
        """A short name for tables."""
        return f"silent {self.without}"

    @property
    def outcomes(self) -> tuple[str, ...]:
        """Codes forecast."""
        return self.forecaster.outcomes

    @property
    def horizons(self) -> tuple[int, ...]:
        """Horizons in days."""
        return self.forecaster.horizons

    def risks(self, events: pl.DataFrame, prompts: pl.DataFrame) -> NDArray[np.float32]:
        """Return probabilities [prompts, outcomes, horizons]."""
        return self.forecaster.risks(visible(events, self.by, self.without), prompts)


def visible(events: pl.DataFrame, by: str, without: str | None) -> pl.DataFrame:
    """Return the events without one source's, births, deaths and ends of observation apart."""
    if without is None:
        return events
    return events.filter(pl.col("code").is_in(_ALWAYS) | pl.col(by).ne_missing(without))


def tokens_with_truth(events: pl.DataFrame, vocabulary: Vocabulary, by: str, without: str | None) -> Tokens:
    """Return tokens of what is visible, whose labels come from everything; who has nothing left is left out."""
    if without is None:
        return tokenise(events, vocabulary)
    seen = visible(events, by, without)
    left = seen.filter(~pl.col("code").is_in(_ALWAYS)).select("subject_id").unique()
    tokens = tokenise(seen.join(left, on="subject_id", how="semi", maintain_order="left"), vocabulary)
    whole = tokenise(events.join(left, on="subject_id", how="semi", maintain_order="left"), vocabulary)
    return replace(tokens, truth=whole)


def _head(train: Tokens, vocabulary: Vocabulary, size: Size, seed: int, report: Callable[[float], None]) -> Forecast:
    torch.manual_seed(seed)
    recipe, base = Recipe(), base_rates(train, len(vocabulary.outcomes), seed)
    columns = num_columns(len(vocabulary), int((vocabulary.valued >= 0).sum()), len(QUANTILES))
    head = HazardHead(size.width, NUM_QUESTION_FEATURES, columns, size.rank, base, recipe.dropout)
    lesson = Lesson(train, vocabulary, recipe.recurrence_weight, recipe.prior)
    fit_first_stage(head, lesson, seed, lambda step, steps, loss: report(step / steps))
    head.eval().requires_grad_(False)
    return lambda tokens, questions: head_alone(head, vocabulary, tokens, questions)


def head_alone(head: HazardHead, vocabulary: Vocabulary, tokens: Tokens, questions: Questions) -> NDArray[np.float32]:
    """Return what a hazard head says on the history alone, log hazards [Q, O, B]."""
    said = []
    for first in range(0, len(questions), _CHUNK):
        put = questions.take(np.arange(first, min(first + _CHUNK, len(questions))))
        past = history(tokens, put, vocabulary.valued, len(QUANTILES))
        had = label(tokens, put, len(vocabulary.outcomes)).had
        with torch.inference_mode():
            log_hazard, _ = head(
                None, torch.from_numpy(question_features(tokens, put)),
                (torch.from_numpy(past.column), torch.from_numpy(past.weight), torch.from_numpy(past.offsets)),
                torch.from_numpy(had),
            )  # fmt: skip
        said.append(log_hazard.numpy())
    return np.concatenate(said)


def _whole(
    train: Tokens, tuning: Tokens, vocabulary: Vocabulary, size: Size, seed: int, report: Callable[[float], None]
) -> Forecast:
    device = torch.device("cpu")
    fitter = Fitter(
        vocabulary, size, train, tuning, seed, Recipe(), device,
        report=lambda at: report(at.step / max(at.steps, 1) if math.isfinite(at.loss) else 0.0),
    )  # fmt: skip
    network: Network = copy.deepcopy(fitter.run().network).eval().requires_grad_(False)
    collator = Collator(vocabulary, size.context, device)
    return lambda tokens, questions: tell(network, collator, tokens, questions).log_hazard
