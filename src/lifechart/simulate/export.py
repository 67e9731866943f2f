"""The simulated hospital's records as a FHIR R4 Bulk Data export, and the gold spans of the identifiers in its notes.

One NDJSON file a resource type, patients in the order of their lives and each patient's lines together, so that a
reader can be tested on order and a server can read a chart in a few runs. The same truth gives the same bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import polars as pl
from rich.progress import Progress

from lifechart.core.durable import replacing, write_json
from lifechart.core.errors import InputError
from lifechart.simulate import directory
from lifechart.simulate.bias import recorded
from lifechart.simulate.fragments import Scope, encounter_ids, event_ids
from lifechart.simulate.identities import identities, table
from lifechart.simulate.notes import notes
from lifechart.simulate.resources import BUILDERS
from lifechart.simulate.voices import Voices

_LIVES = 1_000
"""Lives that are in memory at once."""


@dataclass(slots=True)
class Exported:
    """How many resources of each type were written, and how many gold spans."""

    resources: dict[str, int] = field(default_factory=dict)
    spans: int = 0

    @property
    def total(self) -> int:
        """All resources."""
        return sum(self.resources.values())


def export(truth: Path, out: Path, *, voiced: bool = False, progress: bool | None = None) -> Exported:
    """Write `out/fhir/*.ndjson`, `out/fhir/export.json` and `out/gold/spans.ndjson` from a truth folder.

    `voiced`: let notes tell of the planted trait `voice`. `progress`: show a bar; by default when standard error is a
    terminal. Every file is whole or absent, the manifest comes last. Raises InputError if `truth` is no truth folder.
    """
    about = _about(truth)
    seed, today = int(about["seed"]), date.fromisoformat(about["today"])
    now = datetime.combine(today, time())
    scope = Scope(seed, now, str(table("identity_places")["utc_offset"]))
    people = pl.read_parquet(truth / "people.parquet")
    done = Exported()
    with ExitStack() as stack:
        files = _Files(stack, out, done)
        for resource, lines in directory.resources(scope).items():
            files.write(resource, lines)
        bar = stack.enter_context(Progress(disable=not (sys.stderr.isatty() if progress is None else progress)))
        task = bar.add_task("exporting records", total=people.height)
        for some, events in _chunks(truth, people):
            voices = Voices.load(truth, seed) if voiced else None
            _write_chunk(files, scope, some, events, today, voices)
            bar.advance(task, some.height)
    _write_manifest(out / "fhir", scope, done)
    return done


def prepared(events: pl.DataFrame, people: pl.DataFrame, who: list[dict[str, Any]], scope: Scope) -> pl.DataFrame:
    """Return the events of some lives with what their resources share.

    Adds number (of the event within its life), id, visit (the Encounter's id), patient, death, the doctor, place and
    organization of its encounter; and of encounters their end.
    """
    staff = directory.assign(scope.seed, people, who)
    frame = events.with_columns(number=pl.int_range(pl.len()).over("life"))
    frame = frame.with_columns(event_ids(scope.seed, frame), encounter_ids(scope.seed, frame))
    is_visit = pl.col("kind") == "encounter"
    # A visit's own resource is named as everything in it refers to it.
    frame = frame.with_columns(id=pl.when(is_visit).then("visit").otherwise("id"))
    length = pl.duration(microseconds=(pl.col("value").cast(pl.Float64) * 3.6e9).round(0).cast(pl.Int64))
    frame = frame.with_columns(end=pl.when(is_visit).then((pl.col("time") + length).dt.truncate("1s")))
    frame = frame.join(
        people.select("life", "death", patient="patient_id"), on="life", how="left", maintain_order="left"
    )
    frame = frame.with_columns(end=pl.when(is_visit).then(pl.min_horizontal("end", "death")))
    return directory.staffed(frame, staff, scope.seed)


def _about(truth: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = orjson.loads((truth / "truth.json").read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise InputError("truth", str(truth), "a folder with a readable truth.json") from error
    return about


def _chunks(truth: Path, people: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    events = pl.scan_parquet(truth / "events.parquet")
    missed = pl.read_parquet(truth / "unrecorded.parquet") if (truth / "unrecorded.parquet").exists() else None
    for start in range(0, people.height, _LIVES):
        some = people.slice(start, _LIVES)
        lives = some.get_column("life")
        wanted = pl.col("life").is_between(lives.min(), lives.max())
        happened = events.filter(wanted).collect().sort("life", "time", maintain_order=True)
        yield some, happened if missed is None else recorded(happened, missed)


class _Files:
    """One open file a resource type, each of them set in place when all are complete."""

    def __init__(self, stack: ExitStack, out: Path, done: Exported) -> None:
        self._stack, self._out, self._done = stack, out, done
        self._open: dict[str, BinaryIO] = {}

    def write(self, resource: str, lines: pl.Series) -> None:
        """Append a column of lines, each with its newline, to the type's file."""
        assert not lines.has_nulls(), f"{resource}: a part of a resource is missing"
        self._done.resources[resource] = self._done.resources.get(resource, 0) + len(lines)
        self._file(f"fhir/{resource}.ndjson").write(_joined(lines))

    def write_gold(self, lines: list[bytes], spans: int) -> None:
        """Append to the gold spans."""
        self._done.spans += spans
        self._file("gold/spans.ndjson").write(b"".join(lines))

    def write_many(self, resource: str, lines: list[bytes]) -> None:
        """Append lines that are bytes already."""
        self._done.resources[resource] = self._done.resources.get(resource, 0) + len(lines)
        self._file(f"fhir/{resource}.ndjson").write(b"".join(lines))

    def _file(self, name: str) -> BinaryIO:
        if name not in self._open:
            aside = self._stack.enter_context(replacing(self._out / name))
            self._open[name] = self._stack.enter_context(aside.open("wb"))
        return self._open[name]


def _joined(lines: pl.Series) -> Any:
    # The characters of a column lie end to end in Arrow's layout, so they are written as they are.
    array = lines.to_arrow(compat_level=pl.CompatLevel.oldest())
    return array.buffers()[2] or b""


def _write_chunk(
    files: _Files, scope: Scope, people: pl.DataFrame, events: pl.DataFrame, today: date, voices: Voices | None
) -> None:
    who = identities(people, scope.seed, today)
    frame = prepared(events, people, who, scope)
    files.write_many("Patient", directory.patients(people, who, scope))
    for resource, build in BUILDERS.items():
        lines = build(frame, scope).sort("life", "time", maintain_order=True).get_column("line")
        files.write(resource, lines)
    documents, gold, spans = notes(frame, people, who, scope, voices)
    files.write_many("DocumentReference", documents)
    files.write_gold(gold, spans)


def _write_manifest(folder: Path, scope: Scope, done: Exported) -> None:
    base = f"https://fhir.{table('identity_places')['domain']}/bulk"
    listed = [
        {"type": resource, "url": f"{base}/{resource}.ndjson", "count": count}
        for resource, count in sorted(done.resources.items())
        if count
    ]
    moment = f"{scope.now:%Y-%m-%dT%H:%M:%S}{scope.offset}"
    request = f"{base}/$export"
    manifest = {
        "transactionTime": moment,
        "request": request,
        "requiresAccessToken": True,
        "output": listed,
        "error": [],
    }
    write_json(folder / "export.json", manifest)
