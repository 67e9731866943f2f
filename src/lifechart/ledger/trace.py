"""From a sentence on a screen back to the source extracts, and from an extract to every capability that rests on it.

Every step is an entry of the log, so an auditor with a copy of it and the public key can walk it offline. A statement
names what its subject rests on by digest, wherever in its predicate; that is all that a new kind has to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from lifechart.core.errors import InputError
from lifechart.ledger.graph import Edge, Graph, Node, Use
from lifechart.ledger.index import Numbers
from lifechart.ledger.lineage import reference
from lifechart.ledger.log import Entry, Log
from lifechart.ledger.statement import Statement

_DIGEST = re.compile(r"[0-9a-f]{64}")
REMARKS = ("phase", "switch", "contribution", "approval", "feedback", "view", "withdrawal", "retention", "incident")
"""Said of a thing that another statement made, or of a person, whom none did."""
MANY = ("answer", "view", "feedback", "withdrawal")
"""Kinds of which there are too many to be followed one by one; they are counted."""
_NAMES = ("cards",)
"""Keys whose digests are other names of the subject, not what it rests on."""


def trace(log: Log, thing: str, *, back: bool = True, forward: bool = True) -> Graph:
    """Follow a thing down to what no statement is about, and up to the capabilities.

    `thing`: the number of an entry, a digest, the beginning of one (6 hex digits or more, if no other begins so), or a
    reference as pages and cards print it. Raises InputError if the log says nothing of it.
    """
    start, asked = resolve(log, thing)
    nodes = {start: _node(log, start, _about(log, start), _called(log, start))}
    edges = _down(log, start, nodes) if back else []
    above = _up(log, start, nodes) if forward else []
    uses = _uses(log, [digest for digest, node in nodes.items() if node.kind == "release" and _is_above(above, digest)])
    if nodes[start].kind == "release" and forward:
        uses = _uses(log, [start])
    return Graph(start, asked, nodes, tuple(edges), tuple(above), tuple(uses), _folded(log, nodes[start]))


def resolve(log: Log, thing: str) -> tuple[str, str]:
    """Return the digest that a thing goes by, and in words what was asked for if it is a part of it."""
    wanted = thing.strip().lower()
    log.refresh()
    is_number = re.fullmatch(r"[0-9]{1,11}", wanted) is not None
    if is_number and (int(wanted) < log.size or len(wanted) < 6):
        if int(wanted) >= log.size:
            raise InputError("entry", thing, f"a number below {log.size}, the entries of the ledger")
        (entry,) = log.entries(int(wanted), int(wanted) + 1)
        return entry.statement.subjects[0].digest, ""
    wanted = wanted.replace("-", "") if "-" in wanted else wanted
    if not re.fullmatch(r"[0-9a-f]{6,64}", wanted):
        raise InputError("digest", thing, "an entry's number, a digest, its first 6 digits or more, or a reference")
    found = log.digests(wanted)
    if not found:
        raise InputError("digest", thing, "the digest of something that the ledger names")
    if len(found) > 1:
        some = ", ".join(each[:16] for each in found[:5])
        raise InputError("digest", thing, f"the beginning of one digest, not of {len(found)}: {some} …")
    # A card is named by the one answer that it is of, so the first answer that names the digest tells.
    for entry in log.read(log.numbers(kind="answer", digest=found[0])[:1].tolist()):
        said = entry.statement
        about = next((about for about, card in said.predicate.get("cards", {}).items() if card == found[0]), None)
        if about is not None:
            return said.subjects[0].digest, _sentence(said, about, found[0])
    return found[0], ""


def _sentence(answer: Statement, about: str, card: str) -> str:
    said = answer.predicate
    claims = [
        f"{claim['probability']:.3g} within {claim['horizon_days']} days"
        for claim in said.get("claims", [])
        if claim["outcome"] == about and claim["probability"] is not None
    ]
    told = f": {', '.join(claims)}" if claims else ""
    return f"reference {reference(card)} is what {said['capability']} said about {about}{told}"


def _down(log: Log, start: str, nodes: dict[str, Node]) -> list[Edge]:
    edges: list[Edge] = []
    waiting = [start] if nodes[start].entry is not None else []
    while waiting:
        node = nodes[waiting.pop(0)]
        assert node.entry is not None
        for label, lower in dict.fromkeys(rests_on(log, node.entry)):
            edges.append(Edge(node.digest, lower, label))
            if lower not in nodes:
                # The files of an extract are where the log begins: nothing made them, and there may be many.
                about = None if node.kind == "extract" else _about(log, lower, before=node.entry.index)
                nodes[lower] = _node(log, lower, about, label)
                if about is None and node.kind == "adapt" and label == "base":
                    nodes[lower] = replace(nodes[lower], remarks=(_held_elsewhere(node.entry.statement),))
                if nodes[lower].entry is not None:
                    waiting.append(lower)
    return edges


def _held_elsewhere(adapted: Statement) -> str:
    """Say where the statements about a model are that came from another institution."""
    owner = adapted.predicate.get("owner") or {}
    if "origin" not in owner:
        return "its lineage is held by its owner; ask for a copy of the log"
    root = f"{owner['origin']}, checkpoint of {owner['size']:,} entries, root {owner['root'][:16]}"
    return f"its lineage is held by its owner, in the log {root}"


def _up(log: Log, start: str, nodes: dict[str, Node]) -> list[Edge]:
    edges: list[Edge] = []
    waiting, seen = [start], {start}
    many = np.concatenate([log.numbers(kind=kind) for kind in MANY])
    while waiting:
        digest = waiting.pop(0)
        naming = np.setdiff1d(log.numbers(digest=digest), many)
        for entry in log.read(naming.tolist()):
            said = entry.statement
            upper = said.subjects[0].digest
            label = next((label for label, lower in _stated(said) if lower == digest), None)
            if said.kind in REMARKS or label is None or Edge(upper, digest, label) in edges:
                continue
            edges.append(Edge(upper, digest, label))
            if upper not in seen:
                seen.add(upper)
                waiting.append(upper)
                nodes.setdefault(upper, _node(log, upper, entry, label))
    return edges


def _is_above(edges: list[Edge], digest: str) -> bool:
    return any(edge.upper == digest for edge in edges)


def _uses(log: Log, manifests: list[str]) -> list[Use]:
    """Return how each release stands, and how many answers it gave."""
    uses = []
    for manifest in manifests:
        about = [entry for entry in log.find(digest=manifest) if entry.statement.subjects[0].digest == manifest]
        release = next(entry.statement for entry in about if entry.statement.kind == "release")
        name, version = str(release.predicate["capability"]), str(release.predicate.get("version", "–"))
        phases = [entry.statement.predicate["what"] for entry in about if entry.statement.kind == "phase"]
        said = [entry for entry in log.find(kind="release") if entry.statement.predicate["capability"] == name]
        switches = [entry.statement for entry in log.find(kind="switch")]
        on = [each.predicate["what"] for each in switches if each.predicate["capability"] == name][-1:] != ["off"]
        current = said[-1].statement.subjects[0].digest == manifest
        answers = _answers(log, name, str(release.predicate.get("model", "")), manifest, said)
        span = (int(answers[0]), int(answers[-1])) if answers.size else (None, None)
        phase = str(phases[-1]) if phases else "off"
        uses.append(Use(name, version, manifest, phase, current, on, int(answers.size), *span))
    return uses


def _answers(log: Log, capability: str, model: str, manifest: str, releases: list[Entry]) -> Numbers:
    """Return the numbers of a capability's answers that were given while this release of the model was the newest."""
    if not _DIGEST.fullmatch(model):
        return np.empty(0, np.uint32)
    answers = log.numbers(kind="answer", digest=model, capability=capability)
    model_of: dict[str, str] = {}
    starts, own = [], []
    for entry in releases:
        digest = entry.statement.subjects[0].digest
        # One made current again says nothing of its model; its first release did.
        model_of.setdefault(digest, str(entry.statement.predicate.get("model", "")))
        if model_of[digest] == model:
            starts.append(entry.index)
            own.append(digest == manifest)
    which = np.searchsorted(np.array(starts, np.int64), answers.astype(np.int64)) - 1
    given: Numbers = answers[(which >= 0) & np.array([*own, False])[which]]
    return given


def _folded(log: Log, node: Node) -> dict[str, int]:
    """Count the answers and views that name a thing which no statement is about: a patient's keyed hash."""
    if node.entry is not None:
        return {}
    counts = {kind: int(log.numbers(kind=kind, digest=node.digest).size) for kind in MANY}
    return {kind: count for kind, count in counts.items() if count}


def _node(log: Log, digest: str, entry: Entry | None, label: str) -> Node:
    subjects = () if entry is None else entry.statement.subjects
    name = next((subject.name for subject in subjects if subject.digest == digest), label)
    if entry is None or entry.statement.kind == "answer":
        return Node(digest, name, entry, _feedback(log, digest) if entry is not None else ())
    remarks = []
    for number in np.setdiff1d(log.numbers(digest=digest), log.numbers(kind="answer")).tolist():
        (other,) = log.read([number])
        said = other.statement
        if number != entry.index and any(subject.digest == digest for subject in said.subjects):
            if said.kind != entry.statement.kind:
                what = said.predicate.get("of", {}).get(digest) or said.predicate.get("what", "")
                remarks.append(f"{said.kind} {what}, entry {number}, {said.created[:19]}Z")
            elif said.predicate.get("part", 1) == 1:
                remarks.append(f"also stated by entry {number}, {said.created[:19]}Z{_by(said)}")
    if withdrawals := log.numbers(kind="withdrawal", digest=digest).size:
        remarks.append(f"named by {withdrawals} withdrawals of people who are or were in it")
    return Node(digest, name, entry, tuple(remarks))


def _called(log: Log, digest: str) -> str:
    """Return what the first statement that names a digest calls it."""
    for entry in log.read(log.numbers(digest=digest)[:1].tolist()):
        return next((label for label, other in _stated(entry.statement) if other == digest), "thing")
    return "thing"


def _by(said: Statement) -> str:
    system = said.predicate.get("system")
    return f": {system}" if system else ""


def _feedback(log: Log, digest: str) -> tuple[str, ...]:
    feedback = [
        f"feedback: {entry.statement.predicate.get('action', '')} {entry.statement.predicate.get('outcome', '')}, "
        f"entry {entry.index}"
        for entry in log.find(kind="feedback", digest=digest)
    ]
    incidents = [
        f"incident: {entry.statement.predicate.get('step', '')}, entry {entry.index}"
        for entry in log.find(kind="incident", digest=digest)
    ]
    return (*feedback, *incidents)


def _about(log: Log, digest: str, before: int | None = None) -> Entry | None:
    """Return the newest statement that made a thing, before entry `before`; None if no statement did.

    A thing is first spoken of by the statement that made it, so whatever is of that kind did too; phases, approvals,
    validations and the like came later. A file of an extract is a subject of the extract's statement, but not made.
    """
    numbers = log.numbers(digest=digest)
    answers = log.numbers(kind="answer")
    # A model is named by thousands of answers, none of which made it: only an answer is made by one.
    few = log.read(np.setdiff1d(numbers, answers).tolist())
    about = [entry for entry in few if entry.statement.subjects[0].digest == digest]
    about = [entry for entry in about if entry.statement.kind not in REMARKS]
    kind = about[0].statement.kind if about else ""
    made = [e for e in about if e.statement.kind == kind and (before is None or e.index < before)]
    if about:
        return made[-1] if made else None
    first = log.read(np.intersect1d(numbers, answers)[:1].tolist())
    return next((entry for entry in first if entry.statement.subjects[0].digest == digest), None)


def rests_on(log: Log, entry: Entry) -> Iterator[tuple[str, str]]:
    """Yield (where, digest) of everything that a statement names, and for an answer the release that gave it."""
    said = entry.statement
    if said.kind == "answer":
        for release in reversed(log.find(kind="release")):
            about = release.statement
            same = all(about.predicate.get(key) == said.predicate.get(key) for key in ("capability", "model"))
            if release.index < entry.index and same:
                yield "release", about.subjects[0].digest
                break
    if said.kind == "extract":
        parts = log.find(kind="extract", digest=said.subjects[0].digest)
        for part in parts:
            if part.index < entry.index:
                yield from _stated(part.statement)
    yield from _stated(said)


def _stated(said: Statement) -> Iterator[tuple[str, str]]:
    """Yield (where, digest) of what a statement names beside its first subject."""
    own = said.subjects[0].digest
    for subject in said.subjects[1:]:
        if subject.digest != own:
            yield subject.name, subject.digest
    for label, digest in _named({key: value for key, value in said.predicate.items() if key not in _NAMES}, ""):
        if digest != own:
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
