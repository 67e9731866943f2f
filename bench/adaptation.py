"""What adapting a released model is worth at a second hospital, by how many lives it has.

The released model: of 10,000 lives of the first hospital (`bench oracle`'s, seed 11; `--quick`: 1,000). The second
(`bench/_second_hospital`) has other rates, assays, codes and orders, and 300, 1,000 or 3,000 lives to learn from
(quick: 300), of which a ninth tunes; 1,200 others (quick: 400) are asked about new onset within a year. Beside the
adapted models stand the released one as it came and one trained on the local lives alone, on the same prompts: means
over the outcomes with 20 occurrences or more (quick: 10), 95% intervals by bootstrap of patients, differences paired.

BENCH_ADAPT_BASE names the released model's folder; without it one is trained. BENCH_ADAPT_DIR names a folder that keeps
the second hospital and the models, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench._second_hospital import part, records
from bench.oracle import _records
from lifechart.cli.adapting import Named
from lifechart.core.settings import Settings
from lifechart.data import shards
from lifechart.evaluate.headline import LOCAL, RELEASED
from lifechart.evaluate.question import ask, score
from lifechart.evaluate.side_by_side import GAINS, Compared, compare
from lifechart.evaluate.tasks import default_task
from lifechart.ledger.log import Log, open_log
from lifechart.model.adapt.low_rank import available
from lifechart.model.adapt.run import adapt
from lifechart.model.checkpoint import CONFIG
from lifechart.model.forecaster import load_forecaster
from lifechart.model.train import train

SEED = 29
LIVES, ASKED = (300, 1_000, 3_000), 1_200
MOST_PROMPTS = 8_000
SIMULATED = 5_500
"""Lives of the second hospital (quick: as many as are used)."""
LORA_UP_TO = 1_000
"""Beyond this many lives LoRA takes too long for what it brings; see docs/lab-notes/0390."""


def main(quick: bool) -> dict[str, float]:
    """Run every stage, print the tables, and return the figures."""
    sizes, asked, least = ((300,), 400, 10) if quick else (LIVES, ASKED, 20)
    kept = os.environ.get("BENCH_ADAPT_DIR")
    with tempfile.TemporaryDirectory() as passing:
        folder = Path(kept or passing) / f"second-{SEED}-{'quick' if quick else 'full'}"
        log = open_log(Settings(home=folder / "home"))
        base = _base(folder, quick, log)
        events, planted = records(folder, max(sizes) + asked if quick else SIMULATED, SEED)
        print(f"planted: assays {planted.assays}; {len(planted.local)} local codes; fewer results of {planted.less}")
        found: dict[str, float] = {}
        for lives in sizes:
            here = folder / f"part-{lives}"
            dataset = here / "dataset"
            if not (dataset / shards.MANIFEST).exists():
                part(events, lives, asked, SEED, dataset)
            compared, seconds = _compared(here, dataset, base, lives, least, log)
            _print(lives, compared, seconds)
            for other in (RELEASED, LOCAL):
                for measure in GAINS:
                    found[f"{measure}_less_{other}_{lives}"] = compared.difference(measure, other).value
        return found


def _base(folder: Path, quick: bool, log: Log) -> Path:
    if given := os.environ.get("BENCH_ADAPT_BASE"):
        return Path(given)
    lives = 1_000 if quick else 10_000
    _, dataset = _records(folder / f"first-{lives}", lives, Settings(home=folder / "first-home"))
    if not (folder / "released" / CONFIG).exists():
        train(dataset, folder / "released", size="xs", seed=SEED, log=log)
    return folder / "released"


def _compared(
    here: Path, dataset: Path, base: Path, lives: int, least: int, log: Log
) -> tuple[Compared, dict[str, float]]:
    """Return the comparison, the head's adaptation first, and the CPU seconds that each model took."""
    seconds: dict[str, float] = {}
    methods = ("head", "lora") if available() and lives <= LORA_UP_TO else ("head",)
    for method in methods:
        began = time.process_time()
        if not (here / method).exists():
            print(adapt(base, dataset, here / method, method=method, seed=SEED, log=log).summary())
        seconds[method] = time.process_time() - began
    began = time.process_time()
    if not (here / "alone" / CONFIG).exists():
        train(dataset, here / "alone", size="xs", seed=SEED, log=log)
    seconds[LOCAL] = time.process_time() - began
    scorers: list[Any] = [Named(method, load_forecaster(here / method)) for method in methods]
    scorers += [Named(RELEASED, load_forecaster(base)), Named(LOCAL, load_forecaster(here / "alone"))]
    task = default_task().model_copy(update={"horizons_days": (365,), "main_horizon_days": 365})
    question = ask(shards.read_split(dataset, "held_out"), scorers[-2], task, MOST_PROMPTS, 200, SEED)
    scores = {scorer.name: score(scorer, question) for scorer in scorers}
    compared = compare(question, scorers, scores, least)
    assert compared is not None, "outcomes that occur"
    return compared, seconds


def _print(lives: int, compared: Compared, seconds: dict[str, float]) -> None:
    title = f"{lives:,} lives: {compared.outcomes} outcomes, {compared.events:,} events, {compared.prompts:,} prompts"
    table = Table(title=title, box=None, header_style="bold")
    for column in ("", "known", "AUROC", "loss an event", "CPU s"):
        table.add_column(column, justify="left" if not column else "right")
    for name in compared.names:
        cells = [_cell(compared.values[name, measure], "") for measure in GAINS]
        table.add_row(name, str(compared.known[name]), *cells, f"{seconds.get(name, 0):.0f}")
    for other in compared.names[1:]:
        cells = [_cell(compared.difference(measure, other), "+") for measure in GAINS]
        table.add_row(f"{compared.names[0]} less {other}", "", *cells, "")
    Console(width=140).print(table)


def _cell(estimate: Any, sign: str) -> str:
    interval = estimate.interval()
    tail = f" ({interval.low:{sign}.4f} to {interval.high:{sign}.4f})" if interval else ""
    return f"{estimate.value:{sign}.4f}{tail}"
