"""The table of what is read from OMOP (omop_tables.toml), and the small tables of concepts that it points to."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from types import MappingProxyType

from lifechart.codes.systems import OMOP_VOCABULARIES

PERSON, PERIODS, NOTE = "person", "observation_period", "note"
CONCEPT, LOCATION = "concept", "location"
UNITS = ("unit_concept_id", "unit_source_value")
OPERATOR, ANSWER, NUMBER = "operator_concept_id", "value_as_concept_id", "value_as_number"
RANGE = ("range_low", "range_high")
PERSON_COLUMNS = (
    *("person_id", "birth_datetime", "year_of_birth", "month_of_birth", "day_of_birth"),
    *("gender_concept_id", "race_concept_id", "ethnicity_concept_id", "location_id"),
)
"""What is read of a person; of a location, its number and the ZIP code, of which three digits are kept."""

Groups = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the mapping; omop_tables.toml says what each key means."""

    name: str
    kind: str
    concept: tuple[str, ...] = ()
    words: str = ""
    times: Groups = ()
    ends: Groups = ()
    end_prefix: str = ""
    prefix: str = ""
    code: str = ""
    """The code of every row; the concept, under `prefix`, is then a second event."""
    code_name: str = ""
    value: bool = False
    text: str = ""
    map: str = ""
    classes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def columns(self) -> list[str]:
        """Every column that is read."""
        if self.name == PERSON:
            return list(PERSON_COLUMNS)
        values = (*UNITS, OPERATOR, ANSWER, NUMBER, *RANGE) if self.value else ()
        named = [name for group in (*self.times, *self.ends) for name in group]
        found = ("person_id", *self.concept, self.words, *named, self.text, *values)
        return [name for name in dict.fromkeys(found) if name]

    @property
    def concepts(self) -> list[str]:
        """The columns that hold concept ids which are looked up in the vocabulary."""
        answers = [ANSWER, UNITS[0]] if self.value else []
        return [*self.concept, *answers]


@cache
def tables() -> dict[str, Table]:
    """Return the mapping by table."""
    content = tomllib.loads(_read("omop_tables.toml"))
    return {name: _table(name, entry) for name, entry in content.items()}


def _table(name: str, entry: dict[str, object]) -> Table:
    def groups(key: str) -> Groups:
        found = entry.get(key, [])
        assert isinstance(found, list)
        return tuple(tuple(group) for group in found)

    plain = {
        key: entry[key]
        for key in ("kind", "words", "end_prefix", "prefix", "code", "value", "text", "map", "classes")
        if key in entry
    }
    concept = entry.get("concept", [])
    assert isinstance(concept, list)
    return Table(
        name=name,
        concept=tuple(concept),
        times=groups("times"),
        ends=groups("ends"),
        code_name=str(entry.get("name", "")),
        **plain,  # type: ignore[arg-type]
    )


@cache
def visits() -> dict[int, str]:
    """Return concept id -> the kind of visit, as in ENCOUNTER//inpatient."""
    return {int(row["concept_id"]): row["code"] for row in _rows("omop_visits.csv")}


@cache
def people() -> dict[int, tuple[str, str]]:
    """Return concept id -> (code, name) of genders, races and ethnicities."""
    return {int(row["concept_id"]): (row["code"], row["name"]) for row in _rows("omop_people.csv")}


@cache
def operators() -> dict[int, str]:
    """Return concept id -> comparator."""
    return {int(row["concept_id"]): row["comparator"] for row in _rows("omop_operators.csv")}


@cache
def systems() -> dict[str, str]:
    """Return vocabulary_id -> the system's short name: as codes/ has it, and of vocabularies that it does not list."""
    return {row["vocabulary_id"]: row["system"] for row in _rows("omop_systems.csv")} | OMOP_VOCABULARIES


def _rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(_read(name).splitlines()))


def _read(name: str) -> str:
    return resources.files("lifechart.data.sources").joinpath(name).read_text(encoding="utf-8")
