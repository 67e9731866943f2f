"""What a note can say of a visit: the slots of the phrases, and what the record shows so far."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from lifechart.simulate.directory import places
from lifechart.simulate.identities import Clinician, table

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_SEASONS = ("winter", "spring", "summer", "autumn")
_PRONOUNS = {"female": ("she", "her", "her"), "male": ("he", "his", "him")}
_GROWN = {"female": "woman", "male": "man"}
_YOUNG = {"female": "girl", "male": "boy"}
_ADULT_YEARS, _ELDERLY_YEARS = 18, 60
_SHOWN = 10
"""At most so many problems or drugs are listed in a note, the latest."""


HAPPENED = ("symptoms", "diagnoses", "started", "stopped", "procedures", "vaccines", "new_allergies", "vitals", "labs")
"""Lists of what happened at a visit, in words."""


class Person:
    """What notes say of one person, whatever the visit, and what the record shows of them so far."""

    def __init__(self, person: dict[str, Any], who: dict[str, Any], gp: Clinician, clinic: str) -> None:
        self.sex: str = person["sex"]
        self.birth: datetime = person["birth"]
        self.who = who
        self.given: str = who["given"][0]
        self.family: str = who["family"]
        self.patient = " ".join(part for part in (self.given, self.family, who["suffix"]) if part)
        self.gp, self.clinic = gp.name, clinic
        self.problems: dict[str, datetime] = {}
        self.drugs: dict[str, None] = {}
        self.allergies: dict[str, None] = {}
        self.last_seen: datetime | None = None
        self.last_doctor = ""


class Visit:
    """One encounter of one person."""

    def __init__(self, person: Person, row: dict[str, Any], doctor: Clinician) -> None:
        self.person, self.row, self.doctor = person, row, doctor
        self.time: datetime = row["time"]
        birth = person.birth
        before = (self.time.month, self.time.day) < (birth.month, birth.day)
        self.years = self.time.year - birth.year - before
        self.advice = ""

    def finish(self) -> None:
        """Let the record so far include this visit."""
        person, row = self.person, self.row
        for name in row["diagnoses"] or ():
            person.problems.setdefault(name, self.time)
        for name in row["lasting"] or ():
            person.drugs.setdefault(name)
        for name in row["stopped"] or ():
            person.drugs.pop(name, None)
        for name in row["new_allergies"] or ():
            person.allergies.setdefault(name)
        person.last_seen, person.last_doctor = self.time, self.doctor.family


Slot = Callable[[Visit], str]


def _joined(name: str) -> Slot:
    return lambda visit: ", ".join(visit.row[name] or ())


def _who(name: str) -> Slot:
    return lambda visit: str(visit.person.who[name])


def _last(pattern: Callable[[datetime], str]) -> Slot:
    return lambda visit: pattern(visit.person.last_seen) if visit.person.last_seen else ""


def _onset(pattern: Callable[[datetime], str]) -> Slot:
    return lambda visit: pattern(visit.person.problems[_latest(visit)])


def _latest(visit: Visit) -> str:
    return next(reversed(visit.person.problems))


def _us(day: datetime) -> str:
    return f"{day.month}/{day.day}/{day.year}"


def _words(day: datetime) -> str:
    return f"{_MONTHS[day.month - 1]} {day.day}, {day.year}"


def _month(day: datetime) -> str:
    return f"{_MONTHS[day.month - 1]} {day.year}"


def _short(day: datetime) -> str:
    return f"{day.day:02d}-{_MONTHS[day.month - 1][:3]}-{day.year % 100:02d}"


def _apostrophe(day: datetime) -> str:
    return f"{_MONTHS[day.month - 1][:3]} '{day.year % 100:02d}"


def _long_ago(visit: Visit) -> str:
    seen = visit.person.last_seen
    if seen is None:
        return ""
    days = (visit.time - seen).days
    if days < 7:
        return f"last {_DAYS[seen.weekday()]}"
    return (
        f"last {_MONTHS[seen.month - 1]}" if days < 365 else f"in the {_SEASONS[seen.month % 12 // 3]} of {seen.year}"
    )


def _relative(visit: Visit) -> tuple[str, str]:
    role = "parent" if visit.years < _ADULT_YEARS else "child" if visit.years > _ELDERLY_YEARS else "partner"
    relative: tuple[str, str] = visit.person.who["relatives"][role]
    return relative


def _noun(visit: Visit) -> str:
    return (_GROWN if visit.years >= _ADULT_YEARS else _YOUNG)[visit.person.sex]


def _honorific(visit: Visit) -> str:
    if visit.years < _ADULT_YEARS:
        return visit.person.given
    return "Ms." if visit.person.sex == "female" else "Mr."


def _left(visit: Visit) -> str:
    """Return how a stay ended, or nothing for a visit that was no stay or is not over."""
    row = visit.row
    if row["setting"] != "inpatient" or not row["over"]:
        return ""
    return "died" if row["death"] is not None and row["death"] <= row["end"] else "discharged home"


def _bare(phone: str) -> str:
    return f"({phone[:3]}) {phone[4:]}"


SLOTS: dict[str, Slot] = {
    "patient": lambda visit: visit.person.patient,
    "patient_upper": lambda visit: visit.person.patient.upper(),
    "surname_first": lambda visit: f"{visit.person.family}, {visit.person.given}",
    "given": lambda visit: visit.person.given,
    "given_lower": lambda visit: visit.person.given.lower(),
    "family": lambda visit: visit.person.family,
    "mrn": _who("mrn"),
    "mrn_prefixed": lambda visit: f"MRN-{visit.person.who['mrn']}",
    "ssn": _who("ssn"),
    "licence": _who("licence"),
    "line": _who("line"),
    "city": _who("city"),
    "state": _who("state"),
    "zip": _who("zip"),
    "mobile": _who("mobile"),
    "email": _who("email"),
    "url": _who("url"),
    "phone_us": lambda visit: _bare(visit.person.who["phone"]),
    "phone_plus": lambda visit: "+1 " + visit.person.who["phone"].replace("-", " "),
    "contact": lambda visit: _relative(visit)[1],
    "contact_given": lambda visit: _relative(visit)[1].split(" ")[0],
    "contact_lower": lambda visit: _relative(visit)[1].lower(),
    "contact_phone": _who("contact_phone"),
    "contact_phone_dots": lambda visit: visit.person.who["contact_phone"].replace("-", "."),
    "foreign_phone": lambda visit: f"+44 20 7946 0{visit.person.who['mrn'][-3:]}",
    "relation": lambda visit: _relative(visit)[0],
    "he": lambda visit: _PRONOUNS[visit.person.sex][0],
    "his": lambda visit: _PRONOUNS[visit.person.sex][1],
    "him": lambda visit: _PRONOUNS[visit.person.sex][2],
    "He": lambda visit: _PRONOUNS[visit.person.sex][0].capitalize(),
    "His": lambda visit: _PRONOUNS[visit.person.sex][1].capitalize(),
    "honorific": _honorific,
    "person": _noun,
    "person_short": lambda visit: "F" if visit.person.sex == "female" else "M",
    "age": lambda visit: str(visit.years),
    "dob": lambda visit: visit.person.birth.date().isoformat(),
    "dob_us": lambda visit: _us(visit.person.birth),
    "dob_words": lambda visit: _words(visit.person.birth),
    "date": lambda visit: visit.time.date().isoformat(),
    "date_us": lambda visit: _us(visit.time),
    "date_words": lambda visit: _words(visit.time),
    "date_short": lambda visit: _short(visit.time),
    "end_us": lambda visit: _us(visit.row["end"]),
    "end_words": lambda visit: _words(visit.row["end"]),
    "end_short": lambda visit: _short(visit.row["end"]),
    "left": _left,
    "clock": lambda visit: f"{visit.time.hour:02d}:{visit.time.minute:02d}",
    "last_seen": _last(_us),
    "last_seen_month": _last(_month),
    "last_seen_short": _last(_short),
    "last_seen_apostrophe": _last(_apostrophe),
    "last_seen_relative": _long_ago,
    "last_doctor": lambda visit: visit.person.last_doctor,
    "facility": lambda visit: places()[visit.row["place_number"]]["name"],
    "facility_upper": lambda visit: places()[visit.row["place_number"]]["name"].upper(),
    "facility_initials": lambda visit: "".join(word[0] for word in places()[visit.row["place_number"]]["name"].split()),
    "facility_phone": lambda visit: places()[visit.row["place_number"]]["phone"],
    "clinic": lambda visit: visit.person.clinic,
    "gp": lambda visit: visit.person.gp,
    "doctor": lambda visit: visit.doctor.name,
    "doctor_upper": lambda visit: visit.doctor.name.upper(),
    "doctor_title": lambda visit: visit.doctor.title,
    "note_title": lambda visit: table("note_phrases")["titles"][visit.row["setting"]],
    "arrives": lambda visit: table("note_phrases")["arrives"][visit.row["setting"]],
    "reason": lambda visit: str(visit.row["reason"]),
    "Reason": lambda visit: visit.row["reason"][:1].upper() + visit.row["reason"][1:],
    "problems": lambda visit: ", ".join(list(visit.person.problems)[-_SHOWN:]),
    "last_problem": lambda visit: _latest(visit),
    "last_problem_date": _onset(_words),
    "last_problem_month": _onset(_month),
    "drugs": lambda visit: ", ".join(list(visit.person.drugs)[-_SHOWN:]),
    "allergies": lambda visit: ", ".join(visit.person.allergies),
    **{name: _joined(name) for name in HAPPENED},
    "advice": lambda visit: visit.advice,
}
"""Slot name to its words; an empty answer leaves the section out that needs it."""
