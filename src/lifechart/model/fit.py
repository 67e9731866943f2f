"""Fitting a network to token arrays: one seeded, resumable loop. Knows nothing of files but its own checkpoint."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lifechart.core import durable
from lifechart.model import distributed, sharded, threads
from lifechart.model.batches import Collator, Windows, alike, cut, in_groups
from lifechart.model.first_stage import Lesson, fit_members
from lifechart.model.heads import BaseRates, log_base_rates, survival
from lifechart.model.modal_stage import fit_modalities
from lifechart.model.native import library
from lifechart.model.network import Network
from lifechart.model.questions import Labels, Questions, label, sample_questions
from lifechart.model.sizes import Size
from lifechart.model.step import Cores, Objective, Part, autocast, most_places, parts_of, totals_of
from lifechart.model.steps import start_rates
from lifechart.model.tokens import Tokens
from lifechart.model.vocabulary import Vocabulary

_HAND_BACK_EVERY = 4
"""Steps: pages that are handed back cost a hundredth of four steps to come by again."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to learn, apart from size. The values won the ablations in docs/lab-notes."""

    dropout: float = 0.2
    weight_decay: float = 0.1
    prior: tuple[float, float] = (0.01, 0.25)
    """Scale and strength of the heavy-tailed prior on what a column of the history does to a log hazard."""
    next_event_weight: float = 1.0
    recurrence_weight: float = 0.25
    averaging: float = 0.995
    warmup: float = 0.05
    clip: float = 1.0
    patience: int = 2
    most_logits: int = 2_000_000


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a fit stands, for whoever shows it."""

    stage: str
    """`history` (the first, short), `modalities` where there are any, or `network`."""
    step: int
    steps: int
    loss: float
    rate: float
    """Events learnt from a second, in this process."""
    tuning_loss: float


@dataclass(frozen=True)
class Fit:
    """A fitted network and how it went."""

    network: Network
    history: tuple[dict[str, float], ...]
    steps: int
    events: int
    seconds: float


def base_rates(tokens: Tokens, num_outcomes: int, seed: int, per_subject: int = 16) -> BaseRates:
    """Return what the training split says of first onsets, recurrences before anything is learnt."""
    questions = sample_questions(tokens, per_subject, np.random.default_rng([seed, 1]))
    labels = label(tokens, questions, num_outcomes)
    first = log_base_rates(labels.days_to, labels.observed, ~labels.had)
    return BaseRates(first, log_base_rates(labels.days_to, labels.observed, labels.had))


@dataclass
class Fitter:
    """One fit. A `checkpoint` is written every `save_every` steps and at each epoch's end, and resumed from."""

    vocabulary: Vocabulary
    size: Size
    train: Tokens
    tuning: Tokens
    seed: int
    recipe: Recipe
    device: torch.device
    checkpoint: Path | None = None
    data_digest: str = ""
    """What the arrays were made from; with the rest it tells whether a checkpoint is this run's."""
    save_every: int = 200
    sharding: bool = False
    """Under torchrun, each rank holds a slice of the parameters (FSDP) instead of all of them."""
    report: Callable[[Progress], None] = lambda progress: None

    def __post_init__(self) -> None:
        torch.manual_seed(self.seed)
        base = base_rates(self.train, len(self.vocabulary.outcomes), self.seed)
        self.network = Network(self.vocabulary, self.size, base, self.recipe.dropout).to(self.device)
        self.network.next_event.start_from(start_rates(self.train, self.vocabulary))
        self.averaged = self._twin().eval().requires_grad_(False)
        self.optimizer = self._optimizer()
        self.collator = Collator(self.vocabulary, self.size.context, self.device)
        logits = self.size.batch_tokens * len(self.vocabulary)
        self.learner = replace(self.collator, stride=max(1, -(-logits // self.recipe.most_logits)))
        self.step = 0
        self.epoch = 0
        self.events = 0
        self.resumed_events = 0
        self.best = math.inf
        self.best_state: dict[str, torch.Tensor] = {}
        self.history: list[dict[str, float]] = []
        self.losses: list[float] = []
        self.steps = self.size.epochs * len(self._plan(0)[2])

    def run(self, stop_at: int | None = None) -> Fit:
        """Fit until the last epoch, until tuning loss stops falling, or until `stop_at` steps (to be resumed)."""
        began = time.perf_counter()
        compiled = library() is not None
        threads.keep_freed_memory(1 << 20 if compiled else 32 << 20)
        if not self._resume():
            self._first_stage()
        if compiled:
            # What the network's stage keeps falls to pieces (docs/lab-notes/0400: what each size costs and saves).
            threads.keep_freed_memory(1 << 18)
        for each in self._settled():
            each.requires_grad_(False)
        cores = self._cores()
        threads.hand_back_freed_memory()
        with cores.at_work():
            while self.epoch < self.size.epochs and not self._stale():
                questions, windows, groups = self._plan(self.epoch)
                done = self.step - sum(int(each["steps"]) for each in self.history)
                for parts in self._parts(questions, windows, groups[done:]):
                    loss = self._learn(cores, parts)
                    self.losses.append(loss)
                    last = self.history[-1]["tuning_loss"] if self.history else math.nan
                    rate = (self.events - self.resumed_events) / (time.perf_counter() - began)
                    self.report(Progress("network", self.step, self.steps, loss, rate, last))
                    if self.step % self.save_every == 0:
                        self._save()
                    if self.step == stop_at:
                        self._save()
                        return self._fit(began)
                self._end_epoch(len(groups))
        return self._fit(began)

    def _cores(self) -> Cores:
        """Return who works out the gradients; where parameters are to be sharded, they are from here on."""
        weights = (self.recipe.recurrence_weight, self.recipe.next_event_weight)
        if not self._shards:
            return Cores(Objective(self.network, *weights), self._precision())
        held, objective = self.optimizer.state_dict(), sharded.ShardedObjective(self.network, *weights)
        sharded.shard(self.network, objective)
        sharded.shard(self.averaged, self.averaged)
        self.optimizer = self._optimizer()
        sharded.spread_moments(self.optimizer, held)
        return sharded.Shards(objective, self._precision())

    @property
    def _shards(self) -> bool:
        return self.sharding and distributed.among_all()

    @property
    def lesson(self) -> Lesson:
        """What the first stage learns from."""
        return Lesson(self.train, self.vocabulary, self.recipe.recurrence_weight, self.recipe.prior)

    def _first_stage(self) -> None:
        def hear(step: int, steps: int, loss: float) -> None:
            self.report(Progress("history", step, steps, loss, math.nan, math.nan))

        loss = fit_members(self.network.hazards, self.lesson, self.seed, hear)
        if self.network.modal is not None:
            fit_modalities(
                self.network, self.collator, self.vocabulary, self.train, self.tuning, self.seed,
                lambda step, steps, loss: self.report(Progress("modalities", step, steps, loss, math.nan, math.nan)),
            )  # fmt: skip
        self.averaged.load_state_dict(self.network.state_dict())
        self.best, self.best_state = self.tuning_loss(), self._averages()
        self.history.append({"steps": 0, "train_loss": loss, "tuning_loss": self.best})

    def _fit(self, began: float) -> Fit:
        network = self._whole()
        best_state = sharded.gathered(self.best_state)
        if self.best < min((each["tuning_loss"] for each in self.history[1:]), default=math.inf):
            # The first stage stands: the forecasts are its own, while what the backbone learnt of the next event stays.
            first = {name: each for name, each in best_state.items() if name.startswith("hazards.")}
            network.load_state_dict(first, strict=False)
        else:
            network.load_state_dict(best_state)
        return Fit(network, tuple(self.history), self.step, self.events, time.perf_counter() - began)

    def _whole(self) -> Network:
        """Return the averaged weights as a network of its own, whole on every rank."""
        if not self._shards:
            return copy.deepcopy(self.averaged)
        hazards = self.averaged.hazards
        base = BaseRates(*(each.cpu().numpy() for each in (hazards.base_OB, hazards.again_OB)))
        network = Network(self.vocabulary, self.size, base, self.recipe.dropout).to(self.device)
        network.load_state_dict(sharded.gathered(self.averaged.state_dict()))
        return network.eval().requires_grad_(False)

    def _end_epoch(self, steps: int) -> None:
        threads.hand_back_freed_memory()
        tuning_loss = self.tuning_loss()
        train_loss = float(np.mean(self.losses))
        self.history.append({"steps": steps, "train_loss": train_loss, "tuning_loss": tuning_loss})
        self.losses = []
        if tuning_loss < self.best:
            self.best, self.best_state = tuning_loss, self._averages()
        # What the averages read and the next plan wants lie between the pieces that a step left.
        threads.hand_back_freed_memory()
        self.epoch += 1
        self._save()

    def _stale(self) -> bool:
        losses = [each["tuning_loss"] for each in self.history]
        return len(losses) > self.recipe.patience and min(losses) < min(losses[-self.recipe.patience :])

    def _plan(self, epoch: int) -> tuple[Questions, Windows, list[NDArray[np.int64]]]:
        rng = np.random.default_rng([self.seed, 2, epoch])
        questions = sample_questions(self.train, self.size.questions, rng)
        windows = cut(self.train, questions, self.size.context, whole=True)
        order = rng.permutation(len(windows.first))
        return questions, windows, list(in_groups(windows.sizes, order, self.size.batch_tokens))

    def _parts(self, questions: Questions, windows: Windows, groups: list[NDArray[np.int64]]) -> Iterator[list[Part]]:
        """Yield each step's parts, the next ones being collated while the last ones are learnt from."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            ready: Future[list[Part]] | None = None
            for group in groups:
                upcoming = pool.submit(parts_of, self.learner, self.train, questions, windows, group, even=self._shards)
                if ready is not None:
                    yield ready.result()
                ready = upcoming
            if ready is not None:
                yield ready.result()

    def _learn(self, cores: Cores, parts: list[Part]) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.size.rate * self._schedule()
        self.network.train()
        totals = totals_of(parts)
        # Seeding each step makes a resumed run draw the dropout that an unbroken one would have drawn.
        loss = cores.gradients(parts, totals, self.seed * 1_000_003 + self.step)
        nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.events += totals.events
        decay = min(self.recipe.averaging, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            ours, theirs = sharded.local(self.averaged.parameters()), sharded.local(self.network.parameters())
            torch._foreach_lerp_(ours, theirs, 1.0 - decay)
        if self.step % _HAND_BACK_EVERY == 0:
            threads.hand_back_freed_memory()
        return loss

    def _schedule(self) -> float:
        share = self.step / max(self.steps, 1)
        if share < self.recipe.warmup:
            return (self.step + 1) / (self.recipe.warmup * self.steps + 1)
        return 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))

    def _precision(self) -> torch.dtype | None:
        return torch.bfloat16 if bfloat16_pays(self.device) else None

    def tuning_loss(self) -> float:
        """Return the survival loss of the averaged weights on the tuning split, first onsets only."""
        rng = np.random.default_rng([self.seed, 3])
        questions = sample_questions(self.tuning, self.size.questions, rng)
        windows = cut(self.tuning, questions, self.size.context)
        total, number = 0.0, 0
        for part in alike(windows.sizes, np.arange(len(windows.first)), most_places(self.collator)):
            batch, asked = self.collator.batch(self.tuning, questions, windows, part)
            with torch.no_grad(), autocast(self.device, self._precision()):
                output = self.averaged(batch)
            labels = label_of(self.tuning, questions.take(asked), self.vocabulary)
            total += float(survival(output.log_hazard_QOB, labels, 0.0)) * len(asked)
            number += len(asked)
        return total / max(number, 1)

    def _optimizer(self) -> torch.optim.AdamW:
        return torch.optim.AdamW(self._groups(), lr=self.size.rate, betas=(0.9, 0.999), fused=True)

    def _groups(self) -> list[dict[str, Any]]:
        """Return what the second stage learns: all but the hazard head's own part, which the first one has settled."""
        settled = {id(each) for each in self._settled()}
        learnt = [each for each in self.network.parameters() if id(each) not in settled]
        return [
            {"params": [each for each in learnt if each.ndim >= 2], "weight_decay": self.recipe.weight_decay},
            {"params": [each for each in learnt if each.ndim < 2], "weight_decay": 0.0},
        ]

    def _settled(self) -> list[nn.Parameter]:
        return [each for name, each in self.network.named_parameters() if _settles(name)]

    def _held_once(self) -> dict[str, nn.Parameter]:
        """Return the parameters that no step of the network's own stage moves: their average is what they are."""
        named = self.network.named_parameters()
        return {name: each for name, each in named if _settles(name) or name.startswith("every_code.")}

    def _twin(self) -> Network:
        once = {id(each): nn.Parameter(each.data) for each in self._held_once().values()}
        return copy.deepcopy(self.network, once)

    def _averages(self) -> dict[str, torch.Tensor]:
        """Return the averaged weights as they are now; those that do not move are not copied."""
        once = self._held_once()
        return {name: each if name in once else each.clone() for name, each in self.averaged.state_dict().items()}

    def _identity(self) -> str:
        shape = [asdict(self.size), asdict(self.recipe), self.seed, self.data_digest]
        return durable.digest_of([*shape, list(self.vocabulary.codes), len(self.train), len(self.tuning)])

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        learnt = {
            "network": self.network.state_dict(), "averaged": self.averaged.state_dict(),
            "best_state": self.best_state, "optimizer": self.optimizer.state_dict(),
        }  # fmt: skip
        learnt = sharded.gathered(learnt) if self._shards else learnt
        if not distributed.world().leads:
            return
        state = {
            "identity": self._identity(), **learnt, "step": self.step, "epoch": self.epoch, "events": self.events,
            "best": self.best, "history": self.history, "losses": self.losses,
        }  # fmt: skip
        with durable.replacing(self.checkpoint) as aside:
            torch.save(state, aside)

    def _resume(self) -> bool:
        """Go on from the checkpoint, if it is this run's; say whether it was."""
        if self.checkpoint is None or not self.checkpoint.exists():
            return False
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        if state["identity"] != self._identity():
            return False  # Another run's: this one begins anew and overwrites it.
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best_state, self.best, self.history = state["best_state"], state["best"], state["history"]
        self.losses = state["losses"]
        self.step, self.epoch, self.events = state["step"], state["epoch"], state["events"]
        self.resumed_events = self.events
        return True


def label_of(tokens: Tokens, questions: Questions, vocabulary: Vocabulary) -> Labels:
    """Return the labels of questions over a vocabulary's outcomes."""
    return label(tokens, questions, len(vocabulary.outcomes))


def bfloat16_pays(device: torch.device) -> bool:
    """Whether 16-bit matrix products are in the hardware, and so faster: any recent GPU, a CPU with AMX or AVX-512."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def _settles(name: str) -> bool:
    """Whether the first stages settle a parameter of the network: the hazard head's and the modalities' own parts."""
    head, _, rest = name.partition(".")
    learns = {"hazards": "from_hidden", "modal": "fuse"}.get(head)
    return learns is not None and not rest.startswith(learns)
