"""Records in, a de-identified data set out: bounded memory, resumable, and the same bytes from the same input.

First `spill`: every unit of the source becomes rows without identities, in a file with one batch a bucket of subjects.
Then `settle`, bucket by bucket: versions, duplicates, dates and ends are put right. Then codes are counted over
everybody, and `publish` lets the rare ones back off and writes shards. All of it happens in a folder beside `out`,
which takes its place whole at the end; killed at any point, the same command goes on from there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import orjson
import polars as pl

import lifechart
from lifechart.codes import forms, terminology
from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.data import notes as note_modes
from lifechart.data import publish, shards, tally
from lifechart.data.account import Account, balance, of_pairs, quarantine_lines, resource_counts
from lifechart.data.consent import members
from lifechart.data.consent.admission import EVERYBODY, Admission
from lifechart.data.deidentify import dates as date_modes
from lifechart.data.deidentify import structured
from lifechart.data.engines import open_engine
from lifechart.data.publish import publish_bucket
from lifechart.data.settle import settle_bucket
from lifechart.data.sources import Attaching, Unit, find_source
from lifechart.data.spill import Plan, Spill, spill
from lifechart.data.tally import Rules
from lifechart.data.vault import encryption
from lifechart.data.vault import keys as vault_keys
from lifechart.ledger import lineage
from lifechart.ledger.statement import Statement, Subject

_BUCKET_BYTES = 256 << 20
"""Input that makes up one bucket; the rows of one bucket are in memory together."""
_HASHED_AT_ONCE = 64 << 20
"""Input that one task hashes, a larger file aside."""
_LOCK = "lock"
"""Within the work folder: held by the run that works there."""
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
    admission: Admission = EVERYBODY,
    evidence: Path | None = None,
    engine: str = "processes",
    address: str = "",
    encrypt_to: Sequence[str] = (),
    work: Path | None = None,
    progress: bool | None = None,
) -> Account:
    """Make the data set `out` from the records at `path`; return what became of every resource.

    `key`: `structured.load_key(settings)`. `source`, `option`: the plug's name, and what it wants to be told (for
    `tables`, the mapping's path); by default whichever source detects its format. `dates`: `shift` or `year`
    (deidentify.dates). `as_of`: when observation ended; by default what the export says, else its newest date.
    `admission`: who may be in it (data.consent). `evidence`: where proof of its members is kept, under home.
    `notes`: what becomes of the prose of notes and reports (data.notes.MODES).
    `workers`: processes; by default one a core. `engine`, `address`: who does the work, and for `ray` the cluster's
    address (data.engines). `encrypt_to`: recipients (data.vault.keys); the data set is then written encrypted. `work`:
    where the work folder is made, by default beside `out`; its rows are without identities but plain, so for an
    encrypted data set give an encrypted volume, or one in memory. `progress`: show bars on stderr; by default if that
    is a terminal.
    Raises InputError for arguments that cannot be used, StorageError for a full disk, EngineError for a cluster that
    falls apart; a bad record never raises.
    """
    if dates not in date_modes.MODES:
        raise InputError("--dates", dates, f"one of {date_modes.MODES}")
    if min_patients < 1:
        raise InputError("--min-patients", min_patients, "a whole number from 1")
    if notes not in note_modes.MODES:
        raise InputError("--notes", notes, f"one of {note_modes.MODES}")
    if notes == "surrogates" and dates != "shift":
        raise InputError("--notes", notes, "--dates shift, by which the dates in surrogates move")
    if work and not encrypt_to:
        raise InputError(
            "--work", str(work), "nothing, unless the data set is encrypted: it takes its place by a rename"
        )
    if workers is not None and engine != "processes":
        raise InputError("--workers", workers, f"nothing with --engine {engine}: a cluster knows its own cores")
    recipients = [vault_keys.check_recipient(recipient) for recipient in encrypt_to]
    workplace = (work or out.parent).absolute() / f".{out.name}.ingest"
    if out.exists():
        shutil.rmtree(workplace, ignore_errors=True)  # of a run that was killed when all was done
        raise InputError("--out", str(out), "a folder that does not exist yet")
    # Wherever a task runs, a path must mean the same file.
    path, out = path.absolute(), out.absolute()
    option = str(Path(option).absolute()) if option and Path(option).exists() else option
    reader = find_source(path, source)
    units, files = reader.units(path, option), reader.files(path, option)
    if not units:
        raise InputError("PATH", str(path), "at least one file with something in it")
    units = [replace(unit, texts=notes != "hold") for unit in units]
    size = sum(unit.size for unit in units)
    parameters = {"source": reader.name, "option": option, "dates": dates, "min_patients": min_patients, "as_of": as_of}
    parameters |= {"notes": notes}
    parameters["terminologies"] = terminology.digest()
    workshop = open_engine(engine, workers=_processes(workers, size), progress=progress, address=address)
    with _held(workplace), workshop as run:
        plan = _plan(workplace, path, files, size, parameters, key, admission)
        reading = [(spill, reader, unit, number, plan) for number, unit in enumerate(units)]
        # Hashed last, as the shorter tasks: nobody waits long for the last of them.
        run("Reading", _do, [*reading, *((_hash_files, *each) for each in _hash_tasks(files, plan.work))])
        _list_inputs(files, plan.work)
        spilled = [Spill.load(plan.spill_file(number).with_suffix(".json")) for number in range(len(units))]
        end = as_of or _end(reader.record_end(path, option), spilled)
        _gather(plan, spilled)
        buckets = range(plan.buckets)
        run("Ordering", settle_bucket, ((plan, bucket, len(units), units[0].anchor, end) for bucket in buckets))
        rules = tally.rules((tally.Counts.load(plan.bucket_file(bucket)) for bucket in buckets), min_patients)
        run("Writing", publish_bucket, ((plan, bucket, rules) for bucket in buckets))
        if isinstance(reader, Attaching):
            run("Attaching", reader.attach, ((u, number, plan.dataset, key, dates) for number, u in enumerate(units)))
            reader.gather(plan.dataset, len(units))
        account = _finish(plan, units, files, spilled, rules)
        stated = {
            "source": reader.name,
            "transaction_time": reader.record_end(path, option) or "",
            "read": str(plan.started),
        }
        return _hand_over(plan, out, account, files, parameters | {"as_of": end}, stated, log, evidence, recipients)


def _processes(workers: int | None, size: int) -> int:
    if workers is not None:
        if workers < 1:
            raise InputError("--workers", workers, "a whole number from 1")
        return workers
    return 1 if size < _SMALL else len(os.sched_getaffinity(0))


def _plan(
    work: Path,
    path: Path,
    files: list[Path],
    size: int,
    parameters: dict[str, Any],
    key: bytes,
    admission: Admission,
) -> Plan:
    """Begin in the work folder, or go on in what the same input, code and parameters left there."""
    started = _begin(work, path, files, parameters | {"admission": admission.identity}, key)
    buckets = 1 + size // _BUCKET_BYTES
    given = parameters["notes"], str(path), parameters["option"]
    return Plan(work, key, buckets, parameters["dates"], parameters["min_patients"], started, admission, *given)


@contextlib.contextmanager
def _held(work: Path) -> Iterator[None]:
    """Hold the work folder, so that no second run can work in it; the lock goes with the process."""
    work.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(work / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # A network file system may have no locks at all; then nobody is kept out.
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise InputError("--out", work.name, "a folder that no other ingest is at work in") from error
        yield
    finally:
        os.close(descriptor)


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
            durable.sweep(work)
            return datetime.fromisoformat(left["started"])
    for left_over in work.iterdir():
        if left_over.is_dir():
            shutil.rmtree(left_over)
        elif left_over.name != _LOCK:
            left_over.unlink()
    started = datetime.now().replace(microsecond=0)  # noqa: DTZ005 -- wall clock at the place of care, as the records
    durable.write_json(note, {"identity": identity, "started": started.isoformat()})
    return started


def _hash_tasks(files: list[Path], work: Path) -> list[tuple[list[Path], Path]]:
    """Divide files, in order, into parts of some size; return each with where its hashes go."""
    parts: list[list[Path]] = [[]]
    size = 0
    for file in files:
        if size >= _HASHED_AT_ONCE:
            parts.append([])
            size = 0
        parts[-1].append(file)
        size += file.stat().st_size
    return [(part, work / "inputs" / f"{number:06d}.json") for number, part in enumerate(parts)]


def _do(task: Callable[..., None], *arguments: Any) -> None:
    task(*arguments)


def _hash_files(files: list[Path], out: Path) -> None:
    if not out.exists():
        durable.write_json(out, [{"bytes": file.stat().st_size, "sha256": durable.file_digest(file)} for file in files])


def _list_inputs(files: list[Path], work: Path) -> None:
    """Bring the hashes of all files together, in their order."""
    rows = [row for _, part in _hash_tasks(files, work) for row in orjson.loads(part.read_bytes())]
    durable.write_json(work / "inputs.json", [{"file": number} | row for number, row in enumerate(rows, start=1)])


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
    conversions = publish.conversions_table(parts(".conversions") + parts(".usual_conversions"), codes)
    shards.write_units(plan.dataset, conversions)
    left_out = pl.concat(parts(".left_out"))
    counts, reasons = balance(notes, left_out)
    durable.sweep(plan.dataset)
    durable.write_bytes(plan.dataset / "quarantine.ndjson", quarantine_lines(units, files, notes, left_out))
    durable.write_bytes(plan.dataset / "inputs.json", (plan.work / "inputs.json").read_bytes())
    dropped = Counter({"text held back": sum(note.texts_held_back for note in notes)})
    for file in found:
        for suffix in (".json", ".held_back"):
            dropped.update(orjson.loads(file.with_suffix(suffix).read_bytes()))
    values: Counter[str] = Counter()
    for file in found:
        for suffix in (".values", ".usual_values"):
            values.update(orjson.loads(file.with_suffix(suffix).read_bytes()))
    backed_off = Counter(wider is None for wider in rules.becomes.values())
    account = Account(
        resources=resource_counts(counts),
        withdrawn=of_pairs(sum((note.withdrawn for note in notes), Counter())),
        quarantined=of_pairs(reasons),
        events=int(codes.get_column("num_events").sum()),
        subjects=splits.height,
        dropped=dict(sorted((+dropped).items())),
        identifiers_removed=dict(sorted(sum((note.removed for note in notes), Counter()).items())),
        values=dict(sorted((+values).items())),
        codes_unsound=forms.unsound(codes.get_column("code")),
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
    evidence: Path | None,
    recipients: Sequence[str],
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
        "account": account.public(),
        "consent": plan.admission.to_json(),
        "members": members.seal(plan.dataset, account.dataset_digest, plan.key, evidence),
    }
    log.append(Statement("ingest", (Subject("dataset", account.dataset_digest),), predicate))
    if recipients:
        encryption.encrypt(plan.dataset, out, recipients, log=log)
    else:
        plan.dataset.rename(out)
        durable.sync_directory(out.parent)
    shutil.rmtree(plan.work)
    return account
