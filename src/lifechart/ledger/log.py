"""The append-only log: a folder that several processes append to and anyone can read.

    log = open_log(settings)
    receipt = log.append(Statement("train", (Subject("model", digest),), {"data": data_digest}))

When `append` returns, the statement is on disk under a signed head. Appends that meet share one fsync: the first of
them commits for all (group commit). A commit goes to the journal; tiles and checkpoint, the form that others read, are
made from it in the background. A crash at any point loses nothing that was acknowledged, and the next opening cuts
off what was not.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from lifechart.core import durable
from lifechart.core.errors import AuditError, InputError, IntegrityError
from lifechart.core.settings import Settings
from lifechart.ledger import merkle
from lifechart.ledger.checkpoint import Checkpoint
from lifechart.ledger.index import Index, Numbers
from lifechart.ledger.keys import PublicKey, Signer, Verifier
from lifechart.ledger.replica import JOURNAL, Replica
from lifechart.ledger.statement import Envelope, Statement, sign
from lifechart.ledger.tiles import MAX_ENTRY_BYTES, WIDTH

_PUBLISH_SECONDS = 10.0
_JOURNAL_BYTES = 4 << 20
_KEY = "ledger.pem"
_OPENING = b'{"payload":"'
"""How an envelope in canonical JSON begins."""


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
    def payload(self) -> bytes:
        """The signed text, taken out of the envelope without reading the rest of it."""
        if self.content.startswith(_OPENING):
            return base64.b64decode(self.content[len(_OPENING) : self.content.index(b'"', len(_OPENING))])
        return self.envelope.payload

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
        self.receipts: list[Receipt] = []
        self.error: BaseException | None = None

    @property
    def settled(self) -> bool:
        return bool(self.receipts) or self.error is not None


class Log:
    """An append-only log in a folder. Threads may share one; processes each open their own on the same folder."""

    def __init__(
        self,
        folder: Path,
        origin: str,
        verifier: Verifier,
        signer: Signer | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        """Open the log; without a `signer` it can only be read. Raises IntegrityError if it does not hold together.

        `clock`: the calendar of a simulated hospital, by which statements are dated; by default the world's.
        """
        self._clock = clock
        self.folder, self.verifier = folder, verifier
        self._signer = signer
        self._replica = Replica(folder, origin, verifier)
        self._index = Index()
        self._queue: list[_Waiting] = []
        self._publisher: threading.Thread | None = None
        self._published_at = float("-inf")
        # Taken in this order, never in another: publish, commit, state. The queue's and the index's stand alone.
        self._publish_lock = threading.Lock()
        self._commit_lock = threading.Lock()
        self._state_lock = threading.Lock()
        self._queue_lock = threading.Lock()
        self._index_lock = threading.Lock()
        if signer is not None:
            if not folder.exists():
                folder.mkdir(parents=True, exist_ok=True)
                durable.sync_directory(folder.parent)
            with self._locked("lock"):
                self._replica.catch_up(repair=True)
        self.refresh()

    @property
    def size(self) -> int:
        """Number of entries that this process knows of; `refresh` looks for more."""
        return self._replica.size

    @property
    def root(self) -> str:
        """Root of the tree of `size` entries, in hex."""
        return self.head().root.hex()

    def head(self) -> Checkpoint:
        """Return origin, size and root as this process knows them, which a signed head has vouched for."""
        with self._state_lock:
            return Checkpoint(self._replica.origin, self._replica.size, self._replica.tree.root())

    def now(self) -> datetime:
        """Return what time it is where this log is kept (UTC)."""
        return self._clock() if self._clock is not None else datetime.now(UTC)

    def append(self, statement: Statement) -> Receipt:
        """Sign and add one statement; it is durable when this returns. Raises AuditError if it cannot be written."""
        return self.append_many([statement])[0]

    def append_many(self, statements: Sequence[Statement]) -> list[Receipt]:
        """Sign and add statements in order, in one commit: all are there, or none."""
        if self._signer is None:
            raise AuditError(f"{self.folder}: opened without a key, so nothing can be written")
        if self._clock is not None:
            created = self._clock().astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
            statements = [replace(statement, created=created) for statement in statements]
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
            if not waiting.settled:
                self._commit(self._signer)
        if waiting.error is not None:
            raise AuditError(f"{self.folder}: the statement could not be written: {waiting.error}") from waiting.error
        self._publish_in_background()
        return waiting.receipts

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[Entry]:
        """Yield entries `start` up to `stop` (default: all that are there now) in order."""
        if stop is None:
            self.refresh()
            stop = self.size
        while start < stop:
            with self._state_lock:
                chunk = self._replica.chunk(start)[: stop - start]
            for content in chunk:
                yield Entry(start, content)
                start += 1

    def find(self, *, kind: str | None = None, digest: str | None = None) -> list[Entry]:
        """Return the entries of this kind that name this digest, as subject or in their predicate, oldest first."""
        return [
            entry
            for entry in self.read(self.numbers(kind=kind, digest=digest).tolist())
            if digest is None or digest.encode() in entry.payload
        ]

    def numbers(self, *, kind: str | None = None, digest: str | None = None, capability: str = "") -> Numbers:
        """Return the numbers of the entries that `find` would return, without reading them."""
        with self._index_lock:
            self._index.extend(self.entries(self._index.size))
            return self._index.find(kind, digest, capability)

    def digests(self, prefix: str) -> list[str]:
        """Return every digest named in the log that begins with `prefix`, 6 hex digits or more."""
        with self._index_lock:
            self._index.extend(self.entries(self._index.size))
            numbers = self._index.starting(prefix)
        named = re.compile(f'"({prefix}[0-9a-f]{{{64 - len(prefix)}}})"'.encode())
        return sorted({each.decode() for entry in self.read(numbers) for each in named.findall(entry.payload)})

    def read(self, numbers: Sequence[int]) -> list[Entry]:
        """Return the entries of these numbers, which ascend and are known to this process."""
        found: list[Entry] = []
        first, chunk = 0, list[bytes]()
        for index in numbers:
            if not first <= index < first + len(chunk):
                with self._state_lock:
                    first, chunk = index, self._replica.chunk(index)
            found.append(Entry(index, chunk[index - first]))
        return found

    def refresh(self) -> None:
        """Take in what other processes have appended."""
        with self._state_lock:
            self._replica.catch_up()

    def checkpoint(self) -> str:
        """Publish all entries and return the signed note of the log's head (empty for an empty log)."""
        self.publish()
        return self._replica.note()

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Return the proof that entry `index` is in the tree of `size` entries, which `checkpoint` has published."""
        return self._proof(merkle.inclusion_ranges(index, size), size)

    def consistency(self, first: int, second: int) -> list[bytes]:
        """Return the proof that the tree of `second` entries, which is published, begins with that of `first`."""
        return self._proof(merkle.consistency_ranges(first, second), second)

    def publish(self) -> None:
        """Write tiles and checkpoint for all entries. Needs no key: the signed heads stand in the journal."""
        with self._publish_lock, self._locked("publish.lock"):
            with self._state_lock:
                self._replica.catch_up()
                start, entries, note = self._replica.unpublished()
            if entries:
                self._replica.write_tiles(start, entries, note)
            with self._state_lock:
                self._replica.set_published(start + len(entries))
                self._published_at = time.monotonic()
            if self._signer is not None and self._replica.journal_bytes > _JOURNAL_BYTES:
                with self._commit_lock, self._locked("lock"), self._state_lock:
                    self._replica.catch_up(repair=True)
                    self._replica.rotate()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Publish what is pending and wait for it. A log that is never closed loses nothing but freshness."""
        if self._publisher is not None:
            self._publisher.join()
        if self._signer is not None and self._replica.published < self.size:
            self.publish()

    def _commit(self, signer: Signer) -> None:
        """Write everything that waits, as one batch. Runs under the commit lock; settles every waiting append."""
        with self._queue_lock:
            group, self._queue = self._queue, []
        entries = [entry for waiting in group for entry in waiting.entries]
        leaves = [merkle.leaf_hash(entry) for entry in entries]
        try:
            with self._locked("lock"), self._state_lock:
                self._replica.catch_up(repair=True)
                start = self.size
                self._replica.commit(entries, leaves, signer)
                size, root = self.size, self._replica.tree.root().hex()
        except BaseException as error:  # whatever it was, nobody who waits may take it for success
            for waiting in group:
                waiting.error = error
            if not isinstance(error, Exception):
                raise
            return
        receipts = [Receipt(start + number, size, leaf.hex(), root) for number, leaf in enumerate(leaves)]
        for waiting in group:
            waiting.receipts, receipts = receipts[: len(waiting.entries)], receipts[len(waiting.entries) :]

    def _publish_in_background(self) -> None:
        """Publish off the path of appends, when a tile is full or the checkpoint is some seconds old."""
        pending = self.size - self._replica.published
        if pending < WIDTH and time.monotonic() - self._published_at < _PUBLISH_SECONDS:
            return
        with self._queue_lock:
            if self._publisher is None or not self._publisher.is_alive():
                self._published_at = time.monotonic()
                self._publisher = threading.Thread(target=self._publish_quietly, name="ledger-publish")
                self._publisher.start()

    def _publish_quietly(self) -> None:
        # Nothing is lost: what is not published stays in the journal; the next attempt or `verify` says what is wrong.
        with contextlib.suppress(OSError, IntegrityError):
            self.publish()

    def _proof(self, ranges: Sequence[merkle.Range], size: int) -> list[bytes]:
        reader = self._replica.tiles.reader(size)
        return [merkle.range_hash(start, end, reader) for start, end in ranges]

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
    """Return the name that this institution's log and its key get when they are made; they keep it ever after."""
    words = "".join(character if character.isalnum() else " " for character in settings.institution.lower()).split()
    return f"lifechart/{'-'.join(words)}"


def open_log(settings: Settings, clock: Callable[[], datetime] | None = None) -> Log:
    """Open this institution's log; its key is made on first use, but never for a log that was begun with another.

    `clock`: a simulated hospital's calendar; see Log.
    """
    key = settings.keys / _KEY
    if not key.exists() and (settings.ledger / JOURNAL).exists():
        raise InputError("ledger key", str(key), f"the private key that {settings.ledger} was begun with")
    signer = Signer.open(key, origin_of(settings))
    return Log(settings.ledger, signer.public.name, Verifier([signer.public]), signer, clock)


def public_verifier(settings: Settings, key: Path | None = None) -> Verifier:
    """Return a verifier of the log by the public key in `key`, or by this institution's own."""
    return Verifier([PublicKey.load(key or (settings.keys / _KEY).with_suffix(".pub"))])
