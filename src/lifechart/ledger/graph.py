"""A graph of things that rest on each other, as text and as JSON: what `lifechart trace` found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lifechart.ledger.log import Entry

_MOST_SHOWN = 6
"""Of many things of one kind below one thing, so many are named; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Node:
    """A thing with a digest. `entry` is the statement about it; None for what only others name."""

    digest: str
    name: str
    entry: Entry | None
    remarks: tuple[str, ...] = ()
    """What else the log says of it: phases, switches, approvals, earlier statements."""

    @property
    def kind(self) -> str:
        """What the statement about it is of; empty without one."""
        return "" if self.entry is None else self.entry.statement.kind

    def __str__(self) -> str:
        if self.entry is None:
            return f"{self.name} {self.digest[:12]}"
        said = self.entry.statement
        return f"{self.name} {self.digest[:12]}: {said.kind}, entry {self.entry.index}, {said.created[:19]}Z"


@dataclass(frozen=True, slots=True)
class Edge:
    """`upper` rests on `lower`; `label` is where the statement about `upper` names it."""

    upper: str
    lower: str
    label: str


@dataclass(frozen=True, slots=True)
class Use:
    """A capability's release that rests on the thing, and how much was said with it."""

    capability: str
    version: str
    manifest: str
    phase: str
    current: bool
    on: bool
    answers: int
    """Answers given by this release while it was the current one."""
    first: int | None = None
    last: int | None = None
    """Entries of the first and the last of them."""

    def __str__(self) -> str:
        state = f"phase {self.phase}, {'current' if self.current else 'superseded'}" + ("" if self.on else ", off")
        span = f" (entries {self.first} to {self.last})" if self.answers else ""
        return f"{self.capability}, release {self.version}: {state}; {self.answers:,} answers{span}"


@dataclass(frozen=True, slots=True)
class Graph:
    """What a thing rests on (`edges` down from `start`), and what rests on it (`above`, up from it)."""

    start: str
    asked: str
    """What was asked for, in words: for a sentence, which one it is and what it said."""
    nodes: dict[str, Node]
    edges: tuple[Edge, ...]
    above: tuple[Edge, ...] = ()
    uses: tuple[Use, ...] = ()
    folded: dict[str, int] = field(default_factory=dict)
    """Kind -> entries that name the thing itself and are too many to be nodes: answers and views of a patient."""

    def lower(self, digest: str) -> list[Edge]:
        """Return what a thing rests on directly."""
        return [edge for edge in self.edges if edge.upper == digest]

    def upper(self, digest: str) -> list[Edge]:
        """Return what rests on a thing directly."""
        return [edge for edge in self.above if edge.lower == digest]

    def below(self, digest: str) -> list[Edge]:
        """Return what a thing rests on directly, whichever way it was found."""
        return list(dict.fromkeys(edge for edge in (*self.edges, *self.above) if edge.upper == digest))

    @property
    def bare(self) -> list[Node]:
        """The things that no statement is about."""
        return [node for node in self.nodes.values() if node.entry is None]

    def __str__(self) -> str:
        lines = [*([self.asked] if self.asked else []), *self._lines(self.start, "", 0, set(), down=True)]
        if self.above:
            lines += ["", "What rests on it", *self._lines(self.start, "", 0, set(), down=False)]
        if self.uses:
            lines += ["", "Capabilities that rest on it", *(f"  {use}" for use in self.uses)]
        lines += [f"{count:,} statements of kind {kind} name it" for kind, count in sorted(self.folded.items())]
        return "\n".join(lines)

    def _lines(self, digest: str, label: str, depth: int, shown: set[str], *, down: bool) -> Iterator[str]:
        again = digest in shown
        shown.add(digest)
        node = self.nodes[digest]
        called = f"{label}: " if label and label not in (node.name, node.kind) and down else ""
        yield f"{'  ' * depth}{called}{node}{' (see above)' if again else ''}"
        if again:
            return
        remarks = node.remarks
        yield from (f"{'  ' * (depth + 1)}· {remark}" for remark in remarks[:_MOST_SHOWN])
        edges = [(edge, edge.lower) for edge in self.lower(digest)] if down else []
        edges = edges if down else [(edge, edge.upper) for edge in self.upper(digest)]
        bare = [other for _, other in edges if self.nodes[other].entry is None]
        for edge, other in edges:
            if other not in bare[_MOST_SHOWN:]:
                yield from self._lines(other, edge.label, depth + 1, shown, down=down)
        hidden = len(bare[_MOST_SHOWN:]) + len(remarks[_MOST_SHOWN:])
        if hidden:
            yield f"{'  ' * (depth + 1)}and {hidden} more"

    def to_json(self) -> dict[str, Any]:
        """Return plain data: nodes by digest, edges, uses."""

        def node(each: Node) -> dict[str, Any]:
            said = each.entry.statement if each.entry else None
            about = {"entry": each.entry.index, "leaf": each.entry.leaf} if each.entry else {}
            told = {"kind": said.kind, "created": said.created, "predicate": said.predicate} if said else {}
            return {"name": each.name, **about, **told, "remarks": list(each.remarks)}

        return {
            "start": self.start,
            "asked": self.asked,
            "nodes": {digest: node(each) for digest, each in self.nodes.items()},
            "rests_on": [[edge.upper, edge.lower, edge.label] for edge in self.edges],
            "rested_on_by": [[edge.lower, edge.upper, edge.label] for edge in self.above],
            "capabilities": [{name: getattr(use, name) for name in Use.__dataclass_fields__} for use in self.uses],
            "folded": self.folded,
        }
