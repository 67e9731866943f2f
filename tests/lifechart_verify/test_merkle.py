"""The verifier's own Merkle code against the published vectors, and against the writer's on every small tree."""

import base64
import json
import tarfile

import pytest

from bench.ledger import vectors
from lifechart.ledger import merkle as writer
from lifechart_verify import merkle
from tests.shared_data import shared


def test_published_vectors_pass_in_writer_and_verifier() -> None:
    archive = shared("vectors/merkle-rfc6962.tar.gz")
    with tarfile.open(archive) as files:
        assert sum(member.name.endswith(".json") for member in files) == 518
    assert vectors(archive) == (518, 518)


@pytest.mark.parametrize("size", range(40))
def test_roots_and_proofs_are_those_of_the_writer(size: int) -> None:
    leaves = [merkle.leaf_hash(bytes([index])) for index in range(size)]
    tree = merkle.Tree()
    for leaf in leaves:
        tree.add(leaf)
    root = tree.root()
    assert root == writer.root(leaves)

    def node(level: int, index: int) -> bytes:
        return writer.root(leaves[index << level : (index + 1) << level])

    def proof(ranges: list[writer.Range]) -> list[bytes]:
        return [writer.range_hash(start, end, node) for start, end in ranges]

    for index in range(size):
        steps = proof(writer.inclusion_ranges(index, size))
        merkle.check_inclusion(leaves[index], index, size, steps, root)
        for wrong in (steps[:-1], [*steps, root], [bytes(32), *steps[1:]]):
            if wrong != steps:
                with pytest.raises(merkle.ProofError):
                    merkle.check_inclusion(leaves[index], index, size, wrong, root)
        first = index + 1
        steps = proof(writer.consistency_ranges(first, size))
        merkle.check_consistency(first, size, steps, writer.root(leaves[:first]), root)
        with pytest.raises(merkle.ProofError):
            merkle.check_consistency(first, size, steps, bytes(32), root)


def test_a_vector_is_read_as_it_is_meant() -> None:
    """One of the vectors by hand: that the test above would notice a verifier that accepts everything."""
    with tarfile.open(shared("vectors/merkle-rfc6962.tar.gz")) as files:
        cases = [json.load(files.extractfile(each)) for each in files if "/inclusion/" in each.name and each.isfile()]  # type: ignore[arg-type]
    assert any(case["wantErr"] for case in cases)
    good = next(case for case in cases if not case["wantErr"] and case["proof"])
    steps = [base64.b64decode(step) for step in good["proof"]]
    leaf, root = base64.b64decode(good["leafHash"]), base64.b64decode(good["root"])
    merkle.check_inclusion(leaf, good["leafIdx"], good["treeSize"], steps, root)
