"""How near to the best reachable, and how far beside the trees: the few numbers that a report opens with.

Share of the reachable: (AUROC - 0.5) / (record oracle's AUROC - 0.5), 1 being the best that any model could do on this
record. All are computed for new onset at the main horizon, in every resample of the patients alike, so that the
intervals are of the paired comparison. Which outcomes enter is decided by counts and by the oracle, never by a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lifechart.core.report import Metric
from lifechart.evaluate.baselines import NAME as TREES
from lifechart.evaluate.metrics import Estimate

RECORD, LATENT = "record-oracle", "latent-oracle"
"""Names of the oracles: the best that the record allows, and the truth given all that the simulator knows."""
ALL_OUTCOMES = "*"
"""The `outcome` of a mean over all outcomes that enter."""
MIN_EVENTS = 10
"""An outcome enters with this many occurrences. Its own AUROC is then known to 0.08 or so; the mean, far better."""
MIN_REACHABLE, SURELY_REACHABLE = 0.6, 0.55
"""And with an oracle whose AUROC is the first, its interval above the second: else the share divides by noise."""
RELEASED, LOCAL = "released-model", "local-model"
"""Names of the models that an adapted one stands beside: the released one as it is, and one of local records alone."""
NOT_MODELS = (TREES, RECORD, LATENT, RELEASED, LOCAL)


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """New onset of one outcome at the main horizon."""

    num_prompts: int
    num_events: int
    auroc: dict[str, Estimate]
    """By forecaster."""


Estimates = dict[str, Outcome]


def entering(estimates: Estimates, min_events: int = MIN_EVENTS) -> list[str]:
    """Return the outcomes that enter: events enough and, where the truth is known, an oracle that foresees them."""
    truth_known = any(RECORD in outcome.auroc for outcome in estimates.values())
    frequent = {code: outcome for code, outcome in estimates.items() if outcome.num_events >= min_events}
    return [code for code, outcome in frequent.items() if not truth_known or _foreseen(outcome.auroc.get(RECORD))]


def _foreseen(oracle: Estimate | None) -> bool:
    if oracle is None or oracle.value < MIN_REACHABLE:
        return False
    interval = oracle.interval()
    return interval is not None and interval.low >= SURELY_REACHABLE


def rows(estimates: Estimates, horizon: int, min_events: int = MIN_EVENTS) -> list[Metric]:
    """Return the headline's metrics: `mean_auroc`, `auroc_gain` (model less trees) and `reachable_share`.

    With outcome `*`, each is the mean over the outcomes that enter. `auroc_gain` also stands for every outcome,
    `reachable_share` for every one that enters.
    """
    found: list[Metric] = []
    enter = entering(estimates, min_events)
    for name in sorted({name for outcome in estimates.values() for name in outcome.auroc}):
        aurocs = {code: o.auroc[name] for code, o in estimates.items() if name in o.auroc}
        found += _mean_row("mean_auroc", name, aurocs, horizon, estimates, enter)
        if name not in (RECORD, LATENT):
            shares = {
                code: _share(auroc, estimates[code].auroc[RECORD])
                for code, auroc in aurocs.items()
                if RECORD in estimates[code].auroc and code in enter
            }
            found += _each_row("reachable_share", name, shares, horizon, estimates)
            found += _mean_row("reachable_share", name, shares, horizon, estimates, enter)
        if name not in NOT_MODELS:
            gains = {
                code: _less(auroc, estimates[code].auroc[TREES])
                for code, auroc in aurocs.items()
                if TREES in estimates[code].auroc
            }
            found += _each_row("auroc_gain", name, gains, horizon, estimates)
            found += _mean_row("auroc_gain", name, gains, horizon, estimates, enter)
    return found


def _each_row(
    metric: str, forecaster: str, values: dict[str, Estimate], horizon: int, estimates: Estimates
) -> Iterator[Metric]:
    for code, estimate in values.items():
        yield _row(metric, forecaster, code, estimate, horizon, {code: estimates[code]})


def _mean_row(
    metric: str, forecaster: str, values: dict[str, Estimate], horizon: int, estimates: Estimates, enter: list[str]
) -> Iterator[Metric]:
    """Yield the mean over the outcomes that enter, if there are any and all have a value."""
    if enter and all(code in values for code in enter):
        behind = {code: estimates[code] for code in enter}
        yield _row(metric, forecaster, ALL_OUTCOMES, _mean([values[code] for code in enter]), horizon, behind)


def _row(metric: str, forecaster: str, outcome: str, value: Estimate, horizon: int, behind: Estimates) -> Metric:
    return Metric(
        name=metric,
        value=value.value,
        interval=value.interval(),
        forecaster=forecaster,
        outcome=outcome,
        horizon_days=horizon,
        num_prompts=max(each.num_prompts for each in behind.values()),
        num_events=sum(each.num_events for each in behind.values()),
    )


def _share(mine: Estimate, best: Estimate) -> Estimate:
    return Estimate((mine.value - 0.5) / (best.value - 0.5), (mine.replicates - 0.5) / (best.replicates - 0.5))


def _less(mine: Estimate, other: Estimate) -> Estimate:
    return Estimate(mine.value - other.value, mine.replicates - other.replicates)


def _mean(estimates: list[Estimate]) -> Estimate:
    # A resample in which one outcome has no events says nothing of the mean: NaN carries over.
    replicates = np.mean([each.replicates for each in estimates], axis=0)
    return Estimate(float(np.mean([each.value for each in estimates])), replicates)
