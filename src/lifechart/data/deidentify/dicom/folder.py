"""Many DICOM files: a folder, a zip or one file in, a folder of de-identified files and a report out.

The output appears whole or not at all. It is named by keyed ids alone (subject/study/series/instance), and the report
names input files by their number, because a file's name can hold a patient's.
"""

from __future__ import annotations

import csv
import os
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import Progress

import lifechart
from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.core.suppression import small, suppress_counts
from lifechart.data.consent.admission import EVERYBODY, Admission
from lifechart.data.deidentify.dicom import instance
from lifechart.data.sources import WITHHELD
from lifechart.ledger.statement import Statement, Subject

REPORT = "report.json"
DUPLICATE = "duplicate"
"""The outcome of an instance that another file already gave: the first in order stays."""
MAX_MEMBER = 2 << 30
"""A zip's member that unpacks to more is held back unread."""
_AHEAD = 64


class Ledger(Protocol):
    """Where the statement goes."""

    def append(self, statement: Statement) -> object:
        """Write it durably, or raise AuditError."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file, or one member of a zip: `file` counts from 1 in order of paths, `member` from 1 within its zip."""

    path: Path
    file: int
    member: int = 0
    name: str = ""

    def content(self) -> Path | bytes:
        """Return what `instance.clean` reads; empty bytes for a member that is too large or cannot be unpacked."""
        if not self.member:
            return self.path
        try:
            with zipfile.ZipFile(self.path) as archive:
                return archive.read(self.name) if archive.getinfo(self.name).file_size <= MAX_MEMBER else b""
        except Exception:
            # A broken archive can break in many ways, and none is worth more than a file that is not DICOM.
            return b""


def items(path: Path) -> Iterator[Item]:
    """Yield every file at `path` and every member of its zips, in order of paths."""
    files = [path] if path.is_file() else sorted(child for child in path.rglob("*") if child.is_file())
    for number, file in enumerate(files, start=1):
        if not zipfile.is_zipfile(file):
            yield Item(file, number)
            continue
        try:
            with zipfile.ZipFile(file) as archive:
                names = sorted(info.filename for info in archive.infolist() if not info.is_dir())
        except zipfile.BadZipFile:
            names = []
        yield from (Item(file, number, member, name) for member, name in enumerate(names, start=1))


def read_patients(file: Path) -> dict[str, str]:
    """Read a CSV with the columns patient_id (as images have it) and record_id (as the rest of the record has it)."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            table = csv.DictReader(stream)
            if not {"patient_id", "record_id"} <= set(table.fieldnames or ()):
                raise KeyError
            return {row["patient_id"]: row["record_id"] for row in table}
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise InputError("--patients", file.name, "a CSV with the columns patient_id and record_id") from error


@dataclass(frozen=True, slots=True)
class _Done:
    outcome: str
    reason: str
    place: str
    """Where the instance belongs within the output; empty if it was not de-identified."""
    series: str
    patient: int | None
    patient_known: bool
    blanked: tuple[float, float]
    counts: Counter[str]


def _one(item: Item, key: bytes, patients: Mapping[str, str], out: Path) -> _Done:
    """De-identify one file and write it aside; `_place` gives it its name, in the order of files."""
    found = instance.clean(item.content(), key, patients)
    place = series = ""
    if found.dataset is not None and found.subject is not None:
        uids = (found.dataset.StudyInstanceUID, found.dataset.SeriesInstanceUID, found.dataset.SOPInstanceUID)
        series = "/".join((str(found.subject.id), *(uid.removeprefix("2.25.") for uid in uids[:2])))
        place = f"{series}/{uids[2].removeprefix('2.25.')}.dcm"
        durable.write_bytes(_aside(out, item), instance.to_bytes(found.dataset))
    blanked = (found.blanked.lettering, found.blanked.outside)
    patient = None if found.subject is None else found.subject.id
    return _Done(found.outcome, found.reason, place, series, patient, found.patient_known, blanked, found.counts)


def _aside(out: Path, item: Item) -> Path:
    return out / f"{item.file}.{item.member}.part"


def _place(out: Path, item: Item, done: _Done, admission: Admission) -> _Done:
    """Move a written instance to where it belongs; a second one, or one that may not be used, is dropped."""
    if not done.place:
        return done
    if done.patient is not None and not admission.admits(done.patient):
        _aside(out, item).unlink()
        return replace(done, outcome=WITHHELD)
    target = out / done.place
    if target.exists():
        _aside(out, item).unlink()
        return replace(done, outcome=DUPLICATE)
    target.parent.mkdir(parents=True, exist_ok=True)
    _aside(out, item).rename(target)
    return done


def deidentify(
    path: Path,
    out: Path,
    *,
    key: bytes,
    log: Ledger,
    patients: Path | None = None,
    admission: Admission = EVERYBODY,
    workers: int | None = None,
    progress: bool | None = None,
) -> dict[str, Any]:
    """De-identify every DICOM file at `path` into the new folder `out`; return the report that is written into it.

    `key`: `structured.load_key(settings)`. `patients`: a CSV (`read_patients`) that tells which patient of the record
    an image's Patient ID is. `admission`: whose images may be used (data.consent).
    Raises InputError for arguments that cannot be used; a bad file never raises.
    """
    if not path.exists():
        raise InputError("PATH", str(path), "a file or folder that exists")
    if out.exists():
        raise InputError("OUT", str(out), "a folder that does not exist yet")
    known = read_patients(patients) if patients else {}
    waiting = list(items(path))
    if not waiting:
        raise InputError("PATH", str(path), "at least one file")
    work = out.with_name(f".{out.name}.deidentify")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, mode=0o700)
    try:
        report = _Report()
        for item, done in _run(waiting, key, known, work, _processes(workers, len(waiting)), progress):
            report.add(item, _place(work, item, done, admission))
        content = report.content()
        durable.write_json(work / REPORT, content)
        digest = durable.digest_of(durable.tree_digests(work))
        code = f"lifechart {lifechart.__version__}"
        said = {"code": code, "report": public(content["totals"])}
        log.append(Statement("deidentify", (Subject("images", digest),), said))
        work.rename(out)
        durable.sync_directory(out.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return content


def public(totals: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report's totals for the ledger: counts of 1 to 10 hidden (None), and what would give them away."""
    outcomes = suppress_counts(totals["outcomes"])
    left_out = [count for outcome, count in outcomes.items() if outcome != instance.WRITTEN]
    return {
        **{name: None if isinstance(count, int) and small(count) else count for name, count in totals.items()},
        "outcomes": outcomes,
        "reasons": suppress_counts(totals["reasons"], total_hidden=None in left_out),
        "attributes": {name: None if small(count) else count for name, count in totals["attributes"].items()},
    }


def _processes(workers: int | None, num_files: int) -> int:
    if workers is not None and workers < 1:
        raise InputError("--workers", workers, "a whole number from 1")
    return min(workers or len(os.sched_getaffinity(0)), max(1, num_files // 32))


def _run(
    waiting: list[Item], key: bytes, patients: Mapping[str, str], out: Path, processes: int, progress: bool | None
) -> Iterator[tuple[Item, _Done]]:
    """Yield each item with what became of it, in order, with a bar."""
    console = Console(stderr=True)
    shown = console.is_terminal if progress is None else progress
    with Progress(console=console, disable=not shown) as bars:
        track = bars.add_task("De-identifying", total=len(waiting))
        if processes == 1:
            for item in waiting:
                yield item, _one(item, key, patients, out)
                bars.advance(track)
            return
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            ahead: list[tuple[Item, Future[_Done]]] = []
            for item in waiting:
                ahead.append((item, pool.submit(_one, item, key, patients, out)))
                if len(ahead) >= _AHEAD:
                    first, future = ahead.pop(0)
                    yield first, future.result()
                    bars.advance(track)
            for first, future in ahead:
                yield first, future.result()
                bars.advance(track)


class _Report:
    """Counts what became of the files."""

    def __init__(self) -> None:
        self._outcomes: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._left_out: list[dict[str, Any]] = []
        self._patients: set[int] = set()
        self._unknown: set[int] = set()
        self._series: set[str] = set()
        self._lettered = self._cropped = 0

    def add(self, item: Item, done: _Done) -> None:
        """Take one file into account."""
        self._outcomes[done.outcome] += 1
        if done.outcome != instance.WRITTEN:
            reason = done.reason or done.outcome
            self._reasons[reason] += 1
            where = {"file": item.file, "member": item.member} if item.member else {"file": item.file}
            self._left_out.append(where | {"outcome": done.outcome, "reason": reason})
            return
        assert done.patient is not None
        self._counts += done.counts
        self._patients.add(done.patient)
        if not done.patient_known:
            self._unknown.add(done.patient)
        self._series.add(done.series)
        self._lettered += done.blanked[0] > 0
        self._cropped += done.blanked[1] > 0

    def content(self) -> dict[str, Any]:
        """Return the report: totals, and the files that were left out by their number in order of paths."""
        totals = {
            "files": self._outcomes.total(),
            "outcomes": dict(sorted(self._outcomes.items())),
            "reasons": dict(sorted(self._reasons.items())),
            "patients": len(self._patients),
            "patients not named": len(self._unknown),
            "series": len(self._series),
            "images with lettering blanked": self._lettered,
            "images blanked outside their regions": self._cropped,
            "attributes": dict(sorted(self._counts.items())),
        }
        methods = [{"code": code, "meaning": meaning} for code, meaning in instance.METHODS]
        return {"totals": totals, "methods": methods, "left out": self._left_out}
