"""May this leave? Criteria held against a Report: what is refused, what is left out, what may be shown.

An outcome at a horizon that does not pass is left out of the release; a failed criterion of scope `whole` refuses it.
Nothing is averaged away: the verdict lists every criterion for every pair, with the figure and the limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lifechart.core.errors import GateRefused, InputError
from lifechart.core.report import EVERYONE, Metric, Report
from lifechart.release.criteria import (
    EVERYONE_ELSE,
    NUM_EVENTS,
    NUM_PROMPTS,
    PAIR,
    PAIRS_RELEASED,
    SUBGROUP,
    WHOLE,
    Criteria,
    Criterion,
)

COMPARATORS = ("boosted-trees", "record-oracle", "latent-oracle", "released-model", "local-model")
"""Forecasters that stand beside the one examined."""
_ANY_FIGURE = "auroc"
"""The metric whose rows say how many prompts and events a pair rests on."""

Pair = tuple[str, int]
"""(outcome code, horizon in days)."""


@dataclass(frozen=True, slots=True)
class Check:
    """One criterion held against one figure."""

    criterion: str
    scope: str
    limit: str
    passed: bool
    figure: float | None
    """None where the Report has no such row or interval."""
    outcome: str = ""
    horizon_days: int = 0
    subgroup: str = EVERYONE

    def __str__(self) -> str:
        figure = "no figure" if self.figure is None else f"{self.figure:.3f}"
        where = f" for {self.outcome} within {self.horizon_days} days" if self.outcome else ""
        group = f" among {self.subgroup}" if self.subgroup != EVERYONE else ""
        return f"{self.criterion}{where}{group}: {figure}, wanted {self.limit}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate found."""

    checks: tuple[Check, ...]
    released: tuple[Pair, ...]
    """What may be shown."""
    left_out: tuple[Pair, ...]

    @property
    def refusals(self) -> tuple[Check, ...]:
        """The failed checks that refuse the release."""
        return tuple(check for check in self.checks if check.scope == WHOLE and not check.passed)

    def table(self) -> list[tuple[str, ...]]:
        """Return, for each criterion, its limit, how many figures were held against it and how many failed."""
        rows: dict[tuple[str, str], list[Check]] = {}
        for check in self.checks:
            rows.setdefault((check.criterion, check.limit), []).append(check)
        header = ("criterion", "wanted", "checked", "failed")
        counts = [(*key, str(len(held)), str(sum(not each.passed for each in held))) for key, held in rows.items()]
        return [header, *counts]

    def require(self) -> Verdict:
        """Return itself, or raise GateRefused that names what failed."""
        if self.refusals:
            reasons = "; ".join(map(str, self.refusals))
            raise GateRefused(f"gate: {reasons} ({len(self.released)} pairs passed, {len(self.left_out)} did not)")
        return self


def judge(report: Report, criteria: Criteria) -> Verdict:
    """Hold criteria against a report; raises InputError if it does not examine exactly one model."""
    table = _Table(report)
    checks: list[Check] = []
    released: list[Pair] = []
    for outcome, horizon in table.pairs:
        found = [
            check
            for criterion in criteria.criteria
            if criterion.scope in (PAIR, SUBGROUP) and horizon in (criterion.horizons_days or (horizon,))
            for check in _of_pair(table, criterion, outcome, horizon)
        ]
        checks += found
        if all(check.passed for check in found):
            released.append((outcome, horizon))
    for criterion in criteria.criteria:
        if criterion.scope == WHOLE:
            checks += _of_whole(table, criterion, len(released))
    left_out = tuple(pair for pair in table.pairs if pair not in set(released))
    return Verdict(tuple(checks), tuple(released), left_out)


class _Table:
    """A report's rows, found by what they are about."""

    def __init__(self, report: Report) -> None:
        names = sorted({row.forecaster for row in report.metrics} - set(COMPARATORS))
        if len(names) != 1:
            raise InputError("report.metrics", names, "the figures of exactly one model, besides its comparators")
        self.model = names[0]
        self._rows: dict[tuple[str, str, str, int, str], list[Metric]] = {}
        for row in report.metrics:
            key = (row.name, row.forecaster, row.outcome, row.horizon_days, row.onset)
            self._rows.setdefault(key, []).append(row)
        self.pairs: list[Pair] = sorted(
            {
                (outcome, horizon)
                for name, forecaster, outcome, horizon, onset in self._rows
                if (name, forecaster, onset) == (_ANY_FIGURE, self.model, "new")
            }
        )

    def rows(self, criterion: Criterion, outcome: str, horizon: int, forecaster: str = "") -> list[Metric]:
        """Return the rows of the criterion's metric, of everyone and of subgroups; by default the model's."""
        metric = _ANY_FIGURE if criterion.metric in (NUM_EVENTS, NUM_PROMPTS) else criterion.metric
        return self._rows.get((metric, forecaster or self.model, outcome, horizon, criterion.onset), [])

    def horizons(self, criterion: Criterion) -> list[int]:
        """Return the horizons at which the criterion's metric stands for its outcome."""
        about = (criterion.metric, self.model, criterion.outcome, criterion.onset)
        return sorted(key[3] for key in self._rows if (*key[:3], key[4]) == about)


def _of_pair(table: _Table, criterion: Criterion, outcome: str, horizon: int) -> Iterator[Check]:
    """Yield the checks of one criterion for one pair: one, or one a subgroup."""
    rows = table.rows(criterion, outcome, horizon)
    other: float | None = 0.0
    if criterion.versus:
        name = table.model if criterion.versus == EVERYONE_ELSE else criterion.versus
        others = table.rows(criterion, outcome, horizon, name)
        other = next((row.value for row in others if row.subgroup == EVERYONE), None)
    chosen = [row for row in rows if (row.subgroup == EVERYONE) == (criterion.scope == PAIR)]
    for row in chosen:
        yield _check(criterion, _figure(criterion, row, other), outcome, horizon, row.subgroup)
    if not chosen:
        yield _check(criterion, None, outcome, horizon)


def _of_whole(table: _Table, criterion: Criterion, num_released: int) -> Iterator[Check]:
    if criterion.metric == PAIRS_RELEASED:
        yield _check(criterion, float(num_released))
        return
    horizons = [each for each in table.horizons(criterion) if each in (criterion.horizons_days or (each,))]
    for horizon in horizons:
        for row in table.rows(criterion, criterion.outcome, horizon):
            if row.subgroup == EVERYONE:
                yield _check(criterion, _figure(criterion, row, 0.0), row.outcome, horizon)
    if not horizons:
        yield _check(criterion, None, criterion.outcome)


def _figure(criterion: Criterion, row: Metric, other: float | None) -> float | None:
    """Return the number to hold against the limit; None if the report lacks a part of it."""
    if criterion.metric == NUM_EVENTS:
        return float(row.num_events)
    if criterion.metric == NUM_PROMPTS:
        return float(row.num_prompts)
    if other is None or (criterion.bound != "value" and row.interval is None):
        return None
    own = {"value": row.value}
    if row.interval is not None:
        own |= {"low": row.interval.low, "high": row.interval.high}
    return own[criterion.bound] - other


def _check(
    criterion: Criterion, figure: float | None, outcome: str = "", horizon: int = 0, subgroup: str = EVERYONE
) -> Check:
    passed = criterion.if_absent == "skip" if figure is None else criterion.met(figure)
    return Check(criterion.name, criterion.scope, criterion.limit, passed, figure, outcome, horizon, subgroup)
