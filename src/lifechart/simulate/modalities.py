"""What tells the planted traits, as a hospital would hold it: DICOM files, VCF with polygenic scores, notes.

Beside `fhir/` come `images/*.dcm` with `imaging_patients.csv` (the imaging department has numbers of its own),
`genomes/` as the source `vcf` reads it, and `sources.yaml`, by which `lifechart ingest` reads all together. Who is
photographed or sequenced, and when, is a matter of chance and of visits, never of a trait: most lives lack something.
"""

from __future__ import annotations

import sys
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from lifechart.core import durable
from lifechart.simulate import dicom_files, genomes, pictures
from lifechart.simulate.identities import identities

SHARES = {"retina": 0.65, "chest": 0.5, "tile": 0.4, "genome": 0.65}
"""Of the lives with an adult visit, how many have each."""
PATIENTS = "imaging_patients.csv"
_ADULT_DAYS = 7305
_EARLY = 10
"""Each is made at one of so many first adult visits, by lot."""
_STREAM = 0x706963


def export_modalities(
    truth: Path, out: Path, modalities: tuple[str, ...], *, progress: bool | None = None
) -> dict[str, int]:
    """Write what `modalities` name (planted.MODALITIES) below `out`; return how many of each.

    Every file is whole or absent, `sources.yaml` comes last. The same truth gives the same bytes.
    """
    about = orjson.loads((truth / "truth.json").read_bytes())
    seed, today = int(about["seed"]), date.fromisoformat(about["today"])
    people = pl.read_parquet(truth / "people.parquet").join(pl.read_parquet(truth / "planted.parquet"), on="life")
    made = _made(truth, people, seed)
    counts: dict[str, int] = {}
    parts = ["  - {source: fhir, path: fhir}"]
    if "image" in modalities:
        counts["images"] = _images(people, made, out, seed, today, progress)
        parts.append(f"  - {{source: dicom, path: images, option: {PATIENTS}}}")
    if "variant" in modalities:
        counts["genomes"] = genomes.write(people.join(made["genome"], on="life"), out / "genomes", seed)
        parts.append("  - {source: vcf, path: genomes}")
    durable.write_bytes(out / "sources.yaml", "\n".join(["sources:", *parts, ""]).encode())
    return counts


def _made(truth: Path, people: pl.DataFrame, seed: int) -> dict[str, pl.DataFrame]:
    """Return who has each picture or a genome, and when: columns life, time."""
    visits = (
        pl.scan_parquet(truth / "events.parquet")
        .filter((pl.col("kind") == "encounter") & (pl.col("key") == "ambulatory"))
        .select("life", "time")
        .collect()
        .join(people.select("life", "birth"), on="life")
        .filter(pl.col("time") - pl.col("birth") >= pl.duration(days=_ADULT_DAYS))
        .group_by("life", maintain_order=True)
        .agg(pl.col("time").sort().head(_EARLY))
        .sort("life")
    )
    found = {}
    for number, (name, share) in enumerate(SHARES.items()):
        lots = np.array([_lots(seed, life, number) for life in visits["life"].to_list()]).reshape(-1, 2)
        which = (lots[:, 1] * visits["time"].list.len().to_numpy()).astype(np.int64)
        picked = visits.with_columns(which=pl.Series(which))
        chosen = picked.with_columns(time=pl.col("time").list.get(pl.col("which")))
        found[name] = chosen.select("life", "time").filter(pl.Series(lots[:, 0] < share))
    return found


def _lots(seed: int, life: int, number: int) -> NDArray[np.float64]:
    return _random(seed, life, number).random(2)


def _random(seed: int, life: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, life, number, _STREAM])))


def _images(
    people: pl.DataFrame, made: dict[str, pl.DataFrame], out: Path, seed: int, today: date, progress: bool | None
) -> int:
    who = dict(zip(people["life"].to_list(), identities(people, seed, today), strict=True))
    rows = {row["life"]: row for row in people.iter_rows(named=True)}
    wanted = [(name, life, time) for name in dicom_files.SORTS for life, time in made[name].iter_rows()]
    shown = sys.stderr.isatty() if progress is None else progress
    with Progress(console=Console(stderr=True), disable=not shown) as bar:
        for name, life, time in bar.track(wanted, description="taking pictures"):
            row = rows[life]
            person = dicom_files.Person(
                f"RAD{life:07d}", f"{who[life]['family']}^{who[life]['given'][0]}", row["birth"], row["sex"]
            )
            content = dicom_files.encode(name, _picture(name, row, seed), person, _clock(time), f"{seed}:{life}")
            durable.write_bytes(out / "images" / f"{life // 1000:04d}" / f"{name}-{life:07d}.dcm", content)
    lines = [f"RAD{life:07d},{row['patient_id']}" for life, row in rows.items()]
    durable.write_bytes(out / PATIENTS, "\n".join(["patient_id,record_id", *lines, ""]).encode())
    return len(wanted)


def _clock(time: datetime) -> datetime:
    return time.replace(microsecond=0)


def _picture(name: str, row: dict[str, Any], seed: int) -> NDArray[Any]:
    rng = _random(seed, row["life"], 100 + dicom_files.SORTS.index(name))
    if name == "retina":
        return pictures.retina(row["retina"], row["wavy"] > 0, rng)
    if name == "chest":
        return pictures.chest(row["chest"], rng)
    return pictures.tile(row["tile"], rng)
