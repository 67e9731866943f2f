"""Statements about what goes into a data set: the extract that was read, and what was done to it on the way in."""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import lifechart
from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.ledger.log import Entry, Log
from lifechart.ledger.statement import Statement, Subject

MODEL_KINDS = ("train", "adapt")
"""Kinds of statements that make a model."""
_FILES_A_STATEMENT = 250
"""So that a statement stays below the size of an entry, however long the names."""
_NAME = re.compile(r"(?P<stem>[A-Za-z_]+)(?:[.-]?\d+)*(?:\.[a-z]{2,8}){1,2}")


@dataclass(frozen=True, slots=True)
class File:
    """A file of an extract. `name` holds nothing of a patient: see `file_name`."""

    name: str
    digest: str
    size: int


def file_name(path: Path, number: int) -> str:
    """Return how the ledger calls a file: its own name if that is one of a standard's tables, else its number.

    A file's name can hold a patient's, as in bundles of one patient each.

    >>> file_name(Path("Observation.0.ndjson"), 3), file_name(Path("Anna_Berg_1957.json"), 4)
    ('Observation.0.ndjson', 'file 4 (.json)')
    """
    found = _NAME.fullmatch(path.name)
    if found and found["stem"] in _standard_names():
        return path.name
    suffix = path.suffix if re.fullmatch(r"\.[a-z]{2,8}", path.suffix) else ""
    return f"file {number}{f' ({suffix})' if suffix else ''}"


def extract_digest(files: Iterable[File]) -> str:
    """Return the SHA-256 that names an extract: of the digests of its files, whatever they are called."""
    return durable.digest_of(sorted(file.digest for file in files))


def extract(files: Sequence[File], facts: Mapping[str, Any]) -> list[Statement]:
    """Return the statements about one extract, which is their first subject; its files are the others.

    `facts`: the system that it came from, when it was exported or read, and the like. An extract of many files takes
    several statements, each with its own share of them.
    """
    digest, size = extract_digest(files), sum(file.size for file in files)
    shares = [files[start : start + _FILES_A_STATEMENT] for start in range(0, len(files), _FILES_A_STATEMENT)] or [[]]
    return [
        Statement(
            "extract",
            (Subject("extract", digest), *(Subject(file.name, file.digest) for file in share)),
            {**facts, "files": len(files), "bytes": size, "part": part, "parts": len(shares)},
        )
        for part, share in enumerate(shares, start=1)
    ]


def transform(what: str, parameters: Mapping[str, str], rooms: Sequence[str]) -> Statement:
    """Return the statement about what is done to records: parameters, and the code and tables of these rooms.

    Its subject is the digest of both, so two data sets that were made in the same way name the same transform.
    """
    said = {"what": what, "parameters": dict(parameters), "code_digest": code_digest(rooms)}
    subject = Subject(f"transform: {what}", durable.digest_of(said))
    return Statement("transform", (subject,), {**said, "code": f"lifechart {lifechart.__version__}"})


@functools.cache
def _code_digest(rooms: tuple[str, ...]) -> str:
    root = Path(lifechart.__file__).parent
    files = sorted(
        path
        for room in rooms
        for path in (root / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    return durable.digest_of({path.relative_to(root).as_posix(): durable.file_digest(path) for path in files})


def code_digest(rooms: Sequence[str]) -> str:
    """Return the SHA-256 of every file of some rooms of Lifechart, code and tables."""
    return _code_digest(tuple(sorted(rooms)))


@functools.cache
def _standard_names() -> frozenset[str]:
    text = resources.files("lifechart.ledger").joinpath("file_names.csv").read_text()
    return frozenset(row["name"] for row in csv.DictReader(text.splitlines()))


def made_models(log: Log, digest: str | None = None) -> list[Entry]:
    """Return the statements by which models were made, trained or adapted, oldest first: those that name `digest`."""
    return sorted((each for kind in MODEL_KINDS for each in log.find(kind=kind, digest=digest)), key=lambda e: e.index)


def makers_of(log: Log, model: str) -> list[Entry]:
    """Return the statements that made a model, the newest last; before them those of the model it was adapted from."""
    own = [
        each for each in made_models(log, model) if any(subject.digest == model for subject in each.statement.subjects)
    ]
    bases = dict.fromkeys(str(each.statement.predicate["base"]) for each in own if each.statement.kind == "adapt")
    return [*(each for base in bases for each in makers_of(log, base)), *own]


def contribution_of(log: Log, model: str, capability: str) -> tuple[Entry, list[Mapping[str, Any]]] | None:
    """Return the newest statement of what each source added to a capability of a model, and its rows; None without."""
    for entry in reversed(log.find(kind="contribution", digest=model)):
        said = entry.statement
        if said.subjects[0].digest == model and capability in said.predicate["capabilities"]:
            return entry, said.predicate["capabilities"][capability]
    return None


def contribution_rows(log: Log, model: str, capability: str) -> list[tuple[str, ...]]:
    """Return a header and rows of what each source added; raises InputError if no statement says so."""
    found = contribution_of(log, model, capability)
    if found is None:
        raise InputError("capability", capability, "one whose sources `lifechart contribution` weighed for this model")
    head = (f"{capability}, entry {found[0].index}", "AUROC that it added", "95% interval")
    return [
        head,
        *((row["source"], f"{row['gain']:+.4f}", f"{row['low']:+.4f} to {row['high']:+.4f}") for row in found[1]),
    ]


def reference(digest: str) -> str:
    """Return the short form of a digest that pages and cards print, and `lifechart trace` takes: 12 digits in fours.

    >>> reference("0123456789abcdef" * 4)
    '0123-4567-89ab'
    """
    return "-".join(digest[start : start + 4] for start in range(0, 12, 4))
