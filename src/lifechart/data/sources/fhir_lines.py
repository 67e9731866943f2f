"""The fast way for NDJSON: reads only the mapped elements of a line, and describes what it has met before by its bytes.

Most of a resource repeats: the status, category and code of one blood count are byte for byte those of the next. A
line is decoded by msgspec into the elements that the mapping names, the repeating ones left as bytes. These bytes are
the key under which the description (`Mapping.describe` and its like, the same functions that read a live chart) is
kept; what is left to parse is whose it was, when, and how much. Whatever is unusual in any way (a wrong type, an answer
in words, a contained resource) is left to `fhir_reader`, which parses the line whole; a test holds the two to the same
rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

import msgspec
import orjson

from lifechart.data.sources import fhir_encounter
from lifechart.data.sources.fhir_concepts import encounter_link, walk
from lifechart.data.sources.fhir_elements import ENCOUNTER_END, ENCOUNTER_START, OBSERVATION_WITHDRAWN
from lifechart.data.sources.fhir_observation import COMPARATOR_SET, kind_of, marks_of, measured
from lifechart.data.sources.fhir_rows import Marks, Resource, Rows
from lifechart.data.sources.fhir_types import HANDLERS, Described, Mapping

LineReader = Callable[[bytes], "str | None"]
"""Append the rows of one line; return the status under which it is withdrawn. Raises Unusual, msgspec's errors, or what
a handler raises: then the line must be read the general way, and nothing of it has been appended."""

_REMEMBERED = 50_000
# Descriptions kept at a time: resources that are all different must not fill the memory.


class Unusual(Exception):
    """This line is for the general reader."""


class _Period(msgspec.Struct, gc=False):
    start: str | None = None
    end: str | None = None


class _Quantity(msgspec.Struct, gc=False):
    value: float | None = None
    unit: str | None = None
    code: str | None = None
    comparator: str | None = None


class _Meta(msgspec.Struct, gc=False):
    lastUpdated: str | None = None
    versionId: str | None = None


_T = TypeVar("_T")


class _Known(dict[bytes, _T]):
    """Bytes -> what they describe; forgets everything when there is too much of it."""

    def keep(self, key: bytes, value: _T) -> _T:
        """Remember and return `value`."""
        if len(self) >= _REMEMBERED:
            self.clear()
        self[key] = value
        return value


def line_readers(rows: Rows) -> dict[str, LineReader]:
    """Return {type: reader of its lines} of the types that can be read fast, appending to `rows`."""
    readers: dict[str, LineReader] = {"Observation": _observations(rows), "Encounter": _encounters(rows)}
    for type_, handler in HANDLERS.items():
        if isinstance(handler, Mapping) and _is_flat(handler) and not (handler.m.notes and rows.texts):
            readers[type_] = _mapped(rows, handler)
    return readers


def _is_flat(reading: Mapping) -> bool:
    return all(len(path) == 1 or (len(path) == 2 and path[1] in ("start", "end")) for path in reading.times)


@cache
def _decoder(
    type_: str, typed: tuple[tuple[str, Any], ...], raw: tuple[str, ...], unusual: tuple[str, ...]
) -> Callable[[bytes], Any]:
    """Return a function that decodes a type's elements; those of `raw` become an empty Raw where they are absent.

    Where an element of `unusual` is there and not null, it raises msgspec.ValidationError.
    """
    typed = (("id", str), ("meta", _Meta), *typed)
    return msgspec.json.Decoder(_struct(type_, typed, raw, unusual)).decode


def _struct(
    type_: str, typed: tuple[tuple[str, Any], ...], raw: tuple[str, ...], unusual: tuple[str, ...], tagged: bool = True
) -> type[msgspec.Struct]:
    fields: list[Any] = [(name, kind | None, None) for name, kind in typed]
    fields += [(_attribute(name), msgspec.Raw, msgspec.Raw()) for name in raw]
    fields += [(name, None, None) for name in unusual]
    tag, tag_field = (type_, "resourceType") if tagged else (None, None)
    return msgspec.defstruct(type_, fields, gc=False, rename={"class_": "class"}, tag=tag, tag_field=tag_field)


def _attribute(name: str) -> str:
    return "class_" if name == "class" else name


def _getter(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that gets these attributes at once, as a tuple; a name twice where there is only one."""
    found = [_attribute(name) for name in names]
    if not found:
        return lambda _: ()
    getter: Callable[[Any], tuple[Any, ...]] = attrgetter(*(found if len(found) > 1 else found * 2))
    return getter


def _object(r: Any, names: Sequence[str]) -> Resource:
    """Return the elements of `names` that are there, parsed."""
    parts = ((name, getattr(r, _attribute(name))) for name in names)
    return {name: orjson.loads(bytes(part)) for name, part in parts if len(part)}


def _new_owner(rows: Rows, key: bytes, owners: _Known[int]) -> int:
    """Return the number of the patient that a reference, as bytes, names for the first time."""
    number = rows.patient(orjson.loads(key)["reference"])
    owners.keep(key, number)
    return number


def _mapped(rows: Rows, reading: Mapping) -> LineReader:
    """Return the reader of one row of the mapping table's lines."""
    dated = [*reading.times, *(path for path in reading.ends if len(path) < 3)]
    typed = {path[0]: str if len(path) == 1 else _Period for path in dated}
    described = tuple(sorted(reading.described))
    deep = {path[0] for path in reading.ends if len(path) > 2}
    visits = tuple(sorted({path[0] for path in reading.encounters}))
    raw = tuple(sorted({*described, *deep, *reading.value[:1], *visits, *reading.patients}))
    decode = _decoder(reading.type, tuple(sorted(typed.items(), key=lambda item: item[0])), raw, ("contained",))
    parts, owners_of = _getter(described), _getter(reading.patients)
    moments = _getter([path[0] for path in reading.times if len(path) == 1])
    periods = tuple(path for path in reading.times if len(path) == 2)
    known: _Known[Described] = _Known()
    owners: _Known[int] = _Known()
    times, append = rows.times, rows.rows.append

    def time_of(r: Any) -> int | None:
        time = None
        for text in moments(r):
            if text:
                at = times.get(text) or rows.when(text)
                if time is None or at > time:
                    time = at
        for element, side in periods:
            if (period := getattr(r, element)) is not None and (text := getattr(period, side)):
                at = times.get(text) or rows.when(text)
                if time is None or at > time:
                    time = at
        return time

    def finish_of(r: Any) -> int | None:
        for path in reading.ends:
            if len(path) > 2:
                text = walk(_object(r, path[:1]), path)
            else:
                stated = getattr(r, path[0])
                text = stated if len(path) == 1 or stated is None else getattr(stated, path[1])
            if text:
                return rows.when(text)
        return None

    def read(line: bytes) -> str | None:
        r = decode(line)
        key = b"\n".join(parts(r))
        found = known.get(key)
        if found is None:
            found = reading.describe(rows, _object(r, described))
            known.keep(key, found)
        if found.status is not None:
            return found.status
        for stated in owners_of(r):
            if whose := bytes(stated):
                break
        number = owners.get(whose)
        if number is None:
            number = _new_owner(rows, whose, owners)
        time = time_of(r)
        link = encounter_link(rows, _object(r, visits), reading.encounters) if time is None else None
        if found.may_end or found.further or reading.value:
            finish = finish_of(r) if found.may_end else None
            quantity = walk(_object(r, reading.value[:1]), reading.value) if reading.value else None
            reading.place(rows, found, number, r.id, time, link, finish, None, quantity)
        else:
            # As `place` does for what has no end, no value and nothing further: most resources.
            for concept, words, supplier in found.concepts:
                append((rows.position, number, r.id, concept, time, None, None, words, supplier or link))
        if r.meta is not None:
            rows.version(rows.position, r.meta.lastUpdated, r.meta.versionId)
        return None

    return read


_SAID = ("status", "category")
_ASKED = ("code", "valueCodeableConcept", "interpretation", "dataAbsentReason", "referenceRange")
_RARE_VALUES = ("valueString", "valueBoolean", "valueInteger", "valueRange", "valueRatio")
_RARE_TIMES = ("effectivePeriod", "effectiveInstant")


def _bounded(quantity: _Quantity, marks: Marks | None) -> Marks | None:
    """Return the marks with a quantity's comparator, if it has one."""
    if quantity.comparator not in COMPARATOR_SET:
        return marks
    return (quantity.comparator, *(marks[1:] if marks is not None else (None, None, None)))


def _measure(r: Any) -> Resource:
    """Return the unit of an Observation or a component, which its reference range must share."""
    return {"code": r.valueQuantity.code, "unit": r.valueQuantity.unit} if r.valueQuantity is not None else {}


def _ranged(r: Any) -> bytes:
    """Return what of the value belongs to the key where there is a reference range: the unit."""
    return repr(_measure(r)).encode() if len(r.referenceRange) else b""


def _observations(rows: Rows) -> LineReader:
    """Return the reader of Observations whose values, and those of their components, are quantities or coded."""
    part = _struct("Component", (("valueQuantity", _Quantity),), _ASKED, _RARE_VALUES, tagged=False)
    typed = (("effectiveDateTime", str), ("issued", str), ("valueQuantity", _Quantity), ("component", list[part]))  # type: ignore[valid-type]
    raw = (*_SAID, *_ASKED, "subject")
    decode = _decoder("Observation", typed, raw, (*_RARE_VALUES, *_RARE_TIMES))
    parts, parts_here = _getter(_ASKED), _getter((*_SAID, *_ASKED))
    known: _Known[tuple[str | None, str, int, str | None, Marks | None]] = _Known()
    known_parts: _Known[tuple[int, str | None, Marks | None]] = _Known()
    owners: _Known[int] = _Known()
    times, append, marked = rows.times, rows.rows.append, rows.marks

    def said(r: Any, key: bytes) -> tuple[str | None, str, int, str | None, Marks | None]:
        """Return (status, kind, and of the Observation itself concept, words and marks)."""
        stated = _object(r, (*_SAID, *_ASKED))
        status: str | None = stated.get("status")
        if status in OBSERVATION_WITHDRAWN:
            return known.keep(key, (status, "", 0, None, None))
        kind = kind_of(stated.get("category"))
        found, _, _ = measured(rows, stated, kind)
        return known.keep(key, (None, kind, found.concept, found.words, marks_of(stated, _measure(r))))

    def component(r: Any, kind: str) -> tuple[int, str | None, Marks | None]:
        key = b"\n".join((*parts(r), kind.encode())) + _ranged(r)
        asked = known_parts.get(key)
        if asked is None:
            stated = _object(r, _ASKED)
            found, _, _ = measured(rows, stated, kind)
            asked = known_parts.keep(key, (found.concept, found.words, marks_of(stated, _measure(r))))
        return asked

    def several(
        r: Any, number: int, time: int, kind: str, concept: int, words: str | None, marks: Marks | None
    ) -> None:
        found = [(*component(part, kind), part.valueQuantity) for part in r.component]
        if not found or r.valueQuantity is not None or len(r.valueCodeableConcept):
            found.append((concept, words, marks, r.valueQuantity))
        for concept, words, marks, quantity in found:
            value = unit = None
            if quantity is not None:
                value, unit, marks = quantity.value, quantity.code or quantity.unit, _bounded(quantity, marks)
            if marks is not None:
                marked[len(rows.rows)] = marks
            append((rows.position, number, r.id, concept, time, value, unit, words, None))

    def read(line: bytes) -> str | None:
        r = decode(line)
        key = b"\n".join(parts_here(r))
        if len(r.referenceRange):
            key += _ranged(r)
        status, kind, concept, words, marks = known.get(key) or said(r, key)
        if status is not None:
            return status
        text, later = r.effectiveDateTime, r.issued
        if not text:
            raise Unusual
        time = times.get(text) or rows.when(text)
        if later:
            issued = times.get(later) or rows.when(later)
            if issued > time:
                time = issued
        whose = bytes(r.subject)
        number = owners.get(whose)
        if number is None:
            number = _new_owner(rows, whose, owners)
        if r.component is not None:
            several(r, number, time, kind, concept, words, marks)
        else:
            # The usual case by far, so without a call.
            value = unit = None
            quantity = r.valueQuantity
            if quantity is not None:
                value, unit = quantity.value, quantity.code or quantity.unit
                if quantity.comparator is not None:
                    marks = _bounded(quantity, marks)
            if marks is not None:
                marked[len(rows.rows)] = marks
            append((rows.position, number, r.id, concept, time, value, unit, words, None))
        if r.meta is not None:
            rows.version(rows.position, r.meta.lastUpdated, r.meta.versionId)
        return None

    return read


_VISIT = tuple(
    sorted(
        {"status", "class"}
        | {path.split(".")[0] for table in (ENCOUNTER_START, ENCOUNTER_END) for ways in table.values() for path in ways}
    )
)
"""What many an Encounter says, whoever it is of."""


def _encounters(rows: Rows) -> LineReader:
    typed = (("period", _Period), ("actualPeriod", _Period))
    decode = _decoder("Encounter", typed, (*_VISIT, "subject"), ())
    parts = _getter(_VISIT)
    known: _Known[fhir_encounter.Visit] = _Known()
    owners: _Known[int] = _Known()

    def read(line: bytes) -> str | None:
        r = decode(line)
        key = b"\n".join(parts(r))
        visit = known.get(key)
        if visit is None:
            visit = fhir_encounter.describe(rows, _object(r, _VISIT))
            known.keep(key, visit)
        if visit.status is not None:
            return visit.status
        period = r.period or r.actualPeriod
        if period is None:
            raise Unusual
        whose = bytes(r.subject)
        number = owners.get(whose)
        if number is None:
            number = _new_owner(rows, whose, owners)
        fhir_encounter.place(rows, visit, number, r.id, period.start, period.end)
        if r.meta is not None:
            rows.version(rows.position, r.meta.lastUpdated, r.meta.versionId)
        return None

    return read
