"""Ways to tamper with a log, each with the message by which the separate verifier should name it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lifechart.ledger import checkpoint, merkle, tiles
from lifechart.ledger.checkpoint import Checkpoint
from lifechart.ledger.keys import Signer, Verifier
from lifechart.ledger.log import Log
from lifechart.ledger.statement import Statement, Subject, sign
from lifechart_verify.findings import DamageKind

SIGNER = Signer.generate("lifechart/test")
VERIFIER = Verifier([SIGNER.public])
SIZE, EARLIER = 700, 300


def statement(number: int) -> Statement:
    """Return a small statement."""
    return Statement("train", (Subject("thing", f"{number:064x}"),), {"number": number})


def write_log(home: Path) -> Path:
    """Write a published log of SIZE entries, nothing left in its journal; beside it `earlier` (a checkpoint), `key`."""
    folder = home / "ledger"
    log = Log(folder, SIGNER.public.name, VERIFIER, SIGNER)
    log.append_many([statement(number) for number in range(EARLIER)])
    (home / "earlier").write_text(log.checkpoint())
    log.append_many([statement(number) for number in range(EARLIER, SIZE)])
    log.checkpoint()
    log.close()
    (folder / "journal").write_bytes((folder / "journal").read_bytes()[:16])
    (home / "key").write_text(f"{SIGNER.public}\n")
    return folder


def flip(path: Path, place: int) -> None:
    """Flip one bit."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def _bundle(folder: Path, index: int) -> list[bytes]:
    return tiles.Tiles(folder).entries(index, tiles.width_of(SIZE, 0, index))


def _entries(folder: Path) -> list[bytes]:
    return [entry for index in range(3) for entry in _bundle(folder, index)]


def _rebuild(folder: Path, entries: list[bytes], signer: Signer | None, origin: str = SIGNER.public.name) -> None:
    """Write all tiles anew, and with a `signer` the checkpoint too."""
    leaves = [merkle.leaf_hash(entry) for entry in entries]
    shutil.rmtree(folder / "tile")
    tiles.Tiles(folder).grow(0, entries, leaves)
    if signer is not None:
        (folder / "checkpoint").write_text(Checkpoint(origin, len(entries), merkle.root(leaves)).signed(signer))


def remove_entry(folder: Path) -> None:
    """Take an entry out of its bundle."""
    path = folder / "tile/entries/001"
    entries = tiles.unpack(path.read_bytes())
    path.write_bytes(tiles.pack(entries[:7] + entries[8:]))


def remove_entry_and_its_hash(folder: Path) -> None:
    """The clever version: entries and leaf tiles agree, one entry short; only the signed head tells."""
    remove_entry(folder)
    path = folder / "tile/0/001"
    content = path.read_bytes()
    path.write_bytes(content[: 7 * 32] + content[8 * 32 :])


def swap_entries(folder: Path) -> None:
    """Let two entries change places."""
    path = folder / "tile/entries/001"
    entries = tiles.unpack(path.read_bytes())
    entries[3], entries[90] = entries[90], entries[3]
    path.write_bytes(tiles.pack(entries))


def truncate(folder: Path) -> None:
    """Cut off the end, and leave the checkpoint."""
    shutil.rmtree(folder / "tile/entries/002.p")


def truncate_within_a_bundle(folder: Path) -> None:
    """Cut off the last five entries, and leave the checkpoint."""
    path = folder / "tile/entries/002.p/188"
    path.write_bytes(tiles.pack(tiles.unpack(path.read_bytes())[:-5]))


def replace_and_rehash(folder: Path) -> None:
    """The insider without the key: replaces an entry by another signed statement and rebuilds every tile."""
    entries = _entries(folder)
    entries[300] = sign(statement(9), SIGNER).to_bytes()
    _rebuild(folder, entries, None)


def fork(folder: Path) -> None:
    """The insider with the key: everything is consistent and signed, but history is another."""
    entries = _entries(folder)
    entries[20] = sign(statement(9), SIGNER).to_bytes()
    _rebuild(folder, entries, SIGNER)


def shorten(folder: Path) -> None:
    """The insider with the key goes back to an earlier size."""
    _rebuild(folder, _bundle(folder, 0), SIGNER)


def replay(folder: Path) -> None:
    """Put an old, genuine checkpoint in the place of the new one."""
    shutil.copyfile(folder.parent / "earlier", folder / "checkpoint")


def replay_signed(folder: Path) -> None:
    """The same with the checkpoint of a size that nobody kept."""
    leaves = [merkle.leaf_hash(entry) for entry in _entries(folder)[:400]]
    (folder / "checkpoint").write_text(Checkpoint(SIGNER.public.name, 400, merkle.root(leaves)).signed(SIGNER))


def forge_checkpoint(folder: Path) -> None:
    """Put another root into the checkpoint and keep its signature."""
    head = checkpoint.parse((folder / "checkpoint").read_text())
    _, signature = (folder / "checkpoint").read_text().split("\n\n")
    (folder / "checkpoint").write_text(f"{Checkpoint(head.origin, head.size, bytes(32)).text}\n{signature}")


def strange_checkpoint(folder: Path) -> None:
    """Sign it in somebody else's name alone."""
    head = checkpoint.parse((folder / "checkpoint").read_text())
    (folder / "checkpoint").write_text(head.signed(Signer.generate("somebody")))


def sign_again(folder: Path) -> None:
    """Sign statements and checkpoint again with another key of the same name."""
    thief = Signer.generate(SIGNER.public.name)
    _rebuild(folder, [sign(statement(number), thief).to_bytes() for number in range(SIZE)], thief)


def edit_checkpoint(folder: Path) -> None:
    """Change the number of entries."""
    note = (folder / "checkpoint").read_text()
    (folder / "checkpoint").write_text(note.replace(f"\n{SIZE}\n", "\n699\n"))


def another_log(folder: Path) -> None:
    """Put another log of the same key in its place."""
    _rebuild(folder, _entries(folder), SIGNER, "lifechart/elsewhere")


def foreign_statement(folder: Path) -> None:
    """A signed tree over a statement that the institution did not sign."""
    entries = _entries(folder)
    entries[400] = sign(statement(400), Signer.generate(SIGNER.public.name)).to_bytes()
    _rebuild(folder, entries, SIGNER)


def garbage(folder: Path) -> None:
    """A signed tree over an entry that is no statement at all."""
    entries = _entries(folder)
    entries[401] = b"nothing"
    _rebuild(folder, entries, SIGNER)


@dataclass(frozen=True)
class Tamper:
    """One way to tamper with a log."""

    name: str
    do: Callable[[Path], object]
    kind: DamageKind
    message: str
    """Regular expression that the message must match."""


TAMPERS = (
    Tamper("a byte of an entry flipped", lambda log: flip(log / "tile/entries/001", 5_000),
           DamageKind.ENTRY_ALTERED, r"tile/entries/001: entry 26\d is not the one that was logged"),
    Tamper("a byte of the last entry flipped", lambda log: flip(log / "tile/entries/002.p/188", -300),
           DamageKind.ENTRY_ALTERED, "tile/entries/002: entry 699"),
    Tamper("a byte of an entry's length flipped", lambda log: flip(log / "tile/entries/001", 0),
           DamageKind.ENTRY_ALTERED, "cannot be taken apart"),
    Tamper("a byte of a leaf's hash flipped", lambda log: flip(log / "tile/0/000", 40),
           DamageKind.TILE_ALTERED, "tile/0/000: hash 1 is not that of entry 1"),
    Tamper("a byte of the last tile flipped", lambda log: flip(log / "tile/0/002.p/188", 40),
           DamageKind.TILE_ALTERED, "tile/0/002: hash 1 is not that of entry 513"),
    Tamper("a byte of an upper tile flipped", lambda log: flip(log / "tile/1/000.p/2", 40),
           DamageKind.TILE_ALTERED, "tile/1/000: hash 1 is not that of tile/0/001"),
    Tamper("an entry removed", remove_entry, DamageKind.ENTRY_REMOVED, r"entries \[263\] are gone"),
    Tamper("an entry and its hash removed", remove_entry_and_its_hash,
           DamageKind.TILE_ALTERED, "tile/0/001: got 8160 bytes"),
    Tamper("two entries swapped", swap_entries,
           DamageKind.ENTRIES_SWAPPED, r"entries \[259, 346\] stand in each other's places"),
    Tamper("the end cut off", truncate, DamageKind.LOG_TRUNCATED, "entries 512 to 699 are gone"),
    Tamper("the end cut off within a bundle", truncate_within_a_bundle,
           DamageKind.LOG_TRUNCATED, r"got 183 entries, expected 188: entries \[695, 696, 697, 698, 699\] are gone"),
    Tamper("a bundle removed", lambda log: (log / "tile/entries/001").unlink(),
           DamageKind.TILE_MISSING, "tile/entries/001: missing"),
    Tamper("a tile removed", lambda log: (log / "tile/0/001").unlink(),
           DamageKind.TILE_MISSING, "tile/0/001: missing"),
    Tamper("an entry replaced, all hashes made anew", replace_and_rehash,
           DamageKind.ROOT_WRONG, "the checkpoint states"),
    Tamper("history forked by the key's owner", fork,
           DamageKind.HISTORY_FORKED, "kept checkpoint 1: signed over 300 entries that are not those that stand here"),
    Tamper("history shortened by the key's owner", shorten,
           DamageKind.HISTORY_SHORTENED, "256 entries are there, but kept checkpoint 1 was signed over 300"),
    Tamper("an old checkpoint put back", replay,
           DamageKind.CHECKPOINT_REPLAYED, "states 300 entries, but the bundles hold 700"),
    Tamper("an old checkpoint put back that nobody kept", replay_signed,
           DamageKind.CHECKPOINT_REPLAYED, "states 400 entries, but the bundles hold 700"),
    Tamper("checkpoint forged: another root", forge_checkpoint,
           DamageKind.CHECKPOINT_FORGED, "does not fit its text"),
    Tamper("checkpoint forged: another size", edit_checkpoint,
           DamageKind.CHECKPOINT_FORGED, "does not fit its text"),
    Tamper("checkpoint forged: signed by a stranger", strange_checkpoint,
           DamageKind.CHECKPOINT_FORGED, "not signed by lifechart/test"),
    Tamper("checkpoint forged: no note", lambda log: (log / "checkpoint").write_text("700"),
           DamageKind.CHECKPOINT_FORGED, "not a signed note"),
    Tamper("checkpoint removed", lambda log: (log / "checkpoint").unlink(),
           DamageKind.CHECKPOINT_MISSING, "though tiles are"),
    Tamper("signed again with another key", sign_again,
           DamageKind.ANOTHER_KEY, "signed under this log's name with another key"),
    Tamper("another log of the same key", another_log,
           DamageKind.ANOTHER_LOG, "of the log 'lifechart/elsewhere', expected 'lifechart/test'"),
    Tamper("a statement by somebody else", foreign_statement,
           DamageKind.STATEMENT_FORGED, "entry 400: not signed by"),
    Tamper("an entry that is no statement", garbage, DamageKind.STATEMENT_FORGED, "entry 401: not a signed envelope"),
)  # fmt: skip
"""Each is found by reading the log, its public key and one checkpoint that was kept from earlier."""
