"""Do the intervals hold what they say they hold? For everybody, and by age, sex, ancestry and how rare the outcome is.

Of real people nobody knows the true risk: there the question is whether, of people with like forecasts, as many had the
outcome as their intervals allow on average. Of a simulated hospital's people the best reading of each record is known
(the record oracle), and the question is the one that a reader of an interval has: does it hold this person's risk?

Legend of shapes: P prompts, S patients, B resamples (+ 1), O outcomes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from lifechart.core.forecast import Interval
from lifechart.core.report import EVERYONE, Metric
from lifechart.evaluate.calibration import EVENTS_A_GROUP, MAX_GROUPS
from lifechart.evaluate.headline import ALL_OUTCOMES
from lifechart.evaluate.metrics import Estimate, Floats

TRUE, FREQUENCY, RATIO = "true_risk_in_interval", "frequency_in_interval", "interval_ratio"
ATTRIBUTES = ("age", "sex", "race")
RARITIES = ((0.001, "under 1 in 1,000"), (0.01, "1 to 10 in 1,000"), (np.inf, "over 10 in 1,000"))
"""Upper bounds of an outcome's frequency within the horizon, and how the group of such outcomes is called."""
MIN_PEOPLE = 11
_LEAST_RISK = 1e-7


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One outcome among the prompts that were asked for intervals, new onset at the main horizon. n prompts of P."""

    outcome: str
    rows: NDArray[np.bool_]
    """[P] which prompts are at risk of it and known."""
    labels: NDArray[np.bool_]
    risk: Floats
    low: Floats
    high: Floats
    truth: Floats | None
    """[n] the record oracle's risk, where the truth is known."""
    patients: NDArray[np.int64]

    @property
    def rarity(self) -> str:
        """The subgroup of outcomes as frequent as this one."""
        share = float(self.labels.mean()) if len(self.labels) else 0.0
        return next(f"rarity={words}" for bound, words in RARITIES if share <= bound)


def metrics(
    asked: Sequence[Asked], groups: Mapping[str, NDArray[np.bool_]], weights: Floats, scorer: str, horizon: int
) -> Iterator[Metric]:
    """Yield coverage over all outcomes for everybody and each group, and of each outcome for everybody.

    Of the true risk: over those outcomes whose truth is known (a record oracle knows some diseases, not every code).
    groups: masks [P].  weights: [1 + B, S] of the patients asked about.
    """
    chosen = {name: mask for name, mask in groups.items() if name.partition("=")[0] in ATTRIBUTES}
    for name, mask in ({EVERYONE: None} | chosen).items():
        yield from _rows(asked, mask, weights, scorer, horizon, name, ALL_OUTCOMES)
    for rarity in dict.fromkeys(each.rarity for each in asked):
        alike = [each for each in asked if each.rarity == rarity]
        yield from _rows(alike, None, weights, scorer, horizon, rarity, ALL_OUTCOMES)
    for each in asked:
        yield from _rows([each], None, weights, scorer, horizon, EVERYONE, each.outcome)


def _rows(
    asked: Sequence[Asked],
    mask: NDArray[np.bool_] | None,
    weights: Floats,
    scorer: str,
    horizon: int,
    group: str,
    outcome: str,
) -> Iterator[Metric]:
    inside = [(each, np.ones(len(each.risk), bool) if mask is None else mask[each.rows]) for each in asked]
    people = np.unique(np.concatenate([each.patients[keep] for each, keep in inside])) if inside else np.zeros(0)
    if len(people) < MIN_PEOPLE:
        return
    counts = _counts(inside)
    known = [(each, keep) for each, keep in inside if each.truth is not None]
    if known:
        value = true_coverage(known, weights)
        yield _row(TRUE, value.value, value.interval(), scorer, outcome, horizon, group, _counts(known))
    held, bins = frequency_coverage(inside)
    if bins:
        yield _row(FREQUENCY, held / bins, wilson(held, bins), scorer, outcome, horizon, group, counts)
    ratios = np.concatenate([each.high[keep] / np.maximum(each.low[keep], _LEAST_RISK) for each, keep in inside])
    yield _row(RATIO, float(np.median(ratios)), None, scorer, outcome, horizon, group, counts)


def _counts(inside: Sequence[tuple[Asked, NDArray[np.bool_]]]) -> tuple[int, int]:
    """Return how many prompts were asked about an outcome at most, and how often any of them came."""
    prompts = max(int(keep.sum()) for _, keep in inside)
    return prompts, sum(int(each.labels[keep].sum()) for each, keep in inside)


def true_coverage(inside: Sequence[tuple[Asked, NDArray[np.bool_]]], weights: Floats) -> Estimate:
    """Return the share of prompts whose true risk lies in the interval, a mean over outcomes, in every resample."""
    shares = []
    for each, keep in inside:
        assert each.truth is not None
        held = (each.low[keep] <= each.truth[keep]) & (each.truth[keep] <= each.high[keep])
        patients, width = each.patients[keep], weights.shape[1]
        size = weights @ np.bincount(patients, minlength=width)
        covered = weights @ np.bincount(patients, held.astype(float), minlength=width)
        shares.append(np.divide(covered, size, out=np.full(len(weights), np.nan), where=size > 0))
    # A group has none at risk of some outcomes (the other sex's): those do not count.
    known = [share for share in shares if np.isfinite(share[0])]
    mean = np.nanmean(known, axis=0) if known else np.full(len(weights), np.nan)
    return Estimate(float(mean[0]), mean[1:])


def frequency_coverage(inside: Sequence[tuple[Asked, NDArray[np.bool_]]]) -> tuple[int, int]:
    """Return in how many bins of risk the share who had the outcome lies within the bin's mean interval; and of how
    many bins. Bins expect the same number of events each, ten or more, as the reliability curves' do.
    """
    held = bins = 0
    for each, keep in inside:
        risk, labels = each.risk[keep], each.labels[keep]
        number = min(MAX_GROUPS, int(labels.sum()) // EVENTS_A_GROUP)
        if number == 0 or risk.sum() <= 0:
            continue
        order = np.argsort(risk, kind="stable")
        expected = np.cumsum(risk[order])
        place = np.minimum((expected / expected[-1] * number).astype(np.int64), number - 1)
        for bin_ in np.unique(place):
            some = order[place == bin_]
            bins += 1
            held += bool(each.low[keep][some].mean() <= labels[some].mean() <= each.high[keep][some].mean())
    return held, bins


def wilson(successes: float, number: float, level: float = 0.95) -> Interval:
    """Return the score interval of a share (Wilson 1927)."""
    z = float(ndtri((1 + level) / 2))
    share, extra = successes / number, z * z / number
    middle, reach = share + extra / 2, z * np.sqrt(share * (1 - share) / number + extra / (4 * number))
    low, high = (float((middle + side * reach) / (1 + extra)) for side in (-1, 1))
    return Interval(max(low, 0.0), min(high, 1.0), level)


def _row(
    name: str,
    value: float,
    interval: Interval | None,
    scorer: str,
    outcome: str,
    horizon: int,
    group: str,
    counts: tuple[int, int],
) -> Metric:
    return Metric(
        name=name,
        value=value,
        interval=interval,
        forecaster=scorer,
        outcome=outcome,
        horizon_days=horizon,
        subgroup=group,
        num_prompts=counts[0],
        num_events=counts[1],
    )
