"""The source `fhir`: FHIR R4 as Bulk Data NDJSON or as bundles, plain or gzipped, in any folder.

`read_chart` (from fhir_chart) takes a live chart through the same functions.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import orjson

from lifechart.core.errors import InputError
from lifechart.data.sources import Batch, Unit, documents, fhir_identities
from lifechart.data.sources.fhir_chart import Chart, chart, read_chart
from lifechart.data.sources.fhir_reader import Reader

__all__ = ["Chart", "Fhir", "chart", "read_chart", "source"]

_BATCH_ROWS = 100_000


class Fhir:
    """The source `fhir`."""

    name = "fhir"

    def detects(self, path: Path) -> bool:
        """Return whether a JSON or NDJSON file stands there that opens like FHIR."""
        for file in documents.find_files(path)[:20]:
            try:
                opening = documents.opening(file)
            except OSError:
                continue
            if b'"resourceType"' in opening or b'"transactionTime"' in opening:
                return True
        return False

    def files(self, path: Path, option: str = "") -> list[Path]:
        """Return the JSON and NDJSON files, sorted; raises InputError for an export that is not finished."""
        if (path / documents.UNFINISHED).exists():
            raise InputError("PATH", str(path), "a finished export: the same `lifechart export` goes on with this one")
        return documents.find_files(path)

    def units(self, path: Path, option: str = "") -> list[Unit]:
        """Divide the files into units of about 64 MB; large NDJSON is cut between lines."""
        return documents.plan(self.name, self.files(path), anchor="Patient")

    def record_end(self, path: Path, option: str = "") -> str | None:
        """Return the transactionTime of a Bulk Data manifest that lies with the files."""
        found: list[str] = []
        for file in self.files(path):
            if file.suffix == ".json" and b'"transactionTime"' in documents.opening(file):
                try:
                    found.append(orjson.loads(file.read_bytes())["transactionTime"])
                except (orjson.JSONDecodeError, KeyError, TypeError) as error:
                    raise InputError(file.name, "a manifest", "a Bulk Data manifest with a transactionTime") from error
        return max(found, default=None)

    def identifiers(self, path: Path, option: str, patients: set[str]) -> dict[str, dict[str, list[str]]]:
        """Return how the Patient resources identify those asked for (data.notes)."""
        return fhir_identities.identifiers(self.files(path), patients)

    def read(self, unit: Unit) -> Iterator[Batch]:
        """Read a unit's files; batches of at most some hundred thousand rows."""
        reader = Reader(texts=unit.texts)
        stretches = _stretches(reader, unit)
        more = True
        while more:
            with _no_collector():
                more = next(stretches, False)
                batch = reader.take()
            yield batch


def _stretches(reader: Reader, unit: Unit) -> Iterator[bool]:
    """Let the reader read a unit's files; yield True whenever it has rows enough for a batch."""
    for span in unit.spans:
        reader.starts.append(reader.lines)
        path = Path(span.path)
        if span.stop < 0 and not documents.holds_lines(path):
            reader.document(path)
        else:
            try:
                for block, too_long in documents.read_blocks(span):
                    reader.block(block, too_long)
                    if len(reader.rows.rows) > _BATCH_ROWS:
                        yield True
            except documents.EndsEarly:
                reader.ends_early()
        if len(reader.rows.rows) > _BATCH_ROWS:
            yield True


class _no_collector:  # noqa: N801 -- used as a statement
    """Hold the cyclic garbage collector off: parsed JSON has no cycles, and scanning it again and again is costly."""

    def __enter__(self) -> None:
        self.was_on = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        if self.was_on:
            gc.enable()


source = Fhir()
