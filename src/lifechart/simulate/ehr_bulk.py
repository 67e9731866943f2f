"""The simulated EHR's bulk `$export` (FHIR Bulk Data Access 2.0): kick-off, status, files, deletion of a job.

System, patient and group level, `_type` and `_since`; files in parts of some thousand lines, gzipped for whoever takes
it. A Group `tenth-0` … `tenth-9` holds every tenth patient. A resource of the simulation has no lastUpdated, so
`_since` goes by the newest date within it.
"""

from __future__ import annotations

import gzip
import re
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from lifechart.simulate.ehr_records import Records

PART_LINES = 5_000
_NDJSON = "application/fhir+ndjson"
_FORMATS = ("", _NDJSON, "application/ndjson", "ndjson")
_PARAMETERS = ("_outputFormat", "_type", "_since")
_MOMENT = re.compile(rb'"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)')
_TENTH = re.compile(r"tenth-(\d)")
_BLOCK = 1 << 18


@dataclass(slots=True)
class _Job:
    request: str
    types: list[str]
    patients: frozenset[str] | None
    """Whose resources; None: everything, people and places included."""
    since: bytes
    began: str
    polls: int = 0
    files: list[tuple[str, Path, int]] | None = None
    """(type, file, lines) when ready."""
    folder: tempfile.TemporaryDirectory[str] = field(default_factory=lambda: tempfile.TemporaryDirectory(prefix="ehr-"))


class Bulk:
    """Jobs of one server, kept while it runs."""

    def __init__(self, records: Records, *, polls: int = 2, wait: int = 1) -> None:
        """`polls`: how often a status is "not yet" before the files are made; `wait`: the Retry-After, in seconds."""
        self._records, self._polls, self._wait = records, polls, wait
        self._jobs: dict[str, _Job] = {}
        self._lock = Lock()

    def start(self, request: Request) -> Response:
        """Answer a kick-off."""
        if request.headers.get("prefer", "") != "respond-async":
            raise HTTPException(400, "$export: Prefer: respond-async is wanted")
        asked = request.query_params
        if unknown := sorted(set(asked) - set(_PARAMETERS)):
            raise HTTPException(400, f"$export: parameter {unknown[0]!r} is not supported")
        if asked.get("_outputFormat", "") not in _FORMATS:
            raise HTTPException(400, "$export: only NDJSON is written")
        known = self._records.types
        types = [one for one in asked.get("_type", "").split(",") if one] or known
        if unknown := sorted(set(types) - set(known)):
            raise HTTPException(400, f"$export: _type {unknown[0]!r} is not here")
        name = secrets.token_hex(12)
        now = datetime.now(UTC).replace(microsecond=0).isoformat()
        patients = self._patients(request)
        self._jobs[name] = _Job(str(request.url), types, patients, asked.get("_since", "")[:19].encode(), now)
        return Response(status_code=202, headers={"Content-Location": f"{_base(request)}/bulk-status/{name}"})

    def status(self, request: Request) -> Response:
        """Answer a question for a job's status, or forget the job (DELETE)."""
        job = self._job(request)
        if request.method == "DELETE":
            self._jobs.pop(request.path_params["job"]).folder.cleanup()
            return Response(status_code=202)
        job.polls += 1
        if job.polls <= self._polls:
            headers = {"Retry-After": str(self._wait), "X-Progress": f"{job.polls} of {self._polls}"}
            return Response(status_code=202, headers=headers)
        with self._lock:
            if job.files is None:
                job.files = list(self._made(job))
        files = f"{_base(request)}/bulk-files/{request.path_params['job']}"
        manifest = {
            "transactionTime": job.began,
            "request": job.request,
            "requiresAccessToken": True,
            "output": [
                {"type": kind, "url": f"{files}/{path.name}", "count": count} for kind, path, count in job.files
            ],
            "deleted": [],
            "error": [],
        }
        return Response(orjson.dumps(manifest), media_type="application/json")

    def file(self, request: Request) -> Response:
        """Answer with one file's bytes."""
        job, name = self._job(request), request.path_params["file"]
        path = next((path for _, path, _ in job.files or [] if path.name == name), None)
        if path is None:
            raise HTTPException(404, "file: there is none of that name")
        if "gzip" in request.headers.get("accept-encoding", ""):
            content = gzip.compress(path.read_bytes(), compresslevel=1, mtime=0)
            return Response(content, headers={"Content-Encoding": "gzip"}, media_type=_NDJSON)
        return StreamingResponse(_blocks(path), media_type=_NDJSON)

    def close(self) -> None:
        """Forget every job."""
        for job in self._jobs.values():
            job.folder.cleanup()
        self._jobs.clear()

    def _job(self, request: Request) -> _Job:
        job = self._jobs.get(request.path_params["job"])
        if job is None:
            raise HTTPException(404, "export: there is none of that name")
        return job

    def _patients(self, request: Request) -> frozenset[str] | None:
        """Return whom a kick-off's address asks about."""
        everybody = [known.id for known in self._records.patients]
        group = request.path_params.get("group")
        if group is None:
            return frozenset(everybody) if "/Patient/" in request.url.path else None
        tenth = _TENTH.fullmatch(group)
        if tenth is None:
            raise HTTPException(404, "Group: there is none of that id")
        return frozenset(everybody[int(tenth[1]) :: 10])

    def _made(self, job: _Job) -> Iterator[tuple[str, Path, int]]:
        """Write a job's files; yield each with its type and how many lines it has."""
        for kind in job.types:
            part: list[bytes] = []
            number = 0
            for line in self._lines(kind, job):
                part.append(line)
                if len(part) == PART_LINES:
                    yield kind, _written(job, kind, number, part), len(part)
                    part, number = [], number + 1
            if part:
                yield kind, _written(job, kind, number, part), len(part)

    def _lines(self, kind: str, job: _Job) -> Iterator[bytes]:
        for line in self._records.every(kind):
            if job.since and (found := _MOMENT.findall(line)) and max(found) < job.since:
                continue
            if job.patients is None or self._records.owner_of(orjson.loads(line)) in job.patients:
                yield line


def _written(job: _Job, kind: str, number: int, part: list[bytes]) -> Path:
    path = Path(job.folder.name) / f"{kind}-{number}.ndjson"
    path.write_bytes(b"".join(line + b"\n" for line in part))
    return path


def _blocks(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            yield block


def _base(request: Request) -> str:
    return f"{str(request.base_url).rstrip('/')}/fhir"
