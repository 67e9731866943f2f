"""Reads `*.pipe` files, one measurement a line: patient | sex | born | day | what | value | unit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from lifechart.core.timeline import BIRTH
from lifechart.data.sources import ENTRY_BITS, KEPT, NOT_MAPPED, QUARANTINED, ROWS, Batch, Fault, Span, Unit

TYPE = "measurement"
CODES = {"systolic": ("LOINC//8480-6", "Systolic blood pressure"), "weight": ("LOINC//29463-7", "Body weight")}


class Pipes:
    """The source `pipes`."""

    name = "pipes"

    def detects(self, path: Path) -> bool:
        """Return whether there is a .pipe file."""
        return bool(self.files(path, ""))

    def files(self, path: Path, option: str) -> list[Path]:
        """Return the .pipe files, sorted."""
        return sorted(path.rglob("*.pipe"))

    def units(self, path: Path, option: str) -> list[Unit]:
        """Return one unit a file."""
        return [Unit(self.name, (Span(str(file)),), file.stat().st_size) for file in self.files(path, option)]

    def record_end(self, path: Path, option: str) -> str | None:
        """Return None: the format does not say when observation ended."""
        return None

    def read(self, unit: Unit) -> Iterator[Batch]:
        """Read one file as one batch. Whatever stands in it, this does not raise."""
        rows: list[dict[str, Any]] = []
        counts: Counter[tuple[str, str]] = Counter()
        faults: list[Fault] = []
        lines = Path(unit.spans[0].path).read_text(errors="replace").splitlines()
        for number, line in enumerate(lines):
            if not line.strip() or line.startswith("#"):
                continue
            position = number << ENTRY_BITS
            try:
                events = _events(*(part.strip() for part in line.split("|")))
            except (TypeError, ValueError):
                faults.append(Fault(position, TYPE, "malformed"))
                counts[TYPE, QUARANTINED] += 1
                continue
            counts[TYPE, KEPT if events else NOT_MAPPED] += 1
            rows += [{"position": position, "type": TYPE, **event} for event in events]
        yield Batch(pl.DataFrame(rows, schema=ROWS), counts, faults=faults, starts=[0], lines=len(lines))


def _events(patient: str, sex: str, born: str, day: str, what: str, value: str, unit: str) -> list[dict[str, Any]]:
    """Return a line's events. Its patient's birth and sex come again on each line; ingestion keeps one of each."""
    if what not in CODES:
        return []
    code, name = CODES[what]
    whose = {"patient": patient}
    return [
        {**whose, "code": BIRTH, "kind": "demographic", "time": datetime.fromisoformat(born)},
        {**whose, "code": f"GENDER//{sex}", "kind": "demographic"},
        {
            **whose,
            "code": code,
            "name": name,
            "kind": "vital",
            "time": datetime.fromisoformat(f"{day}T23:59:59"),
            "numeric_value": float(value),
            "unit": unit,
        },
    ]


source = Pipes()
