"""Merkle trees against the published vectors, a slow twin that follows the RFC's recursion, and mutations."""

import base64
import json
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifechart.core.errors import IntegrityError
from lifechart.ledger import merkle
from tests.shared_data import shared


def slow_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, as it is written."""
    if not leaves:
        return merkle.EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return merkle.node_hash(slow_root(leaves[:split]), slow_root(leaves[split:]))


def slow_consistency(first: int, leaves: list[bytes], whole: bool = True) -> list[bytes]:
    """RFC 6962, section 2.1.2, SUBPROOF as it is written."""
    if first == len(leaves):
        return [] if whole else [slow_root(leaves)]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if first <= split:
        return [*slow_consistency(first, leaves[:split], whole), slow_root(leaves[split:])]
    return [*slow_consistency(first - split, leaves[split:], False), slow_root(leaves[:split])]


def leaves_of(size: int) -> list[bytes]:
    return [merkle.leaf_hash(index.to_bytes(4, "big")) for index in range(size)]


def reader(leaves: list[bytes]) -> merkle.NodeReader:
    return lambda level, index: slow_root(leaves[index << level : (index + 1) << level])


def hashes(ranges: list[merkle.Range], leaves: list[bytes]) -> list[bytes]:
    return [merkle.range_hash(start, end, reader(leaves)) for start, end in ranges]


def check_vector(kind: str, case: dict) -> None:
    def decoded(key: str) -> bytes:
        return base64.b64decode(case[key] or "")

    proof = [base64.b64decode(step) for step in case["proof"] or ()]
    if kind == "inclusion":
        merkle.verify_inclusion(decoded("leafHash"), case["leafIdx"], case["treeSize"], proof, decoded("root"))
    elif kind == "subtreeinclusion":
        span = (case["start"], case["end"])
        merkle.verify_subtree_inclusion(decoded("leafHash"), case["leafIdx"], span, proof, decoded("root"))
    elif kind == "consistency":
        merkle.verify_consistency(case["size1"], case["size2"], proof, decoded("root1"), decoded("root2"))
    elif kind == "subtreeconsistency":
        span = (case["start"], case["end"])
        merkle.verify_subtree_consistency(span, case["size"], proof, decoded("root1"), decoded("root2"))
    else:
        raise AssertionError(kind)


def test_published_vectors() -> None:
    wrong, seen = [], 0
    with tarfile.open(shared("vectors/merkle-rfc6962.tar.gz")) as archive:
        for member in archive:
            if not member.name.endswith(".json"):
                continue
            content = archive.extractfile(member)
            assert content is not None
            case = json.load(content)
            seen += 1
            try:
                check_vector(member.name.split("/")[1], case)
                refused = False
            except IntegrityError:
                refused = True
            if refused != case["wantErr"]:
                wrong.append(member.name)
    assert (wrong, seen) == ([], 518)


@pytest.mark.parametrize("size", range(70))
def test_root_equals_slow_twin(size: int) -> None:
    leaves = leaves_of(size)
    assert merkle.root(leaves) == slow_root(leaves)
    edge = merkle.CompactRange.of(size, reader(leaves))
    assert edge.root() == slow_root(leaves)
    grown = edge.copy()
    grown.extend(leaves_of(size + 3)[size:])
    assert grown.root() == slow_root(leaves_of(size + 3))
    assert edge.size == size, "a copy grows on its own"


def test_every_small_consistency_proof_equals_slow_twin() -> None:
    for second in range(1, 34):
        leaves = leaves_of(second)
        for first in range(1, second + 1):
            proof = hashes(merkle.consistency_ranges(first, second), leaves)
            assert proof == slow_consistency(first, leaves), (first, second)
            merkle.verify_consistency(first, second, proof, slow_root(leaves[:first]), slow_root(leaves))


def test_every_small_subtree_proof_verifies() -> None:
    for size in range(1, 26):
        leaves = leaves_of(size)
        for start in range(size):
            for end in range(start + 1, size + 1):
                if not merkle.is_subtree(start, end):
                    continue
                part = slow_root(leaves[start:end])
                proof = hashes(merkle.subtree_consistency_ranges(start, end, size), leaves)
                merkle.verify_subtree_consistency((start, end), size, proof, part, slow_root(leaves))
                with pytest.raises(IntegrityError):
                    merkle.verify_subtree_consistency((start, end), size, proof, b"\x07" * 32, slow_root(leaves))


@given(st.data())
def test_proofs_verify_and_mutated_ones_do_not(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 80), label="size")
    leaves = leaves_of(size)
    root = slow_root(leaves)
    index = data.draw(st.integers(0, size - 1), label="index")
    first = data.draw(st.integers(1, size), label="first")
    inclusion = hashes(merkle.inclusion_ranges(index, size), leaves)
    consistency = hashes(merkle.consistency_ranges(first, size), leaves)
    first_root = slow_root(leaves[:first])
    merkle.verify_inclusion(leaves[index], index, size, inclusion, root)
    merkle.verify_consistency(first, size, consistency, first_root, root)

    def mutated(proof: list[bytes]) -> list[bytes]:
        how = data.draw(st.sampled_from(["longer", "shorter", "flip"] if proof else ["longer"]), label="how")
        if how == "longer":
            return [*proof, data.draw(st.binary(min_size=32, max_size=32))]
        if how == "shorter":
            return proof[:-1]
        place = data.draw(st.integers(0, len(proof) - 1), label="place")
        bit = data.draw(st.integers(0, 255), label="bit")
        flipped = bytearray(proof[place])
        flipped[bit // 8] ^= 1 << bit % 8
        return [*proof[:place], bytes(flipped), *proof[place + 1 :]]

    with pytest.raises(IntegrityError):
        merkle.verify_inclusion(leaves[index], index, size, mutated(inclusion), root)
    with pytest.raises(IntegrityError):
        merkle.verify_consistency(first, size, mutated(consistency), first_root, root)
    with pytest.raises(IntegrityError):
        merkle.verify_inclusion(merkle.leaf_hash(b"another"), index, size, inclusion, root)


def test_an_entry_cannot_pose_as_a_node() -> None:
    left, right = leaves_of(2)
    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)
