"""What encryption at rest costs: rates of encrypting and of reading, and its share of a training's start.

The data set is made here: subjects with events of a few hundred codes, as many shards as an ingest would write. Each
figure is the best of several rounds, plain and encrypted in turn.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

_SUBJECTS, _QUICK_SUBJECTS = 40_000, 2_000
_EVENTS = 120
_SHARDS = 8
_ROUNDS = 3


def main(quick: bool) -> dict[str, float]:
    """Make a data set, encrypt it, and read both."""
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="lifechart-bench-") as name:
        os.environ["LIFECHART_HOME"] = f"{name}/home"
        return _measure(Path(name), _QUICK_SUBJECTS if quick else _SUBJECTS)


def _measure(folder: Path, subjects: int) -> dict[str, float]:
    from lifechart.core.settings import load_settings
    from lifechart.data import shards
    from lifechart.data.vault import encryption, keys
    from lifechart.ledger.log import open_log
    from lifechart.model.tokens import tokenise
    from lifechart.model.vocabulary import build_vocabulary

    plain, locked = folder / "plain", folder / "locked"
    _make(plain, subjects)
    size = sum(path.stat().st_size for path in plain.rglob("*.parquet")) / 1e6
    with open_log(load_settings()) as log:
        recipient = keys.make(load_settings().vault_key)
        encrypting = _seconds(lambda: encryption.encrypt(plain, locked, [recipient], log=log))
        decrypting = _seconds(lambda: encryption.decrypt(locked, folder / "again", log=log))
    times: dict[Path, list[float]] = {plain: [], locked: []}
    for _ in range(_ROUNDS):
        for dataset, found in times.items():
            found.append(_seconds(lambda dataset=dataset: shards.read_split(dataset, "train")))  # type: ignore[misc]
    events = shards.read_split(plain, "train")
    rest = _seconds(lambda: tokenise(events, build_vocabulary(events)))
    reading, reading_locked = min(times[plain]), min(times[locked])
    start = (reading_locked + rest) / (reading + rest)
    table = Table(title=f"{size:,.0f} MB of Parquet, {subjects * _EVENTS:,} events")
    for column in ("", "s", "MB/s"):
        table.add_column(column, justify="right")
    for name, seconds in (
        ("encrypt (verify, encrypt, read back)", encrypting),
        ("decrypt", decrypting),
        ("read, plain", reading),
        ("read, encrypted", reading_locked),
        ("tokenise for training", rest),
    ):
        table.add_row(name, f"{seconds:.2f}", f"{size / seconds:,.0f}")
    Console().print(table)
    return {
        "encrypt_mb_per_s": round(size / encrypting, 1),
        "read_encrypted_mb_per_s": round(size / reading_locked, 1),
        "read_ratio_to_plain": round(reading_locked / reading, 3),
        "training_start_ratio_to_plain": round(start, 3),
    }


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _make(dataset: Path, subjects: int) -> None:
    from lifechart.data import shards

    rng = np.random.default_rng(0)
    count = subjects * _EVENTS
    ids = np.repeat(np.sort(rng.choice(2**62, subjects, replace=False)), _EVENTS)
    events = pl.DataFrame(
        {
            "subject_id": ids,
            "time": pl.Series(np.sort(rng.integers(0, 10**15, (subjects, _EVENTS)), axis=1).ravel()).cast(pl.Datetime),
            "code": [f"LOINC//{code}-1" for code in rng.zipf(1.4, count) % 400],
            "numeric_value": rng.normal(100, 15, count).astype(np.float32),
            "text_value": pl.Series([None], dtype=pl.String).new_from_index(0, count),
            "unit": pl.Series(["mg/dL"]).new_from_index(0, count),
            "kind": pl.Series(["laboratory"]).new_from_index(0, count),
        }
    )
    shard = events.get_column("subject_id").rank("dense").cast(pl.Int64) % _SHARDS
    for number in range(_SHARDS):
        shards.write_shards(dataset, f"{number:04d}", events.filter(shard == number))
    codes = events.group_by("code").agg(
        pl.col("kind").first(),
        pl.col("unit").first(),
        num_events=pl.len(),
        num_subjects=pl.col("subject_id").n_unique(),
    )
    described = codes.with_columns(description=pl.lit(None, pl.String), parent_codes=pl.lit(None, pl.List(pl.String)))
    found = pl.DataFrame({"subject_id": np.unique(ids)})
    shards.write_metadata(dataset, described, found.with_columns(split=shards.split_of(pl.col("subject_id"))))
    shards.write_manifest(dataset)
