"""What one process knows of a log: its edge, the entries not in tiles yet, and how to catch up with the folder.

Not safe for threads by itself: Log holds the locks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lifechart.core import durable
from lifechart.core.errors import IntegrityError
from lifechart.ledger import checkpoint, journal, merkle
from lifechart.ledger.checkpoint import Checkpoint
from lifechart.ledger.keys import Signer, Verifier
from lifechart.ledger.tiles import WIDTH, Tiles

CHECKPOINT = "checkpoint"
JOURNAL = "journal"
TORN = "torn"


class Replica:
    """The state of a log in memory, checked against signed heads whenever it grows."""

    def __init__(self, folder: Path, origin: str, verifier: Verifier) -> None:
        self.folder, self.origin, self.verifier = folder, origin, verifier
        self.tiles = Tiles(folder)
        self.tree = merkle.CompactRange()
        self.published = 0
        """Entries that the tiles and the checkpoint hold."""
        self._tail: list[bytes] = []  # entries from _tail_start on; only ever extended or replaced, never changed
        self._tail_start = 0
        self._batches: list[journal.Batch] = []  # the same entries as they were committed
        self._journal, self._offset = journal.NO_ID, 0

    @property
    def size(self) -> int:
        """Entries known of."""
        return self.tree.size

    @property
    def journal_bytes(self) -> int:
        """Length of the journal as far as it is known."""
        return self._offset

    def catch_up(self, *, repair: bool = False) -> None:
        """Take in what the folder holds past what is known; with `repair` (under the file lock), cut off a torn end.

        Raises IntegrityError if it does not continue what is known.
        """
        path = self.folder / JOURNAL
        journal_id, length = journal.identify(path)
        if (journal_id, length) == (self._journal, self._offset) and journal_id != journal.NO_ID:
            return
        known, replaced = self.size, journal_id != self._journal or journal_id == journal.NO_ID
        if replaced:
            self.adopt_checkpoint()
            if repair and journal_id == journal.NO_ID:
                if self.size:
                    raise IntegrityError(f"{JOURNAL}: missing from a log of {self.size} entries")
                journal.rewrite(path, ())
        reading = journal.read(path, 0 if replaced else self._offset)
        there = max([self.published, *(batch.end for batch in reading.batches)])
        if there < known if replaced else length < self._offset:
            raise IntegrityError(f"{JOURNAL}: history was taken back: {known} entries were known, fewer are there")
        self._take([batch for batch in reading.batches if batch.end > self.size])
        self._journal, self._offset = reading.id, reading.end
        if repair and reading.torn:
            journal.set_aside_torn(path, reading, self.folder / TORN)

    def commit(self, entries: Sequence[bytes], leaves: Sequence[bytes], signer: Signer) -> None:
        """Add entries durably under a new signed head. Needs the file lock and `catch_up`; raises OSError."""
        tree = self.tree.copy()
        tree.extend(leaves)
        note = Checkpoint(self.origin, tree.size, tree.root()).signed(signer)
        batch = journal.Batch(self.tree.size, tuple(entries), note)
        self._offset += journal.append(self.folder / JOURNAL, batch)
        self.tree = tree
        self._tail.extend(entries)
        self._batches.append(batch)

    def adopt_checkpoint(self) -> int:
        """Return the published size; if it is ahead of what is known, go there once it proves to be a continuation."""
        note = self.note()
        head = self._verified(note, CHECKPOINT) if note else Checkpoint(self.origin, 0, merkle.EMPTY_ROOT)
        if head.size < self.published:
            raise IntegrityError(f"{CHECKPOINT}: history was taken back from {self.published} entries to {head.size}")
        if head.size > self.size:
            reader = self.tiles.reader(head.size)
            tree = merkle.CompactRange.of(head.size, reader)
            if tree.root() != head.root:
                raise IntegrityError(f"{CHECKPOINT}: the tiles do not have the root that it states")
            if self.size:
                ranges = merkle.consistency_ranges(self.size, head.size)
                proof = [merkle.range_hash(start, end, reader) for start, end in ranges]
                merkle.verify_consistency(self.size, head.size, proof, self.tree.root(), head.root)
            self.tree = tree
            self._tail, self._tail_start, self._batches = [], head.size, []
        self.set_published(head.size)
        return head.size

    def set_published(self, size: int) -> None:
        """Note that the tiles hold `size` entries, and let go of those in memory."""
        self.published = size
        if size > self._tail_start:
            self._tail = self._tail[size - self._tail_start :]
            self._tail_start = size
            self._batches = [batch for batch in self._batches if batch.end > size]

    def unpublished(self) -> tuple[int, list[bytes], str]:
        """Return the published size, the entries that follow it, and the signed note of the whole."""
        start = self.adopt_checkpoint()
        return start, self._tail[start - self._tail_start :], self._batches[-1].note if self._batches else ""

    def write_tiles(self, start: int, entries: Sequence[bytes], note: str) -> None:
        """Write tiles for the entries from `start` on, then the checkpoint. Reads no state: needs only its own lock."""
        self.tiles.grow(start, entries, [merkle.leaf_hash(entry) for entry in entries])
        durable.write_bytes(self.folder / CHECKPOINT, note.encode())
        self.tiles.drop_partial(start, start + len(entries))

    def rotate(self) -> None:
        """Start a new journal with what is not published yet. Needs the file lock and `catch_up`."""
        path = self.folder / JOURNAL
        journal.rewrite(path, self._batches)
        self._journal, self._offset = journal.identify(path)

    def chunk(self, position: int) -> list[bytes]:
        """Return entries from `position` on: the rest of a bundle, or all that are not in tiles yet."""
        if position >= self._tail_start:
            return self._tail[position - self._tail_start :]
        bundle, first = divmod(position, WIDTH)
        return self.tiles.entries(bundle, min(WIDTH, self.published - bundle * WIDTH))[first:]

    def note(self) -> str:
        """Return the published checkpoint's signed note; empty if there is none."""
        try:
            return (self.folder / CHECKPOINT).read_text()
        except FileNotFoundError:
            return ""

    def _take(self, batches: Sequence[journal.Batch]) -> None:
        """Add batches; the last one's signed head vouches for all before it."""
        if not batches:
            return
        tree = self.tree.copy()
        for batch in batches:
            if batch.start != tree.size:
                raise IntegrityError(f"{JOURNAL}: entry {batch.start} stands where {tree.size} should: some are gone")
            tree.extend(merkle.leaf_hash(entry) for entry in batch.entries)
        head = self._verified(batches[-1].note, JOURNAL)
        if (head.size, head.root) != (tree.size, tree.root()):
            raise IntegrityError(f"{JOURNAL}: the first {tree.size} entries do not have the root of their head")
        self.tree = tree
        self._tail.extend(entry for batch in batches for entry in batch.entries)
        self._batches.extend(batches)

    def _verified(self, note: str, where: str) -> Checkpoint:
        head = checkpoint.verify(note, self.verifier)
        if head.origin != self.origin:
            raise IntegrityError(f"{where}: of the log {head.origin!r}, expected {self.origin!r}")
        return head
