"""The whole check: every entry, hash, head and signature of a copy of a log, each kind of damage with its own name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from lifechart_verify import files, statements
from lifechart_verify.findings import Damage, DamageKind, Verification
from lifechart_verify.merkle import Tree, leaf_hash
from lifechart_verify.notes import Key, Note, NoteError

Tick = Callable[[int, int], None]


@dataclass
class _Audit:
    """Findings while a log is read. `tree` grows by its entries; `heads` are what was signed over them."""

    folder: Path
    key: Key
    found: Verification
    tree: Tree = field(default_factory=Tree)
    kinds: Counter[str] = field(default_factory=Counter)
    heads: dict[int, list[tuple[str, bytes]]] = field(default_factory=dict)
    forked: list[tuple[int, str]] = field(default_factory=list)
    copied: dict[int, bytes] = field(default_factory=dict)
    """Leaf hashes of entries that the journal still holds beside the tiles."""

    def add(self, kind: DamageKind, message: str) -> None:
        damage = Damage(kind, message)
        if damage not in self.found.damages:
            self.found.damages.append(damage)

    def head(self, where: str, content: str) -> Note | None:
        """Return a checkpoint that the log's key signed, and hold the entries against it when they are read."""
        try:
            note = Note.parse(content)
        except NoteError as error:
            self.add(DamageKind.CHECKPOINT_FORGED, f"{where}: {error}")
            return None
        made = note.signatures(self.key)
        names = sorted({name for name, _, _ in note.lines})
        if note.origin != self.key.name:
            self.add(DamageKind.ANOTHER_LOG, f"{where}: of the log {note.origin!r}, expected {self.key.name!r}")
        elif not made and self.key.name in names:
            self.add(DamageKind.ANOTHER_KEY, f"{where}: signed under this log's name with another key than {self.key}")
        elif not made:
            self.add(DamageKind.CHECKPOINT_FORGED, f"{where}: not signed by {self.key}, only by {names}")
        elif not all(made):
            self.add(DamageKind.CHECKPOINT_FORGED, f"{where}: the signature of {self.key} does not fit its text")
        else:
            self.heads.setdefault(note.size, []).append((where, note.root))
            return note
        return None

    def take(self, entry: bytes) -> bytes:
        """Add one entry and check its statement; return its leaf hash."""
        index, leaf = self.tree.size, leaf_hash(entry)
        try:
            kind, _ = statements.read(entry, self.key)
            self.kinds[kind] += 1
        except statements.Forged as error:
            self.add(DamageKind.STATEMENT_FORGED, f"entry {index}: {error}")
        except statements.Malformed as error:
            self.add(DamageKind.STATEMENT_MALFORMED, f"entry {index}: {error}")
        if self.copied.get(index, leaf) != leaf:
            self.add(DamageKind.JOURNAL_DAMAGED, f"{files.JOURNAL}: entry {index} is another than the one in its tile")
        self.grow(leaf)
        return leaf

    def grow(self, leaf: bytes) -> None:
        """Add a leaf hash and hold the root against what was signed over as many entries."""
        self.tree.add(leaf)
        if heads := self.heads.get(self.tree.size):
            root = self.tree.root()
            self.forked += [(self.tree.size, where) for where, signed in heads if signed != root]


def verify(
    folder: Path,
    key: Key,
    *,
    earlier: Sequence[str] = (),
    witnesses: Sequence[Key] = (),
    quorum: int = 0,
    tick: Tick | None = None,
) -> Verification:
    """Read a log from end to end and report everything that is wrong with it.

    `earlier`: signed notes of this log that somebody kept. `witnesses`, `quorum`: a checkpoint that the entries agree
    with must carry cosignatures of so many of them. `tick(done, all)` is called as bundles are read.
    """
    audit = _Audit(folder, key, Verification(key.name))
    content, batches = _snapshot(audit)
    head = audit.head(files.CHECKPOINT, content) if content is not None else None
    kept = [audit.head(f"kept checkpoint {number}", note) for number, note in enumerate(earlier, start=1)]
    paths = sorted((folder / files.COSIGNED).glob("[0-9]*")) if (folder / files.COSIGNED).is_dir() else []
    kept += [audit.head(f"{files.COSIGNED}/{path.name}", path.read_text(errors="replace")) for path in paths]
    for batch in batches:
        audit.head(_what(batch), batch.note)
        for number, entry in enumerate(batch.entries, start=batch.start):
            audit.copied[number] = leaf_hash(entry)
    if head is not None:
        _published(audit, head, tick)
    elif content is None and not batches and (folder / "tile").exists():
        audit.add(DamageKind.CHECKPOINT_MISSING, f"{files.CHECKPOINT}: not there, though tiles are")
    _unpublished(audit, batches)
    _heads(audit, head, content)
    _witnessed(audit, [note for note in [*kept, head] if note is not None], witnesses, quorum)
    found = audit.found
    found.size, found.root, found.kinds = audit.tree.size, audit.tree.root().hex(), dict(audit.kinds)
    found.published = head.size if head else 0
    if (folder / files.TORN).is_dir():
        count = len(list((folder / files.TORN).iterdir()))
        found.remarks.append(f"{count} unfinished appends, cut off by a crash, are kept in {files.TORN}/")
    return found


def _what(batch: files.Batch) -> str:
    return f"{files.JOURNAL}: the batch of entries {batch.start} to {batch.end - 1}"


def _snapshot(audit: _Audit) -> tuple[str | None, list[files.Batch]]:
    """Read checkpoint and journal as they stood at one time, though a writer may be at work."""
    while True:
        note = _note(audit.folder)
        try:
            batches, torn = files.journal(audit.folder)
        except files.Broken as error:
            audit.add(DamageKind.JOURNAL_DAMAGED, str(error))
            return note, []
        if _note(audit.folder) == note:
            break
    if torn:
        audit.found.remarks.append(f"{files.JOURNAL}: {torn} bytes of an append that a crash cut off, not acknowledged")
    return note, batches


def _note(folder: Path) -> str | None:
    path = folder / files.CHECKPOINT
    return path.read_bytes().decode(errors="replace") if path.is_file() else None


def _published(audit: _Audit, head: Note, tick: Tick | None) -> None:
    """Take in the bundles, hold them against the tiles, and say which of the two the signed root condemns."""
    rows: list[bytes] = []  # level-0 hashes as the tiles state them
    differing: list[tuple[int, bytes, bytes]] = []
    bundles = range(-(-head.size // files.WIDTH))
    for index in bundles:
        width = min(files.WIDTH, head.size - index * files.WIDTH)
        stated = _stated(audit, 0, index, width)
        rows += stated or [b""] * width
        try:
            leaves = [audit.take(entry) for entry in _bundle(audit, index, width, stated, head.size)]
        except files.Missing:
            break
        first = index * files.WIDTH
        pairs = zip(range(first, first + width), leaves, stated, strict=False)
        differing += [(number, leaf, other) for number, leaf, other in pairs if leaf != other]
        if tick is not None:
            tick(index + 1, len(bundles))
    whole = audit.tree.size == head.size
    if whole:
        _upper(audit, head.size, rows)
    sound = whole and audit.tree.root() == head.root
    tiled = Tree()
    for leaf in rows:
        tiled.add(leaf)
    if sound:
        for number, _, _ in differing:
            place = f"{files.name_of('0', number // files.WIDTH)}: hash {number % files.WIDTH}"
            audit.add(DamageKind.TILE_ALTERED, f"{place} is not that of entry {number}")
    elif len(differing) > 1 and sorted(each[1] for each in differing) == sorted(each[2] for each in differing):
        numbers = [number for number, _, _ in differing]
        audit.add(DamageKind.ENTRIES_SWAPPED, f"entries {numbers[:20]} stand in each other's places")
    else:
        for number, _, _ in differing:
            name = files.name_of("entries", number // files.WIDTH)
            audit.add(DamageKind.ENTRY_ALTERED, f"{name}: entry {number} is not the one that was logged")
    if whole and not sound and (not differing or tiled.root() != head.root):
        message = f"{head.size} entries have the root {audit.tree.root().hex()}, the checkpoint states"
        audit.add(DamageKind.ROOT_WRONG, f"{message} {head.root.hex()}")


def _bundle(audit: _Audit, index: int, width: int, stated: list[bytes], size: int) -> list[bytes]:
    """Return a bundle's entries; raises Missing after saying what is wrong if it does not hold all of them."""
    first, name = index * files.WIDTH, files.name_of("entries", index)
    try:
        entries = files.entries(audit.folder, index, width)
    except files.Missing as error:
        if files.stored(audit.folder) <= first:
            audit.add(DamageKind.LOG_TRUNCATED, f"entries {first} to {size - 1} are gone: {name} and all behind it")
        else:
            audit.add(DamageKind.TILE_MISSING, str(error))
        raise
    except files.Broken as error:
        audit.add(DamageKind.ENTRY_ALTERED, str(error))
        raise files.Missing from error
    if len(entries) == width:
        return entries
    leaves = {leaf_hash(entry) for entry in entries}
    gone = [first + number for number, leaf in enumerate(stated) if leaf not in leaves]
    named = f": entries {gone} are gone" if gone else ""
    at_end = first + width == size and gone == list(range(size - len(gone), size)) and gone
    kind = DamageKind.LOG_TRUNCATED if at_end else DamageKind.ENTRY_REMOVED
    audit.add(kind, f"{name}: got {len(entries)} entries, expected {width}{named}")
    raise files.Missing


def _upper(audit: _Audit, size: int, row: list[bytes]) -> None:
    """Hold each tile above level 0 against the tiles below it."""
    level = 1
    while size >> (8 * level):
        above: list[bytes] = []
        for index in range(-(-(size >> (8 * level)) // files.WIDTH)):
            width = min(files.WIDTH, (size >> (8 * level)) - index * files.WIDTH)
            stated = _stated(audit, level, index, width) or [b""] * width
            for number, value in enumerate(stated):
                at = index * files.WIDTH + number
                tile = row[at * files.WIDTH : (at + 1) * files.WIDTH]
                below = Tree()
                for each in tile:
                    below.add(each)
                if value and len(tile) == files.WIDTH and all(tile) and below.root() != value:
                    name, lower = files.name_of(str(level), index), files.name_of(str(level - 1), at)
                    audit.add(DamageKind.TILE_ALTERED, f"{name}: hash {number} is not that of {lower}")
            above += stated
        level, row = level + 1, above


def _stated(audit: _Audit, level: int, index: int, width: int) -> list[bytes]:
    try:
        return files.hashes(audit.folder, level, index, width)
    except files.Missing as error:
        audit.add(DamageKind.TILE_MISSING, str(error))
    except files.Broken as error:
        audit.add(DamageKind.TILE_ALTERED, str(error))
    return []


def _unpublished(audit: _Audit, batches: list[files.Batch]) -> None:
    """Take in the entries that are in the journal alone."""
    for batch in batches:
        if batch.start > audit.tree.size:
            if audit.found.sound:
                audit.add(DamageKind.ENTRY_REMOVED, f"{_what(batch)} follows entry {audit.tree.size - 1}")
            return
        for entry in batch.entries[audit.tree.size - batch.start :]:
            audit.take(entry)


def _heads(audit: _Audit, head: Note | None, content: str | None) -> None:
    """Say which signed heads the entries do not bear out: forks, and what is older than it should be."""
    size = audit.tree.size
    published = head.size if head else 0
    for signed, where in audit.forked if files.CHECKPOINT not in {where for _, where in audit.forked} else ():
        message = f"{where}: signed over {signed} entries that are not those that stand here"
        new = where.startswith(files.JOURNAL) and signed > published
        audit.add(DamageKind.JOURNAL_DAMAGED if new else DamageKind.HISTORY_FORKED, message)
    for signed in sorted(audit.heads) if size >= published else ():
        for where, _ in audit.heads[signed]:
            if signed > size and not where.startswith(files.JOURNAL):
                message = f"{size} entries are there, but {where} was signed over {signed}"
                audit.add(DamageKind.HISTORY_SHORTENED, message)
    there = files.stored(audit.folder)
    if head is not None and there > max(size, published):
        # A writer at work puts tiles in place before their checkpoint; what they hold is then in its journal.
        batches, _ = files.journal(audit.folder) if audit.found.sound else ([], 0)
        if _note(audit.folder) == content and there > max((each.end for each in batches), default=0):
            message = f"{files.CHECKPOINT}: states {published} entries, but the bundles hold {there}: an old one was"
            audit.add(DamageKind.CHECKPOINT_REPLAYED, f"{message} put back, or the log was copied as it was written")


def _witnessed(audit: _Audit, notes: list[Note], witnesses: Sequence[Key], quorum: int) -> None:
    """Count who cosigned checkpoints that the entries bear out; a witness is its key, whatever it calls itself."""
    for note in notes:
        for key in witnesses:
            if not all(note.signatures(key)):
                message = f"checkpoint of {note.size} entries: the cosignature of {key} does not fit"
                audit.add(DamageKind.COSIGNATURE_FORGED, message)
    if not audit.found.sound:
        return
    best, since = 0, 0
    for note in notes:
        times = {key.raw: (key.name, at) for key in witnesses if (at := note.cosigned_at(key)) is not None}
        for name, _ in times.values():
            audit.found.witnessed[name] = max(note.size, audit.found.witnessed.get(name, 0))
        if quorum and len(times) >= quorum and note.size >= best:
            best, since = note.size, max(at for _, at in times.values())
    if quorum and not since:
        message = f"no checkpoint is cosigned by {quorum} of the {len({key.raw for key in witnesses})} witnesses given"
        audit.add(DamageKind.WITNESSES_WANTING, message)
    elif quorum:
        day = datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds")
        audit.found.remarks.append(f"{quorum} or more witnesses stand behind the first {best:,} entries, on {day}")
