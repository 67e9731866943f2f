"""A made-up truth in the simulator's schema: events drawn from the tables without medicine, for the export alone."""

from datetime import date, datetime
from pathlib import Path

import numpy as np
import orjson
import polars as pl

from lifechart.simulate.identities import hex_ids
from lifechart.simulate.tables import keys, rows

TODAY = date(2026, 1, 1)
SHARE = {"observation": 0.62, "symptom": 0.1, "condition": 0.08, "medication": 0.1, "procedure": 0.03}
SHARE |= {"immunization": 0.05, "allergy": 0.02}
NAMES = {
    "observation": "observations",
    "symptom": "symptoms",
    "condition": "conditions",
    "medication": "medications",
    "procedure": "procedures",
    "immunization": "immunizations",
    "allergy": "allergies",
}


def write(folder: Path, lives: int, seed: int = 7, visits: int = 12, at_each: int = 4) -> Path:
    """Write a truth folder; `visits` encounters a life on average with `at_each` events in each."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    people = _people(rng, lives, seed)
    encounters = _encounters(rng, people, visits)
    inside = _inside(rng, encounters, at_each)
    deaths = people.filter(pl.col("death").is_not_null()).select(
        "life",
        time="death",
        kind=pl.lit("death"),
        key=pl.lit("death"),
        value=pl.lit(None, pl.Float32),
        encounter=pl.lit(-1, pl.Int32),
        detail=pl.lit(""),
    )
    events = pl.concat([encounters.drop("end"), inside, _stops(rng, inside), deaths])
    first = pl.col("kind").replace_strict({"encounter": 0, "death": 2}, default=1)
    events = events.sort("life", "time", "encounter", first, maintain_order=True)
    people.write_parquet(folder / "people.parquet")
    events.write_parquet(folder / "events.parquet")
    (folder / "truth.json").write_bytes(orjson.dumps({"seed": seed, "today": TODAY.isoformat(), "lives": lives}))
    return folder


def _people(rng: np.random.Generator, lives: int, seed: int) -> pl.DataFrame:
    born = rng.integers(-14_000, 14_000, lives)
    birth = pl.Series(born, dtype=pl.Int32).cast(pl.Date).cast(pl.Datetime("us"))
    frame = pl.DataFrame({"life": pl.Series(range(lives), dtype=pl.Int32), "birth": birth})
    return frame.with_columns(
        patient_id=pl.Series(hex_ids(seed, np.arange(lives), "patient")),
        death=pl.when(pl.Series(rng.random(lives) < 0.2)).then(
            pl.col("birth") + pl.duration(minutes=pl.Series(rng.integers(1, 9_000_000, lives)))
        ),
        sex=pl.Series(rng.choice(["female", "male"], lives)),
        ancestry=pl.Series(rng.choice(keys("ancestries"), lives)),
        language=pl.Series(rng.choice(["en", "es"], lives)),
    ).with_columns(death=pl.when(pl.col("death") < datetime(2026, 1, 1)).then("death"))


def _encounters(rng: np.random.Generator, people: pl.DataFrame, visits: int) -> pl.DataFrame:
    counts = rng.poisson(visits, people.height)
    frame = people.select(pl.all().repeat_by(pl.Series(counts, dtype=pl.UInt32))).explode(pl.all())
    frame = frame.filter(pl.col("life").is_not_null())
    last = pl.min_horizontal("death", pl.lit(datetime(2026, 1, 1)))
    part = pl.Series(rng.random(frame.height))
    frame = frame.with_columns(time=(pl.col("birth") + (last - pl.col("birth")) * part).dt.truncate("1m"))
    key = pl.Series(rng.choice(["ambulatory", "emergency", "inpatient"], frame.height, p=[0.85, 0.1, 0.05]))
    reasons = ["routine", "follow_up", "admission", "vaccination", *keys("symptoms"), *keys("conditions")]
    frame = (
        frame.sort("life", "time")
        .with_columns(key=key)
        .with_columns(
            value=pl.when(pl.col("key") == "inpatient")
            .then(72.5)
            .when(pl.col("key") == "emergency")
            .then(4.25)
            .otherwise(0.5)
            .cast(pl.Float32),
            encounter=pl.int_range(pl.len(), dtype=pl.Int32).over("life"),
            detail=pl.Series(rng.choice(reasons, frame.height)),
            kind=pl.lit("encounter"),
        )
    )
    return frame.select("life", "time", "kind", "key", "value", "encounter", "detail", end=pl.col("time"))


def _inside(rng: np.random.Generator, encounters: pl.DataFrame, at_each: int) -> pl.DataFrame:
    counts = pl.Series(rng.poisson(at_each, encounters.height), dtype=pl.UInt32)
    frame = encounters.select(pl.col("life", "time", "encounter").repeat_by(counts)).explode(pl.all())
    frame = frame.filter(pl.col("life").is_not_null())
    kinds = rng.choice(list(SHARE), frame.height, p=list(SHARE.values()))
    key, value = np.empty(frame.height, object), np.full(frame.height, np.nan, np.float32)
    for kind, name in NAMES.items():
        here = np.flatnonzero(kinds == kind)
        chosen = rng.integers(0, len(rows(name)), len(here))
        key[here] = np.array(keys(name), object)[chosen]
        if kind == "observation":
            table = rows(name)
            for number, row in enumerate(table):
                there = here[chosen == number]
                scale = 3 if row["values"] else float(row["high"] or 100) * 1.3
                drawn = rng.random(len(there)) * scale
                value[there] = np.floor(drawn) if row["values"] else np.round(drawn, int(row["decimals"]))
    frame = frame.with_columns(
        kind=pl.Series(kinds),
        key=pl.Series(key.tolist(), dtype=pl.String),
        value=pl.Series(value).fill_nan(None),
        detail=pl.lit(""),
    )
    # One measurement of a sort at a visit, as in life.
    frame = frame.unique(["life", "encounter", "kind", "key"], keep="first", maintain_order=True)
    return frame.select("life", "time", "kind", "key", "value", "encounter", "detail")


def _stops(rng: np.random.Generator, inside: pl.DataFrame) -> pl.DataFrame:
    started = inside.filter(pl.col("kind") == "medication")
    last = started.with_columns(later=pl.col("time").shift(-1).over("life", "key"))
    only = last.filter(pl.col("later").is_null()).join(
        inside.group_by("life").agg(stop=pl.col("time").max(), visit=pl.col("encounter").max()), on="life"
    )
    stopped = only.filter((pl.col("stop") > pl.col("time")) & pl.Series(rng.random(only.height) < 0.5))
    return stopped.select(
        "life",
        time="stop",
        kind=pl.lit("medication_stop"),
        key="key",
        value=pl.lit(None, pl.Float32),
        encounter=pl.col("visit"),
        detail=pl.lit(""),
    )
