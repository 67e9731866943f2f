"""Which shape of network, how large, and of what parts: an architecture search and a scaling study on simulated lives.

Networks of many shapes read lives of a simulated hospital once each and are scored on lives of another split (the
tuning split; the held-out one is never read). Scores are likelihoods: of the next event (its time, code and value), and
of the first onsets of all outcomes. Differences are paired over 40 clusters of the scored lives, with a jackknife.

IsoFLOP: at each of four budgets of counted FLOPs (bench._scaling_flops) networks of several sizes read as many events
as the budget pays for; a parabola in log parameters says which size was best, and how that grows is an exponent, with
a jackknife over the runs. Ablations: one thing changed at a time in a network of width 64 and 2 layers.

BENCH_SCALING_DIR keeps each run's score, so that a run that was stopped goes on where it was (for the very code of
model/ and of this study), and the plot isoflop.svg. BENCH_SCALING_RECORDS: a folder with dataset/, hospital/ and home/
as `bench oracle` keeps it, instead of a hospital of its own, which is made first. One core is all that is used.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console

from bench import _scaling_tables as tables
from bench._scaling_lives import gathered
from bench._scaling_plan import PLAN, QUICK
from bench._scaling_plot import draw
from bench._scaling_study import Study

FULL_LIVES, QUICK_LIVES = (11_000, 320), (300, 40)


def main(quick: bool) -> dict[str, float]:
    """Run everything that is not kept, print the tables, return the figures."""
    kept = os.environ.get("BENCH_SCALING_DIR")
    with tempfile.TemporaryDirectory() as passing:
        folder = Path(kept or passing)
        study = Study(gathered(folder, *(QUICK_LIVES if quick else FULL_LIVES)), folder, QUICK if quick else PLAN)
        study.run()
        console = Console(width=150)
        for table in tables.all_of(study):
            console.print(table)
        if kept:
            draw(study.points, study.curves(), Path(kept) / "isoflop.svg")
        return {name: float(np.round(value, 4)) for name, value in tables.figures(study).items()}
