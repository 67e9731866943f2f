"""Check a whole log offline: every entry, tile, head and signature, with a message of its own for each kind of damage.

Needs the folder and the log's public key, nothing else. An auditor who keeps checkpoints hands them in as well: only
they can show that history was rewritten by whoever holds the key.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lifechart.core.errors import IntegrityError
from lifechart.ledger import checkpoint, journal, merkle, tiles
from lifechart.ledger.checkpoint import Checkpoint
from lifechart.ledger.keys import Verifier
from lifechart.ledger.replica import CHECKPOINT, JOURNAL, TORN
from lifechart.ledger.statement import Envelope
from lifechart.ledger.tiles import WIDTH, Tiles


class DamageKind(StrEnum):
    """What can be wrong with a log."""

    ENTRY_ALTERED = "entry altered"
    ENTRY_REMOVED = "entry removed"
    TILE_ALTERED = "tile altered"
    TILE_MISSING = "tile missing"
    ROOT_WRONG = "root wrong"
    CHECKPOINT_FORGED = "checkpoint forged"
    CHECKPOINT_MISSING = "checkpoint missing"
    HISTORY_FORKED = "history forked"
    HISTORY_SHORTENED = "history shortened"
    STATEMENT_FORGED = "statement forged"
    JOURNAL_DAMAGED = "journal damaged"


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is wrong, and where."""

    kind: DamageKind
    message: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


@dataclass(frozen=True, slots=True)
class Verification:
    """What checking a log found. `root` and `size` are those of the entries as they stand."""

    origin: str
    size: int
    root: str
    published: int
    kinds: dict[str, int]
    damages: tuple[Damage, ...]
    remarks: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """Nothing is wrong."""
        return not self.damages

    def require(self) -> Verification:
        """Return itself, or raise IntegrityError that names the first damage."""
        if self.damages:
            more = f" (and {len(self.damages) - 1} more)" if len(self.damages) > 1 else ""
            raise IntegrityError(f"ledger: {self.damages[0]}{more}")
        return self

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))
        lines = [
            f"{self.origin}: {self.size} entries, {'sound' if self.sound else f'{len(self.damages)} damaged places'}",
            f"root {self.root}",
            *([counts] if counts else []),
            *(str(damage) for damage in self.damages),
            *self.remarks,
        ]
        return "\n".join(lines)


@dataclass
class _Audit:
    """Findings while a log is read; `tree` grows by the entries, `tiled` by the level-0 tiles."""

    folder: Path
    verifier: Verifier
    earlier: list[Checkpoint]
    damages: list[Damage] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    tree: merkle.CompactRange = field(default_factory=merkle.CompactRange)
    tiled: merkle.CompactRange = field(default_factory=merkle.CompactRange)
    differing: list[tuple[int, str]] = field(default_factory=list)
    """(entry, bundle file) whose hash is not the one in its tile."""

    def add(self, kind: DamageKind, message: str) -> None:
        self.damages.append(Damage(kind, message))

    def take(self, entry: bytes) -> None:
        """Check one entry's statement, and the earlier checkpoints that end here."""
        index = self.tree.size
        self.tree.append(merkle.leaf_hash(entry))
        try:
            envelope = Envelope.of_bytes(entry)
            envelope.verify(self.verifier, f"entry {index}")
            self.kinds[envelope.statement().kind] += 1
        except IntegrityError as error:
            self.add(DamageKind.STATEMENT_FORGED, f"entry {index}: {error}")
        for head in self.earlier:
            if head.size == self.tree.size and head.root != self.tree.root():
                self.add(
                    DamageKind.HISTORY_FORKED,
                    f"the first {head.size} entries are not those that an earlier checkpoint was signed over",
                )


def verify(
    folder: Path,
    verifier: Verifier,
    *,
    earlier: Sequence[str] = (),
    progress: bool | None = None,
) -> Verification:
    """Read a log from end to end and report everything that is wrong with it; see DamageKind.

    `earlier`: signed notes of this log that somebody kept. `progress`: show a bar; by default if stderr is a terminal.
    Raises IntegrityError only if an `earlier` note is itself not signed by a trusted key.
    """
    audit = _Audit(folder, verifier, [checkpoint.verify(note, verifier) for note in earlier])
    note, reading = _snapshot(audit)
    head = _head(audit, note)
    if head is not None:
        with _bar(progress) as bar:
            _check_bundles(audit, head, bar)
        _check_upper_tiles(audit, head)
        _settle(audit, head)
    begun = bool(reading and reading.batches and reading.batches[0].start == 0)
    if note is None and not begun and (folder / "tile").exists():
        # Before the first publication ends there are tiles without a checkpoint, but then the journal holds everything.
        audit.add(DamageKind.CHECKPOINT_MISSING, f"{CHECKPOINT}: not there, though tiles are")
    if reading is not None:
        _check_journal(audit, reading, head)
    for kept in audit.earlier:
        if kept.size > audit.tree.size:
            message = f"{audit.tree.size} entries are there, but a checkpoint was signed over {kept.size}"
            audit.add(DamageKind.HISTORY_SHORTENED, message)
    if (folder / TORN).is_dir():
        count = len(list((folder / TORN).iterdir()))
        audit.remarks.append(f"{count} unfinished appends, cut off by a crash, are kept in {TORN}/")
    origin = head.origin if head else next((kept.origin for kept in audit.earlier), folder.name)
    return Verification(
        origin,
        audit.tree.size,
        audit.tree.root().hex(),
        head.size if head else 0,
        dict(audit.kinds),
        tuple(audit.damages),
        tuple(audit.remarks),
    )


def _snapshot(audit: _Audit) -> tuple[str | None, journal.Reading | None]:
    """Read checkpoint and journal as they stood at one time, though a writer may be at work."""
    while True:
        note = _note(audit.folder)
        try:
            reading: journal.Reading | None = journal.read(audit.folder / JOURNAL)
        except IntegrityError as error:
            audit.add(DamageKind.JOURNAL_DAMAGED, str(error))
            return note, None
        if _note(audit.folder) == note:
            return note, reading


def _note(folder: Path) -> str | None:
    try:
        return (folder / CHECKPOINT).read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return None


def _head(audit: _Audit, note: str | None) -> Checkpoint | None:
    if note is None:
        return None
    try:
        return checkpoint.verify(note, audit.verifier)
    except IntegrityError as error:
        audit.add(DamageKind.CHECKPOINT_FORGED, str(error))
        return None


def _bar(shown: bool | None) -> Progress:
    wanted = sys.stderr.isatty() if shown is None else shown
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not wanted, transient=True)


def _check_bundles(audit: _Audit, head: Checkpoint, bar: Progress) -> None:
    """Take in all published entries and hold them against the level-0 tiles."""
    disk = Tiles(audit.folder)
    for index in bar.track(range((head.size + WIDTH - 1) // WIDTH), description="bundles"):
        width, name = tiles.width_of(head.size, 0, index), tiles.path_of("entries", index)
        hashes = _hashes(audit, disk, 0, index, width)
        try:
            entries = disk.entries(index, width)
        except tiles.TileMissing as error:
            audit.add(DamageKind.TILE_MISSING, str(error))
            return
        except IntegrityError as error:
            _report_removed(audit, disk, index, hashes, str(error))
            return
        for entry in entries:
            audit.take(entry)
        if hashes:
            leaves = [merkle.leaf_hash(entry) for entry in entries]
            audit.tiled.extend(hashes)
            pairs = enumerate(zip(leaves, hashes, strict=True), index * WIDTH)
            audit.differing += [(number, name) for number, (leaf, stated) in pairs if leaf != stated]


def _report_removed(audit: _Audit, disk: Tiles, index: int, hashes: list[bytes], error: str) -> None:
    """Say which entries a short bundle lacks, as far as their hashes still tell."""
    present: set[bytes] = set()
    for width in range(len(hashes), 0, -1):
        try:
            present = {merkle.leaf_hash(entry) for entry in disk.entries(index, width)}
            break
        except IntegrityError:
            continue
    gone = [index * WIDTH + number for number, stated in enumerate(hashes) if stated not in present]
    named = f": entries {gone} are gone" if gone else ""
    audit.add(DamageKind.ENTRY_REMOVED, f"{error}{named}")


def _check_upper_tiles(audit: _Audit, head: Checkpoint) -> None:
    """Hold each tile above level 0 against the tiles that it stands for."""
    disk, level = Tiles(audit.folder), 1
    while head.size >> (8 * level):
        for index in range(((head.size >> (8 * level)) + WIDTH - 1) // WIDTH):
            width = tiles.width_of(head.size, level, index)
            stated = _hashes(audit, disk, level, index, width)
            for number, (value, below) in enumerate(zip(stated, _roots_below(disk, level, index, width), strict=False)):
                if value != below:
                    name = tiles.path_of(str(level), index)
                    lower = tiles.path_of(str(level - 1), index * WIDTH + number)
                    audit.add(DamageKind.TILE_ALTERED, f"{name}: hash {number} is not that of {lower}")
        level += 1


def _roots_below(disk: Tiles, level: int, index: int, width: int) -> Iterator[bytes]:
    for number in range(width):
        try:
            yield merkle.root(disk.hashes(level - 1, index * WIDTH + number, WIDTH))
        except IntegrityError:
            return  # reported where that tile itself is read


def _hashes(audit: _Audit, disk: Tiles, level: int, index: int, width: int) -> list[bytes]:
    try:
        return disk.hashes(level, index, width)
    except tiles.TileMissing as error:
        audit.add(DamageKind.TILE_MISSING, str(error))
    except IntegrityError as error:
        audit.add(DamageKind.TILE_ALTERED, str(error))
    return []


def _settle(audit: _Audit, head: Checkpoint) -> None:
    """Say, where entries and tiles differ, which of them the signed root condemns."""
    by_entries = (audit.tree.size, audit.tree.root()) == (head.size, head.root)
    for number, name in audit.differing:
        if by_entries:
            tile = tiles.path_of("0", number // WIDTH)
            audit.add(DamageKind.TILE_ALTERED, f"{tile}: hash {number % WIDTH} is not that of entry {number}")
        else:
            audit.add(DamageKind.ENTRY_ALTERED, f"{name}: entry {number} is not the one that was logged")
    if audit.tree.size == head.size and not by_entries and (audit.tiled.root() != head.root or not audit.differing):
        audit.add(
            DamageKind.ROOT_WRONG,
            f"{head.size} entries have the root {audit.tree.root().hex()}, the checkpoint states {head.root.hex()}",
        )


def _check_journal(audit: _Audit, reading: journal.Reading, head: Checkpoint | None) -> None:
    """Check every batch's signed head, and take in the entries that are not published."""
    if reading.torn:
        audit.remarks.append(f"{JOURNAL}: {reading.torn} bytes of an append that a crash cut off, never acknowledged")
    published = head.size if head else 0
    for batch in reading.batches:
        what = f"{JOURNAL}: the batch of entries {batch.start} to {batch.end - 1}"
        try:
            signed = checkpoint.verify(batch.note, audit.verifier)
        except IntegrityError as error:
            audit.add(DamageKind.CHECKPOINT_FORGED, f"{what}: {error}")
            return
        if batch.end <= published:
            continue
        if batch.start != audit.tree.size:
            if not audit.damages:
                audit.add(DamageKind.ENTRY_REMOVED, f"{what} follows entry {audit.tree.size - 1}")
            return
        for entry in batch.entries:
            audit.take(entry)
        if (signed.size, signed.root) != (audit.tree.size, audit.tree.root()):
            audit.add(DamageKind.ROOT_WRONG, f"{what} does not lead to the root that its signed head states")
            return
