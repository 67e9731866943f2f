"""What the scaling study runs: budgets, sizes, and the ablations by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from bench import _scaling_variants as variants
from bench._scaling_run import RECIPE, Setting
from lifechart.model.network import Network

Shape = tuple[int, int]
"""Width and layers."""


@dataclass(frozen=True)
class Plan:
    """How much of what is run."""

    budgets: dict[float, tuple[Shape, ...]]
    ablation_events: float
    seeds: int
    variants: tuple[str, ...] | None
    """Names of the ablations; None: all."""
    grid: tuple[tuple[int, int], ...]
    """(lives, rank) of the history stage."""
    lent_lives: int
    """Lives behind the history stage that all other runs begin from; 0: rates by code alone, nothing is fitted."""


PLAN = Plan(
    budgets={
        1.7e10: ((8, 1), (16, 1), (32, 1), (32, 2), (64, 1)),
        5e10: ((8, 1), (16, 1), (32, 1), (32, 2), (64, 1), (64, 2)),
        1.5e11: ((8, 1), (16, 1), (32, 1), (32, 2), (64, 1), (64, 2), (96, 2)),
        4.5e11: ((16, 1), (32, 1), (32, 2), (64, 1), (64, 2)),
    },
    ablation_events=100_000,
    seeds=2,
    variants=None,
    grid=((3_000, 12), (3_000, 48), (3_000, 192)),
    lent_lives=3_000,
)
QUICK = Plan(
    budgets={2e9: ((32, 1), (32, 2), (64, 1)), 4e9: ((32, 1), (32, 2), (64, 1))},
    ablation_events=12_000,
    seeds=1,
    variants=("no time", "context 64"),
    grid=(),
    lent_lives=0,
)

BASE = "as it is"
"""64 wide, 2 layers of 2 heads, context 256, soft bins, parents summed, rotary time and time as features."""


def _changed(*changes: Callable[[Network], None]) -> Setting:
    def change(network: Network) -> None:
        for each in changes:
            each(network)

    return Setting(change=change)


_untimed = partial(variants.other_encoder, timed=False)
_by_year = partial(variants.other_encoder, timed=False, buckets=True)
_old_weight = replace(RECIPE, next_event_weight=0.1)

ABLATIONS: dict[str, dict[str, Setting]] = {
    "depth": {
        "history's forecast alone": _changed(variants.blank),
        "last event alone, 0 layers": Setting(64, 0),
        "1 layer": Setting(64, 1),
        "4 layers": Setting(64, 4),
    },
    "no history": {f"context {each}, no history": Setting(context=each, alone=True) for each in (64, 256, 512)},
    "context": {f"context {each}": Setting(context=each) for each in (64, 512)},
    "codes": {"without the codes above": _changed(variants.no_parents)},
    "values": {
        "hard bins": _changed(partial(variants.other_encoder, value="hard")),
        "continuous, one direction a code": _changed(partial(variants.other_encoder, value="continuous")),
        "no values": _changed(partial(variants.other_encoder, value="none")),
    },
    "time": {
        "time as features, rotary by place alone": _changed(variants.by_place),
        "rotary time, no time as features": _changed(_untimed),
        "learnt age buckets, rotary by place": _changed(variants.by_place, _by_year),
        "no time": _changed(variants.by_place, _untimed),
    },
    "learning": {
        "next event weighted .1": Setting(recipe=_old_weight),
        "rate 2e-3": Setting(rate=2e-3),
        "rate 2e-3, next event weighted .1": Setting(rate=2e-3, recipe=_old_weight),
        "2,048 events a step": Setting(batch_tokens=2048),
        "dropout .2": Setting(recipe=replace(RECIPE, dropout=0.2)),
    },
    "width against depth": {"96 wide, 1 layer": Setting(96, 1), "32 wide, 8 layers": Setting(32, 8)},
    "heads": {"4 heads of 16": _changed(partial(variants.with_heads, heads=4))},
}


def chosen(plan: Plan) -> dict[str, Setting]:
    """Return the ablations of a plan by name."""
    every = {name: each for group in ABLATIONS.values() for name, each in group.items()}
    return every if plan.variants is None else {name: every[name] for name in plan.variants}
