"""Is the cheap estimate of a source's contribution the true one?

800 simulated lives (`--quick`: 400) are split into three data sets: laboratory and vital signs, everything else of the
hospital, and *noise*, planted: codes at random times that mean nothing. They are joined by
`lifechart combine`; then each is left out in turn, by training the whole network without it (the truth) and by training
the head alone without it (what `lifechart contribution` does by default). Beside both: the model as it is, the source
kept from it, which is free and is no contribution. AUROC of new onset within a year on the hospital's held-out lives,
mean over the outcomes with 30 occurrences or more (quick: 10). Two seeds (quick: one) of the head, one of the whole.

BENCH_CONTRIBUTION_DATASET names the data set that the lives are taken from; without it one is simulated.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from bench.oracle import _records
from lifechart.core.settings import Settings
from lifechart.core.timeline import BIRTH, DEATH, RECORD_END
from lifechart.data import shards
from lifechart.data.combine import combine
from lifechart.evaluate.contribution import Contribution, contributions
from lifechart.evaluate.question import Scorer, ask
from lifechart.evaluate.tasks import default_task
from lifechart.ledger.log import open_log
from lifechart.model.leave_out import Blind, LeaveOut
from lifechart.model.vocabulary import build_vocabulary

SEED = 17
NOISE = "noise"
KINDS = {"laboratory": ("laboratory", "vital")}
NOISE_CODES, NOISE_A_LIFE = 40, 60
MOST_PROMPTS = 4_000


def main(quick: bool) -> dict[str, float]:
    """Run every stage, print the table, and return the figures."""
    lives, least, seeds = (400, 10, (1,)) if quick else (800, 30, (1, 2))
    with tempfile.TemporaryDirectory() as passing:
        folder = Path(passing)
        dataset = _joined(_source_events(folder, lives, quick), lives, folder)
        leave_out = LeaveOut.of(dataset, build_vocabulary(shards.read_split(dataset, "train")).outcomes)
        assert leave_out.sources == tuple(sorted([*KINDS, "hospital", NOISE])), leave_out.sources
        first = leave_out.learnt(None, "head", seeds[0])
        task = default_task().model_copy(update={"horizons_days": (365,), "main_horizon_days": 365})
        question = ask(shards.read_split(dataset, "held_out"), first, task, MOST_PROMPTS, 200, SEED)
        found: dict[str, list[Contribution]] = {}
        seconds: dict[str, float] = {}
        for method in ("head", "whole"):
            began = time.process_time()
            kept: dict[int, Blind] = {}

            def learnt(source: str | None, seed: int, method: str = method, kept: dict[int, Blind] = kept) -> Scorer:
                made = leave_out.learnt(source, method, seed)
                if source is None:
                    kept[0] = made
                return made

            def silenced(source: str | None, kept: dict[int, Blind] = kept) -> Scorer:
                return replace(kept[0], without=source)

            some: Sequence[int] = seeds if method == "head" else seeds[:1]
            made = contributions(question, leave_out.sources, learnt, silenced, some, {"all": ()}, least)
            found[method] = made["all"]
            seconds[method] = (time.process_time() - began) / len(some)
            print(f"{method}: {seconds[method]:.0f} CPU s a seed", flush=True)
        return _figures(found, seconds)


def _source_events(folder: Path, lives: int, quick: bool) -> pl.DataFrame:
    given = os.environ.get("BENCH_CONTRIBUTION_DATASET")
    dataset = Path(given) if given else _records(folder / "h", lives * 2, Settings(home=folder / "home"))[1]
    learning = pl.concat([shards.read_split(dataset, split) for split in ("train", "tuning")])
    chosen = learning["subject_id"].unique().sort().sample(lives, seed=SEED)
    held_out = shards.read_split(dataset, "held_out")
    return pl.concat([learning.filter(pl.col("subject_id").is_in(chosen.to_list())), held_out])


def _joined(events: pl.DataFrame, lives: int, folder: Path) -> Path:
    """Split events into data sets, plant the noise, and join them again."""
    of_kind = {kind: name for name, kinds in KINDS.items() for kind in kinds}
    source = pl.col("kind").replace_strict(of_kind, default="hospital", return_dtype=pl.String)
    parts = dict(events.with_columns(source=source).partition_by("source", as_dict=True, include_key=False).items())
    named = {str(key[0]): frame for key, frame in parts.items()} | {NOISE: _noise(events)}
    for name, frame in named.items():
        shards.write_dataset(folder / "parts" / name, frame, {})
    log = open_log(Settings(home=folder / "ledger"))
    made = combine({name: folder / "parts" / name for name in sorted(named)}, folder / "joined", log=log)
    Console(width=120).print(made.table())
    return folder / "joined"


def _noise(events: pl.DataFrame) -> pl.DataFrame:
    """Return events that mean nothing: codes by lot, at times by lot within each observed life."""
    rng = np.random.default_rng(SEED)
    dated = events.filter(pl.col("time").is_not_null() & ~pl.col("code").is_in([BIRTH, DEATH, RECORD_END]))
    spans = dated.group_by("subject_id").agg(first=pl.col("time").min(), last=pl.col("time").max()).sort("subject_id")
    owner = np.repeat(np.arange(spans.height), rng.poisson(NOISE_A_LIFE, spans.height))
    first = spans["first"].cast(pl.Int64).to_numpy()[owner]
    span = spans["last"].cast(pl.Int64).to_numpy()[owner] - first
    return pl.DataFrame(
        {
            "subject_id": spans["subject_id"].to_numpy()[owner],
            "time": pl.Series(first + (rng.random(len(owner)) * span).astype(np.int64)).cast(pl.Datetime("us")),
            "code": [f"NOISE//{number}" for number in rng.integers(0, NOISE_CODES, len(owner))],
            "numeric_value": pl.Series(rng.normal(size=len(owner)), dtype=pl.Float32),
            "text_value": pl.Series([None] * len(owner), dtype=pl.String),
            "unit": pl.Series(["1"] * len(owner), dtype=pl.String),
            "kind": ["laboratory"] * len(owner),
        }
    )


def _figures(found: dict[str, list[Contribution]], seconds: dict[str, float]) -> dict[str, float]:
    by_source = {method: {each.source: each for each in mine} for method, mine in found.items()}
    table = Table(box=None, header_style="bold")
    for column in ("source", "whole network, without it", "head alone, without it", "as it is, source silent"):
        table.add_column(column, justify="left" if column == "source" else "right")
    for source, whole in by_source["whole"].items():
        cheap = by_source["head"][source]
        cells = [f"{each.gain:+.4f} ({each.low:+.4f} to {each.high:+.4f})" for each in (whole, cheap)]
        table.add_row(source, *cells, f"{whole.silent:+.4f}")
    Console(width=140).print(table)
    names = list(by_source["whole"])
    truth = np.array([by_source["whole"][source].gain for source in names])
    estimate = np.array([by_source["head"][source].gain for source in names])
    silent = np.array([by_source["whole"][source].silent for source in names])
    return {
        "largest_gap": float(np.abs(truth - estimate).max()),
        "largest_gap_silent": float(np.abs(truth - silent).max()),
        "noise_head": by_source["head"][NOISE].gain,
        "noise_whole": by_source["whole"][NOISE].gain,
        "laboratory_head": by_source["head"]["laboratory"].gain,
        "laboratory_whole": by_source["whole"]["laboratory"].gain,
        "cost_ratio": seconds["head"] / seconds["whole"],
    }
