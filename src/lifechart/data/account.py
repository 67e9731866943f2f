"""What became of every resource of an ingest: the account that must add up, and the list of the quarantined."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from lifechart.data.sources import ENTRY_BITS, KEPT, OUTCOMES, QUARANTINED, Unit
from lifechart.data.spill import Spill


@dataclass(slots=True)
class Account:
    """Ingestion's summary. Holds counts only: no name, id, date or value of a record."""

    resources: dict[str, dict[str, int]] = field(default_factory=dict)
    """Type -> outcome (sources.OUTCOMES) -> resources. Everything read is in here once."""
    withdrawn: dict[str, int] = field(default_factory=dict)
    """"Type: status" -> resources withdrawn by their own status."""
    quarantined: dict[str, int] = field(default_factory=dict)
    """"Type: reason" -> resources; each stands with file and line in quarantine.ndjson."""
    events: int = 0
    subjects: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    """Reason -> single events left out, or values held back, of resources whether kept or not."""
    values: dict[str, int] = field(default_factory=dict)
    """What became of values: converted, unit respelled, not convertible, no unit, implausible (units.Converted)."""
    codes_backed_off: int = 0
    codes_withheld: int = 0
    bytes: int = 0
    files: int = 0
    dataset_digest: str = ""

    @property
    def total(self) -> int:
        """All resources read."""
        return sum(sum(row.values()) for row in self.resources.values())

    def of(self, outcome: str) -> int:
        """Resources of one outcome."""
        return sum(row.get(outcome, 0) for row in self.resources.values())

    def table(self) -> list[tuple[str, ...]]:
        """Return a header and rows for a terminal: type, then resources by outcome; the sum last."""
        shown = [outcome for outcome in OUTCOMES if self.of(outcome) or outcome in (KEPT, QUARANTINED)]
        rows = [
            (type_, *(str(row.get(outcome, 0)) for outcome in shown), str(sum(row.values())))
            for type_, row in sorted(self.resources.items(), key=lambda item: -sum(item[1].values()))
        ]
        total = ("all", *(str(self.of(outcome)) for outcome in shown), str(self.total))
        return [("resource type", *shown, "all"), *rows, total]

    def values_table(self) -> list[tuple[str, ...]]:
        """Return a header and rows for a terminal: what became of values and their units."""
        return [("values", "events"), *((name, str(number)) for name, number in self.values.items())]

    def to_json(self) -> dict[str, Any]:
        """Return plain data for account.json and the ledger."""
        return asdict(self) | {"total": self.total}


def resource_counts(counts: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Return {type: {outcome: resources}} of (type, outcome) counts, zeros left out, sorted."""
    found: dict[str, dict[str, int]] = {}
    for (type_, outcome), number in sorted(counts.items()):
        if number:
            found.setdefault(type_, {})[outcome] = number
    return found


def of_pairs(counts: Counter[tuple[str, str]]) -> dict[str, int]:
    """Return {"type: reason": resources}, the most frequent first."""
    return {
        f"{type_}: {reason}": number for (type_, reason), number in sorted(counts.items(), key=lambda i: (-i[1], i[0]))
    }


def balance(notes: list[Spill], left_out: pl.DataFrame) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
    """Return (type, outcome) and (type, reason for quarantine) -> resources, over both passes.

    `left_out`: columns number, position, type, outcome, as settle.Settled has them.
    """
    counts: Counter[tuple[str, str]] = Counter()
    reasons: Counter[tuple[str, str]] = Counter()
    for note in notes:
        counts.update(note.counts)
        reasons.update((fault.type, fault.reason) for fault in note.faults)
    for type_, outcome, number in left_out.group_by("type", "outcome").len().sort("type", "outcome").iter_rows():
        counts[type_, KEPT] -= number
        if outcome in OUTCOMES:
            counts[type_, outcome] += number
        else:
            counts[type_, QUARANTINED] += number
            reasons[type_, outcome] += number
    return counts, reasons


def quarantine_lines(units: list[Unit], files: list[Path], notes: list[Spill], left_out: pl.DataFrame) -> bytes:
    """Return quarantine.ndjson: file, line, entry, type and reason of each quarantined resource, in that order.

    A file's name can hold a patient's, so `file` is its number among the input files sorted by name, as in inputs.json;
    `entry` counts from 0 within the bundle on that line (a whole document is one line).
    """
    place = _Places(units, files, notes)
    rows = [
        (*place(n, fault.position), fault.type, fault.reason) for n, note in enumerate(notes) for fault in note.faults
    ]
    later = left_out.filter(~pl.col("outcome").is_in(OUTCOMES))
    found = later.select("number", "position", "type", "outcome").iter_rows()
    rows += [(*place(number, position), type_, reason) for number, position, type_, reason in found]
    keys = ("file", "line", "entry", "type", "reason")
    return b"".join(orjson.dumps(dict(zip(keys, row, strict=True))) + b"\n" for row in sorted(rows))


class _Places:
    """Where a position of a unit stands: (number of the file, line, entry)."""

    def __init__(self, units: list[Unit], files: list[Path], notes: list[Spill]) -> None:
        self._units, self._notes = units, notes
        self._file = {str(file): number for number, file in enumerate(files, start=1)}
        before: Counter[str] = Counter()
        self._before: list[int] = []
        for unit, note in zip(units, notes, strict=True):
            # Only a file that is cut into several units has lines in an earlier one, and then it is alone in each.
            self._before.append(before[unit.spans[0].path])
            before[unit.spans[0].path] += note.lines

    def __call__(self, number: int, position: int) -> tuple[int, int, int]:
        line = position >> ENTRY_BITS
        starts = self._notes[number].starts
        span = bisect_right(starts, line) - 1
        file = self._file[self._units[number].spans[span].path]
        return file, line - starts[span] + 1 + self._before[number], position & ((1 << ENTRY_BITS) - 1)
