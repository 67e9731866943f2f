"""What the scaling study prints, and its one line of figures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.table import Table

from bench._scaling_beyond import LONG
from bench._scaling_laws import Estimate, Floats, jackknife, paired
from bench._scaling_plan import ABLATIONS, BASE
from bench._scaling_run import Scored
from bench._scaling_study import Study


def all_of(study: Study) -> Iterator[Table]:
    """Yield every table."""
    yield _grid(study)
    yield _points(study)
    yield _laws(study)
    yield _ablations(study)
    yield _long(study)


def figures(study: Study) -> dict[str, float]:
    """Return the exponents with their intervals, and how many budgets have their best size inside."""
    found: dict[str, float] = {}
    for name, each in study.exponents().items():
        found |= {name: each.value, f"{name}_low": each.low, f"{name}_high": each.high}
    curves = study.curves()
    found["best_within"] = float(sum(each.within for each in curves))
    found["budgets"] = float(len(curves))
    found["events_a_parameter"] = float(np.exp(np.mean([np.log(c.best_tokens / c.best_parameters) for c in curves])))
    return found


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if not number else "right")
    return table


def _grid(study: Study) -> Table:
    table = _table(
        "The history stage: lives against rank", "lives", "rank", "FLOPs a question", "loss of first onsets (interval)"
    )
    for (number, rank), scored in study.grid.items():
        table.add_row(f"{number:,}", str(rank), f"{study.history_flops(rank):.3g}", _said(_onsets(scored)))
    return table


def _points(study: Study) -> Table:
    table = _table(
        "IsoFLOP: loss of the next event, nats, and of first onsets",
        "FLOPs", "width x layers", "parameters", "of the blocks", "events", "after an event", "from silence", "both",
        "first onsets",
    )  # fmt: skip
    for each in study.points:
        after, ahead = each.scored.after.sum() / each.scored.num_after.sum(), each.scored.ahead.sum()
        table.add_row(
            f"{each.budget:.2g}", f"{each.shape[0]} x {each.shape[1]}", f"{each.cost.parameters:,.0f}",
            f"{each.cost.backbone:,.0f}", f"{each.events:,}", f"{after:.4f}",
            f"{ahead / each.scored.num_ahead.sum():.4f}", f"{each.loss:.4f}",
            f"{each.scored.survival.sum() / each.scored.num_questions.sum():.4f}",
        )  # fmt: skip
    return table


def _laws(study: Study) -> Table:
    table = _table("Best size by budget, and how it grows", "", "parameters", "events", "loss", "inside the range")
    for each in study.curves():
        place = (f"{each.best_parameters:,.0f}", f"{each.best_tokens:,.0f}", f"{each.best_loss:.4f}")
        table.add_row(f"{each.budget:.2g} FLOPs", *place, "yes" if each.within else "no")
    table.add_section()
    for name, estimate in study.exponents().items():
        table.add_row(name, str(estimate), "", "", "")
    return table


def _ablations(study: Study) -> Table:
    base = study.ablations[BASE]
    table = _table(
        f"One thing changed ({study.plan.ablation_events:,.0f} events read once): difference to what stands",
        "", "after an event: time", "code", "value", "from silence: time and code", "next event in all", "first onsets",
    )  # fmt: skip
    table.add_row(BASE, *_levels(base[0]))
    for number, seed in enumerate(base[1:], 1):
        table.add_row(f"another seed ({number})", *_differences(seed, base[0]))
    for name, group in ABLATIONS.items():
        table.add_section()
        for variant in group:
            if variant in study.ablations:
                scored = study.ablations[variant][0]
                # With other windows other events are scored after: those columns are no comparison.
                same = bool((scored.num_after == base[0].num_after).all())
                table.add_row(f"{name}: {variant}", *_differences(scored, base[0], same))
    return table


def _long(study: Study) -> Table:
    shares, outcomes = study.records.shares(study.risks)
    table = _table(
        f"Records with more than {LONG} events known: share of the oracle's AUROC ({outcomes} outcomes, "
        f"{study.records.prompts.height:,} prompts), and losses",
        "", "share (interval)", "first onsets", "next event from silence",
    )  # fmt: skip
    for name, share in shares.items():
        losses = ("", "")
        if name in study.long:
            each = study.long[name]
            ahead = jackknife_ratio(each.ahead.sum(1), each.num_ahead)
            losses = (_said(_onsets(each)), _said(ahead) if name != "history's forecast" else "")
        table.add_row(name, str(share), *losses)
    return table


def jackknife_ratio(sums: Floats, number: Floats) -> Estimate:
    """Return a mean over clusters with its interval."""
    return jackknife(len(number), lambda kept: float(sums[kept].sum() / number[kept].sum()))


def _onsets(scored: Scored) -> Estimate:
    return jackknife_ratio(scored.survival, scored.num_questions)


def _said(each: Estimate) -> str:
    return f"{each.value:.3f} ({each.low:.3f} to {each.high:.3f})"


def _levels(scored: Scored) -> list[str]:
    after = scored.after.sum(0) / scored.num_after.sum()
    sums, number = scored.next_event
    return [
        *(f"{each:.4f}" for each in after),
        f"{scored.ahead.sum() / scored.num_ahead.sum():.4f}",
        f"{sums.sum() / number.sum():.4f}",
        f"{scored.survival.sum() / scored.num_questions.sum():.4f}",
    ]


def _differences(scored: Scored, base: Scored, same: bool = True) -> list[str]:
    def of(mine: Floats, theirs: Floats, number: Floats) -> str:
        each = paired(mine, theirs, number)
        return f"{each.value:+.4f} ±{each.high - each.value:.4f}"

    parts = [of(scored.after[:, n], base.after[:, n], base.num_after) if same else "" for n in range(3)]
    ahead = of(scored.ahead.sum(1), base.ahead.sum(1), base.num_ahead)
    both = of(scored.next_event[0], base.next_event[0], base.next_event[1]) if same else ""
    return [*parts, ahead, both, of(scored.survival, base.survival, base.num_questions)]
