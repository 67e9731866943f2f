"""What became of every resource of an ingest: the account that must add up, and the list of the quarantined."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from lifechart.core.suppression import shown, small, suppress, suppress_counts
from lifechart.data.sources import (
    AFTER_END,
    DUPLICATE,
    ENTRY_BITS,
    HELD_BACK,
    KEPT,
    OLDER_VERSION,
    OUTCOMES,
    QUARANTINED,
    WITHDRAWN,
    WITHHELD,
    Unit,
)
from lifechart.data.spill import Spill

LEFT_OUT = "left out"
"""Outcomes told together, where one of them alone would tell of very few people."""
_NO_FAULTS = (WITHDRAWN, HELD_BACK, DUPLICATE, OLDER_VERSION, AFTER_END)
_ALL = "all"


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
    identifiers_removed: dict[str, int] = field(default_factory=dict)
    """Class -> identifiers taken out of the prose of notes and reports."""
    codes_unsound: dict[str, int] = field(default_factory=dict)
    """"System: problem" -> codes that are not as their system writes them (codes.forms). They are kept as written."""
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
        """Return a header and rows for a terminal: type, then resources by outcome; small cells hidden."""
        outcomes, rows = self._cells()
        named = [(type_, *("–" if cell is None else str(cell) for cell in row)) for type_, row in rows.items()]
        return [("resource type", *outcomes, "all"), *named]

    def values_table(self) -> list[tuple[str, ...]]:
        """Return a header and rows for a terminal: what became of values and units, and codes that are unsound."""
        unsound = [(f"codes of {name}", shown(number)) for name, number in self.codes_unsound.items()]
        return [("values and codes", ""), *((name, shown(number)) for name, number in self.values.items()), *unsound]

    def to_json(self) -> dict[str, Any]:
        """Return plain data for account.json, which stays with the data set: every count as it is."""
        return asdict(self) | {"total": self.total}

    def public(self) -> dict[str, Any]:
        """Return plain data for the ledger, which auditors read: small cells hidden (None), and none derivable.

        Where fewer than 11 patients are withheld by consent, their resources count as `left out` together with those of
        the outcomes that are not faults: their numbers, type by type, would be a portrait of very few people.
        """
        outcomes, rows = self._cells()
        resources = {
            type_: {outcome: cell for outcome, cell in zip(outcomes, row, strict=False) if cell != 0}
            for type_, row in rows.items()
            if type_ != _ALL
        }
        whole = rows[_ALL][-1]

        def by_reason(reasons: dict[str, int], outcome: str) -> dict[str, int | None]:
            found: dict[str, int | None] = {}
            for type_, cells in resources.items():
                ours = {name: count for name, count in reasons.items() if name.startswith(f"{type_}: ")}
                total = cells.get(outcome, cells.get(LEFT_OUT, 0))
                found |= suppress_counts(ours, total_hidden=total is None)
            return found

        return asdict(self) | {
            "resources": resources,
            "withdrawn": by_reason(self.withdrawn, WITHDRAWN),
            "quarantined": by_reason(self.quarantined, QUARANTINED),
            "dropped": {reason: None if small(count) else count for reason, count in self.dropped.items()},
            "values": {what: None if small(count) else count for what, count in self.values.items()},
            "subjects": None if small(self.subjects) else self.subjects,
            "events": None if small(self.events) else self.events,
            "total": whole,
        }

    def _cells(self) -> tuple[list[str], dict[str, list[int | None]]]:
        """Return the outcomes shown and {type: [resources by outcome, all]} with the sum last, suppressed."""
        few = small(self.resources.get("Patient", {}).get(WITHHELD, 0)) or small(self.of(WITHHELD))
        merged = (*_NO_FAULTS, WITHHELD) if few else ()
        outcomes = [
            outcome
            for outcome in OUTCOMES
            if outcome not in merged and (self.of(outcome) or outcome in (KEPT, QUARANTINED))
        ]
        types = sorted(self.resources, key=lambda type_: -sum(self.resources[type_].values()))
        table = [[self.resources[type_].get(outcome, 0) for outcome in outcomes] for type_ in types]
        if merged:
            outcomes.append(LEFT_OUT)
            for type_, row in zip(types, table, strict=True):
                row.append(sum(self.resources[type_].get(outcome, 0) for outcome in merged))
        cells = suppress(table) or [[0] * (len(outcomes) + 1)]
        return outcomes, dict(zip([*types, _ALL], cells, strict=True))


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
