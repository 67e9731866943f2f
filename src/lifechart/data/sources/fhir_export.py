"""Fetches a FHIR bulk `$export` into a folder that `lifechart ingest` reads; killed at any point, it goes on.

A file takes its name when all of it is there (core.durable), with its hash in the state beside it; the state goes, and
`export.json` comes, when everything is. FHIR Bulk Data Access 2.0: system, group and patient level, `_since`, `_type`,
`_typeFilter`; outputs, deletions and errors.
"""

from __future__ import annotations

import gzip
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin

import httpx
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.data.sources.documents import UNFINISHED
from lifechart.data.sources.fhir_server import Client, ExportFailed, Server, retry_after
from lifechart.data.sources.fhir_types import resource_types

MANIFEST = "export.json"
"""The server's manifest, as a Bulk Data manifest has to be, with the name and hash of each file: its transactionTime
says when observation ended."""
_PARTS = ("output", "deleted", "error")
_NDJSON = "application/fhir+ndjson"
_POLL_SECONDS = 5.0
_LONGEST_POLL = 300.0
_FILE_TRIES = 5
_LEVELS = {"system": "$export", "patient": "Patient/$export", "group": "Group/{group}/$export"}
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for."""

    level: str = "system"
    group: str = ""
    types: tuple[str, ...] = ()
    since: str = ""
    """An instant (ISO 8601 with a time zone): only what changed since."""
    type_filters: tuple[str, ...] = ()
    """Searches, as `Observation?category=laboratory`."""

    def path(self) -> str:
        """Return the address below the base; raises InputError that names the option."""
        if self.level not in _LEVELS:
            raise InputError("--level", self.level, f"one of {sorted(_LEVELS)}")
        if (self.level == "group") != bool(_ID.fullmatch(self.group)):
            raise InputError("--group", self.group, "the id of a Group, with --level group alone")
        if unknown := sorted(set(self.types) - resource_types()):
            raise InputError("--type", ",".join(unknown), "FHIR resource types")
        if self.since and not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", self.since):
            raise InputError("--since", self.since, "an instant as 2026-01-31T00:00:00Z")
        asked = {"_outputFormat": _NDJSON, "_type": ",".join(self.types), "_since": self.since}
        pairs = [(name, value) for name, value in asked.items() if value]
        pairs += [("_typeFilter", one) for one in self.type_filters]
        return f"{_LEVELS[self.level].format(group=self.group)}?{urlencode(pairs)}"


@dataclass(slots=True)
class Exported:
    """What came."""

    files: int = 0
    bytes: int = 0
    resources: Counter[str] = field(default_factory=Counter)
    """Lines by type; `deleted` and `error` for the files of those parts."""
    transaction_time: str = ""
    resumed: bool = False
    """Whether an earlier run had begun it."""

    def table(self) -> list[tuple[str, ...]]:
        """Return a header and rows for a terminal."""
        return [("", "resources"), *((type_, f"{number:,}") for type_, number in self.resources.most_common())]


def export(
    base: str,
    out: Path,
    client: Client,
    request: Request | None = None,
    *,
    packed: bool = False,
    patience: float = 24 * 3600.0,
    progress: bool | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Exported:
    """Fetch an export of the FHIR server at `base` into the folder `out`; return what came.

    `packed`: write `.ndjson.gz`. `patience`: seconds to wait for the server to prepare the files. The same call goes on
    with what an earlier one left, asking the server anew if it no longer knows that export. Raises InputError for what
    cannot be asked, ExportFailed if the server does not give it.
    """
    path = (request or Request()).path()
    if (out / MANIFEST).exists():
        raise InputError("--out", str(out), "a folder that does not hold an export yet")
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn())
    shown = console.is_terminal if progress is None else progress
    with Server(base, client, sleep=sleep) as server, Progress(*columns, console=console, disable=not shown) as bars:
        state = _State(out, f"{server.base}/{path}", packed)
        found = Exported(resumed=state.begun)
        if not state.manifest:
            state.keep(manifest=_wait(server, state, patience, sleep, bars))
        _fetch_all(server, state, out, packed, bars)
        _finish(state, out, found)
        if state.status_url:
            server.forget(state.status_url)
        state.drop()
    return found


class _State:
    """What is known of an export under way, in a file beside the exported ones."""

    def __init__(self, out: Path, url: str, packed: bool) -> None:
        self._path = out / UNFINISHED
        out.mkdir(parents=True, exist_ok=True, mode=0o700)
        for torn in out.glob(".*.part"):
            torn.unlink()
        self.url, self.status_url = url, ""
        self.manifest: dict[str, Any] = {}
        self.files: dict[str, dict[str, Any]] = {}
        self.begun = False
        try:
            left = orjson.loads(self._path.read_bytes())
        except (OSError, orjson.JSONDecodeError):
            left = {}
        if left.get("url") == url and left.get("packed") == packed:
            self.status_url, self.manifest, self.files = left["status_url"], left["manifest"], left["files"]
            self.begun = True
        elif left or any(out.glob("*.ndjson*")):
            raise InputError("--out", str(out), "an empty folder, or one that the same export has begun")
        self._packed = packed

    def keep(self, **changes: Any) -> None:
        """Change what is known, durably."""
        for name, value in changes.items():
            setattr(self, name, value)
        known = {name: getattr(self, name) for name in ("url", "status_url", "manifest", "files")}
        durable.write_json(self._path, known | {"packed": self._packed})

    def drop(self) -> None:
        self._path.unlink(missing_ok=True)
        durable.sync_directory(self._path.parent)


def _wait(
    server: Server, state: _State, patience: float, sleep: Callable[[float], None], bars: Progress
) -> dict[str, Any]:
    """Ask for the export, unless an earlier run did, and return the manifest when the server has it ready."""
    bar = bars.add_task("Waiting for the server", total=None)
    waited, fresh = 0.0, not state.status_url
    while True:
        if not state.status_url:
            state.keep(status_url=_kick_off(server, state.url))
        try:
            answer = server.get(state.status_url, "status", accept="application/json")
        except ExportFailed:
            if fresh:
                raise
            # An export of an earlier run, which the server has forgotten.
            fresh = True
            state.keep(status_url="")
            continue
        if answer.status_code == 200:
            bars.remove_task(bar)
            return _manifest(server, answer)
        if answer.status_code != 202:
            raise ExportFailed(f"status: the server answers {answer.status_code}")
        if waited >= patience:
            raise ExportFailed(f"status: not ready after {patience:,.0f} s; the same command goes on waiting")
        stated = retry_after(answer)
        seconds = min(stated if stated is not None else _POLL_SECONDS, _LONGEST_POLL)
        sleep(seconds)
        waited += max(seconds, 0.1)


def _kick_off(server: Server, url: str) -> str:
    answer = server.get(url, "kick-off", accept="application/fhir+json", prefer="respond-async")
    place = str(answer.headers.get("Content-Location", ""))
    if answer.status_code != 202 or not place:
        raise ExportFailed(f"kick-off: the server answers {answer.status_code} without a Content-Location")
    place = urljoin(url, place)
    if not server.own(place):
        raise ExportFailed("kick-off: the server sends us to another server")
    return place


def _manifest(server: Server, answer: httpx.Response) -> dict[str, Any]:
    """Return the manifest of an answer, its further pages (Bulk Data 3) united with it."""
    whole: dict[str, Any] = {}
    while True:
        try:
            page = orjson.loads(answer.content)
            for part in _PARTS:
                for entry in page.get(part) or []:
                    if part != "error" and entry["type"] not in {*resource_types(), "Bundle"}:
                        raise ValueError
                    whole.setdefault(part, []).append(
                        {name: entry[name] for name in ("type", "url", "count") if name in entry}
                    )
            whole = {name: page[name] for name in ("transactionTime", "request", "requiresAccessToken")} | whole
            following = [link["url"] for link in page.get("link") or [] if link["relation"] == "next"]
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
            raise ExportFailed("status: the manifest is not one") from None
        if not following:
            return whole
        answer = server.get(following[0], "status", accept="application/json")


def _fetch_all(server: Server, state: _State, out: Path, packed: bool, bars: Progress) -> None:
    """Fetch every file that is not there yet."""
    wanted = list(_names(state.manifest, packed))
    bar = bars.add_task("Fetching files", total=len(wanted))
    for name, _, entry in wanted:
        known = state.files.get(entry["url"])
        if known is None or not _is_there(out / name, known):
            known = _fetch(server, entry["url"], out / name, packed, bool(state.manifest["requiresAccessToken"]))
            stated = entry.get("count")
            if isinstance(stated, int) and stated != known["count"]:
                raise ExportFailed(f"{name}: {known['count']} lines, though the manifest counts {stated}")
            state.keep(files=state.files | {entry["url"]: known})
        bars.advance(bar)


def _names(manifest: dict[str, Any], packed: bool) -> Iterable[tuple[str, str, dict[str, Any]]]:
    """Yield (file name, part, entry) of every file that a manifest lists."""
    for part in _PARTS:
        numbers: Counter[str] = Counter()
        for entry in manifest.get(part) or []:
            label = entry["type"] if part == "output" else part
            yield f"{label}.{numbers[label]:04d}.ndjson{'.gz' if packed else ''}", part, entry
            numbers[label] += 1


def _is_there(path: Path, known: dict[str, Any]) -> bool:
    return path.exists() and durable.file_digest(path) == known["sha256"]


def _fetch(server: Server, url: str, path: Path, packed: bool, token: bool) -> dict[str, Any]:
    """Fetch one file whole; a transfer that breaks off begins again. Returns its hash, bytes and lines."""
    for attempt in range(_FILE_TRIES):
        try:
            with durable.replacing(path) as aside:
                with server.stream(url, path.name, accept=_NDJSON, token=token) as answer:
                    lines = _write(answer, aside, packed)
                known = {"sha256": durable.file_digest(aside), "bytes": aside.stat().st_size, "count": lines}
            return known
        except (httpx.TransportError, httpx.DecodingError) as error:
            if attempt == _FILE_TRIES - 1:
                raise ExportFailed(f"{path.name}: {type(error).__name__}") from None
    raise AssertionError("unreachable")


def _write(answer: httpx.Response, path: Path, packed: bool) -> int:
    """Write a body, unpacked or packed anew; return how many lines it has."""
    lines, last = 0, b"\n"
    with open(path, "wb") as raw:
        file = gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) if packed else raw
        with closing(file):
            for part in answer.iter_bytes():
                lines += part.count(b"\n")
                last = part[-1:] or last
                file.write(part)
    return lines + (last != b"\n")


def _finish(state: _State, out: Path, found: Exported) -> None:
    """Write the manifest, and sum up."""
    packed = bool(orjson.loads((out / UNFINISHED).read_bytes())["packed"])
    listed: dict[str, list[dict[str, Any]]] = {part: [] for part in _PARTS}
    for name, part, entry in _names(state.manifest, packed):
        known = state.files[entry["url"]]
        entry = {**entry, "url": entry["url"].split("?")[0]}  # what follows may be a signature that opens the file
        listed[part].append({**entry, "file": name, "sha256": known["sha256"], "count": known["count"]})
        found.files += 1
        found.bytes += known["bytes"]
        found.resources[entry["type"] if part == "output" else part] += known["count"]
    about = {name: state.manifest[name] for name in ("transactionTime", "request", "requiresAccessToken")}
    found.transaction_time = str(about["transactionTime"])
    durable.write_json(out / MANIFEST, about | listed)
