"""What can be wrong with a log, one name for each, and what a check found."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class DamageKind(StrEnum):
    """What is wrong. Each has a message of its own."""

    ENTRY_ALTERED = "entry altered"
    ENTRY_REMOVED = "entry removed"
    ENTRIES_SWAPPED = "entries swapped"
    LOG_TRUNCATED = "log truncated"
    TILE_ALTERED = "tile altered"
    TILE_MISSING = "tile missing"
    ROOT_WRONG = "root wrong"
    CHECKPOINT_FORGED = "checkpoint forged"
    CHECKPOINT_MISSING = "checkpoint missing"
    CHECKPOINT_REPLAYED = "old checkpoint replayed"
    ANOTHER_KEY = "signed by another key"
    ANOTHER_LOG = "another log"
    HISTORY_FORKED = "history forked"
    HISTORY_SHORTENED = "history shortened"
    STATEMENT_FORGED = "statement forged"
    STATEMENT_MALFORMED = "statement malformed"
    JOURNAL_DAMAGED = "journal damaged"
    COSIGNATURE_FORGED = "cosignature forged"
    WITNESSES_WANTING = "witnesses wanting"


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong, and where."""

    kind: DamageKind
    message: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


@dataclass
class Verification:
    """What a check found. `size` and `root` are those of the entries as they stand; `published`: those in tiles."""

    origin: str
    size: int = 0
    root: str = ""
    published: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    witnessed: dict[str, int] = field(default_factory=dict)
    """Witness -> entries in the largest checkpoint that it cosigned."""
    damages: list[Damage] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Nothing is wrong."""
        return not self.damages

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.kinds.items()))
        state = "sound" if self.sound else f"{len(self.damages)} damaged places"
        witnesses = [f"{name} cosigned the first {size:,} entries" for name, size in sorted(self.witnessed.items())]
        lines = [f"{self.origin}: {self.size:,} entries, {state}", f"root {self.root}", counts, *witnesses]
        return "\n".join([*filter(None, lines), *map(str, self.damages), *self.remarks])
