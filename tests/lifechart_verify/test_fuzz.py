"""Whatever is done to the files of a log, the verifier answers: it finds damage or none, and never fails."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench._tampers import SIGNER, VERIFIER, statement
from lifechart.ledger.checkpoint import Checkpoint
from lifechart.ledger.log import Log
from lifechart.ledger.merkle import leaf_hash, root
from lifechart.ledger.statement import Envelope, encode
from lifechart.ledger.tiles import Tiles
from lifechart_verify import merkle
from lifechart_verify.audit import verify
from lifechart_verify.files import Broken, Missing
from lifechart_verify.inclusion import prove
from lifechart_verify.merkle import ProofError
from lifechart_verify.notes import Key, Note, NoteError
from lifechart_verify.statements import Forged, Malformed, read

KEY = Key.parse(str(SIGNER.public))


@pytest.fixture(scope="module")
def small() -> Iterator[Path]:
    """A log of 260 entries in tiles and 5 more in its journal."""
    with tempfile.TemporaryDirectory() as home:
        log = Log(Path(home) / "ledger", SIGNER.public.name, VERIFIER, SIGNER)
        log._publish_in_background = lambda: None  # type: ignore[method-assign]
        log.append_many([statement(number) for number in range(260)])
        log.publish()
        log.append_many([statement(number) for number in range(260, 265)])
        yield Path(home) / "ledger"


@settings(max_examples=150)
@given(data=st.data())
def test_no_file_makes_it_fail(small: Path, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "ledger"
        shutil.copytree(small, folder)
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and "lock" not in path.name)
        path = data.draw(st.sampled_from(paths))
        content = path.read_bytes()
        how = data.draw(st.sampled_from(["cut", "flip", "replace", "insert", "remove", "folder"]))
        place = data.draw(st.integers(0, len(content) - 1))
        some = data.draw(st.binary(min_size=1, max_size=40))
        if how in ("remove", "folder"):
            path.unlink()
            if how == "folder":
                path.mkdir()
        else:
            changed = {
                "cut": content[:place],
                "flip": content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :],
                "replace": some,
                "insert": content[:place] + some + content[place:],
            }[how]
            path.write_bytes(changed)
        found = verify(folder, KEY)
        str(found)
        # A journal cut short is a crash, and its first bytes are a name by which writers tell it from another; without
        # a checkpoint, this journal vouches for every entry by itself.
        cut = how in ("cut", "replace", "remove", "folder")
        harmless = path.name == "journal" and (cut or (how == "flip" and place < 16))
        harmless |= path.name == "checkpoint" and how in ("remove", "folder")
        assert harmless or not found.sound, (path, how, str(found))
        for index in (0, 259):
            try:
                prove(folder, KEY, index)
            except (NoteError, ProofError, Missing, Broken, Forged, Malformed):
                continue


@given(st.text(max_size=200))
def test_no_note_and_no_key_makes_it_fail(text: str) -> None:
    for parse in (Note.parse, Key.parse):
        with pytest.raises(NoteError):
            parse(text)


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.text(max_size=5) | st.integers(), st.lists).map(json.dumps).map(str.encode)
)
def test_no_entry_makes_it_fail(entry: bytes) -> None:
    with pytest.raises(Forged):
        read(entry, KEY)


SUBJECT = {"name": "x", "digest": {"sha256": "a" * 64}}


def said(**other: object) -> bytes:
    """A statement with something else in the place of what it should have."""
    kind = "https://lifechart.example/predicate/train/v1"
    sound = {"_type": "https://in-toto.io/Statement/v1", "subject": [SUBJECT], "predicateType": kind}
    return json.dumps({**sound, "predicate": {"created": "2026-01-01T00:00:00Z"}, **other}).encode()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 100_000,
        said(_type=1),
        said(subject=[]),
        said(subject={}),
        said(subject=[{"name": "x", "digest": {"sha256": "short"}}]),
        said(predicateType="https://somewhere.example/train/v1"),
        said(predicate={}),
        said(predicate={"created": "2026-01-01T00:00:00"}),
        said(predicate={"created": 17}),
    ],
)
def test_what_is_signed_but_no_statement_is_malformed(payload: bytes) -> None:
    kind = "application/vnd.in-toto+json"
    envelope = Envelope(payload, ((SIGNER.public.id, SIGNER.sign(encode(kind, payload))),))
    with pytest.raises(Malformed):
        read(envelope.to_bytes(), KEY)


def test_a_size_that_was_signed_but_cannot_be_ends_at_the_first_missing_bundle(small: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    shutil.copytree(small, folder)
    (folder / "journal").write_bytes(bytes(16))
    (folder / "checkpoint").write_text(Checkpoint(SIGNER.public.name, 10**15, bytes(32)).signed(SIGNER))
    found = verify(folder, KEY)
    assert not found.sound
    assert len(found.damages) < 10


@given(st.integers(1, 300), st.data())
def test_proofs_from_tiles_of_any_size(size: int, data: st.DataObject) -> None:
    entries = [bytes([number % 256, number // 256]) for number in range(size)]
    leaves = [leaf_hash(entry) for entry in entries]
    index = data.draw(st.integers(0, size - 1))
    with tempfile.TemporaryDirectory() as home:
        Tiles(Path(home)).grow(0, entries, leaves)
        (Path(home) / "checkpoint").write_text(Checkpoint(SIGNER.public.name, size, root(leaves)).signed(SIGNER))
        with pytest.raises(Forged, match="not a signed envelope"):
            prove(Path(home), KEY, index)
    assert root([]) == merkle.EMPTY
