"""Records in, a de-identified data set out: bounded memory, resumable, and the same bytes from the same input.

First `spill`: every unit of the source becomes rows without identities, in a file with one batch a bucket of subjects.
Then `settle`, bucket by bucket: versions, duplicates, dates and ends are put right. Then codes are counted over
everybody, and `publish` lets the rare ones back off and writes shards. All of it happens in a folder beside `out`,
which takes its place whole at the end; killed at any point, the same command goes on from there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import orjson
import polars as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import lifechart
from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.data import notes as note_modes
from lifechart.data import publish, shards, tally
from lifechart.data.account import Account, balance, of_pairs, quarantine_lines, resource_counts
from lifechart.data.deidentify import dates as date_modes
from lifechart.data.deidentify import structured
from lifechart.data.publish import publish_bucket
from lifechart.data.settle import settle_bucket
from lifechart.data.sources import Unit, find_source
from lifechart.data.spill import Plan, Spill, spill
from lifechart.data.tally import Rules
from lifechart.ledger import lineage
from lifechart.ledger.statement import Statement, Subject

_BUCKET_BYTES = 256 << 20
"""Input that makes up one bucket; the rows of one bucket are in memory together."""
_SMALL = 32 << 20
"""Below this, starting processes costs more than it saves."""


class Ledger(Protocol):
    """Where the statement goes."""

    def append(self, statement: Statement) -> object:
        """Write it durably, or raise AuditError."""


def ingest(
    path: Path,
    out: Path,
    *,
    key: bytes,
    log: Ledger,
    source: str | None = None,
    option: str = "",
    workers: int | None = None,
    dates: str = "shift",
    as_of: datetime | None = None,
    min_patients: int = structured.MIN_PATIENTS,
    notes: str = "hold",
    progress: bool | None = None,
) -> Account:
    """Make the data set `out` from the records at `path`; return what became of every resource.

    `key`: `structured.load_key(settings)`. `source`, `option`: the plug's name, and what it wants to be told (for
    `tables`, the mapping's path); by default whichever source detects its format. `dates`: `shift` or `year`
    (deidentify.dates). `as_of`: when observation ended; by default what the export says, else its newest date.
    `notes`: what becomes of the prose of notes and reports (data.notes.MODES). `workers`: processes; by default one a core. `progress`: show bars on stderr; by default if that is a terminal.
    Raises InputError for arguments that cannot be used; a bad record never raises.
    """
    if dates not in date_modes.MODES:
        raise InputError("--dates", dates, f"one of {date_modes.MODES}")
    if min_patients < 1:
        raise InputError("--min-patients", min_patients, "a whole number from 1")
    if notes not in note_modes.MODES:
        raise InputError("--notes", notes, f"one of {note_modes.MODES}")
    if notes == "surrogates" and dates != "shift":
        raise InputError("--notes", notes, "--dates shift, by which the dates in surrogates move")
    if out.exists():
        raise InputError("--out", str(out), "a folder that does not exist yet")
    reader = find_source(path, source)
    units, files = reader.units(path, option), reader.files(path, option)
    if not units:
        raise InputError("PATH", str(path), "at least one file with something in it")
    units = [replace(unit, texts=notes != "hold") for unit in units]
    size = sum(unit.size for unit in units)
    parameters = {"source": reader.name, "option": option, "dates": dates, "min_patients": min_patients, "as_of": as_of}
    parameters |= {"notes": notes}
    plan = _plan(out, path, files, size, parameters, key)
    with _Runner(_processes(workers, size), progress) as run:
        run("Hashing", _hash_files, [(files, plan.work / "inputs.json")])
        run("Reading", spill, ((reader, unit, number, plan) for number, unit in enumerate(units)))
        spilled = [Spill.load(plan.spill_file(number).with_suffix(".json")) for number in range(len(units))]
        end = as_of or _end(reader.record_end(path, option), spilled)
        _gather(plan, spilled)
        buckets = range(plan.buckets)
        run("Ordering", settle_bucket, ((plan, bucket, len(units), units[0].anchor, end) for bucket in buckets))
        rules = tally.rules((tally.Counts.load(plan.bucket_file(bucket)) for bucket in buckets), min_patients)
        run("Writing", publish_bucket, ((plan, bucket, rules) for bucket in buckets))
    account = _finish(plan, units, files, spilled, rules)
    stated = {
        "source": reader.name,
        "transaction_time": reader.record_end(path, option) or "",
        "read": str(plan.started),
    }
    return _hand_over(plan, out, account, files, parameters | {"as_of": end}, stated, log)


def _processes(workers: int | None, size: int) -> int:
    if workers is not None:
        if workers < 1:
            raise InputError("--workers", workers, "a whole number from 1")
        return workers
    return 1 if size < _SMALL else len(os.sched_getaffinity(0))


def _plan(out: Path, path: Path, files: list[Path], size: int, parameters: dict[str, Any], key: bytes) -> Plan:
    """Make the work folder beside `out`, or go on in the one that the same input, code and parameters left."""
    work = out.with_name(f".{out.name}.ingest")
    started = _begin(work, path, files, parameters, key)
    buckets = 1 + size // _BUCKET_BYTES
    given = parameters["notes"], str(path), parameters["option"]
    return Plan(work, key, buckets, parameters["dates"], parameters["min_patients"], started, *given)


def _begin(work: Path, path: Path, files: list[Path], parameters: dict[str, Any], key: bytes) -> datetime:
    identity = durable.digest_of(
        {
            "files": [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in [path, *files]],
            "parameters": parameters,
            "key": hashlib.sha256(b"identity\0" + key).hexdigest(),
            "version": lifechart.__version__,
        }
    )
    note = work / "plan.json"
    if note.exists():
        left = orjson.loads(note.read_bytes())
        if left["identity"] == identity:
            return datetime.fromisoformat(left["started"])
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, mode=0o700)
    started = datetime.now().replace(microsecond=0)  # noqa: DTZ005 -- wall clock at the place of care, as the records
    durable.write_json(note, {"identity": identity, "started": started.isoformat()})
    return started


def _hash_files(files: list[Path], out: Path) -> None:
    if not out.exists():
        rows = [{"bytes": file.stat().st_size, "sha256": durable.file_digest(file)} for file in files]
        durable.write_json(out, [{"file": number} | row for number, row in enumerate(rows, start=1)])


def _end(stated: str | None, notes: list[Spill]) -> datetime:
    last = stated[:19] if stated else max(note.last for note in notes)
    if not last:
        raise InputError("PATH", "no dated event", "records with dates, or --as-of")
    try:
        return datetime.fromisoformat(last)
    except ValueError as error:
        raise InputError("transactionTime", last, "a date and time") from error


def _gather(plan: Plan, notes: list[Spill]) -> None:
    """Bring together what the units know of linked resources and of subjects."""
    linked = {link: supplied for note in notes for link, supplied in note.linked.items()}
    rows = [(link, code, name) for link, (code, name) in sorted(linked.items())]
    schema = {"link": pl.UInt64, "supplied": pl.String, "supplied_name": pl.String}
    subjects = pl.read_ipc(plan.spill_file(0).with_suffix(".subjects"))
    for number in range(1, len(notes)):
        more = pl.read_ipc(plan.spill_file(number).with_suffix(".subjects"))
        subjects = pl.concat([subjects, more]).unique("subject_id")
    for frame, file in (
        (pl.DataFrame(rows, schema=schema, orient="row"), plan.linked_file),
        (subjects, plan.subjects_file),
    ):
        with durable.replacing(file) as aside:
            frame.write_ipc(aside)


def _finish(plan: Plan, units: list[Unit], files: list[Path], notes: list[Spill], rules: Rules) -> Account:
    """Write metadata, quarantine and account into the data set; return the account."""
    found = [plan.bucket_file(bucket) for bucket in range(plan.buckets)]

    def parts(suffix: str) -> list[pl.DataFrame]:
        return [pl.read_ipc(file.with_suffix(suffix)) for file in found]

    described = parts(".described")
    codes = publish.codes_table(zip(described, parts(".described_units"), strict=True), rules.descriptions)
    splits = pl.concat(parts(".splits"))
    shards.write_metadata(plan.dataset, codes, splits)
    left_out = pl.concat(parts(".left_out"))
    counts, reasons = balance(notes, left_out)
    durable.write_bytes(plan.dataset / "quarantine.ndjson", quarantine_lines(units, files, notes, left_out))
    shutil.copyfile(plan.work / "inputs.json", plan.dataset / "inputs.json")
    dropped = Counter({"text held back": sum(note.texts_held_back for note in notes)})
    for file in found:
        for suffix in (".json", ".held_back"):
            dropped.update(orjson.loads(file.with_suffix(suffix).read_bytes()))
    backed_off = Counter(wider is None for wider in rules.becomes.values())
    account = Account(
        resources=resource_counts(counts),
        withdrawn=of_pairs(sum((note.withdrawn for note in notes), Counter())),
        quarantined=of_pairs(reasons),
        events=int(codes.get_column("num_events").sum()),
        subjects=splits.height,
        dropped=dict(sorted((+dropped).items())),
        identifiers_removed=dict(sorted(sum((note.removed for note in notes), Counter()).items())),
        codes_backed_off=backed_off[False],
        codes_withheld=backed_off[True],
        bytes=sum(file.stat().st_size for file in files),
        files=len(files),
        dataset_digest=shards.write_manifest(plan.dataset),
    )
    durable.write_json(plan.dataset / "account.json", account.to_json())
    return account


def _hand_over(
    plan: Plan,
    out: Path,
    account: Account,
    files: list[Path],
    parameters: dict[str, Any],
    stated: dict[str, Any],
    log: Ledger,
) -> Account:
    """Write the statements, then let the data set take its place. Without a statement there is no data set."""
    rows = orjson.loads((plan.work / "inputs.json").read_bytes())
    named = zip(files, rows, strict=True)
    inputs = [lineage.File(lineage.file_name(file, row["file"]), row["sha256"], row["bytes"]) for file, row in named]
    said = {name: str(value) for name, value in parameters.items()} | {"option": Path(parameters["option"]).name}
    how = {name: value for name, value in said.items() if name != "as_of"}
    transform = lineage.transform("ingest", how, ("codes", "data"))
    for statement in (*lineage.extract(inputs, stated), transform):
        log.append(statement)
    predicate = {
        "code": f"lifechart {lifechart.__version__}",
        "parameters": said,
        "extract": lineage.extract_digest(inputs),
        "transform": transform.subjects[0].digest,
        "inputs": {"files": account.files, "bytes": account.bytes},
        "account": account.to_json(),
    }
    log.append(Statement("ingest", (Subject("dataset", account.dataset_digest),), predicate))
    plan.dataset.rename(out)
    durable.sync_directory(out.parent)
    shutil.rmtree(plan.work)
    return account


class _Runner:
    """Runs tasks in order here, or on several processes, with a bar."""

    def __init__(self, processes: int, progress: bool | None) -> None:
        self._processes = processes
        console = Console(stderr=True)
        columns = (TextColumn("{task.description:14}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        shown = console.is_terminal if progress is None else progress
        self._bars = Progress(*columns, console=console, disable=not shown)
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> _Runner:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._bars.stop()

    def __call__(self, title: str, function: Callable[..., None], tasks: Iterable[tuple[Any, ...]]) -> None:
        """Call `function` with each tuple of arguments; raises the first error."""
        waiting = list(tasks)
        bar = self._bars.add_task(title, total=len(waiting))
        if self._processes == 1 or len(waiting) == 1:
            for arguments in waiting:
                function(*arguments)
                self._bars.advance(bar)
            return
        if self._pool is None:
            self._pool = _pool(self._processes)
        for future in as_completed([self._pool.submit(function, *arguments) for arguments in waiting]):
            future.result()
            self._bars.advance(bar)


def _pool(processes: int) -> ProcessPoolExecutor:
    # Polars must not be forked; and each process has one core to itself, so its own threads would only get in the way.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    return ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
