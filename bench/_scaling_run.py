"""One run of the scaling study: a network of any shape learns from some lives, and is scored on lives it never saw.

The history stage is fitted once and lent to every network, so that runs differ in the backbone and nothing else.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray

from lifechart.model.batches import Collator, alike, cut
from lifechart.model.fit import Fitter, Recipe
from lifechart.model.heads import BaseRates, survival
from lifechart.model.network import Network
from lifechart.model.questions import label, sample_questions
from lifechart.model.sizes import Size
from lifechart.model.steps import Steps
from lifechart.model.tokens import Tokens
from lifechart.model.vocabulary import Vocabulary

CPU = torch.device("cpu")
RECIPE = Recipe(dropout=0.0, next_event_weight=1.0)
"""Lives are read once, so nothing is over-fitted and nothing need be dropped; the weight is that of the pilot."""
BATCH_TOKENS = 512
"""Events a step: the better of 512 and 2048 where the budget is smallest."""
QUESTIONS = 12
Change = Callable[[Network], None]
"""What a variant does to a network before it learns."""


def unchanged(network: Network) -> None:
    """Leave a network as it is."""


@dataclass(frozen=True)
class Lent:
    """What every run begins from: the history stage and the starting rates, which no backbone has a part in."""

    hazards: dict[str, torch.Tensor]
    next_event: dict[str, torch.Tensor]
    base: BaseRates

    @classmethod
    def of(cls, network: Network) -> Lent:
        """Take what does not depend on the backbone's width from a network after its first stage."""
        hazards = {n: t.clone() for n, t in network.hazards.state_dict().items() if not n.startswith("from_hidden")}
        rates = {n: t.clone() for n, t in network.next_event.state_dict().items() if n in ("code_bias", "when.bias")}
        return cls(hazards, rates, BaseRates(hazards["base_OB"].numpy(), hazards["again_OB"].numpy()))


class Thin(Size):
    """A size that may be narrower than one head of the product's."""

    @property
    def heads(self) -> int:
        """Attention heads, one at the least."""
        return max(1, self.width // 32)


@dataclass(frozen=True)
class Setting:
    """One run: which network, how it is changed, what it may read, and how it learns."""

    width: int = 64
    layers: int = 2
    context: int = 256
    rank: int = 48
    change: Change = unchanged
    rate: float | None = None
    recipe: Recipe = RECIPE
    batch_tokens: int = BATCH_TOKENS
    alone: bool = False
    """Without the history: its table is nothing and stays so, and the rest of the hazard head learns in its stead."""

    @property
    def size(self) -> Size:
        """The shape as the product's own."""
        rate = self.rate or 1e-2 * min(1.0, (64 / self.width) ** 0.5)
        return Thin(self.width, self.layers, self.context, self.rank, self.batch_tokens, rate, 1, QUESTIONS)


@dataclass
class Run(Fitter):
    """A fit whose first stage is lent, and which is not scored as it goes."""

    lent: Lent | None = None
    setting: Setting = Setting()

    def __post_init__(self) -> None:
        """Build the network as a fit does, then lend it the first stage and change it."""
        assert self.lent is not None
        torch.manual_seed(self.seed)
        self.network = Network(self.vocabulary, self.size, self.lent.base, self.recipe.dropout)
        self.network.next_event.load_state_dict(self.lent.next_event, strict=False)
        if not self.setting.alone:
            self.network.hazards.load_state_dict(self.lent.hazards, strict=False)
        else:
            torch.nn.init.zeros_(self.network.hazards.history.weight)
        self.setting.change(self.network)
        self.averaged = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self._groups(), lr=self.size.rate, betas=(0.9, 0.999), fused=True)
        self.collator = Collator(self.vocabulary, self.size.context, self.device)
        self.learner = replace(self.collator, stride=1)
        self.step = self.epoch = self.events = self.resumed_events = 0
        self.best, self.best_state = 0.0, {}
        self.history, self.losses = [], []
        self.steps = len(self._plan(0)[2])

    def _first_stage(self) -> None:
        """Nothing: it is lent."""

    def _settled(self) -> list[torch.nn.Parameter]:
        if self.setting.alone:
            return list(self.network.hazards.history.parameters())
        return super()._settled()

    def tuning_loss(self) -> float:
        """Score nothing: what a run learnt last is what is scored, once, on other lives."""
        return 1.0


def learn(vocabulary: Vocabulary, setting: Setting, tokens: Tokens, lent: Lent, seed: int) -> Network:
    """Read `tokens` once; return the averaged network."""
    run = Run(vocabulary, setting.size, tokens, tokens, seed, setting.recipe, CPU, lent=lent, setting=setting)
    run.run()
    return run.averaged


@dataclass(frozen=True)
class Scored:
    """Sums over the unseen lives, cluster by cluster [C], so that two runs are compared on the very same lives.

    `after` and `ahead` [C, 3]: negative log likelihood of the next event's time, code and value, from right after an
    event and from a question somewhere in the silence; `survival` [C]: of all outcomes' first onsets, from a question.
    """

    after: NDArray[np.float64]
    num_after: NDArray[np.float64]
    ahead: NDArray[np.float64]
    num_ahead: NDArray[np.float64]
    survival: NDArray[np.float64]
    num_questions: NDArray[np.float64]

    @property
    def next_event(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The next-event head's own loss, both sorts of moment together, and their number [C]."""
        return self.after.sum(1) + self.ahead.sum(1), self.num_after + self.num_ahead


@dataclass(frozen=True)
class Unseen:
    """Lives to score on, in clusters that are the units of every interval."""

    clusters: tuple[Tokens, ...]
    vocabulary: Vocabulary
    per_life: int = 16

    def score(self, network: Network, context: int, longer_than: int = 0) -> Scored:
        """Score a network; every network is asked the same questions, where more than so many events are known."""
        rows = [self._cluster(network, context, number, longer_than) for number in range(len(self.clusters))]
        return Scored(*(np.array(each, dtype=np.float64) for each in zip(*rows, strict=True)))

    def _cluster(self, network: Network, context: int, number: int, longer_than: int) -> tuple[object, ...]:
        tokens = self.clusters[number]
        collator = Collator(self.vocabulary, context, CPU, stride=1)
        questions = sample_questions(tokens, self.per_life, np.random.default_rng([17, number]))
        known = questions.stop - tokens.starts[questions.subject]
        questions = questions.take(np.flatnonzero(known > longer_than))
        windows = cut(tokens, questions, context, whole=True)
        losses, numbers, survived = np.zeros((2, 3)), np.zeros(2), 0.0
        for part in alike(windows.sizes, np.arange(len(windows.first)), 4096):
            batch, asked = collator.batch(tokens, questions, windows, part)
            assert batch.steps is not None
            with torch.inference_mode():
                output = network(batch)
                hidden_ND = output.hidden_RTD.flatten(0, 1)
                relative_QOB = output.log_hazard_QOB - network.hazards.base_OB
                for sort in (0, 1):
                    steps = some(batch.steps, batch.steps.fresh == (sort == 0))
                    mean = network.next_event.losses(hidden_ND, output.state_QZ, relative_QOB, steps)
                    losses[sort] += mean.numpy() * len(steps)
                    numbers[sort] += len(steps)
            labels = label(tokens, questions.take(asked), len(self.vocabulary.outcomes))
            survived += float(survival(output.log_hazard_QOB, labels, 0.0)) * len(asked)
        return losses[0], numbers[0], losses[1], numbers[1], survived, len(questions)


def some(steps: Steps, chosen: NDArray[np.bool_]) -> Steps:
    """Return some of the steps."""
    return Steps(*(getattr(steps, each.name)[chosen] for each in fields(steps)))


def lives(tokens: Tokens, first: int, last: int) -> Tokens:
    """Return the subjects [first, last) of tokens."""
    begin, end = tokens.starts[first], tokens.starts[last]
    of_subject = ("subject_ids", "origin", "end", "window", "birth_known")
    arrays = {each.name: getattr(tokens, each.name) for each in fields(tokens) if each.name not in ("items", "truth")}
    chosen = {name: a[first:last] if name in of_subject else a[begin:end] for name, a in arrays.items()}
    chosen["starts"] = tokens.starts[first : last + 1] - begin
    chosen["next_same"] = np.minimum(chosen["next_same"], end) - begin
    return Tokens(**chosen)
