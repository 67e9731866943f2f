"""The contract of a source: a record format, read in units of bounded size into rows of one shape.

`fhir` reads Bulk NDJSON and bundles: `documents` opens the files, `fhir_mapping` and `fhir_elements` are the tables of
what is read, `fhir_types` applies them to one resource, `fhir_reader` to many, `fhir_lines` to NDJSON fast,
`fhir_chart` to a live chart; `fhir_export` fetches the files from a server. `tables` reads any CSV or Parquet under a
declarative mapping, `meds` a MEDS data set, `omop` an OMOP CDM, `vcf` variants and polygenic scores,
`ccda` documents, `dicom` the headers of images, `notes` texts, `pathology` and `naaccr` tumours, `registry` deaths and
outcomes, `linked` several of them as one; what they share is `frames`, which opens tables, `cells`, which reads what
stands in them, and `flat`, which finds fields under whatever name. `order` says which of two events of one moment comes
first, `results` how results in words are written.
A source says what stands in a file; it never de-identifies, sorts or writes: `data.ingest` does that for all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import polars as pl

from lifechart.core import plugs
from lifechart.core.errors import InputError

ROWS: dict[str, Any] = {
    "patient": pl.String,
    "resource": pl.String,
    "updated": pl.String,
    "revision": pl.Int64,
    "position": pl.Int64,
    "type": pl.String,
    "time": pl.Datetime("us"),
    "code": pl.String,
    "name": pl.String,
    "kind": pl.String,
    "numeric_value": pl.Float32,
    "unit": pl.String,
    "text_value": pl.String,
    "link": pl.String,
    "comparator": pl.String,
    "low": pl.Float32,
    "high": pl.Float32,
    "flag": pl.String,
}
"""Columns of a batch. `patient` and `resource` are the source's own ids (`resource` null: never a duplicate);
`updated` (ISO 8601) and `revision` tell versions of one resource apart; `position` names the resource within its unit;
`name` is the display that stood beside the code; `link` names another resource ("Type/id") that supplies what the row
lacks: the encounter of an undated row, or the medication whose code replaces LINKED. `unit` is the UCUM code where the
record gives one, else the unit as written. `comparator` is one of COMPARATORS, for a value that is only a bound;
`low` and `high` the reference range that stood beside the value, in its unit; `flag` the record's own reading of
it, or why there is no value: one of FLAGS."""

COMPARATORS = ("<", "<=", ">=", ">", "ad")
"""`ad`: enough to reach the value given (FHIR R5)."""

FLAGS = (
    *("N", "L", "LL", "H", "HH", "A", "AA", "POS", "NEG", "IND", "DET", "ND", "S", "I", "R", "<", ">", "U", "D", "B"),
    *("W", "unknown", "asked-unknown", "not-asked", "asked-declined", "not-performed", "error", "masked"),
    "not-applicable",
)
"""v3-ObservationInterpretation codes, then data-absent-reason codes; what is not listed is left out."""

LINKED = "\n?"
"""Stands in a code for what the linked resource will supply. No code of a record has a line's end in it."""

KEPT, NOT_MAPPED, WITHDRAWN, QUARANTINED = "kept", "not mapped", "withdrawn", "quarantined"
DUPLICATE, OLDER_VERSION, AFTER_END, HELD_BACK = "duplicate", "older version", "after the end", "held back"
WITHHELD = "withheld by consent"
OUTCOMES = (KEPT, NOT_MAPPED, WITHDRAWN, WITHHELD, HELD_BACK, DUPLICATE, OLDER_VERSION, AFTER_END, QUARANTINED)
"""What can become of a resource; every one read ends as exactly one of these. `withdrawn`: its own status says that it
did not happen or was entered in error. `withheld by consent`: its patient may not be in this build (data.consent).
`held back`: a note, where notes are not asked for (data.notes). `after the end`: dated after the patient's observation
ends."""

SELF_DESCRIBED = ("linked", "tables")
"""Sources that a folder names itself, by a file of its own; they are asked first, whatever else lies there."""

ENTRY_BITS = 24
"""A position is `line << ENTRY_BITS | entry`: the line within the unit, and the entry of a bundle on that line."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` to `stop` of one file: the lines that begin there. `stop` -1: to the end."""

    path: str
    start: int = 0
    stop: int = -1


@dataclass(frozen=True, slots=True)
class Unit:
    """What one worker reads in one go: small files together, or a part of a large one. `size` in bytes."""

    source: str
    spans: tuple[Span, ...]
    size: int
    anchor: str = ""
    """The resource type whose rows prove that a patient exists; empty: any row does."""
    option: str = ""
    """As given to `units`."""
    texts: bool = False
    """Whether the prose of notes and reports is wanted."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A resource that could not be used; the reason holds nothing of the record."""

    position: int
    type: str
    reason: str


@dataclass(slots=True)
class Batch:
    """What a source made of some resources: the rows, and what became of each resource."""

    rows: pl.DataFrame
    """Columns ROWS."""
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(type, outcome) -> resources. A resource with rows counts as kept here; later stages may move it."""
    withdrawn: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(type, status) -> resources."""
    faults: list[Fault] = field(default_factory=list)
    linked: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Resources that others take their code from: "Type/id" -> (code, name)."""
    starts: list[int] = field(default_factory=list)
    """Of each span begun so far in this unit, the line of the unit that it began at (a whole document is one line)."""
    lines: int = 0
    """Lines of this unit read so far."""


@runtime_checkable
class Source(Protocol):
    """One record format. Stateless, and pickles; the object is the module's `source`.

    `option` is what a format needs to be told beside the path: for `tables`, where the mapping stands.
    """

    @property
    def name(self) -> str:
        """The plug's name, as in `--source fhir`."""

    def detects(self, path: Path) -> bool:
        """Return whether `path` (a file or a folder) holds this format."""

    def files(self, path: Path, option: str) -> list[Path]:
        """Return every file that is read, sorted: what the ledger's statement names by hash."""

    def units(self, path: Path, option: str) -> list[Unit]:
        """Divide `path` into units that fit in memory and can be read in any order, the same ones every time."""

    def record_end(self, path: Path, option: str) -> str | None:
        """Return when observation ended (ISO 8601), if the format says."""

    def read(self, unit: Unit) -> Iterator[Batch]:
        """Read a unit in batches. Nothing in the data makes this raise: what cannot be used becomes a Fault.

        A source that knows when each subject's observation ended says so by rows of the code RECORD_END.
        """


@runtime_checkable
class Attaching(Protocol):
    """What a source may do besides: put files beside a data set whose events are written (images, say)."""

    def attach(self, unit: Unit, number: int, dataset: Path, key: bytes, dates: str) -> None:
        """Write what belongs to the unit of that number into `dataset`, which has its shards already.

        `key`, `dates`: as `data.ingest` was given them. Called for every unit, in any order and on any process; after a
        kill, again.
        """

    def gather(self, dataset: Path, num_units: int) -> None:
        """Bring together what the units left. What is put under metadata/ is hashed with the rest."""


def sources() -> dict[str, Source]:
    """Return every installed source by name; raises PlugError if one breaks the contract."""
    found = plugs.load("lifechart.sources", Source)
    return {name: plug for name, plug in found.items() if isinstance(plug, Source)}


def find_source(path: Path, name: str | None = None) -> Source:
    """Return the source called `name`, or the first that detects its format at `path`."""
    if not path.exists():
        raise InputError("PATH", str(path), "a file or folder that exists")
    known = sources()
    if name is not None:
        if name not in known:
            raise InputError("--source", name, f"one of {sorted(known)}")
        return known[name]
    for plug in sorted(known.values(), key=lambda plug: plug.name not in SELF_DESCRIBED):
        if plug.detects(path):
            return plug
    raise InputError("PATH", str(path), f"records in one of the formats {sorted(known)}")
