"""What the clinician's page shows of a chart, in the order and words of a page. Takes resources, gives plain rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from lifechart.serve.records import Chart, Resource

_NO_ALLERGY = frozenset({"716186003", "409137002", "428607008", "429625007", "428197003", "1003774007"})
"""SNOMED CT: no known allergy (in general, to drugs, environmental, food, insect stings, to latex)."""

_NOT_SO = frozenset({"entered-in-error", "refuted"})
_CLASS_WORDS = {
    "AMB": "Clinic visit",
    "EMER": "Emergency",
    "IMP": "Inpatient stay",
    "ACUTE": "Inpatient stay",
    "NONAC": "Inpatient stay",
    "HH": "Home visit",
    "VR": "Remote visit",
    "OBSENC": "Observation",
}


@dataclass(frozen=True, slots=True)
class Person:
    """Who this is."""

    id: str
    name: str
    born: date | None
    age: str
    sex: str
    record_number: str
    died: date | None


@dataclass(frozen=True, slots=True)
class Allergies:
    """What the banner says of allergies, on every page about a patient."""

    listed: tuple[str, ...]
    status: str
    """`listed`, `none known` (somebody asked) or `not recorded` (nobody wrote an answer)."""


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the chart. `anchor` is where a driver's link leads."""

    anchor: str
    name: str
    start: datetime | None
    end: datetime | None = None
    status: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """One measurement."""

    anchor: str
    """Empty where the resource's first number, as the systolic pressure of two, holds the place on the page."""
    time: datetime
    value: float


@dataclass(frozen=True, slots=True)
class Series:
    """Measurements of one thing in one unit, oldest first, with the reference range that the laboratory gave last."""

    key: str
    name: str
    unit: str
    category: str
    points: tuple[Point, ...]
    low: float | None
    high: float | None

    @property
    def latest(self) -> Point:
        """The newest measurement."""
        return self.points[-1]

    def flag(self, value: float) -> str:
        """Return `high`, `low` or nothing."""
        if self.high is not None and value > self.high:
            return "high"
        return "low" if self.low is not None and value < self.low else ""


@dataclass(frozen=True, slots=True)
class Axis:
    """The time that a picture of the chart spans."""

    start: datetime
    end: datetime

    def at(self, moment: datetime) -> float:
        """Return where a moment stands, in per cent of the width."""
        share = (moment - self.start) / (self.end - self.start)
        return round(100 * min(1.0, max(0.0, share)), 3)

    def width(self, start: datetime, end: datetime | None) -> float:
        """Return how wide a span is, in per cent, up to the present where it has not ended; never too thin to see."""
        return max(0.4, self.at(end or self.end) - self.at(start))

    @property
    def years(self) -> list[tuple[int, float]]:
        """The years to write under the picture, at most eight of them, and where."""
        span = self.end.year - self.start.year
        step = next(step for step in (1, 2, 5, 10, 20, 50) if span / step <= 8)
        first = -(-(self.start.year + 1) // step) * step
        new_year = self.end.replace(month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
        return [(year, self.at(new_year.replace(year=year))) for year in range(first, self.end.year + 1, step)]


def axis(items: Iterable[Item], now: datetime) -> Axis:
    """Return an axis from the first of the items to the present, at least a year long."""
    starts = [item.start for item in items if item.start is not None and item.start < now]
    return Axis(min([*starts, now - timedelta(days=365)]), now)


def person(patient: Resource, today: date) -> Person:
    """Return who a Patient resource is about."""
    born, died = _day(patient.get("birthDate")), _day(patient.get("deceasedDateTime"))
    return Person(
        id=str(patient["id"]),
        name=name_of(patient),
        born=born,
        age=_age(born, died or today),
        sex=str(patient.get("gender", "not recorded")).capitalize(),
        record_number=record_number(patient),
        died=died,
    )


def allergies(chart: Chart) -> Allergies:
    """Return what is known of allergies; "none known" and "not recorded" are different things."""
    listed, none_known = [], False
    for resource in _true(chart.of_type("AllergyIntolerance")):
        codes = {coding.get("code") for coding in resource.get("code", {}).get("coding", [])}
        if codes & _NO_ALLERGY:
            none_known = True
        elif _code(resource.get("clinicalStatus")) not in ("inactive", "resolved"):
            critical = " (high risk)" if resource.get("criticality") == "high" else ""
            listed.append(text_of(resource.get("code")) + critical)
    if listed:
        return Allergies(tuple(dict.fromkeys(listed)), "listed")
    return Allergies((), "none known" if none_known else "not recorded")


def name_of(patient: Resource) -> str:
    """Return "SURNAME, Given", the official name first, former names never."""
    names = [name for name in patient.get("name", []) if name.get("use") not in ("old", "maiden", "nickname")]
    names.sort(key=lambda name: name.get("use") != "official")
    if not names:
        return "Name not recorded"
    given = " ".join(names[0].get("given", []))
    family = names[0].get("family", "").upper()
    return ", ".join(part for part in (family, given) if part) or names[0].get("text", "Name not recorded")


def record_number(patient: Resource) -> str:
    """Return the medical record number, or the EHR's own id of the patient if it gives none."""
    for identifier in patient.get("identifier", []):
        if any(coding.get("code") == "MR" for coding in identifier.get("type", {}).get("coding", [])):
            return str(identifier.get("value", ""))
    return str(patient["id"])


def conditions(chart: Chart) -> list[Item]:
    """Return the problems, active ones first, then the newest first."""
    items = []
    for resource in _true(chart.of_type("Condition")):
        start = _moment(resource.get("onsetDateTime") or resource.get("recordedDate"))
        end = _moment(resource.get("abatementDateTime"))
        status = _code(resource.get("clinicalStatus")) or ("resolved" if end else "active")
        items.append(Item(anchor_of(resource), text_of(resource.get("code")), start, end, status))
    return sorted(_newest_first(items), key=lambda item: item.status not in ("active", "recurrence", "relapse"))


def medications(chart: Chart) -> list[Item]:
    """Return the medicines, those in use first, then the newest first."""
    items = []
    for resource in _true(chart.of_type("MedicationRequest", "MedicationStatement")):
        period = resource.get("effectivePeriod", {})
        start = _moment(resource.get("authoredOn") or resource.get("effectiveDateTime") or period.get("start"))
        dosage = "; ".join(dose["text"] for dose in resource.get("dosageInstruction", []) if dose.get("text"))
        name = text_of(resource.get("medicationCodeableConcept"))
        items.append(Item(anchor_of(resource), name, start, None, str(resource.get("status", "")), dosage))
    return sorted(_newest_first(items), key=lambda item: item.status != "active")


def encounters(chart: Chart) -> list[Item]:
    """Return visits and stays, the newest first."""
    items = []
    for resource in _true(chart.of_type("Encounter")):
        period, code = resource.get("period", {}), resource.get("class", {}).get("code", "")
        reason = next((text_of(reason) for reason in resource.get("reasonCode", [])), "")
        name = _CLASS_WORDS.get(code, "Encounter")
        items.append(
            Item(anchor_of(resource), name, _moment(period.get("start")), _moment(period.get("end")), code, reason)
        )
    return _newest_first(items)


def procedures(chart: Chart) -> list[Item]:
    """Return procedures and immunisations, the newest first."""
    items = []
    for resource in _true(chart.of_type("Procedure", "Immunization")):
        period = resource.get("performedPeriod", {})
        start = resource.get("performedDateTime") or resource.get("occurrenceDateTime") or period.get("start")
        name = text_of(resource.get("code") or resource.get("vaccineCode"))
        kind = "Immunisation" if resource["resourceType"] == "Immunization" else "Procedure"
        items.append(Item(anchor_of(resource), name, _moment(start), None, str(resource.get("status", "")), kind))
    return _newest_first(items)


def measurements(chart: Chart) -> list[Series]:
    """Return every series of numbers, laboratory before vital signs, those measured last first.

    A unit of its own makes a series of its own: mmol/L and mg/dL are never drawn on one axis.
    """
    found: dict[tuple[str, str], list[tuple[Point, Resource, str, str]]] = {}
    for resource in _true(chart.of_type("Observation")):
        moment = _moment(resource.get("effectiveDateTime") or resource.get("issued"))
        place = anchor_of(resource)
        for part in (resource, *resource.get("component", [])):
            quantity = part.get("valueQuantity", {})
            value = quantity.get("value")
            if moment is None or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            unit = quantity.get("unit") or quantity.get("code") or ""
            name = text_of(part.get("code"))
            point = Point(place, moment, float(value))
            place = ""
            key = _first_code(part.get("code")) or name
            found.setdefault((key, unit), []).append((point, part, name, _category(resource)))
    series = [_series(key, unit, rows) for (key, unit), rows in found.items()]
    return sorted(
        sorted(series, key=lambda each: each.latest.time, reverse=True), key=lambda each: each.category != "laboratory"
    )


def anchor_of(resource: Resource) -> str:
    """Return the id that a chart item has on the page: "Observation-17"."""
    return anchor(f"{resource['resourceType']}/{resource['id']}")


def anchor(reference: str) -> str:
    """Return the id on the page of the chart item that a reference names."""
    return reference.replace("/", "-")


def text_of(concept: Any) -> str:
    """Return what a CodeableConcept is called."""
    if not isinstance(concept, dict):
        return "Not named"
    displays = (coding["display"] for coding in concept.get("coding", []) if coding.get("display"))
    return concept.get("text") or next(displays, None) or _first_code(concept) or "Not named"


def _series(key: str, unit: str, rows: list[tuple[Point, Resource, str, str]]) -> Series:
    rows.sort(key=lambda row: row[0].time)
    ranges = [reference for row in rows for reference in row[1].get("referenceRange", [])[:1]]
    last = ranges[-1] if ranges else {}
    low, high = last.get("low", {}).get("value"), last.get("high", {}).get("value")
    return Series(f"{key}-{unit}", rows[-1][2], unit, rows[-1][3], tuple(row[0] for row in rows), low, high)


def _true(resources: Iterable[Resource]) -> Iterator[Resource]:
    """Yield what has not been withdrawn."""
    for resource in resources:
        stated = {resource.get("status"), _code(resource.get("verificationStatus"))}
        if not stated & _NOT_SO:
            yield resource


def _newest_first(items: list[Item]) -> list[Item]:
    return sorted(items, key=lambda item: item.start.isoformat() if item.start else "", reverse=True)


def _category(resource: Resource) -> str:
    for category in resource.get("category", []):
        if (code := _code(category)) is not None:
            return code
    return ""


def _code(concept: Any) -> str | None:
    codings = concept.get("coding", []) if isinstance(concept, dict) else []
    return next((coding["code"] for coding in codings if coding.get("code")), None)


def _first_code(concept: Any) -> str:
    return _code(concept) or ""


def _moment(text: Any) -> datetime | None:
    """Read a FHIR date, dateTime or instant as wall-clock time at the place of care."""
    if not isinstance(text, str):
        return None
    parts = text[:10].split("-")
    padded = "-".join(parts + ["01"] * (3 - len(parts))) + text[10:]
    try:
        return datetime.fromisoformat(padded).replace(tzinfo=None)
    except ValueError:
        return None


def _day(text: Any) -> date | None:
    moment = _moment(text)
    return moment.date() if moment else None


def _age(born: date | None, on: date) -> str:
    if born is None:
        return "not recorded"
    years = on.year - born.year - ((on.month, on.day) < (born.month, born.day))
    if years >= 2:
        return f"{years} years"
    months = (on.year - born.year) * 12 + on.month - born.month - (on.day < born.day)
    return f"{months} months" if months >= 2 else f"{(on - born).days} days"
