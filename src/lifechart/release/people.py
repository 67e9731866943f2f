"""Who may sign for this institution: named persons, their offices and public keys, as the ledger states them.

One person has one name, one staff number and one key at a time. A key, or a staff number, that another name already
holds is refused, so nobody can be two signatories. The private key stays with the person.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from lifechart.core.errors import GateRefused, InputError
from lifechart.ledger.keys import PublicKey, Verifier
from lifechart.ledger.log import Log, Receipt
from lifechart.ledger.statement import Statement, Subject

_KIND = "person"


class Office(StrEnum):
    """What a person signs as."""

    DATA_STEWARD = "data-steward"
    MEDICAL_OFFICER = "medical-officer"
    ETHICS_BOARD = "ethics-board"
    MONITORING_BOARD = "monitoring-board"
    """Of a trial: sees its interim looks, and nobody else does."""
    SAFETY_OFFICER = "safety-officer"
    INVESTIGATOR = "investigator"


def offices_of(names: Sequence[str]) -> tuple[Office, ...]:
    """Return offices by name; raises InputError for one that does not exist."""
    known = {office.value: office for office in Office}
    for name in names:
        if name not in known:
            raise InputError("office", name, f"one of {sorted(known)}")
    return tuple(known[name] for name in names)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who may sign."""

    name: str
    offices: tuple[Office, ...]
    login: str
    """The operating system's user as whom this person trains models, or nothing."""
    staff_number: str
    """SHA-256 of it: enough to see that two names are one human."""
    key: PublicKey
    left: bool = False
    """Signs no more; what was signed before stands."""


class People:
    """The institution's signatories, replayed from the ledger."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def all(self) -> dict[str, Person]:
        """Return everybody by name, as the last statement about each says."""
        found: dict[str, Person] = {}
        for entry in self._log.find(kind=_KIND):
            said = entry.statement.predicate
            found[said["name"]] = Person(
                said["name"],
                tuple(Office(office) for office in said["offices"]),
                said["login"],
                said["staff_number"],
                PublicKey.parse(said["key"]),
                said["left"],
            )
        return found

    def register(
        self, key: PublicKey, offices: tuple[Office, ...], *, staff_number: str, actor: str, login: str = ""
    ) -> Receipt:
        """Let the person whose key this is sign in these offices; a second time, with other offices or a new key.

        The key's name is the person's. Raises GateRefused for a key or staff number that belongs to another name.
        """
        if not offices:
            raise InputError("offices", offices, f"at least one of {[office.value for office in Office]}")
        if not staff_number.strip():
            raise InputError("staff number", staff_number, "the number by which the institution knows this person")
        number = hashlib.sha256(staff_number.strip().encode()).hexdigest()
        for other in self.all().values():
            if other.name == key.name:
                if other.staff_number != number:
                    raise GateRefused(f"{key.name}: registered with another staff number; a name is one person's")
            elif number == other.staff_number:
                raise GateRefused(f"{key.name}: this staff number is {other.name}'s; nobody signs as two persons")
            elif key.raw == other.key.raw:
                raise GateRefused(f"{key.name}: this key is {other.name}'s; nobody signs as two persons")
        return self._say(Person(key.name, tuple(sorted(offices)), login, number, key), actor)

    def dismiss(self, name: str, *, actor: str) -> Receipt:
        """Let a person sign no more."""
        person = self.all().get(name)
        if person is None:
            raise InputError("person", name, f"one of {sorted(self.all())}")
        return self._say(
            Person(person.name, person.offices, person.login, person.staff_number, person.key, left=True), actor
        )

    def verifier(self) -> Verifier:
        """Return what tells the signatures of everybody who may still sign."""
        return Verifier([person.key for person in self.all().values() if not person.left])

    def _say(self, person: Person, actor: str) -> Receipt:
        said = {
            "name": person.name,
            "offices": [office.value for office in person.offices],
            "login": person.login,
            "staff_number": person.staff_number,
            "key": str(person.key),
            "left": person.left,
            "actor": actor,
        }
        subject = Subject(person.name, hashlib.sha256(str(person.key).encode()).hexdigest())
        return self._log.append(Statement(_KIND, (subject,), said))
