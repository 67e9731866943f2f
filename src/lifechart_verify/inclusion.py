"""One entry, proved to stand in the log that the signed checkpoint is of, without reading the rest of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lifechart_verify import files, merkle, statements
from lifechart_verify.notes import Key, Note


def prove(folder: Path, key: Key, index: int) -> tuple[str, dict[str, Any], list[bytes]]:
    """Return an entry's kind, its statement and the proof that was followed.

    Raises NoteError, ProofError, Missing, Broken, Forged or Malformed, each with what is wrong.
    """
    path = folder / files.CHECKPOINT
    if not path.is_file():
        raise files.Missing(f"{files.CHECKPOINT}: not there")
    head = Note.parse(path.read_bytes().decode(errors="replace"))
    made = head.signatures(key)
    if head.origin != key.name or not made or not all(made):
        raise merkle.ProofError(f"{files.CHECKPOINT}: not signed by {key} for its own log")
    if not 0 <= index < head.size:
        raise merkle.ProofError(f"entry {index} is not among the {head.size} of the checkpoint")
    bundle, place = divmod(index, files.WIDTH)
    entries = files.entries(folder, bundle, min(files.WIDTH, head.size - bundle * files.WIDTH))
    if place >= len(entries):
        raise files.Missing(f"{files.name_of('entries', bundle)}: holds {len(entries)} entries, not entry {index}")
    proof = [_span(folder, head.size, *span) for span in _spans(index, 0, head.size)]
    merkle.check_inclusion(merkle.leaf_hash(entries[place]), index, head.size, proof, head.root)
    kind, said = statements.read(entries[place], key)
    return kind, said, proof


def _spans(index: int, start: int, end: int) -> list[tuple[int, int]]:
    """Return the leaves [start, end) behind each hash of a proof, from the leaf up."""
    if end - start == 1:
        return []
    middle = start + merkle.split(end - start)
    if index < middle:
        return [*_spans(index, start, middle), (middle, end)]
    return [*_spans(index, middle, end), (start, middle)]


def _span(folder: Path, size: int, start: int, end: int) -> bytes:
    """Return the hash over leaves [start, end) from the highest tiles that hold it."""
    length = end - start
    if length & (length - 1):
        middle = start + merkle.split(length)
        return merkle.node_hash(_span(folder, size, start, middle), _span(folder, size, middle, end))
    level = (length.bit_length() - 1) // 8
    each = 1 << (8 * level)
    index, place = divmod(start // each, files.WIDTH)
    row = files.hashes(folder, level, index, min(files.WIDTH, size // each - index * files.WIDTH))
    tree = merkle.Tree()
    for value in row[place : place + length // each]:
        tree.add(value)
    return tree.root()
