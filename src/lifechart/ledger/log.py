"""The append-only log: a folder that several processes append to and anyone can read.

    log = open_log(settings)
    receipt = log.append(Statement("train", (Subject("model", digest),), {"data": data_digest}))

When `append` returns, the statement is on disk under a signed head. Appends that meet share one fsync: the first of
them commits for all (group commit). A commit goes to the journal; tiles and checkpoint, the form that others read, are
made from it in the background. A crash at any point loses nothing that was acknowledged, and the next opening cuts
off what was not.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lifechart.core import durable
from lifechart.core.errors import AuditError, InputError, IntegrityError
from lifechart.core.settings import Settings
from lifechart.ledger import checkpoint, journal, merkle
from lifechart.ledger.checkpoint import Checkpoint
from lifechart.ledger.index import Index
from lifechart.ledger.keys import Signer, Verifier
from lifechart.ledger.statement import Envelope, Statement, sign
from lifechart.ledger.tiles import MAX_ENTRY_BYTES, WIDTH, Tiles

CHECKPOINT = "checkpoint"
JOURNAL = "journal"
TORN = "torn"
_PUBLISH_SECONDS = 10.0
_JOURNAL_BYTES = 4 << 20
_KEY = "ledger.pem"


@dataclass(frozen=True, slots=True)
class Receipt:
    """Where a statement stands: leaf `index` of a tree of `size` entries; `leaf` and `root` are hex hashes."""

    index: int
    size: int
    leaf: str
    root: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log."""

    index: int
    content: bytes

    @property
    def envelope(self) -> Envelope:
        """The signed envelope."""
        return Envelope.of_bytes(self.content)

    @property
    def statement(self) -> Statement:
        """What it says."""
        return self.envelope.statement()

    @property
    def leaf(self) -> str:
        """Its leaf hash, in hex."""
        return merkle.leaf_hash(self.content).hex()


class _Waiting:
    """Entries that wait for a commit, and what came of it."""

    __slots__ = ("entries", "error", "receipts")

    def __init__(self, entries: list[bytes]) -> None:
        self.entries = entries
        self.receipts: list[Receipt] | None = None
        self.error: Exception | None = None


class Log:
    """An append-only log in a folder. Threads may share one; processes each open their own on the same folder."""

    def __init__(self, folder: Path, origin: str, verifier: Verifier, signer: Signer | None = None) -> None:
        """Open the log; without a `signer` it can only be read. Raises IntegrityError if it does not hold together."""
        self.folder, self.origin, self.verifier = folder, origin, verifier
        self._signer = signer
        self._tiles = Tiles(folder)
        self._commit_lock = threading.Lock()
        self._state_lock = threading.RLock()
        self._publish_lock = threading.Lock()
        self._queue: list[_Waiting] = []
        self._queue_lock = threading.Lock()
        self._index: Index | None = None
        self._publisher: threading.Thread | None = None
        self._published_at = float("-inf")
        self._published, self._tail_start = 0, 0
        self._tail: list[bytes] = []
        self._batches: list[journal.Batch] = []
        self._tree = merkle.CompactRange()
        self._inode, self._offset = 0, 0
        if signer is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self.refresh()

    @property
    def size(self) -> int:
        """Number of entries that this process knows of; `refresh` looks for more."""
        return self._tree.size

    @property
    def root(self) -> str:
        """Root of the tree of `size` entries, in hex."""
        with self._state_lock:
            return self._tree.root().hex()

    def append(self, statement: Statement) -> Receipt:
        """Sign and add one statement; it is durable when this returns. Raises AuditError if it cannot be written."""
        return self.append_many([statement])[0]

    def append_many(self, statements: Sequence[Statement]) -> list[Receipt]:
        """Sign and add statements in order, in one commit: all are there, or none."""
        if self._signer is None:
            raise AuditError(f"{self.folder}: opened without a key, so nothing can be written")
        entries = [sign(statement, self._signer).to_bytes() for statement in statements]
        for statement, entry in zip(statements, entries, strict=True):
            if len(entry) > MAX_ENTRY_BYTES:
                expected = f"at most {MAX_ENTRY_BYTES}: keep bulk in a file and name its digest"
                raise InputError(f"bytes of a statement ({statement.kind})", len(entry), expected)
        if not entries:
            return []
        waiting = _Waiting(entries)
        with self._queue_lock:
            self._queue.append(waiting)
        with self._commit_lock:
            if waiting.receipts is None and waiting.error is None:
                self._commit()
        if waiting.error is not None:
            raise AuditError(f"{self.folder}: the statement could not be written: {waiting.error}") from waiting.error
        assert waiting.receipts is not None
        self._publish_in_background()
        return waiting.receipts

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[Entry]:
        """Yield entries `start` up to `stop` (default: all that are there now) in order."""
        if stop is None:
            self.refresh()
            stop = self.size
        position = start
        while position < stop:
            with self._state_lock:
                published, tail_start, tail = self._published, self._tail_start, self._tail
            if position >= tail_start:
                chunk = tail[position - tail_start : stop - tail_start]
            else:
                bundle, first = divmod(position, WIDTH)
                chunk = self._tiles.entries(bundle, min(WIDTH, published - bundle * WIDTH))[first:]
            for content in chunk[: stop - position]:
                yield Entry(position, content)
                position += 1

    def find(self, *, kind: str | None = None, digest: str | None = None) -> list[Entry]:
        """Return the entries of this kind that name this digest as subject or in their predicate, oldest first."""
        with self._state_lock:
            if self._index is None:
                self._index = Index()
            self.refresh()
            self._index.extend(self.entries(self._index.size, self.size))
            found = self._index.find(kind, digest)
        return [entry for index in found for entry in self.entries(index, index + 1)]

    def checkpoint(self) -> str:
        """Publish all entries and return the signed note of the log's head."""
        self.publish()
        return self._note()

    def inclusion(self, index: int) -> list[bytes]:
        """Return the proof that entry `index` is in the published tree (see `checkpoint`)."""
        ranges = merkle.inclusion_ranges(index, self._published)
        return [merkle.range_hash(start, end, self._tiles.reader(self._published)) for start, end in ranges]

    def consistency(self, first: int) -> list[bytes]:
        """Return the proof that the published tree begins with the tree of `first` entries."""
        ranges = merkle.consistency_ranges(first, self._published)
        return [merkle.range_hash(start, end, self._tiles.reader(self._published)) for start, end in ranges]

    def refresh(self) -> None:
        """Take in what other processes have appended."""
        with self._state_lock:
            self._catch_up()

    def publish(self) -> None:
        """Write tiles and checkpoint for all entries. Needs no key: the signed heads stand in the journal."""
        with self._publish_lock, self._locked("publish.lock"):
            with self._state_lock:
                self._catch_up()
                start, size = self._take_checkpoint(), self._tree.size
                entries = self._tail[start - self._tail_start :]
                note = self._batches[-1].note if self._batches else ""
            if start < size:
                self._tiles.grow(start, entries, [merkle.leaf_hash(entry) for entry in entries])
                durable.write_bytes(self.folder / CHECKPOINT, note.encode())
                self._tiles.drop_partial(start, size)
            with self._state_lock:
                self._set_published(max(size, start))
                self._published_at = time.monotonic()
            if self._signer is not None and self._offset > _JOURNAL_BYTES:
                self._rotate()

    def close(self) -> None:
        """Publish what is pending and wait for it. A log that is never closed loses nothing but freshness."""
        if (publisher := self._publisher) is not None:
            publisher.join()
        if self._signer is not None and self._published < self.size:
            self.publish()

    def _commit(self) -> None:
        """Write everything that waits, as one batch. Runs under the commit lock; settles every waiting append."""
        with self._queue_lock:
            group, self._queue = self._queue, []
        try:
            with self._locked("lock"), self._state_lock:
                self._catch_up(repair=True)
                entries = [entry for waiting in group for entry in waiting.entries]
                leaves = [merkle.leaf_hash(entry) for entry in entries]
                tree = self._tree.copy()
                start = tree.size
                tree.extend(leaves)
                assert self._signer is not None
                root = tree.root()
                note = Checkpoint(self.origin, tree.size, root).signed(self._signer)
                batch = journal.Batch(start, tuple(entries), note)
                journal.append(self.folder / JOURNAL, batch)
                self._catch_up()
        except Exception as error:  # whatever it was, nobody who waits may take it for success
            for waiting in group:
                waiting.error = error
            return
        for waiting in group:
            stop = start + len(waiting.entries)
            waiting.receipts = [
                Receipt(index, tree.size, leaves[index - batch.start].hex(), root.hex()) for index in range(start, stop)
            ]
            start = stop

    def _catch_up(self, repair: bool = False) -> None:
        """Read what the journal holds past what is known; with `repair` (under the file lock), cut off a torn end."""
        path = self.folder / JOURNAL
        if self._unchanged(path):
            return
        reading = journal.read(path, self._offset)
        if reading.inode != self._inode:
            self._set_published(self._take_checkpoint())
            reading = journal.read(path)
        fresh = [batch for batch in reading.batches if batch.end > self.size]
        self._take(fresh)
        self._inode, self._offset = reading.inode, reading.end
        if repair and reading.torn:
            journal.set_aside_torn(path, reading, self.folder / TORN)

    def _unchanged(self, path: Path) -> bool:
        try:
            status = path.stat()
        except FileNotFoundError:
            return self._inode == 0 and self.size > 0
        return (status.st_ino, status.st_size) == (self._inode, self._offset)

    def _take(self, batches: Sequence[journal.Batch]) -> None:
        """Add batches to the state; the last one's signed head vouches for all before it."""
        if not batches:
            return
        tree, entries = self._tree.copy(), []
        for batch in batches:
            if batch.start != tree.size:
                raise IntegrityError(
                    f"{JOURNAL}: entry {batch.start} follows entry {tree.size - 1}, so some are missing"
                )
            tree.extend(merkle.leaf_hash(entry) for entry in batch.entries)
            entries += batch.entries
        head = self._verified(batches[-1].note, JOURNAL)
        if (head.size, head.root) != (tree.size, tree.root()):
            raise IntegrityError(f"{JOURNAL}: entries up to {tree.size} do not have the root that their head states")
        self._tree = tree
        self._tail = [*self._tail, *entries]
        self._batches = [*self._batches, *batches]

    def _take_checkpoint(self) -> int:
        """Return the published size; if it is ahead of what is known, adopt it once it proves to be a continuation."""
        note = self._note()
        if not note:
            return 0
        head = self._verified(note, CHECKPOINT)
        if head.size > self.size:
            reader = self._tiles.reader(head.size)
            tree = merkle.CompactRange.of(head.size, reader)
            if tree.root() != head.root:
                raise IntegrityError(f"{CHECKPOINT}: the tiles do not have the root that it states")
            if self.size:
                ranges = merkle.consistency_ranges(self.size, head.size)
                proof = [merkle.range_hash(start, end, reader) for start, end in ranges]
                merkle.verify_consistency(self.size, head.size, proof, self._tree.root(), head.root)
            self._tree = tree
            self._tail, self._tail_start, self._batches = [], head.size, []
        return head.size

    def _set_published(self, size: int) -> None:
        self._published = size
        if size > self._tail_start:
            self._tail = self._tail[size - self._tail_start :]
            self._tail_start = size
            self._batches = [batch for batch in self._batches if batch.end > size]

    def _rotate(self) -> None:
        """Start a new journal with what is not published yet."""
        with self._commit_lock, self._locked("lock"), self._state_lock:
            self._catch_up(repair=True)
            journal.rewrite(self.folder / JOURNAL, self._batches)
            status = (self.folder / JOURNAL).stat()
            self._inode, self._offset = status.st_ino, status.st_size

    def _publish_in_background(self) -> None:
        """Publish off the path of appends, when a tile is full or the checkpoint is some seconds old."""
        pending = self.size - self._published
        if pending < WIDTH and time.monotonic() - self._published_at < _PUBLISH_SECONDS:
            return
        with self._queue_lock:
            if self._publisher is None or not self._publisher.is_alive():
                self._published_at = time.monotonic()
                self._publisher = threading.Thread(target=self._publish_quietly, name="ledger-publish")
                self._publisher.start()

    def _publish_quietly(self) -> None:
        # What is not published now is in the journal still, and the next publication or verification says what is wrong.
        with contextlib.suppress(OSError, IntegrityError):
            self.publish()

    def _note(self) -> str:
        try:
            return (self.folder / CHECKPOINT).read_text()
        except FileNotFoundError:
            return ""

    def _verified(self, note: str, where: str) -> Checkpoint:
        head = checkpoint.verify(note, self.verifier)
        if head.origin != self.origin:
            raise IntegrityError(f"{where}: of the log {head.origin!r}, expected {self.origin!r}")
        return head

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Hold a lock that excludes other processes."""
        descriptor = os.open(self.folder / name, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def origin_of(settings: Settings) -> str:
    """Return the name of this institution's log and of its key."""
    words = "".join(character if character.isalnum() else " " for character in settings.institution.lower()).split()
    return f"lifechart/{'-'.join(words)}"


def open_log(settings: Settings) -> Log:
    """Open this institution's log; its key is made on first use, but never for a log that was begun with another."""
    key, origin = settings.keys / _KEY, origin_of(settings)
    if not key.exists() and (settings.ledger / JOURNAL).exists():
        raise InputError("ledger key", str(key), f"the private key that {settings.ledger} was begun with")
    signer = Signer.open(key, origin)
    return Log(settings.ledger, origin, Verifier([signer.public]), signer)
