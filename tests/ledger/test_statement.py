"""Statements, envelopes, keys and checkpoints against published examples, and what each refuses."""

import base64
import os
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifechart.core.errors import InputError, IntegrityError
from lifechart.ledger import checkpoint, statement, tiles
from lifechart.ledger.checkpoint import Checkpoint
from lifechart.ledger.keys import PublicKey, Signer, Verifier
from lifechart.ledger.statement import Envelope, Statement, Subject

SIGNER = Signer.generate("lifechart/test")
VERIFIER = Verifier([SIGNER.public])
DIGEST = "ab" * 32


def test_dsse_encoding_is_that_of_the_specification() -> None:
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert statement.encode("http://example.com/HelloWorld", b"hello world") == expected


def test_a_note_signed_by_another_implementation_verifies() -> None:
    """The example of Go's sumdb/note package."""
    key = PublicKey.parse("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
    text = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    signature = base64.b64decode(
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    )
    assert signature[:4] == key.id_bytes
    assert key.matches(signature[4:], text)
    assert not key.matches(signature[4:], text + b" ")


def test_tiles_of_the_specifications_example() -> None:
    """A tree of 70,000: 273 full tiles and one of 112; one full and one of 17; one of 1."""
    assert [tiles.width_of(70_000, 0, index) for index in (0, 272, 273, 274)] == [256, 256, 112, 0]
    assert [tiles.width_of(70_000, 1, index) for index in (0, 1, 2)] == [256, 17, 0]
    assert [tiles.width_of(70_000, 2, index) for index in (0, 1)] == [1, 0]
    assert tiles.path_of("1", 1_234_067) == "tile/1/x001/x234/067"
    assert tiles.path_of("entries", 273, 112) == "tile/entries/273.p/112"


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_bundles_round_trip(entries: list[bytes]) -> None:
    assert tiles.unpack(tiles.pack(entries)) == entries
    if entries and entries[-1]:
        with pytest.raises(ValueError, match="ends within"):
            tiles.unpack(tiles.pack(entries)[:-1])


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=8).filter(lambda key: key != "created"), plain, max_size=4))
def test_signed_statements_round_trip(predicate: dict) -> None:
    said = Statement("evaluate", (Subject("report", DIGEST), Subject("model", "0" * 64)), predicate)
    content = statement.sign(said, SIGNER).to_bytes()
    envelope = Envelope.of_bytes(content)
    envelope.verify(VERIFIER, "it")
    assert envelope.statement() == said
    assert envelope.to_bytes() == content


def test_the_payload_is_an_in_toto_statement() -> None:
    said = Statement("train", (Subject("model", DIGEST),), {"seed": 7}, "2026-01-02T03:04:05.678Z")
    assert orjson.loads(said.payload()) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "model", "digest": {"sha256": DIGEST}}],
        "predicateType": "https://lifechart.example/predicate/train/v1",
        "predicate": {"created": "2026-01-02T03:04:05.678Z", "seed": 7},
    }


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Statement("gossip", (Subject("x", DIGEST),), {}), "Statement.kind: got 'gossip'"),
        (lambda: Statement("train", (), {}), "at least one subject"),
        (lambda: Statement("train", (Subject("x", DIGEST),), {"created": "now"}), "field of the statement"),
        (lambda: Statement("train", (Subject("x", DIGEST),), {"x": {1, 2}}).payload(), "plain JSON"),
        (lambda: Subject("x", DIGEST.upper()), "lower-case hex"),
        (lambda: Subject("", DIGEST), "a name"),
        (lambda: Signer.generate("two words"), "without spaces"),
        (lambda: PublicKey.parse("nonsense"), "one line"),
        (lambda: PublicKey.parse(str(SIGNER.public).replace("lifechart/test", "somebody/else")), "the id"),
        (lambda: Verifier([]), "at least one"),
    ],
)
def test_what_is_refused(build: object, message: str) -> None:
    assert callable(build)
    with pytest.raises(InputError, match=message):
        build()


def test_an_envelope_signed_by_others_or_altered_is_refused() -> None:
    said = Statement("train", (Subject("model", DIGEST),), {"seed": 7})
    with pytest.raises(IntegrityError, match="entry 3: signed by"):
        statement.sign(said, Signer.generate("lifechart/test")).verify(VERIFIER, "entry 3")
    envelope = statement.sign(said, SIGNER)
    altered = Envelope(envelope.payload.replace(b"7", b"8"), envelope.signatures)
    with pytest.raises(IntegrityError, match="does not fit"):
        altered.verify(VERIFIER, "entry 3")
    retyped = Envelope(envelope.payload, envelope.signatures, "text/plain")
    with pytest.raises(IntegrityError, match="does not fit"):
        retyped.verify(VERIFIER, "entry 3")
    one_wrong = Envelope(envelope.payload, (*envelope.signatures, (SIGNER.public.id, bytes(64))))
    with pytest.raises(IntegrityError, match="does not fit"):
        one_wrong.verify(VERIFIER, "entry 3")
    with pytest.raises(IntegrityError, match="not a DSSE envelope"):
        Envelope.of_bytes(b"{}")


def test_checkpoints_round_trip_and_refuse_variants() -> None:
    head = Checkpoint("lifechart/test", 20_852_163, bytes(range(32)))
    note = head.signed(SIGNER)
    assert checkpoint.verify(note, VERIFIER) == head
    with_witness = note + Checkpoint("x", 1, bytes(32)).signed(Signer.generate("witness")).split("\n\n")[1]
    assert checkpoint.verify(with_witness, VERIFIER) == head, "signatures by strangers are passed over"
    for old, new in [("20852163", "020852163"), ("20852163\n", "20852163\n\n"), ("lifechart", ""), ("20852163", "-1")]:
        with pytest.raises(IntegrityError, match="checkpoint"):
            checkpoint.verify(note.replace(old, new, 1), VERIFIER)
    with pytest.raises(IntegrityError, match="not a signature"):
        checkpoint.verify(note.replace("\u2014 ", "- "), VERIFIER)


def test_keys_are_private_and_made_once(tmp_path: Path) -> None:
    path = tmp_path / "keys/ledger.pem"
    signer = Signer.open(path, "lifechart/test")
    assert path.stat().st_mode & 0o777 == 0o600
    assert Signer.open(path, "lifechart/test").public.id == signer.public.id
    assert PublicKey.load(path.with_suffix(".pub")).id == signer.public.id
    assert sorted(os.listdir(path.parent)) == ["ledger.pem", "ledger.pub"]
    assert Signer.open(path, "another/name").public.name == "lifechart/test", "a key keeps its name"
    path.with_suffix(".pub").write_text(str(Signer.generate("lifechart/test").public))
    with pytest.raises(InputError, match="the public half of"):
        Signer.open(path, "lifechart/test")
    path.with_suffix(".pub").write_text(str(signer.public))
    path.chmod(0o644)
    with pytest.raises(InputError, match="chmod 600"):
        Signer.open(path, "lifechart/test")
    path.chmod(0o600)
    path.write_text("not a key")
    with pytest.raises(InputError, match="PEM"):
        Signer.open(path, "lifechart/test")
