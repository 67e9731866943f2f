"""One live chart: FHIR resources in memory, through the functions that read training data, to a Timeline."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import polars as pl

from lifechart.core.errors import RecordError
from lifechart.core.timeline import COLUMNS, Timeline
from lifechart.data import units
from lifechart.data.sources import LINKED, results
from lifechart.data.sources.fhir_reader import Reader
from lifechart.data.sources.fhir_rows import UNCODED, Resource, Rows, microseconds, moment
from lifechart.data.sources.order import rank


class Chart(NamedTuple):
    """A live chart as read: real times, chart references, the text of notes."""

    timeline: Timeline
    names: dict[str, str]
    """Code -> the display that the chart itself gives it."""
    unread: tuple[str, ...]
    """"Type: reason" of each resource that could not be used. Whoever shows the chart says that it is not whole."""


def read_chart(resources: Iterable[Resource], as_of: datetime | None = None) -> Timeline:
    """Return the timeline of one patient's resources; see `chart`."""
    return chart(resources, as_of).timeline


def chart(resources: Iterable[Resource], as_of: datetime | None = None) -> Chart:
    """Read one patient's chart.

    `resources`: FHIR R4 resources and bundles as parsed JSON, the Patient among them; of a resource that comes twice
    the first counts. `as_of`: the moment of asking (naive, local). What is dated today without a clock time is then
    known now, whereas training data count a bare date at the end of its day. Undated events come first (null time).
    Raises RecordError unless all resources are of one patient.
    """
    reader = Reader(texts=True)
    for number, resource in enumerate(resources):
        reader.resource(resource, number)
    rows = reader.rows
    ids = rows.patient_ids()
    subjects = {ids[row[1]] for row in rows.rows}
    if len(subjects) != 1 or not reader.counts["Patient", "kept"]:
        raise RecordError("chart", f"{len(subjects)} patients", "resources of one patient, its Patient among them")
    # What comes twice counts once; a stable sort keeps the reference that came first.
    events = {_key(event): event for event in reversed(_events(rows, as_of))}
    kept = (events[key] for key in sorted(events))
    times, _, codes, values, texts, written, kinds, references = zip(*kept, strict=True)
    frame = pl.DataFrame(
        {
            "time": pl.Series(times, dtype=pl.Int64).cast(pl.Datetime("us")),
            "code": codes,
            "numeric_value": pl.Series(values, dtype=pl.Float64, strict=False).cast(pl.Float32),
            "text_value": texts,
            "unit": written,
            "kind": kinds,
            "reference": references,
        },
        schema=dict(COLUMNS),
    )
    names = {code: name for code, name, _, _ in rows.table if name}
    unread = tuple(f"{fault.type}: {fault.reason}" for fault in reader.faults)
    return Chart(Timeline(_number(subjects.pop()), frame), names, unread)


def _events(rows: Rows, as_of: datetime | None) -> list[tuple[Any, ...]]:
    """Return (time, rank, code, value, text, unit, kind, reference) of each row, links followed, values put right.

    Words that no list holds stay, for the page.
    """
    visits: dict[str, int] = {}
    for _, _, identity, concept, time, *_ in rows.rows:
        if rows.table[concept][3] == "Encounter" and time is not None:
            visits[f"Encounter/{identity}"] = max(time, visits.get(f"Encounter/{identity}", time))
    now = None if as_of is None else microseconds(as_of)
    bare = None if as_of is None else moment(as_of.date().isoformat())
    owners: dict[str, int] = {}
    events = []
    for number, (position, _, identity, concept, time, value, unit, text, link) in enumerate(rows.rows):
        code, _, kind, type_ = rows.table[concept]
        reference = f"{type_}/{identity}" if identity else None
        if reference is not None and owners.setdefault(reference, position) != position:
            continue
        if code.endswith(LINKED):
            supplied = rows.linked.get(link or "", (UNCODED, ""))
            code = code.removesuffix(LINKED) + supplied[0]
        elif time is None and link is not None:
            time = visits.get(link)
        if time is not None and time == bare:
            time = now
        if value is not None or text is not None or unit is not None or number in rows.marks:
            read = results.read_one(kind, units.single(value), unit, text, rows.marks.get(number, results.UNSAID))
            value, unit, text = units.canonical_one(code, *read)
        events.append((time, rank(code, kind), code, value, text, unit, kind, reference))
    return events


def _key(event: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what orders an event and says what it is; what is not stated comes first."""
    time, rank_, code, value, text, unit, kind, _ = event
    moment_ = (time is not None, time or 0)
    return (*moment_, rank_, code, value is not None, value or 0.0, text is not None, text or "", unit or "", kind)


def _number(patient_id: str) -> int:
    """Return a number for a patient's real id; it leaves the process only inside what shows the chart itself."""
    return int.from_bytes(hashlib.sha256(patient_id.encode()).digest()[:8], "big") >> 1
