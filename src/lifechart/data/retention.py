"""How long things are kept: what is due, and its deletion with a statement that stays when the thing is gone.

A thing is recognised by its own files (a data set's manifest, a model's files, a report, an assessment, a release's
manifest) and dated by the ledger's statement about it; what the ledger does not know is never deleted. What a current
release rests on is kept unless somebody insists, and the ledger then says that somebody did.
"""

from __future__ import annotations

import hashlib
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from lifechart.core import durable
from lifechart.core.errors import InputError, IntegrityError
from lifechart.core.report import Report
from lifechart.data.vault import sealed
from lifechart.ledger.lineage import made_models, makers_of
from lifechart.ledger.log import Entry, Log
from lifechart.ledger.statement import Envelope, Statement, Subject

DEFAULT = Path(__file__).with_name("retention.toml")
KINDS = ("dataset", "model", "report", "risk", "release")
_MADE_BY = {"dataset": "ingest", "model": "train", "report": "evaluate", "risk": "risk", "release": "release"}
_DAYS_A_YEAR = 365.25


@dataclass(frozen=True, slots=True)
class Rule:
    """How long one kind of thing is kept; 0 years: for ever."""

    years: float
    why: str


@dataclass(frozen=True, slots=True)
class Thing:
    """Something on disk that the ledger knows."""

    folder: Path
    kind: str
    digest: str
    created: str
    """When the ledger's first statement about it was made: ISO 8601, UTC."""
    until: str
    """When it is due; `–` for never."""
    due: bool
    why_kept: str
    """What current release rests on it, or nothing."""

    def state(self) -> str:
        """Return how it stands, for a table."""
        if not self.due:
            return "kept"
        return f"due, but {self.why_kept}" if self.why_kept else "due"


def load(path: Path | None = None) -> dict[str, Rule]:
    """Read the periods; raises InputError that names what is wrong."""
    path = path or DEFAULT
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        rules = {kind: Rule(float(content[kind]["years"]), str(content[kind]["why"])) for kind in KINDS}
        assert isinstance(content["review_by"], date)
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError, AssertionError) as error:
        raise InputError("retention", str(path), f"years and why of each of {KINDS} ({error})") from error
    for kind, rule in rules.items():
        if rule.years < 0:
            raise InputError(f"retention: {kind}.years", rule.years, "0 (for ever) or more")
    return rules


def things(log: Log, folders: Sequence[Path], rules: Mapping[str, Rule], moment: datetime | None = None) -> list[Thing]:
    """Return what lies in or under `folders` and is known to the ledger, oldest first."""
    moment = moment or datetime.now(UTC)
    current, models = _current(log), _models(log)
    found: dict[Path, Thing] = {}
    for folder in folders:
        for place, kind, digest in _recognised(folder.resolve(), models):
            made = _made(log, kind, digest)
            if made is None:
                continue
            born = datetime.fromisoformat(made.statement.created)
            years = rules[kind].years
            until = born + timedelta(days=years * _DAYS_A_YEAR)
            found[place] = Thing(
                folder=place,
                kind=kind,
                digest=digest,
                created=made.statement.created,
                until=until.isoformat() if years else "–",
                due=bool(years) and until <= moment,
                why_kept=current.get(digest, ""),
            )
    return sorted(found.values(), key=lambda each: (each.created, each.folder))


def apply(found: Sequence[Thing], log: Log, *, actor: str, reason: str, force: bool = False) -> list[Thing]:
    """Delete what is due, each after its statement is in the ledger; returns what was deleted.

    If the statement cannot be written, nothing is deleted. Cut off between the two, the same call deletes the rest.
    """
    if not reason.strip():
        raise InputError("--reason", reason, "why, in a sentence")
    gone = []
    for thing in found:
        if not thing.due or (thing.why_kept and not force):
            continue
        files = durable.tree_digests(thing.folder)
        said = {
            "what": thing.kind,
            "made": thing.created,
            "until": thing.until,
            "files": len(files),
            "content": "sha256:" + durable.digest_of(files),
            "forced": bool(thing.why_kept),
            "actor": actor,
            "reason": reason,
        }
        log.append(Statement("retention", (Subject(thing.kind, thing.digest),), said))
        shutil.rmtree(thing.folder)
        durable.sync_directory(thing.folder.parent)
        gone.append(thing)
    return gone


def _recognised(folder: Path, models: Mapping[str, Mapping[str, str]]) -> list[tuple[Path, str, str]]:
    """Return (folder, kind, digest) of everything at or under `folder`; what lies within a thing is part of it."""
    if not folder.is_dir():
        return []
    if (one := _kind_of(folder, models)) is not None:
        return [(folder, *one)]
    return [each for inner in _folders(folder) for each in _recognised(inner, models)]


def _folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, links left out: what they lead to is not here."""
    return sorted(inner for inner in folder.iterdir() if inner.is_dir() and not inner.is_symlink())


def _kind_of(folder: Path, models: Mapping[str, Mapping[str, str]]) -> tuple[str, str] | None:
    """Return what a folder holds, and its digest, by the file that names it."""
    try:
        if sealed.is_sealed(folder):
            return "dataset", sealed.Vault.load(folder).dataset
        if (folder / "manifest.json").exists():
            content = orjson.loads((folder / "manifest.json").read_bytes())
            if "payload" in content:
                envelope = Envelope.of_bytes((folder / "manifest.json").read_bytes())
                return "release", hashlib.sha256(envelope.payload).hexdigest()
            return "dataset", str(content["digest"])
        if (folder / "risk.json").exists():
            return "risk", str(orjson.loads((folder / "risk.json").read_bytes())["digest"])
        if (folder / "report.json").exists():
            return "report", Report.load(folder / "report.json").digest
    except (orjson.JSONDecodeError, KeyError, TypeError, InputError, IntegrityError):
        return None
    return next((("model", digest) for digest, files in models.items() if _holds(folder, files)), None)


def _models(log: Log) -> dict[str, dict[str, str]]:
    """Return {digest: {file: SHA-256}} of every model that the ledger says was trained."""
    said = (entry.statement for entry in made_models(log))
    return {each.subjects[0].digest: each.predicate["files"] for each in said if each.predicate.get("files")}


def _holds(folder: Path, files: Mapping[str, str]) -> bool:
    """Return whether a folder holds exactly these files among others; hashes only where all names are there."""
    if not all((folder / name).is_file() for name in files):
        return False
    return all(durable.file_digest(folder / name) == digest for name, digest in files.items())


def _made(log: Log, kind: str, digest: str) -> Entry | None:
    """Return the first statement that made a thing."""
    entries = makers_of(log, digest) if kind == "model" else log.find(kind=_MADE_BY[kind], digest=digest)
    about = [e for e in entries if any(subject.digest == digest for subject in e.statement.subjects)]
    return about[0] if about else None


def _current(log: Log) -> dict[str, str]:
    """Return {digest: why it is kept} of everything that the current releases are or rest on."""
    newest = {entry.statement.predicate["capability"]: entry for entry in log.find(kind="release")}
    found: dict[str, str] = {}
    for capability, entry in newest.items():
        said = entry.statement
        why = f"{capability} {said.predicate['version']} is current"
        named = [said.subjects[0].digest, *_digests(said.predicate)]
        found |= dict.fromkeys(named, why)
    return found


def _digests(value: object) -> list[str]:
    if isinstance(value, dict):
        return [digest for inner in value.values() for digest in _digests(inner)]
    return [value] if isinstance(value, str) and len(value) == 64 else []
