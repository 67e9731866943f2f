"""The lives of the scaling study: those learnt from, those scored on, and records cut to their latest events."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bench._scaling_run import Unseen, lives
from lifechart.core.settings import Settings
from lifechart.core.timeline import BIRTH, RECORD_END
from lifechart.data import shards
from lifechart.data.deidentify.structured import load_key
from lifechart.data.ingest import ingest
from lifechart.evaluate import headline
from lifechart.evaluate.oracle import OracleScorer, load_oracles
from lifechart.ledger.log import open_log
from lifechart.model.tokens import Tokens, tokenise
from lifechart.model.vocabulary import Vocabulary, build_vocabulary
from lifechart.simulate.export import export
from lifechart.simulate.hospital import write_truth

SEED = 11
TODAY = date(2025, 1, 1)
CLUSTERS = 40


@dataclass(frozen=True)
class Lives:
    """Tokens to learn from (nested: the first lives are always the same), and lives from another split to score on."""

    vocabulary: Vocabulary
    tokens: Tokens
    unseen: Unseen
    events: pl.DataFrame
    """Of the lives scored on."""
    records: Path

    def first(self, num_events: float) -> Tokens:
        """Return the first lives with about so many events."""
        last = int(np.searchsorted(self.tokens.starts, num_events, side="left"))
        return lives(self.tokens, 0, min(max(last, 1), self.tokens.num_subjects))

    def oracle(self) -> OracleScorer:
        """Return the record oracle for one year."""
        key = load_key(Settings(home=self.records / "home"))
        return load_oracles(self.records / "hospital" / "truth", key, (365,), (headline.RECORD,), draws=16)[0]


def gathered(folder: Path, learnt: int, scored: int) -> Lives:
    """Read the records, or make them: `learnt` lives of the training split, `scored` of the tuning split."""
    records = Path(os.environ.get("BENCH_SCALING_RECORDS") or _made(folder / f"records-{learnt}", learnt))
    training = _some(shards.read_split(records / "dataset", "train"), learnt)
    vocabulary = build_vocabulary(training)
    tokens = tokenise(training, vocabulary)
    del training
    events = _some(shards.read_split(records / "dataset", "tuning"), scored)
    told = tokenise(events, vocabulary)
    edges = np.linspace(0, told.num_subjects, min(CLUSTERS, told.num_subjects) + 1).astype(int)
    clusters = tuple(lives(told, first, last) for first, last in itertools.pairwise(edges))
    return Lives(vocabulary, tokens, Unseen(clusters, vocabulary), events, records)


def _some(events: pl.DataFrame, number: int) -> pl.DataFrame:
    """Return the first subjects; their ids are keyed hashes, so this is a lot."""
    chosen = events["subject_id"].unique().sort().head(number)
    return events.join(chosen.to_frame(), on="subject_id", how="semi")


def _made(folder: Path, learnt: int) -> Path:
    """Simulate and ingest a hospital large enough, unless a former run did."""
    if not (folder / "dataset" / shards.MANIFEST).exists():
        settings = Settings(home=folder / "home")
        write_truth(folder / "hospital" / "truth", -(-learnt * 10 // 8), SEED, TODAY)
        export(folder / "hospital" / "truth", folder / "hospital")
        ingest(folder / "hospital" / "fhir", folder / "dataset", key=load_key(settings), log=open_log(settings))
    return folder


def latest(events: pl.DataFrame, prompts: pl.DataFrame, most: int | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return each prompt's record as one of its own, what came after left out, and of dated events the `most` latest.

    The birth and undated facts stay. Also the prompts, renumbered: a record's id is its prompt's place.
    """
    numbered = prompts.with_row_index("prompt").with_columns(pl.col("prompt").cast(pl.Int64))
    known = (pl.col("time").is_null() | (pl.col("time") <= pl.col("prediction_time"))) & (pl.col("code") != RECORD_END)
    record = events.join(numbered, on="subject_id").filter(known).sort("prompt", "time", "code", nulls_last=False)
    if most is not None:
        spared = pl.col("time").is_null() | (pl.col("code") == BIRTH)
        place = pl.int_range(pl.len()).reverse().over("prompt")
        record = pl.concat([record.filter(spared), record.filter(~spared).filter(place < most)])
    record = record.drop("subject_id").rename({"prompt": "subject_id"}).select(events.columns)
    return record, numbered.select(subject_id="prompt", prediction_time="prediction_time")


def expected_auroc(scores: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Return the AUROC that scores are expected to have when each prompt is an event with probability `truth`."""
    order = np.argsort(scores, kind="stable")
    scores, truth = scores[order], truth[order]
    _, group = np.unique(scores, return_inverse=True)
    events, others = np.bincount(group, truth), np.bincount(group, 1.0 - truth)
    below = np.cumsum(others) - others
    pairs = float((events * (below + others / 2)).sum())
    # A prompt is not compared with itself: of its own event and its own non-event only one can be.
    own = float((truth * (1.0 - truth)).sum())
    return (pairs - own / 2) / (float(truth.sum()) * float((1.0 - truth).sum()) - own)
