"""Is a planted under-diagnosis found for what it is, and is nothing found where nothing is wrong?

Each simulated hospital is examined twice: as it is, and with a group in which three diseases are recorded less often.
The bias counts as found if the record is found wanting in that group for one of them and the model is not blamed for
it. A false finding is any at all in the hospital as it is, or in the biased one any beyond its bias.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench._unequal_hospitals import OUTCOMES, Fair, Lives, live, task
from lifechart.evaluate import fairness
from lifechart.evaluate.fairness import Fairness
from lifechart.evaluate.question import ask, score
from lifechart.evaluate.recorded import Recording
from lifechart.evaluate.subgroups import subgroups
from lifechart.simulate.bias import Underdiagnosis

CONDITIONS = ("type2_diabetes", "hypertension", "chronic_kidney_disease")
NAMES = ("Type 2 diabetes", "Hypertension", "Chronic kidney disease")
"""What evaluate/evidence/measured.csv calls them."""
GROUPS = {
    ("ancestry", "african"): "race=2054-5",
    ("ancestry", "hispanic"): "ethnicity=2135-2",
    ("sex", "female"): "sex=female",
    ("language", "es"): "language=es",
}
"""Who is under-diagnosed, and what the record calls them."""
SHARE = 0.5
LIVES, TRAINING, RESAMPLES = 1_500, 5_000, 200
WITHIN = 0.2
"""A group counts as touched by the bias if the planted group's share of it is this much above its share of all."""
Outcome = tuple[str, bool, list[str], list[str]]
"""(planted group, found, false findings in the hospital as it is, false findings beyond the bias)."""


def main(quick: bool) -> dict[str, float]:
    """Examine the hospitals, print the table and return both rates."""
    number = len(GROUPS) if quick else 100
    model = Fair.fit(live(TRAINING // 2 if quick else TRAINING, 10_000).records(), seed=0)
    jobs = [(model, seed) for seed in range(number)]
    rows = list(track(_run(jobs), total=number, description="hospitals", console=Console(stderr=True)))
    table = Table(title=f"{number} hospitals of {LIVES:,} lives, as they are and biased", box=None)
    for column in ("group under-diagnosed", "hospitals", "bias found", "false findings as it is", "beyond the bias"):
        table.add_column(column)
    for group in sorted({row[0] for row in rows}):
        mine = [row for row in rows if row[0] == group]
        counts = (len(mine), *(sum(bool(row[column]) for row in mine) for column in (1, 2, 3)))
        table.add_row(group, *map(str, counts))
    Console().print(table)
    for row in rows:
        for said in {*row[2], *row[3]}:
            Console().print(f"false finding ({row[0]}): {said}")
    return {
        "bias_found_rate": float(np.mean([row[1] for row in rows])),
        "false_finding_rate": float(np.mean([bool(row[column]) for row in rows for column in (2, 3)])),
    }


def _run(jobs: list[tuple[Fair, int]]) -> Iterator[Outcome]:
    workers = min(len(jobs), os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_hospital, jobs)


def _hospital(job: tuple[Fair, int]) -> Outcome:
    model, seed = job
    lives = live(LIVES, seed)
    attribute, value = list(GROUPS)[seed % len(GROUPS)]
    bias, group = Underdiagnosis(attribute, value, CONDITIONS, SHARE), GROUPS[attribute, value]
    fair, _ = _examined(lives, model, None, group)
    biased, touched = _examined(lives, model, bias, group)
    found = any(each.group == group for each in biased.under_recorded)
    not_blamed = not any(each.outcome in OUTCOMES[: len(CONDITIONS)] for each in biased.worse)
    beyond = [
        each for each in biased.under_recorded if each.group not in touched or each.condition.condition not in NAMES
    ]
    falsely = [*map(_said, fair.under_recorded), *_blamed(fair)]
    return group, found and not_blamed, falsely, [*map(_said, beyond), *_blamed(biased)]


def _said(found: Recording) -> str:
    return f"{found.condition.condition} in {found.group}"


def _blamed(found: Fairness) -> list[str]:
    return [f"model: {each.metric} of {each.outcome} in {each.group}" for each in found.worse]


def _examined(lives: Lives, model: Fair, bias: Underdiagnosis | None, group: str) -> tuple[Fairness, set[str]]:
    """Return what is found, and the groups in which the planted one is over-represented."""
    events = lives.records(bias)
    question = ask(events, model, task(), None, RESAMPLES, lives.seed)
    found = fairness.examine(question, score(model, question), OUTCOMES, {})
    everyone = fairness.pairs(subgroups(events, question.history, question.prompts, {}))
    planted = everyone[group]
    some = {name: planted[members].mean() for name, members in everyone.items() if members.any()}
    touched = {name for name, share in some.items() if share > planted.mean() + WITHIN}
    return found, touched
