"""What a thing rests on: from an answer, a release or a model back to the extracts, statement by statement.

Every step is an entry of the log, so an auditor with a copy of it and the public key can walk it offline.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lifechart.core.errors import InputError
from lifechart.ledger.log import Entry, Log

_DIGEST = re.compile(r"[0-9a-f]{64}")
_MOST_SHOWN = 6
_REMARKS = ("phase", "switch", "approval", "feedback")


@dataclass(frozen=True, slots=True)
class Node:
    """A thing with a digest. `entry` is the statement about it; None for what only others name, as source files."""

    digest: str
    name: str
    entry: Entry | None

    def __str__(self) -> str:
        if self.entry is None:
            return f"{self.name} {self.digest[:12]}"
        said = self.entry.statement
        return f"{self.name} {self.digest[:12]}: {said.kind}, entry {self.entry.index}, {said.created}"


@dataclass(frozen=True, slots=True)
class Edge:
    """`upper` rests on `lower`; `label` is where the statement about `upper` names it."""

    upper: str
    lower: str
    label: str


@dataclass(frozen=True, slots=True)
class Graph:
    """What one thing rests on, directly and through others."""

    start: str
    nodes: dict[str, Node]
    edges: tuple[Edge, ...]

    def lower(self, digest: str) -> list[Edge]:
        """Return what a thing rests on directly."""
        return [edge for edge in self.edges if edge.upper == digest]

    def __str__(self) -> str:
        return "\n".join(self._lines(self.start, "", 0, set()))

    def _lines(self, digest: str, label: str, depth: int, shown: set[str]) -> Iterator[str]:
        again = digest in shown
        shown.add(digest)
        yield f"{'  ' * depth}{f'{label}: ' if label else ''}{self.nodes[digest]}{' (see above)' if again else ''}"
        if again:
            return
        edges = self.lower(digest)
        sources = [edge for edge in edges if self.nodes[edge.lower].entry is None]
        for edge in edges:
            if edge not in sources[_MOST_SHOWN:]:
                yield from self._lines(edge.lower, edge.label, depth + 1, shown)
        if len(sources) > _MOST_SHOWN:
            yield f"{'  ' * (depth + 1)}and {len(sources) - _MOST_SHOWN} more"


def trace(log: Log, digest: str) -> Graph:
    """Follow a digest down to what no statement is about; raises InputError if the log says nothing of it."""
    first = _about(log, digest)
    if first is None:
        raise InputError("digest", digest, "the digest of something that the ledger has a statement about")
    nodes = {digest: _node(digest, first, digest)}
    edges: list[Edge] = []
    waiting = [nodes[digest]]
    while waiting:
        node = waiting.pop(0)
        assert node.entry is not None
        for label, lower in _rests_on(log, node.entry):
            edges.append(Edge(node.digest, lower, label))
            if lower not in nodes:
                nodes[lower] = _node(lower, _about(log, lower, before=node.entry.index), label)
                if nodes[lower].entry is not None:
                    waiting.append(nodes[lower])
    return Graph(digest, nodes, tuple(edges))


def _node(digest: str, entry: Entry | None, label: str) -> Node:
    subjects = () if entry is None else entry.statement.subjects
    name = next((subject.name for subject in subjects if subject.digest == digest), label)
    return Node(digest, name, entry)


def _about(log: Log, digest: str, before: int | None = None) -> Entry | None:
    """Return the newest statement whose subject this is, made before entry `before`.

    Phases, switches and approvals are about a manifest, and feedback about an answer, but did not make it.
    """
    found = [
        entry
        for entry in log.find(digest=digest)
        if (before is None or entry.index < before)
        and entry.statement.kind not in _REMARKS
        and any(subject.digest == digest for subject in entry.statement.subjects)
    ]
    return found[-1] if found else None


def _rests_on(log: Log, entry: Entry) -> Iterator[tuple[str, str]]:
    """Yield (where, digest) of everything that a statement names, and for an answer the release that gave it."""
    said = entry.statement
    own = {subject.digest for subject in said.subjects}
    if said.kind == "answer":
        for release in reversed(log.find(kind="release")):
            about = release.statement
            same = all(about.predicate.get(key) == said.predicate.get(key) for key in ("capability", "model"))
            if release.index < entry.index and same:
                yield "release", about.subjects[0].digest
                break
    for label, digest in _named(said.predicate, ""):
        if digest not in own:
            yield label, digest


def _named(value: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _named(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner, path)
    elif isinstance(value, str) and _DIGEST.fullmatch(value):
        yield path, value
