"""Each kind of damage to a log is found and named; an undamaged one is sound."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lifechart.core.errors import IntegrityError
from lifechart.ledger import checkpoint, merkle, tiles
from lifechart.ledger.checkpoint import Checkpoint
from lifechart.ledger.keys import Signer, Verifier
from lifechart.ledger.log import Log
from lifechart.ledger.statement import Statement, Subject, sign
from lifechart.ledger.verify import DamageKind, verify

SIGNER = Signer.generate("lifechart/test")
VERIFIER = Verifier([SIGNER.public])
SIZE = 700


def statement(number: int) -> Statement:
    return Statement("train", (Subject("thing", f"{number:064x}"),), {"number": number})


def open_test_log(folder: Path) -> Log:
    return Log(folder, "lifechart/test", VERIFIER, SIGNER)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published log of 700 entries with nothing left in its journal, and an earlier checkpoint of 300 beside it."""
    folder = tmp_path_factory.mktemp("published") / "ledger"
    log = open_test_log(folder)
    log.append_many([statement(number) for number in range(300)])
    (folder.parent / "earlier").write_text(log.checkpoint())
    log.append_many([statement(number) for number in range(300, SIZE)])
    log.checkpoint()
    log.close()
    (folder / "journal").write_bytes((folder / "journal").read_bytes()[:16])
    return folder


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def flip_entry(folder: Path) -> None:
    flip(folder / "tile/entries/001", 5_000)


def flip_last_entry(folder: Path) -> None:
    flip(folder / "tile/entries/002.p/188", -300)


def flip_leaf_tile(folder: Path) -> None:
    flip(folder / "tile/0/000", 40)


def flip_last_leaf_tile(folder: Path) -> None:
    flip(folder / "tile/0/002.p/188", 40)


def flip_upper_tile(folder: Path) -> None:
    flip(folder / "tile/1/000.p/2", 40)


def remove_entry(folder: Path) -> None:
    path = folder / "tile/entries/001"
    entries = tiles.unpack(path.read_bytes())
    path.write_bytes(tiles.pack(entries[:7] + entries[8:]))


def remove_entry_and_its_hash(folder: Path) -> None:
    """The clever version: entries and leaf tiles agree, one entry short; only the signed head tells."""
    remove_entry(folder)
    path = folder / "tile/0/001"
    content = path.read_bytes()
    path.write_bytes(content[: 7 * 32] + content[8 * 32 :])


def replace_entry_and_rehash(folder: Path) -> None:
    """The insider without the key: replaces an entry by another signed statement and rebuilds every tile."""
    entries = [entry for index in range(3) for entry in bundle(folder, index)]
    entries[300] = sign(statement(9), SIGNER).to_bytes()
    shutil.rmtree(folder / "tile")
    tiles.Tiles(folder).grow(0, entries, [merkle.leaf_hash(entry) for entry in entries])


def bundle(folder: Path, index: int) -> list[bytes]:
    return tiles.Tiles(folder).entries(index, tiles.width_of(SIZE, 0, index))


def fork_with_the_key(folder: Path) -> None:
    """The insider with the key: everything is consistent and signed, but history is another."""
    replace_early(folder)
    entries = [entry for index in range(3) for entry in bundle(folder, index)]
    root = merkle.root([merkle.leaf_hash(entry) for entry in entries])
    (folder / "checkpoint").write_text(Checkpoint("lifechart/test", SIZE, root).signed(SIGNER))


def replace_early(folder: Path) -> None:
    entries = [entry for index in range(3) for entry in bundle(folder, index)]
    entries[20] = sign(statement(9), SIGNER).to_bytes()
    shutil.rmtree(folder / "tile")
    tiles.Tiles(folder).grow(0, entries, [merkle.leaf_hash(entry) for entry in entries])


def shorten_with_the_key(folder: Path) -> None:
    entries = bundle(folder, 0)
    shutil.rmtree(folder / "tile")
    leaves = [merkle.leaf_hash(entry) for entry in entries]
    tiles.Tiles(folder).grow(0, entries, leaves)
    (folder / "checkpoint").write_text(Checkpoint("lifechart/test", 256, merkle.root(leaves)).signed(SIGNER))


def forge_checkpoint(folder: Path) -> None:
    head = checkpoint.parse((folder / "checkpoint").read_text())
    (folder / "checkpoint").write_text(head.signed(Signer.generate("lifechart/test")))


def edit_checkpoint(folder: Path) -> None:
    note = (folder / "checkpoint").read_text()
    (folder / "checkpoint").write_text(note.replace(f"\n{SIZE}\n", "\n699\n"))


def foreign_statement(folder: Path) -> None:
    """A signed tree over a statement that the institution did not sign."""
    entries = [entry for index in range(3) for entry in bundle(folder, index)]
    entries[400] = sign(statement(400), Signer.generate("lifechart/test")).to_bytes()
    shutil.rmtree(folder / "tile")
    leaves = [merkle.leaf_hash(entry) for entry in entries]
    tiles.Tiles(folder).grow(0, entries, leaves)
    (folder / "checkpoint").write_text(Checkpoint("lifechart/test", SIZE, merkle.root(leaves)).signed(SIGNER))


DAMAGES: list[tuple[Callable[[Path], None], DamageKind, str]] = [
    (flip_entry, DamageKind.ENTRY_ALTERED, "tile/entries/001: entry 26"),
    (flip_last_entry, DamageKind.ENTRY_ALTERED, "tile/entries/002: entry 699"),
    (flip_leaf_tile, DamageKind.TILE_ALTERED, "tile/0/000: hash 1 is not that of entry 1"),
    (flip_last_leaf_tile, DamageKind.TILE_ALTERED, "tile/0/002: hash 1 is not that of entry 513"),
    (flip_upper_tile, DamageKind.TILE_ALTERED, "tile/1/000: hash 1 is not that of tile/0/001"),
    (remove_entry, DamageKind.ENTRY_REMOVED, r"entries \[263\] are gone"),
    (remove_entry_and_its_hash, DamageKind.TILE_ALTERED, "tile/0/001: got 8160 bytes"),
    (lambda folder: (folder / "tile/entries/001").unlink(), DamageKind.TILE_MISSING, "tile/entries/001: missing"),
    (lambda folder: (folder / "tile/0/001").unlink(), DamageKind.TILE_MISSING, "tile/0/001: missing"),
    (replace_entry_and_rehash, DamageKind.ROOT_WRONG, "the checkpoint states"),
    (fork_with_the_key, DamageKind.HISTORY_FORKED, "the first 300 entries are not those"),
    (shorten_with_the_key, DamageKind.HISTORY_SHORTENED, "256 entries are there, but .* over 300"),
    (forge_checkpoint, DamageKind.CHECKPOINT_FORGED, "no signature by a trusted key"),
    (edit_checkpoint, DamageKind.CHECKPOINT_FORGED, "does not fit the content"),
    (lambda folder: (folder / "checkpoint").write_text("700"), DamageKind.CHECKPOINT_FORGED, "not a signed note"),
    (lambda folder: (folder / "checkpoint").unlink(), DamageKind.CHECKPOINT_MISSING, "though tiles are"),
    (foreign_statement, DamageKind.STATEMENT_FORGED, "entry 400: signed by"),
]


@pytest.mark.parametrize(
    ("damage", "kind", "message"), DAMAGES, ids=[f"{kind}-{number}" for number, (_, kind, _) in enumerate(DAMAGES)]
)
def test_damage_is_found_and_named(
    published: Path, tmp_path: Path, damage: Callable[[Path], None], kind: DamageKind, message: str
) -> None:
    folder = tmp_path / "ledger"
    shutil.copytree(published, folder)
    damage(folder)
    found = verify(folder, VERIFIER, earlier=[(published.parent / "earlier").read_text()])
    assert not found.sound
    assert kind in {item.kind for item in found.damages}, str(found)
    with pytest.raises(IntegrityError, match=message):
        raise IntegrityError("\n".join(str(item) for item in found.damages))
    with pytest.raises(IntegrityError, match="ledger"):
        found.require()


def test_an_undamaged_log_is_sound(published: Path, capfd: pytest.CaptureFixture[str]) -> None:
    earlier = [(published.parent / "earlier").read_text()]
    found = verify(published, VERIFIER, earlier=earlier, progress=True)
    assert found.sound, str(found)
    assert (found.size, found.published, found.kinds) == (SIZE, SIZE, {"train": SIZE})
    assert capfd.readouterr().out == "", "progress goes to stderr"
    assert "700 entries, sound" in str(found)


def test_an_earlier_checkpoint_must_itself_be_signed(published: Path) -> None:
    stranger = Checkpoint("lifechart/test", 3, bytes(32)).signed(Signer.generate("someone"))
    with pytest.raises(IntegrityError, match="no signature by a trusted key"):
        verify(published, VERIFIER, earlier=[stranger])


def test_damage_to_what_is_not_published_yet(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    log = open_test_log(folder)
    log.append(statement(0))
    log.close()
    log.append_many([statement(1), statement(2)])
    log.append(statement(3))
    assert verify(folder, VERIFIER).require().size == 4
    whole = (folder / "journal").read_bytes()
    for place in range(20, len(whole), 97):
        flip(folder / "journal", place)
        assert DamageKind.JOURNAL_DAMAGED in {item.kind for item in verify(folder, VERIFIER).damages}, place
        with pytest.raises(IntegrityError, match="altered after it was written"):
            open_test_log(folder)
        (folder / "journal").write_bytes(whole)
    (folder / "journal").write_bytes(whole[:-10])
    found = verify(folder, VERIFIER)
    assert (found.sound, found.size) == (True, 3)
    assert "never acknowledged" in str(found)
