"""One step of learning: the gradient of a batch, worked out part by part, by every core at once.

A part holds a few records of like length, so few events that its activations stay in a core's cache. Each part has
its own seed, and gradients are summed in the order of the parts: how many cores work on them changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lifechart.model import distributed, threads
from lifechart.model.batches import Collator, Windows, alike
from lifechart.model.heads import survival
from lifechart.model.kernels import drawing
from lifechart.model.native.block import Lent
from lifechart.model.network import Batch, Network
from lifechart.model.questions import Labels, Questions, label
from lifechart.model.tokens import Tokens

CPU_PLACES, LONG_PLACES, GPU_PLACES = 1536, 512, 65536
"""Places of a part: on a CPU what a core's cache holds, fewer where the context is longer than _SHORT, on a GPU enough
to keep it busy."""
_SHORT = 256


@dataclass(frozen=True)
class Part:
    """Some records of a step, what came of their questions, and what its random numbers start from."""

    batch: Batch
    labels: Labels
    number: int
    idle: bool = False
    """Another rank's as well, and counted there: worked on because the others work on one more."""

    @property
    def num_steps(self) -> int:
        """Moments from which the next event is learnt."""
        return 0 if self.batch.steps is None else len(self.batch.steps)


@dataclass(frozen=True)
class Totals:
    """What the sums over all parts of a step are divided by."""

    questions: int
    steps: int
    """Moments from which the next event is learnt."""
    events: int


def most_places(collator: Collator) -> int:
    """Return how many places a pass over records has at once, whether they are learnt from or only read."""
    on_cpu = CPU_PLACES if collator.context <= _SHORT else LONG_PLACES
    return on_cpu if collator.device.type == "cpu" else GPU_PLACES


def parts_of(
    collator: Collator,
    tokens: Tokens,
    questions: Questions,
    windows: Windows,
    group: NDArray[np.int64],
    *,
    even: bool = False,
) -> list[Part]:
    """Collate one step's windows into parts of like sizes: those of this rank, if there are several.

    `even`: each rank has as many as any other, the last of them idle where they do not go up.
    """
    every = alike(windows.sizes, group, most_places(collator))
    ranks = distributed.world().size if even else 1
    parts = []
    for number in range(-(-len(every) // ranks) * ranks):
        if not distributed.mine(number):
            continue
        chosen = every[min(number, len(every) - 1)]
        batch, asked = collator.batch(tokens, questions, windows, chosen)
        labels = label(tokens, questions.take(asked), len(collator.vocabulary.outcomes))
        parts.append(Part(batch, labels, number, idle=number >= len(every)))
    return parts


def totals_of(parts: Sequence[Part]) -> Totals:
    """Count what all parts of all ranks hold together."""
    counted = [part for part in parts if not part.idle]
    mine = (
        sum(len(part.labels.observed) for part in counted),
        sum(part.num_steps for part in counted),
        sum(part.batch.num_events for part in counted),
    )
    questions, steps, events = (int(each) for each in distributed.summed(mine))
    return Totals(questions, max(steps, 1), events)


class Objective(nn.Module):
    """What is learnt, as a module: the losses of one part, as shares of their step's."""

    def __init__(self, network: Network, recurrence_weight: float, next_event_weight: float) -> None:
        super().__init__()
        self.network = network
        self.recurrence_weight, self.next_event_weight = recurrence_weight, next_event_weight

    def forward(self, part: Part, totals: Totals) -> tuple[Tensor, Tensor]:
        """Return the whole loss and the survival loss alone; summed over parts they are means over the step."""
        output = self.network(part.batch)
        # In 32 bits: no two parts have as many steps (see batches.LENGTHS).
        with torch.autocast(output.hidden_RTD.device.type, enabled=False):
            following = self.network.next_event_loss(part.batch, output)
        main = survival(output.log_hazard_QOB, part.labels, self.recurrence_weight)
        main = main * (len(part.labels.observed) / totals.questions)
        return main + self.next_event_weight * (part.num_steps / totals.steps) * following, main.detach()


class Cores:
    """Works out the gradients of a step on this machine: a thread a core on a CPU, one after another elsewhere."""

    def __init__(self, objective: Objective, precision: torch.dtype | None) -> None:
        self.objective, self.precision = objective, precision
        self.device = next(objective.parameters()).device
        self._pool: ThreadPoolExecutor | None = None

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Hold the threads ready. Within, torch's own threads are off: they would wait for each other."""
        num = threads.cores() if self.device.type == "cpu" else 1
        with threads.limited_to(1 if self.device.type == "cpu" else threads.cores()), ThreadPoolExecutor(num) as pool:
            self._pool = pool
            try:
                yield
            finally:
                self._pool = None
                Lent.forget()

    def gradients(self, parts: Sequence[Part], totals: Totals, seed: int) -> float:
        """Set every learnt parameter's gradient to the step's; return the step's survival loss."""
        learnt = [each for each in self.objective.parameters() if each.requires_grad]
        assert self._pool is not None, "only within at_work()"

        def work(part: Part) -> tuple[list[Tensor], float]:
            with drawing(part_seed(seed, part)), autocast(self.device, self.precision):
                loss, main = self.objective(part, totals)
            return list(torch.autograd.grad(loss, learnt, materialize_grads=True)), float(main)

        total, summed = 0.0, [torch.zeros_like(each) for each in learnt] if not parts else []
        for number, (grads, main) in enumerate(self._pool.map(work, parts)):
            if number:
                torch._foreach_add_(summed, grads)
            else:
                summed = grads
            total += main
        distributed.sum_gradients(summed)
        for each, grad in zip(learnt, summed, strict=True):
            each.grad = grad
        return distributed.summed([total])[0]


def part_seed(seed: int, part: Part) -> int:
    """Return what a part's random numbers start from, whoever works on it."""
    return int(np.random.SeedSequence([seed, part.number]).generate_state(1, np.uint64)[0] >> 1)


def autocast(device: torch.device, precision: torch.dtype | None) -> torch.autocast:
    """Return the context in which products are worked out in `precision` (None: as they come)."""
    return torch.autocast(device.type, dtype=precision or torch.bfloat16, enabled=precision is not None)
