"""Merkle trees as RFC 6962 defines them: hashes, roots, proofs and their verification. Pure; knows no files.

A leaf's hash is SHA-256(0x00 || entry), a node's is SHA-256(0x01 || left || right), and a tree of n leaves splits at
the largest power of two below n. Verification follows RFC 9162, sections 2.1.3.2 and 2.1.4.2, extended to subtrees
[start, end) as in draft-ietf-plants-merkle-tree-certs, section 4. Every `verify_*` returns None or raises
IntegrityError, so that a check cannot be forgotten by ignoring its result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from lifechart.core.errors import IntegrityError

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

Range = tuple[int, int]
"""Leaves [start, end)."""
NodeReader = Callable[[int, int], bytes]
"""(level, index) to the hash of the perfect subtree over leaves [index << level, (index + 1) << level)."""


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of one entry."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node over its two children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over leaf hashes, in time linear in their number."""
    compact = CompactRange()
    compact.extend(leaves)
    return compact.root()


class CompactRange:
    """The right edge of a growing tree: enough to add leaves and to state the root at any size, in O(log n) memory."""

    __slots__ = ("_peaks", "size")

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        assert len(peaks) == size.bit_count(), "one peak for every set bit of the size"
        self.size = size
        self._peaks = list(peaks)

    @classmethod
    def of(cls, size: int, node: NodeReader) -> CompactRange:
        """Rebuild the edge of a tree of `size` leaves from its perfect subtrees."""
        return cls(size, [node(level, start >> level) for level, start in _perfect(0, size)])

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        size = self.size
        while size & 1:
            leaf = node_hash(self._peaks.pop(), leaf)
            size >>= 1
        self._peaks.append(leaf)
        self.size += 1

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaf hashes in order."""
        for leaf in leaves:
            self.append(leaf)

    def root(self) -> bytes:
        """Return the root of the tree so far."""
        if not self._peaks:
            return EMPTY_ROOT
        total = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            total = node_hash(peak, total)
        return total

    def copy(self) -> CompactRange:
        """Return an edge that grows on its own."""
        return CompactRange(self.size, self._peaks)


def range_hash(start: int, end: int, node: NodeReader) -> bytes:
    """Return the hash of leaves [start, end) from the perfect subtrees that `node` reads; the range is not empty."""
    hashes = [node(level, first >> level) for level, first in _perfect(start, end)]
    total = hashes.pop()
    while hashes:
        total = node_hash(hashes.pop(), total)
    return total


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """Return whose hashes prove that leaf `index` is in a tree of `size` leaves, from the leaf up."""
    assert 0 <= index < size, f"leaf {index} of {size}"
    start, end, path = 0, size, []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((start, middle))
            start = middle
    return path[::-1]


def consistency_ranges(first: int, second: int) -> list[Range]:
    """Return whose hashes prove that a tree of `second` leaves begins with the tree of `first` leaves."""
    return subtree_consistency_ranges(0, first, second)


def subtree_consistency_ranges(start: int, end: int, size: int) -> list[Range]:
    """Return whose hashes prove that subtree [start, end) lies in a tree of `size` leaves."""
    assert start < end <= size, f"[{start}, {end}) of {size}"
    assert is_subtree(start, end), f"[{start}, {end}) is not a subtree"
    low, high, whole, path = 0, size, True, []
    while (low, high) != (start, end):
        middle = low + _split(high - low)
        if end <= middle:
            path.append((middle, high))
            high = middle
        elif start >= middle:
            path.append((low, middle))
            low = middle
        else:
            # The subtree straddles the split, so its left part is a node of the tree and is not handed over whole.
            path.append((low, middle))
            low = start = middle
            whole = False
    return ([] if whole else [(start, end)]) + path[::-1]


def is_subtree(start: int, end: int) -> bool:
    """Tell whether [start, end) is a subtree: it starts at a multiple of the power of two that covers its length."""
    if not 0 <= start <= end:
        return False
    return start == end or start % (1 << (end - start - 1).bit_length()) == 0


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that `leaf` (a leaf hash) stands at `index` in the tree of `size` leaves and this root."""
    _require(0 <= index < size, f"leaf {index} is outside a tree of {size} leaves")
    _require_hashes(leaf, root, *proof)
    position, last, total = index, size - 1, leaf
    for step in proof:
        _require(last > 0, "the inclusion proof is too long")
        if position & 1 or position == last:
            total = node_hash(step, total)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            total = node_hash(total, step)
        position >>= 1
        last >>= 1
    _require(last == 0, "the inclusion proof is too short")
    _require(total == root, f"leaf {index} is not in the tree of {size} leaves with this root")


def verify_subtree_inclusion(leaf: bytes, index: int, span: Range, proof: Sequence[bytes], root: bytes) -> None:
    """Check that `leaf` stands at `index` of the whole tree, inside the subtree `span` with this root."""
    start, end = span
    _require(is_subtree(start, end), f"[{start}, {end}) is not a subtree")
    verify_inclusion(leaf, index - start, end - start, proof, root)


def verify_consistency(first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes) -> None:
    """Check that the tree of `second` leaves begins with the tree of `first` leaves (one or more)."""
    _require(first > 0, "an empty tree is a prefix of every tree, so consistency with it proves nothing")
    verify_subtree_consistency((0, first), second, proof, first_root, second_root)


def verify_subtree_consistency(
    span: Range, size: int, proof: Sequence[bytes], subtree_root: bytes, tree_root: bytes
) -> None:
    """Check that the subtree `span` with `subtree_root` lies in the tree of `size` leaves with `tree_root`."""
    start, end = span
    _require(is_subtree(start, end) and end <= size, f"[{start}, {end}) is not a subtree of {size} leaves")
    if start == end:
        _require(not proof and subtree_root == EMPTY_ROOT, "an empty subtree has the empty root and an empty proof")
        return
    if (start, end) == (0, size):
        _require(not proof, "a tree is consistent with itself by an empty proof")
        _require(subtree_root == tree_root, f"two roots of one tree of {size} leaves differ: the history was forked")
        return
    _require_hashes(subtree_root, tree_root, *proof)
    first, second, last = start, end - 1, size - 1
    shift = _known_height(first, second, last)
    first, second, last = first >> shift, second >> shift, last >> shift
    rest = list(proof)
    if first == second:
        seed = subtree_root
    else:
        _require(bool(rest), "the consistency proof is empty")
        seed = rest.pop(0)
    subtree_total = tree_total = seed
    for step in rest:
        _require(last > 0, "the consistency proof is too long")
        if second & 1 or second == last:
            if first < second:
                subtree_total = node_hash(step, subtree_total)
            tree_total = node_hash(step, tree_total)
            while second and not second & 1:
                first, second, last = first >> 1, second >> 1, last >> 1
        else:
            tree_total = node_hash(tree_total, step)
        first, second, last = first >> 1, second >> 1, last >> 1
    _require(last == 0, "the consistency proof is too short")
    _require(subtree_total == subtree_root, f"the proof does not lead to the root at {end} leaves")
    _require(tree_total == tree_root, f"the proof does not lead to the root at {size} leaves")


def _known_height(first: int, second: int, last: int) -> int:
    """Return the level at which the proof starts: that of the subtree's last perfect part."""
    shift = 0
    to_the_end = second == last
    while first != second and (to_the_end or second & 1):
        first, second, shift = first >> 1, second >> 1, shift + 1
    return shift


def _split(size: int) -> int:
    """Return the largest power of two below `size` (two or more)."""
    return 1 << ((size - 1).bit_length() - 1)


def _perfect(start: int, end: int) -> Iterable[tuple[int, int]]:
    """Yield (level, first leaf) of the perfect subtrees that make up [start, end), left to right."""
    while start < end:
        room = (end - start).bit_length() - 1
        aligned = (start & -start).bit_length() - 1 if start else room
        level = min(room, aligned)
        yield level, start
        start += 1 << level


def _require_hashes(*hashes: bytes) -> None:
    for value in hashes:
        _require(len(value) == HASH_BYTES, f"a hash has {len(value)} bytes, expected {HASH_BYTES}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise IntegrityError(f"Merkle proof: {message}")
