"""Reads an Observation: its value in whatever form, each component's, and what the record says of the value itself."""

from __future__ import annotations

from typing import Any

from lifechart.data.sources import COMPARATORS, FLAGS
from lifechart.data.sources.fhir_concepts import Found, coded, encounter_link, walk
from lifechart.data.sources.fhir_elements import OBSERVATION_KINDS, OBSERVATION_WITHDRAWN
from lifechart.data.sources.fhir_rows import UNCODED, Marks, Resource, Rows, Unusable, code_of, preferred
from lifechart.data.sources.results import as_written

_TYPE = "Observation"
_ENCOUNTERS = (("encounter",), ("context",))
_TIMES = (("effectiveDateTime",), ("issued",))
_OTHER_TIMES = (("effectiveInstant",), ("effectivePeriod", "end"), ("effectivePeriod", "start"))
_FLAGS, COMPARATOR_SET = frozenset(FLAGS), frozenset(COMPARATORS)
_NORMAL = "normal"


def observation(rows: Rows, r: Resource) -> str | None:
    """Observation: its value, and each component's; return the status under which it is withdrawn."""
    status: str | None = r.get("status")
    if status in OBSERVATION_WITHDRAWN:
        return status
    number = rows.patient(r["subject"]["reference"])
    kind = kind_of(r.get("category"))
    time = link = None
    for path in _TIMES:
        text = walk(r, path)
        if text and (time is None or rows.when(text) > time):
            time = rows.when(text)
    if time is None:
        text = next((found for path in _OTHER_TIMES if (found := walk(r, path))), None)
        time = rows.when(text) if text else None
        link = None if text else encounter_link(rows, r, _ENCOUNTERS)
    components = r.get("component") or ()
    for component in components:
        _append(rows, r, component, kind, number, time, link)
    if not components or any(key.startswith("value") and stated is not None for key, stated in r.items()):
        _append(rows, r, r, kind, number, time, link)
    return None


def kind_of(categories: Any) -> str:
    """Return the kind of event that an Observation's categories make it."""
    for category in categories if isinstance(categories, list) else ():
        codings = category.get("coding") if isinstance(category, dict) else None
        for coding in codings or ():
            if (found := OBSERVATION_KINDS.get(coding.get("code"))) is not None:
                return found
    return "survey"


def _append(
    rows: Rows, r: Resource, part: Resource, kind: str, number: int, time: int | None, link: str | None
) -> None:
    found, value, unit = measured(rows, part, kind)
    quantity = part.get("valueQuantity")
    if quantity is not None:
        value, unit = number_of(quantity), unit_of(quantity)
    marks = marks_of(part, quantity)
    if marks is not None:
        rows.marks[len(rows.rows)] = marks
    rows.rows.append((rows.position, number, r.get("id"), found.concept, time, value, unit, found.words, link))


def measured(rows: Rows, part: Resource, kind: str) -> tuple[Found, float | None, str | None]:
    """Return the concept of a part, with an answer in words, and (value, unit) of one that is no quantity.

    A coded answer becomes part of the code, `QUESTION//ANSWER`.
    """
    found = coded(rows, part["code"], kind, _TYPE)
    value = unit = None
    text = found.words
    answer = part.get("valueCodeableConcept")
    if answer is not None:
        code, name, _, _ = rows.table[found.concept]
        if answer.get("coding") and code != UNCODED:
            coding = preferred(answer["coding"])
            display = f"{name}: {coding.get('display')}" if name and coding.get("display") else None
            return Found(rows.fixed(f"{code}//{code_of(coding)}", display, kind, _TYPE), text), None, None
        text = as_written(answer["text"]) if answer.get("text") else text
    elif (words := part.get("valueString")) is not None:
        text = as_written(words)
    elif (number := part.get("valueInteger", part.get("valueBoolean"))) is not None:
        value = number_of({"value": number})
    elif (between := part.get("valueRange")) is not None:
        text, unit = _between(between, "low", "high", "-")
    elif (ratio := part.get("valueRatio")) is not None:
        text, unit = _between(ratio, "numerator", "denominator", ":")
    return Found(found.concept, text), value, unit


def number_of(quantity: Resource) -> float | None:
    """Return the value of a Quantity; raises Unusable if it is not a number."""
    value: float | None = quantity.get("value")
    if value is not None and not isinstance(value, (int, float)):
        raise Unusable("value is not a number")
    return None if value is None else float(value)


def unit_of(quantity: Resource) -> str | None:
    """Return the UCUM code of a Quantity, else its unit as written."""
    unit = quantity.get("code") or quantity.get("unit")
    return unit if isinstance(unit, str) else None


def marks_of(part: Resource, quantity: Resource | None) -> Marks | None:
    """Return (comparator, low, high, flag) of an Observation or a component, or None if it has none of them."""
    comparator = quantity.get("comparator") if quantity is not None else None
    comparator = comparator if comparator in COMPARATOR_SET else None
    low, high = reference_range(part.get("referenceRange"), quantity or {})
    flag = flag_of(part.get("interpretation"), part.get("dataAbsentReason"))
    found = (comparator, low, high, flag)
    return None if found == (None, None, None, None) else found


def reference_range(ranges: Any, quantity: Resource) -> tuple[float | None, float | None]:
    """Return the first reference range that is normal and for everybody, or the only one there is.

    An end that is in another unit than the quantity is left out.
    """
    if not isinstance(ranges, list) or not ranges:
        return None, None
    fitting = ranges if len(ranges) == 1 else [one for one in ranges if _is_general(one)]
    for one in fitting:
        low, high = (_end(one.get(side), quantity) for side in ("low", "high"))
        if low is not None or high is not None:
            return low, high
    return None, None


def _end(end: Resource | None, quantity: Resource) -> float | None:
    if not end or any(end.get(key) not in (None, quantity.get(key)) for key in ("code", "unit")):
        return None
    return number_of(end)


def _is_general(one: Resource) -> bool:
    kinds = [coding.get("code") for coding in (one.get("type") or {}).get("coding") or ()]
    return not one.get("appliesTo") and not one.get("age") and (not kinds or _NORMAL in kinds)


def flag_of(interpretation: Any, absent: Any) -> str | None:
    """Return the first interpretation that is listed in FLAGS, else why there is no value."""
    stated = interpretation if isinstance(interpretation, list) else [interpretation]
    for concept in (*stated, absent):
        for coding in (concept or {}).get("coding") or ():
            if coding.get("code") in _FLAGS:
                return str(coding["code"])
    return None


def _between(value: Resource, first: str, second: str, mark: str) -> tuple[str | None, str | None]:
    """Return ("low-high", unit) of a range, or ("1:64", unit) of a ratio; a side may be missing."""
    sides = [value.get(first) or {}, value.get(second) or {}]
    numbers = [number_of(side) for side in sides]
    if numbers == [None, None]:
        return None, None
    written = mark.join("" if number is None else f"{number:g}" for number in numbers)
    return written, unit_of(sides[0]) or unit_of(sides[1])
