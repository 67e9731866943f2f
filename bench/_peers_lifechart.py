"""Our own training as a contender of `model_speed`: `lifechart train`'s loop at a peer's width, depth and context."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch

from bench import _peers_delphi, _peers_ethos
from lifechart.model import first_stage
from lifechart.model.fit import Fitter, Progress, Recipe
from lifechart.model.sizes import Size
from lifechart.model.tokens import Tokens, field_names, tokenise
from lifechart.model.vocabulary import Vocabulary, build_vocabulary

DROPOUT = {"ethos": _peers_ethos.DROPOUT, "delphi": 0.0}
"""As the peer drops out, where it does: what is compared is schemes and steps, not recipes."""


@dataclass(frozen=True, slots=True)
class PeerSize(Size):
    """A size with a peer's number of heads, whatever the width of each."""

    num_heads: int = 1

    @property
    def heads(self) -> int:
        """Attention heads."""
        return self.num_heads


def size_of(peer: str) -> PeerSize:
    """Return our network at a peer's width, depth, heads and context, with as many events a step as it has tokens."""
    of = {"ethos": _peers_ethos, "delphi": _peers_delphi}[peer]
    return PeerSize(
        width=of.WIDTH, layers=of.LAYERS, context=of.CONTEXT, rank=96, batch_tokens=of.BATCH * of.CONTEXT, rate=1e-3,
        epochs=1000, questions=24, num_heads=of.HEADS,
    )  # fmt: skip


def prepare(events: pl.DataFrame, folder: Path) -> None:
    """Write our tokens of the events: like the peers' records, they are read from arrays when the clock runs."""
    vocabulary = build_vocabulary(events)
    vocabulary.save(folder / "vocabulary.json")
    few = events["subject_id"].unique().sort().head(8)
    for name, part in (("tokens", events), ("tuning", events.filter(pl.col("subject_id").is_in(few.implode())))):
        tokens = tokenise(part, vocabulary)
        np.savez(folder / f"{name}.npz", **{each: getattr(tokens, each) for each in field_names()})


class _EnoughError(Exception):
    """Ends a training whose measurement is done."""


def learn(folder: Path, peer: str, *, short: bool) -> Generator[tuple[int, int], None, None]:
    """Train for ever; yield the events (and so tokens) of each step. The first one comes after the first stage.

    `short`: that stage, which is not what is measured, takes a tenth of its least number of steps.
    """
    if short:
        first_stage.LEAST_STEPS //= 10
    vocabulary = Vocabulary.load(folder / "vocabulary.json")
    tokens, tuning = (Tokens(**dict(np.load(folder / name))) for name in ("tokens.npz", "tuning.npz"))
    # Measured for as long as is asked, however the tuning loss moves.
    recipe = Recipe(patience=10**6, dropout=DROPOUT[peer])
    fitter = Fitter(vocabulary, size_of(peer), tokens, tuning, 0, recipe, torch.device("cpu"))
    steps: queue.Queue[int] = queue.Queue(maxsize=1)
    asked: queue.Queue[bool] = queue.Queue()

    def hear(progress: Progress) -> None:
        if progress.stage == "network":
            steps.put(fitter.events)
            if not asked.get():
                raise _EnoughError

    def work() -> None:
        try:
            fitter.run()
        except _EnoughError:
            return

    fitter.report = hear
    worker = threading.Thread(target=work)
    worker.start()
    before = 0
    try:
        while True:
            done = steps.get()
            yield done - before, done - before
            before = done
            asked.put(True)
    finally:
        asked.put(False)
        worker.join()
