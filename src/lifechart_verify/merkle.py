"""Merkle trees as RFC 6962 writes them down: each proof is followed by the recursion that defines it."""

from __future__ import annotations

import hashlib

EMPTY = hashlib.sha256(b"").digest()


class ProofError(Exception):
    """A proof does not prove what it should."""


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of an entry."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of two children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def split(size: int) -> int:
    """Return the largest power of two below `size`, two or more."""
    return 1 << ((size - 1).bit_length() - 1)


class Tree:
    """A growing tree: takes leaf hashes, states the root at any size. Holds one hash for each bit of the size."""

    def __init__(self) -> None:
        self.size = 0
        self._perfect: dict[int, bytes] = {}  # height -> the hash of the perfect subtree of that height

    def add(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        height = 0
        while (left := self._perfect.pop(height, None)) is not None:
            leaf, height = node_hash(left, leaf), height + 1
        self._perfect[height] = leaf
        self.size += 1

    def root(self) -> bytes:
        """Return the root of all leaves so far."""
        total = None
        for height in sorted(self._perfect):
            total = self._perfect[height] if total is None else node_hash(self._perfect[height], total)
        return EMPTY if total is None else total


def check_inclusion(leaf: bytes, index: int, size: int, proof: list[bytes], root: bytes) -> None:
    """Check that a leaf hash stands at `index` of the tree of `size` leaves with this root (RFC 6962, 2.1.1)."""
    _need(0 <= index < size, f"leaf {index} is outside a tree of {size}")
    steps = _hashes(proof, leaf, root)

    def path(index: int, size: int) -> bytes:
        if size == 1:
            return leaf
        half = split(size)
        _need(bool(steps), "the proof is too short")
        beside = steps.pop()
        if index < half:
            return node_hash(path(index, half), beside)
        return node_hash(beside, path(index - half, size - half))

    total = path(index, size)
    _need(not steps, "the proof is too long")
    _need(total == root, f"leaf {index} is not in the tree of {size} leaves with this root")


def check_subtree_inclusion(leaf: bytes, index: int, start: int, end: int, proof: list[bytes], root: bytes) -> None:
    """Check that a leaf hash stands at `index` of the whole tree, within the subtree [start, end) with this root."""
    _need(is_subtree(start, end), f"[{start}, {end}) is not a subtree")
    check_inclusion(leaf, index - start, end - start, proof, root)


def check_consistency(first: int, second: int, proof: list[bytes], first_root: bytes, second_root: bytes) -> None:
    """Check that the tree of `second` leaves begins with that of `first` (RFC 6962, 2.1.2); `first` is not 0."""
    _need(first > 0, "consistency with an empty tree proves nothing")
    check_subtree_consistency(0, first, second, proof, first_root, second_root)


def check_subtree_consistency(
    start: int, end: int, size: int, proof: list[bytes], part_root: bytes, root: bytes
) -> None:
    """Check that the subtree [start, end) with `part_root` lies in the tree of `size` leaves with `root`."""
    _need(is_subtree(start, end) and end <= size, f"[{start}, {end}) is not a subtree of {size} leaves")
    if start == end:
        _need(not proof and part_root == EMPTY, "an empty subtree has the empty root and an empty proof")
        return
    if (start, end) == (0, size):
        _need(not proof, "a tree is consistent with itself by an empty proof")
        _need(part_root == root, f"two roots of one tree of {size} leaves differ")
        return
    steps = _hashes(proof, part_root, root)

    def follow(start: int, end: int, size: int, known: bool) -> tuple[bytes, bytes]:
        """Return the roots of the part and of the whole, within a subtree of `size` leaves."""
        if (start, end) == (0, size):
            if known:
                return part_root, part_root
            _need(bool(steps), "the proof is too short")
            both = steps.pop()
            return both, both
        half = split(size)
        _need(bool(steps), "the proof is too short")
        beside = steps.pop()
        if end <= half:
            part, whole = follow(start, end, half, known)
            return part, node_hash(whole, beside)
        if start >= half:
            part, whole = follow(start - half, end - half, size - half, known)
            return part, node_hash(beside, whole)
        part, whole = follow(0, end - half, size - half, False)
        return node_hash(beside, part), node_hash(beside, whole)

    part, whole = follow(start, end, size, True)
    _need(not steps, "the proof is too long")
    _need(part == part_root, f"the proof does not lead to the root at {end} leaves")
    _need(whole == root, f"the proof does not lead to the root at {size} leaves")


def is_subtree(start: int, end: int) -> bool:
    """Tell whether [start, end) begins at a multiple of the power of two that covers its length."""
    return 0 <= start <= end and (start == end or start % (1 << (end - start - 1).bit_length()) == 0)


def _hashes(proof: list[bytes], *others: bytes) -> list[bytes]:
    _need(all(len(value) == 32 for value in (*proof, *others)), "a hash is not 32 bytes long")
    return list(proof)


def _need(condition: bool, message: str) -> None:
    if not condition:
        raise ProofError(message)
