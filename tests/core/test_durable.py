"""A file is whole or absent, and its hash does not depend on how a dictionary was built."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifechart.core import durable


def test_a_failed_write_leaves_the_old_file_and_no_debris(tmp_path: Path) -> None:
    path = tmp_path / "file"
    durable.write_bytes(path, b"old")

    def fail_half_way() -> None:
        with durable.replacing(path) as aside:
            aside.write_bytes(b"half")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fail_half_way()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@given(st.dictionaries(st.text(max_size=5), st.integers(-(2**53), 2**53)))
def test_the_digest_of_a_value_is_that_of_its_canonical_json(value: dict[str, int]) -> None:
    backwards = dict(reversed(value.items()))
    assert durable.digest_of(value) == durable.digest_of(backwards)
    assert durable.digest_of(value) == hashlib.sha256(durable.canonical_json(value)).hexdigest()


def test_a_tree_is_named_by_its_files(tmp_path: Path) -> None:
    durable.write_bytes(tmp_path / "b" / "c.bin", b"1")
    durable.write_json(tmp_path / "a.json", {"y": 1, "x": 2})
    digests = durable.tree_digests(tmp_path)
    assert list(digests) == ["a.json", "b/c.bin"]
    assert digests["b/c.bin"] == hashlib.sha256(b"1").hexdigest()
    assert (tmp_path / "a.json").read_text() == '{\n  "x": 2,\n  "y": 1\n}\n'
