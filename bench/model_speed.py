"""How fast the network learns and generates, beside ETHOS's and Delphi's schemes at their widths, on the same patients.

Learning is counted in events of a record, never in tokens: what ETHOS writes as a code, a decile and an interval is one
event, and what Delphi strews in ("no event", padding) is none. Each contender trains in a process of its own, by turns,
and its best turn counts: the least disturbed. The yardstick of a peer is the fastest of the ways in which it ships:
ETHOS bfloat16, compiled (where there is a C++ compiler) or not, Delphi float32. Ours is what `lifechart train` runs
(its blocks compiled where there is a C compiler), collating and labelling included; its first stage, which the peers do
not have, is told beside it. An event counts each time that a place of a contender's own reads it, an undated fact in
front of a window too. Our dropout is the peer's. Memory is the peak resident size of the process less what it held
when all libraries had been imported, at the same number of places a step. Ratios carry over to another machine, rates
do not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import orjson
import polars as pl
from rich.console import Console
from rich.table import Table

from bench._equal_skill import equal_skill
from bench._generation import generation
from bench._peers_lifechart import prepare as prepare_ours
from bench._peers_records import Records
from lifechart.core.settings import Settings
from lifechart.core.timeline import BIRTH, RECORD_END
from lifechart.data import shards
from lifechart.data.deidentify.structured import load_key
from lifechart.data.ingest import ingest
from lifechart.ledger.log import open_log
from lifechart.model.vocabulary import UNREAD_KINDS, event_codes
from lifechart.simulate.hospital import simulate

SEED = 3
_ROOT = Path(__file__).parent.parent


def main(quick: bool) -> dict[str, float]:
    """Measure learning and generating; print tables and return the figures."""
    lives, seconds, turns = (150, 3.0, 1) if quick else (1_000, 25.0, 2)
    with tempfile.TemporaryDirectory(prefix="lifechart-bench-") as passing:
        folder = Path(passing)
        prepare(folder, lives)
        ways = ["bfloat16"] if quick or not shutil.which("g++") else ["bfloat16", "compiled"]
        ethos = [f"ethos:{how}" for how in ways]
        names = ["lifechart:ethos", *ethos, "lifechart:delphi", "delphi:float32"]
        also = [] if quick else ["ethos:float32", "delphi:bfloat16"]
        measured: dict[str, list[dict[str, float]]] = {name: [] for name in [*names, *also]}
        for _ in range(turns):
            for name, results in measured.items():
                results.append(run(name, folder, seconds))
        events = pl.read_parquet(folder / "events.parquet")
        generated = generation(events, quick)
        if not quick:
            equal_skill(events, 1_500)
    figures = {name: best(results) for name, results in measured.items()}
    show(figures)
    fastest = max(ethos, key=lambda name: figures[name]["rate"])
    memory = {
        "ethos": figures["lifechart:ethos"]["memory"] / min(figures[name]["memory"] for name in ethos),
        "delphi": figures["lifechart:delphi"]["memory"] / figures["delphi:float32"]["memory"],
    }
    metrics = {
        "train_events_ratio_ethos": figures["lifechart:ethos"]["rate"] / figures[fastest]["rate"],
        "train_events_ratio_delphi": figures["lifechart:delphi"]["rate"] / figures["delphi:float32"]["rate"],
        "memory_ratio": max(memory.values()),
    } | generated
    Console().print(f"memory, ours / theirs: {memory['ethos']:.2f} (ETHOS), {memory['delphi']:.2f} (Delphi)")
    return {key: round(float(value), 3) for key, value in metrics.items()}


def prepare(folder: Path, lives: int) -> None:
    """Simulate and ingest a hospital; write its events for us, and as plain arrays for the peers."""
    settings = Settings(home=folder / "home")
    hospital, dataset = folder / "hospital", folder / "dataset"
    simulate(hospital, lives=lives, seed=SEED, today=date(2025, 1, 1))
    ingest(hospital / "fhir", dataset, key=load_key(settings), log=open_log(settings))
    events = shards.read_split(dataset, "train")
    events.write_parquet(folder / "events.parquet")
    prepare_ours(events, folder)
    records_of(events).save(folder / "records.npz")


def records_of(events: pl.DataFrame) -> Records:
    """Return every event that our own tokens hold, in their order, as the peers need it."""
    born = events.filter(pl.col("code") == BIRTH).group_by("subject_id").agg(pl.col("time").min().alias("born"))
    unread = pl.col("code").is_in([BIRTH, RECORD_END]) | pl.col("kind").is_in(UNREAD_KINDS).fill_null(False)
    kept = (
        events.filter(~unread)
        .with_columns(token=event_codes())
        .join(born, on="subject_id", how="left")
        .with_columns(
            minutes=(pl.col("time") - pl.col("born")).dt.total_minutes().cast(pl.Float64).fill_null(0.0).clip(0.0),
            rank=pl.col("numeric_value").rank("average").over("token"),
            values=pl.col("numeric_value").count().over("token"),
            number=pl.col("token").rank("dense").cast(pl.Int64) - 1,
        )
        .sort("subject_id", "time", "token", nulls_last=False)
    )
    tenth = ((pl.col("rank") - 0.5) / pl.col("values") * 10).floor().clip(0, 9).fill_null(-1).cast(pl.Int64)
    return Records(
        subject=kept["subject_id"].rank("dense").cast(pl.Int64).to_numpy() - 1,
        minutes=kept["minutes"].to_numpy(),
        dated=kept["time"].is_not_null().to_numpy(),
        code=kept["number"].to_numpy(),
        decile=kept.select(tenth).to_series().to_numpy(),
        num_codes=int(kept["number"].max()) + 1,  # type: ignore[arg-type]
    )


def run(name: str, folder: Path, seconds: float) -> dict[str, float]:
    """Run one contender in a process of its own."""
    command = [sys.executable, "-m", "bench._peers_run", name, str(folder), str(seconds)]
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr[-2000:]}")
    measured: dict[str, float] = orjson.loads(done.stdout.splitlines()[-1])
    return {**measured, "rate": measured["events"] / measured["seconds"]}


def best(results: Iterable[dict[str, float]]) -> dict[str, float]:
    """Return the fastest turn, with the least memory of all turns."""
    results = list(results)
    return {**max(results, key=lambda each: each["rate"]), "memory": min(each["memory"] for each in results)}


def show(figures: dict[str, dict[str, float]]) -> None:
    """Print one line a contender."""
    table = Table(
        "contender", "events/s", "tokens/s", "tokens an event", "peak MiB above its libraries", "first stage s"
    )
    for name, each in figures.items():
        rate = each["tokens"] / each["seconds"]
        first = f"{each['first_stage']:.1f}" if each["first_stage"] else ""
        share = each["tokens"] / max(each["events"], 1)
        table.add_row(name, f"{each['rate']:,.0f}", f"{rate:,.0f}", f"{share:.2f}", f"{each['memory']:,.0f}", first)
    Console(width=110).print(table)
