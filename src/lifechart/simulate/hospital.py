"""The simulated hospital on disk: lives a block at a time into `truth/`, then exported as a real hospital would."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime, time
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.ledger import lineage
from lifechart.ledger.log import Log
from lifechart.ledger.statement import Statement
from lifechart.simulate import planted, population, tables
from lifechart.simulate.bias import Underdiagnosis, unrecorded
from lifechart.simulate.events import KIND, NOTHING
from lifechart.simulate.export import export
from lifechart.simulate.lives import Lives, live
from lifechart.simulate.modalities import export_modalities
from lifechart.simulate.physiology import physiology
from lifechart.simulate.population import People
from lifechart.simulate.processes import (
    CLASSES,
    KINDS,
    LATENTS,
    MONTH_MINUTES,
    SEXES,
    VACCINES,
    names,
)

BLOCK = 2500
"""Lives that share a random stream. Part of the seed's meaning: changing it changes every hospital."""
_DEATH = KIND["death"]


@dataclass(frozen=True)
class Summary:
    """What was simulated."""

    lives: int
    events: int
    deaths: int
    truth: Path
    resources: dict[str, int] = field(default_factory=dict)
    """How many FHIR resources of each type were exported."""

    def table(self) -> list[tuple[str, ...]]:
        """Return a header and rows for a terminal."""
        counts = {"lives": self.lives, "of them ended": self.deaths, "events": self.events, **self.resources}
        return [("simulated", "number"), *((name, f"{count:,}") for name, count in counts.items())]


def simulate(
    out: Path, lives: int, seed: int, today: date, *, bias: Underdiagnosis | None = None,
    modalities: Sequence[str] = (), log: Log | None = None, progress: bool | None = None,
) -> Summary:  # fmt: skip
    """Simulate a hospital: `out/truth`, then the export of it (`out/fhir`, `out/gold`).

    `bias`: a group whose diseases are recorded less often; `out/truth/unrecorded.parquet` says which of whom.
    `modalities`: plant traits (`planted`) and export what tells them: `note`, `image` (DICOM), `variant` (VCF); then
    `out/sources.yaml` leads `lifechart ingest` to all of it.
    `log`: the ledger that is to state the export as an extract. `progress`: show bars; by default when standard error
    is a terminal. The same arguments give the same bytes.
    """
    shown = sys.stderr.isatty() if progress is None else progress
    with Progress(console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task("living", total=lives)
        summary = write_truth(
            out / "truth",
            lives,
            seed,
            today,
            bias=bias,
            plant=bool(modalities),
            report=lambda done, _: bar.update(task, completed=done),
        )
    voiced = "note" in modalities
    summary = replace(summary, resources=export(out / "truth", out, voiced=voiced, progress=progress).resources)
    if modalities:
        counts = export_modalities(out / "truth", out, tuple(modalities), progress=progress)
        summary = replace(summary, resources=summary.resources | counts)
    if log is not None:
        log.append_many(_stated(out / "fhir", f"simulated hospital of {lives} lives, seed {seed}", today))
    return summary


def _stated(folder: Path, system: str, today: date) -> list[Statement]:
    """Return the statements about an export."""
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    files = [
        lineage.File(lineage.file_name(path, number), durable.file_digest(path), path.stat().st_size)
        for number, path in enumerate(paths, start=1)
    ]
    return lineage.extract(files, {"system": system, "source": "fhir", "transaction_time": today.isoformat()})


def write_truth(
    truth: Path, lives: int, seed: int, today: date, *, bias: Underdiagnosis | None = None, plant: bool = False,
    report: Callable[[int, int], None] | None = None,
) -> Summary:  # fmt: skip
    """Simulate and write `people`, `events`, `latent`, `occult` (Parquet) and `truth.json`, each whole or absent.

    `plant`: let planted traits act, and write `planted` besides. `report(done, lives)` is called after each block. The
    same arguments give the same files. Raises InputError.
    """
    if lives < 1:
        raise InputError("lives", lives, "at least 1")
    num_events = num_deaths = 0
    with ExitStack() as stack:
        writers: dict[str, pq.ParquetWriter] = {}
        for first, frames in blocks(lives, seed, today, plant=plant):
            for name, frame in frames.items():
                table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
                if name not in writers:
                    aside = stack.enter_context(durable.replacing(truth / f"{name}.parquet"))
                    writers[name] = stack.enter_context(pq.ParquetWriter(aside, table.schema, compression="zstd"))
                writers[name].write_table(table.cast(writers[name].schema))
            num_events += frames["events"].height
            num_deaths += int(frames["people"]["death"].is_not_null().sum())
            if report is not None:
                report(min(first + BLOCK, lives), lives)
    about: dict[str, object] = {"seed": seed, "today": today.isoformat(), "lives": lives, "block": BLOCK}
    about["tables"] = tables.digest()
    if plant:
        about["planted"] = planted.digest()
    else:
        (truth / "planted.parquet").unlink(missing_ok=True)
    missed = truth / "unrecorded.parquet"
    missed.unlink(missing_ok=True)
    if bias is not None:
        with durable.replacing(missed) as aside:
            unrecorded(pl.read_parquet(truth / "people.parquet"), bias, seed).write_parquet(aside)
        about["underdiagnosis"] = asdict(bias)
    durable.write_json(truth / "truth.json", about)
    return Summary(lives, num_events, num_deaths, truth)


def blocks(lives: int, seed: int, today: date, *, plant: bool = False) -> Iterator[tuple[int, dict[str, pl.DataFrame]]]:
    """Yield each block's first life and its tables `people`, `events`, `latent` and `occult`, as written to truth/.

    `plant`: let planted traits act, and yield `planted` besides.
    """
    now = np.datetime64(datetime.combine(today, time()), "m")
    for first in range(0, lives, BLOCK):
        rng = np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, first // BLOCK])))
        people = population.draw(min(BLOCK, lives - first), first, today, rng)
        traits = planted.draw(len(people), first, BLOCK, seed) if plant else None
        if traits is not None:
            people = replace(people, latents_ND=np.concatenate([people.latents_ND, traits], axis=1))
        happened = live(people, now, rng)
        events = events_frame(people, happened)
        found = {
            "people": people_frame(people, events, seed),
            "events": events,
            "latent": _latent(people),
            "occult": _occult(people, happened),
        }
        if traits is not None:
            found["planted"] = planted.frame(traits, first, seed)
        yield first, found


def _moment(people: People, lives: NDArray[np.int64], months: NDArray[np.float64]) -> NDArray[np.datetime64]:
    minutes = np.floor(months * MONTH_MINUTES).astype(np.int64).astype("timedelta64[m]")
    moments: NDArray[np.datetime64] = (people.birth[lives] + minutes).astype("datetime64[us]")
    return moments


def events_frame(people: People, happened: Lives) -> pl.DataFrame:
    """Return the rows of events.parquet."""
    order = np.argsort(happened.events.row, kind="stable")
    events, step = happened.events.take(order), happened.step[order]
    time_of = _moment(people, events.row, step + events.when)
    frame = pl.DataFrame(
        {
            "life": (events.row + people.first).astype(np.int32),
            "time": time_of,
            "kind": np.array(KINDS)[events.kind],
            "key": _keys(events.kind, events.key),
            "value": _lengths(events.row, time_of, events.kind, events.value),
            "encounter": _numbered(events.row, events.kind, events.encounter),
            "detail": _details(events.kind, events.process, events.found),
        }
    )
    return frame.with_columns(pl.col("value").fill_nan(None))


def _keys(kind: NDArray[np.int8], key: NDArray[np.int16]) -> NDArray[np.object_]:
    name = names()
    of_kind = {
        "encounter": CLASSES, "condition": name.conditions, "symptom": name.symptoms,
        "observation": physiology().observations, "medication": name.medications,
        "medication_stop": name.medications, "procedure": name.procedures, "immunization": name.immunizations,
        "allergy": name.allergies, "death": ("death",),
    }  # fmt: skip
    keys = np.empty(len(kind), object)
    for label, table in of_kind.items():
        these = kind == KIND[label]
        keys[these] = np.array(table, object)[key[these]]
    return keys


def _lengths(
    life: NDArray[np.int64], time_of: NDArray[np.datetime64], kind: NDArray[np.int8], value: NDArray[np.float32]
) -> NDArray[np.float32]:
    """End a stay that the patient does not survive at the death."""
    value = value.copy()
    for death in np.flatnonzero(kind == _DEATH):
        start = np.searchsorted(life, life[death])
        here = np.arange(start, death)
        left = (time_of[death] - time_of[here]) / np.timedelta64(1, "h")
        stays = kind[here] == KIND["encounter"]
        value[here[stays]] = np.minimum(value[here[stays]], np.round(left[stays], 2))
    return value


def _numbered(life: NDArray[np.int64], kind: NDArray[np.int8], encounter: NDArray[np.int64]) -> NDArray[np.int32]:
    """Number each life's encounters from 0; an encounter's own row is the first of its events."""
    opened = np.cumsum(kind == KIND["encounter"])
    before = np.concatenate([[0], opened[:-1]])[np.searchsorted(life, life)]
    return np.where(encounter == NOTHING, -1, opened - before - 1).astype(np.int32)


def _details(kind: NDArray[np.int8], process: NDArray[np.int16], found: NDArray[np.bool_]) -> NDArray[np.object_]:
    reasons = np.array([*("vaccination" if key in VACCINES else key for key in names().processes), ""], object)
    details = np.full(len(kind), "", object)
    details[kind == KIND["encounter"]] = reasons[process[kind == KIND["encounter"]]]
    details[found] = "test"
    return details


def people_frame(people: People, events: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Return the rows of people.parquet."""
    name = names()
    deaths = events.filter(pl.col("kind") == "death").select("life", death="time")
    frame = pl.DataFrame(
        {
            "life": np.arange(people.first, people.first + len(people), dtype=np.int32),
            "patient_id": [population.patient_id(seed, people.first + index) for index in range(len(people))],
            "birth": people.birth.astype("datetime64[us]"),
            "sex": np.array(SEXES)[people.sex],
            "ancestry": np.array(name.ancestries)[people.ancestry],
            "language": people.language,
            "height": np.round(people.height, 1),
        }
    )
    joined = frame.join(deaths, on="life", how="left", maintain_order="left")
    return joined.select("life", "patient_id", "birth", "death", "sex", "ancestry", "language", "height")


def _latent(people: People) -> pl.DataFrame:
    life = np.arange(people.first, people.first + len(people), dtype=np.int32)
    return pl.DataFrame({"life": life, **{key: people.latents_ND[:, index] for index, key in enumerate(LATENTS)}})


def _occult(people: People, happened: Lives) -> pl.DataFrame:
    life = happened.occult_life
    start = _moment(people, life, happened.occult_start.astype(np.float64))
    end = _moment(people, life, (happened.occult_end + 1).astype(np.float64))
    end[happened.occult_end < 0] = np.datetime64("NaT")
    return pl.DataFrame(
        {
            "life": (life + people.first).astype(np.int32),
            "key": np.array(["", *names().occults])[happened.occult_disease],
            "start": start,
            "end": end,
        }
    )


def cut(
    truth: Path, out: Path, day: date, lives: Sequence[int], *, since: date | None = None,
    factor: tuple[str, float] = ("", 1.0),
) -> None:  # fmt: skip
    """Write into `out` the truth of some lives as of a day: what has not happened yet is not in it.

    `since`: only events from then on. `factor`: a quantity whose results from `since` on are multiplied, as by a feed
    that sends another unit. Raises InputError if `truth` is none, or nobody of `lives` has been born.
    """
    if not (truth / "truth.json").exists():
        raise InputError("truth", str(truth), "a folder with a readable truth.json")
    about = orjson.loads((truth / "truth.json").read_bytes())
    end = datetime.combine(day, time())
    start = datetime.combine(since or date(1800, 1, 1), time())
    wanted = pl.col("life").is_in(list(lives))
    people = pl.read_parquet(truth / "people.parquet").filter(wanted, pl.col("birth") < end)
    if people.is_empty():
        raise InputError("lives", len(lives), "at least one who was born before the day")
    people = people.with_columns(death=pl.when(pl.col("death") < end).then("death"))
    events = pl.scan_parquet(truth / "events.parquet").filter(wanted, pl.col("time") < end, pl.col("time") >= start)
    changed = (pl.col("kind") == "observation") & (pl.col("key") == factor[0])
    value = pl.when(changed).then(pl.col("value") * factor[1]).otherwise("value").cast(pl.Float32)
    frames = {"people": people, "events": events.with_columns(value=value).collect()}
    for name, frame in frames.items():
        with durable.replacing(out / f"{name}.parquet") as aside:
            frame.write_parquet(aside)
    durable.write_json(out / "truth.json", {**about, "today": day.isoformat(), "lives": people.height})
