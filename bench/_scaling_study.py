"""The runs of the scaling study, each one's score kept, and the laws that are read off them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

import lifechart.model
from bench import _scaling_variants as variants
from bench._scaling_beyond import LONG, Long
from bench._scaling_flops import Cost, cost, history_cost
from bench._scaling_laws import Curve, Estimate, Floats, Surface, exponent, jackknife, parabola, surface
from bench._scaling_lives import Lives
from bench._scaling_plan import BASE, Plan, Shape, chosen
from bench._scaling_run import QUESTIONS, RECIPE, Lent, Scored, Setting, learn, lives
from lifechart.core import durable
from lifechart.model.batches import cut
from lifechart.model.first_stage import Lesson, fit_first_stage
from lifechart.model.fit import base_rates
from lifechart.model.network import Network
from lifechart.model.questions import history, sample_questions
from lifechart.model.steps import start_rates
from lifechart.model.vocabulary import QUANTILES

_LEAST_RUNS = 3
"""Runs that a parabola is put through at the least; a budget with fewer has none."""
_COUNTED = 300
"""Lives over which mean lengths of rows and of histories are taken."""


@dataclass(frozen=True)
class Point:
    """One isoFLOP run."""

    budget: float
    shape: Shape
    cost: Cost
    events: int
    scored: Scored

    @property
    def loss(self) -> float:
        """The loss of the next event."""
        sums, number = self.scored.next_event
        return float(sums.sum() / number.sum())


@dataclass
class Study:
    """Everything that was run, by name."""

    data: Lives
    folder: Path
    plan: Plan
    points: list[Point] = field(default_factory=list)
    ablations: dict[str, list[Scored]] = field(default_factory=dict)
    grid: dict[tuple[int, int], Scored] = field(default_factory=dict)
    long: dict[str, Scored] = field(default_factory=dict)
    """Scores on records longer than LONG alone."""
    risks: dict[str, Floats] = field(default_factory=dict)
    """One-year risks [P, O] of the long records' prompts."""

    _surfaces: dict[int | None, Surface] = field(default_factory=dict)

    def run(self) -> None:
        """Make every run that is not kept."""
        torch.set_num_threads(1)
        (self.folder / "runs").mkdir(parents=True, exist_ok=True)
        for budget, shapes in self.plan.budgets.items():
            self.points += [self._point(budget, shape) for shape in shapes]
        lent = (self.plan.lent_lives, 48)
        self._scored("history's forecast", grid=lent, long=True)
        for most in (64, LONG):
            name = f"history's forecast, of the latest {most} events"
            self.risks[name] = self._kept(name, partial(self._cut_risks, lent, most))
        tokens = self.data.first(self.plan.ablation_events)
        for seed in range(self.plan.seeds):
            name = f"{BASE}, seed {seed}" if seed else BASE
            self.ablations.setdefault(BASE, []).append(self._scored(name, Setting(), tokens, seed=seed, long=not seed))
        for name, setting in chosen(self.plan).items():
            long = setting.context != Setting.context or setting.alone
            self.ablations[name] = [self._scored(name, setting, tokens, long=long)]
        self.risks["oracle"] = self._kept("oracle", self.records.oracle)
        for number, rank in self.plan.grid:
            self.grid[number, rank] = self._scored(f"history of {number} lives, rank {rank}", grid=(number, rank))

    def _cut_risks(self, lent: tuple[int, int], most: int) -> Floats:
        return self.records.risks(self._first_stage(*lent), Setting.context, most)

    @cached_property
    def records(self) -> Long:
        """The long records that the oracle is asked about too."""
        return Long.of(self.data)

    @cached_property
    def lent(self) -> Lent:
        """The history stage that every run begins from."""
        return Lent.of(self._first_stage(self.plan.lent_lives, 48))

    @cached_property
    def mark(self) -> str:
        """What a kept score is good for: this code, these lives."""
        rooms = [*Path(lifechart.model.__file__).parent.rglob("*.py")]
        rooms += [Path(__file__).parent / f"_scaling_{name}.py" for name in ("run", "variants")]
        digests = [durable.file_digest(each) for each in sorted(rooms)]
        sizes = len(self.data.tokens), sum(len(each) for each in self.data.unseen.clusters), self.plan.lent_lives
        return durable.digest_of([*digests, *sizes])[:16]

    def cost(self, shape: Shape) -> Cost:
        """Count what an event costs a network of some shape."""
        vocabulary = self.data.vocabulary
        some, questions = self._asked
        sizes = cut(some, questions, Setting.context, whole=True).sizes.astype(float)
        places = float(np.square(sizes).sum() / sizes.sum())
        per_event = QUESTIONS * some.num_subjects / len(some)
        return cost(*shape, len(vocabulary), len(vocabulary.outcomes), Setting.rank, places, per_event)

    def history_flops(self, rank: int) -> float:
        """Count what a question costs the history stage."""
        some, questions = self._asked
        past = history(some, questions, self.data.vocabulary.valued, len(QUANTILES))
        return history_cost(len(past.column) / len(questions), len(self.data.vocabulary.outcomes), rank)

    def curves(self, without: int | None = None) -> list[Curve]:
        """Return each budget's parabola, perhaps without one of the runs."""
        left = [each for number, each in enumerate(self.points) if number != without]
        found = []
        for budget in self.plan.budgets:
            mine = [each for each in left if each.budget == budget]
            if len(mine) < _LEAST_RUNS:
                continue
            columns = np.array([[each.cost.parameters, each.events, each.loss] for each in mine])
            found.append(parabola(budget, *columns.T))
        return found

    def exponents(self) -> dict[str, Estimate]:
        """Return how the best parameters and events grow with the budget, by both approaches, and the surface's own."""

        def over_curves(what: str) -> Estimate:
            return self._jackknifed(lambda out: exponent(*_columns(self.curves(out), "budget", what)))

        found = {"parameters": over_curves("best_parameters"), "events": over_curves("best_tokens")}
        for name in ("growth", "alpha", "beta", "floor"):
            found[f"surface_{name}"] = self._jackknifed(lambda out, name=name: float(getattr(self.surface(out), name)))
        return found

    def surface(self, without: int | None = None) -> Surface:
        """Return the loss as a surface over parameters and events, perhaps without one of the runs."""
        if without not in self._surfaces:
            left = [each for number, each in enumerate(self.points) if number != without]
            runs = np.array([[each.cost.parameters, each.events, each.loss] for each in left])
            self._surfaces[without] = surface(*runs.T)
        return self._surfaces[without]

    def _jackknifed(self, figure) -> Estimate:  # type: ignore[no-untyped-def]
        """Leave each run out in turn; `figure` is told which one."""
        every = len(self.points)

        def of(kept: NDArray[np.int64]) -> float:
            out = set(range(every)) - set(kept.tolist())
            return float(figure(out.pop() if out else None))

        return jackknife(every, of)

    @cached_property
    def _asked(self):  # type: ignore[no-untyped-def]
        some = lives(self.data.tokens, 0, min(_COUNTED, self.data.tokens.num_subjects))
        return some, sample_questions(some, QUESTIONS, np.random.default_rng(0))

    def _point(self, budget: float, shape: Shape) -> Point:
        each = self.cost(shape)
        tokens = self.data.first(budget / each.training)
        name = f"{budget:.2g} FLOPs: {shape[0]} wide, {shape[1]} layers"
        return Point(budget, shape, each, len(tokens), self._scored(name, Setting(*shape), tokens))

    def _first_stage(self, number: int, rank: int) -> Network:
        tokens = lives(self.data.tokens, 0, min(number or 100, self.data.tokens.num_subjects))
        vocabulary = self.data.vocabulary
        size = Setting(32, 0, rank=rank).size
        torch.manual_seed(0)
        network = Network(vocabulary, size, base_rates(tokens, len(vocabulary.outcomes), 0), 0.2)
        network.next_event.start_from(start_rates(tokens, vocabulary))
        variants.blank(network)
        path = self.folder / "runs" / f"first-{number}-{rank}-{self.mark}.pt"
        if not number:
            return network.eval()
        if not path.exists():
            lesson = Lesson(tokens, vocabulary, RECIPE.recurrence_weight, RECIPE.prior)
            fit_first_stage(network.hazards, lesson, 0, lambda step, steps, loss: None)
            with durable.replacing(path) as aside:
                torch.save(network.state_dict(), aside)
        network.load_state_dict(torch.load(path, weights_only=True))
        return network.eval()

    def _scored(self, name, setting=None, tokens=None, *, grid=None, seed=0, long=False) -> Scored:  # type: ignore[no-untyped-def]
        """Return a run's score, from its file if it was made before."""
        path = self._path([name, len(tokens) if tokens else grid])
        if not path.exists():
            began = time.process_time()
            network = (
                self._first_stage(*grid) if grid else learn(self.data.vocabulary, setting, tokens, self.lent, seed)
            )
            context = setting.context if setting else Setting.context
            scores = {"all": self.data.unseen.score(network, context)}
            arrays = {}
            if long:
                scores["long"] = self.data.unseen.score(network, context, LONG)
                arrays["risks"] = self.records.risks(network, context)
            arrays |= {
                f"{key}.{each.name}": getattr(s, each.name) for key, s in scores.items() for each in fields(Scored)
            }
            _write(path, arrays)
            _say(f"{name}: {time.process_time() - began:.0f} CPU s")
        with np.load(path) as kept:
            if long:
                self.long[name], self.risks[name] = _read(kept, "long"), kept["risks"]
            return _read(kept, "all")

    def _kept(self, name, make) -> Floats:  # type: ignore[no-untyped-def]
        path = self._path([name, "risks"])
        if not path.exists():
            began = time.process_time()
            _write(path, {"risks": make()})
            _say(f"{name}: {time.process_time() - began:.0f} CPU s")
        with np.load(path) as kept:
            found: Floats = kept["risks"]
        return found

    def _path(self, about: list[object]) -> Path:
        return self.folder / "runs" / f"{durable.digest_of([*about, self.mark])[:16]}.npz"


def _columns(curves: list[Curve], *names: str) -> list[Floats]:
    return [np.array([getattr(each, name) for each in curves]) for name in names]


def _write(path: Path, arrays: dict[str, Floats]) -> None:
    with durable.replacing(path) as aside, aside.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _read(kept: np.lib.npyio.NpzFile, key: str) -> Scored:
    return Scored(*(kept[f"{key}.{each.name}"] for each in fields(Scored)))


def _say(line: str) -> None:
    Console(stderr=True).print(line, highlight=False)
