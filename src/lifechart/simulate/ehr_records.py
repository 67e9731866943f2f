"""An index over exported NDJSON: where each resource lies and whose it is. The resources themselves stay on disk."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from lifechart.core.errors import InputError, RecordError

Resource = dict[str, Any]
_READ_AT_ONCE = 1 << 22
"""Rows of one patient that lie within so many bytes are read in one go, whatever lies between them."""
_AT_A_TIME = 1_000


@dataclass(frozen=True, slots=True)
class Known:
    """What a search for patients looks at."""

    id: str
    words: tuple[str, ...]
    """Every part of every name, folded."""
    given: tuple[str, ...]
    family: tuple[str, ...]
    identifiers: tuple[tuple[str, str], ...]
    """System and value."""
    birth_date: str
    gender: str
    title: str
    """SURNAME, Given: what a list shows, and its order."""
    deceased: bool


class Records:
    """The resources of an export folder. Safe to read from several threads."""

    def __init__(self, folder: Path) -> None:
        """Read every `*.ndjson` once. Raises InputError for a folder without patients, RecordError for a bad line."""
        paths = {path.stem: path for path in sorted(folder.glob("*.ndjson"))}
        if "Patient" not in paths:
            raise InputError("FHIR folder", str(folder), "a folder with Patient.ndjson")
        self.patients: list[Known] = []
        self._numbers: dict[str, int] = {}
        self._files = {"Patient": _File(paths.pop("Patient"), self._take_patient)}
        self._files |= {kind: _File(path, self._owner) for kind, path in paths.items()}
        self.patients.sort(key=lambda known: known.title)

    @property
    def types(self) -> list[str]:
        """Resource types that are there."""
        return sorted(self._files)

    def has_patient(self, patient: str) -> bool:
        """Say whether there is such a Patient."""
        return patient in self._numbers

    def read(self, kind: str, name: str) -> bytes | None:
        """Return a resource by type and id."""
        file = self._files.get(kind)
        row = file.find(name) if file else None
        return file.lines([row])[0] if file and row is not None else None

    def of_patient(self, kind: str, patient: str) -> list[bytes]:
        """Return one patient's resources of a type, in the order of the file."""
        file, number = self._files.get(kind), self._numbers.get(patient)
        return file.lines(file.owned(number)) if file and number is not None else []

    def every(self, kind: str) -> Iterator[bytes]:
        """Yield every resource of a type, in the order of the file."""
        file = self._files.get(kind)
        for start in range(0, len(file) if file else 0, _AT_A_TIME):
            assert file is not None
            yield from file.lines(range(start, min(start + _AT_A_TIME, len(file))))

    def owner_of(self, resource: Resource) -> str:
        """Return the id of the patient whose a resource is; empty if it is nobody's."""
        if resource["resourceType"] == "Patient":
            return str(resource["id"])
        number = self._owner(resource)
        return "" if number < 0 else str((resource.get("subject") or resource["patient"])["reference"]).split("/")[-1]

    def count(self, patient: str) -> int:
        """Return how many resources one patient has."""
        number = self._numbers.get(patient)
        return 0 if number is None else sum(len(file.owned(number)) for file in self._files.values())

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def _take_patient(self, resource: Resource) -> int:
        self._numbers[resource["id"]] = len(self._numbers)
        self.patients.append(_known(resource))
        return self._numbers[resource["id"]]

    def _owner(self, resource: Resource) -> int:
        whose = resource.get("subject") or resource.get("patient") or {}
        return self._numbers.get(str(whose.get("reference", "")).removeprefix("Patient/"), -1)


class _File:
    """One NDJSON file: the offsets of its lines, their ids, and whose they are."""

    def __init__(self, path: Path, owner: Any) -> None:
        starts, ids, owners, at = [0], [], [], 0
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    resource = orjson.loads(line)
                    ids.append(resource["id"].encode())
                except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
                    raise RecordError(f"{path.name}, line {number}", "", "a resource with an id") from None
                owners.append(owner(resource))
                at += len(line)
                starts.append(at)
        self._descriptor = os.open(path, os.O_RDONLY)
        self._starts = np.array(starts, dtype=np.int64)
        names = np.array(ids, dtype=np.bytes_)
        self._by_name = np.argsort(names, kind="stable").astype(np.int32)
        self._names = names[self._by_name]
        whose = np.array(owners, dtype=np.int32)
        self._by_owner = np.argsort(whose, kind="stable").astype(np.int32)
        self._owners = whose[self._by_owner]

    def __len__(self) -> int:
        return len(self._starts) - 1

    def find(self, name: str) -> int | None:
        key = name.encode()
        at = int(np.searchsorted(self._names, key))
        return int(self._by_name[at]) if at < len(self._names) and self._names[at] == key else None

    def owned(self, number: int) -> np.ndarray:
        first, last = np.searchsorted(self._owners, [number, number + 1])
        rows: np.ndarray = self._by_owner[first:last]
        return rows

    def lines(self, rows: Sequence[int] | np.ndarray) -> list[bytes]:
        """Return the lines at these rows, which are in the order of the file, without their newlines."""
        if not len(rows):
            return []
        spans = [(int(self._starts[row]), int(self._starts[row + 1])) for row in rows]
        first, last = spans[0][0], spans[-1][1]
        if last - first > _READ_AT_ONCE:
            return [os.pread(self._descriptor, end - start, start).rstrip() for start, end in spans]
        block = os.pread(self._descriptor, last - first, first)
        return [block[start - first : end - first].rstrip() for start, end in spans]

    def close(self) -> None:
        os.close(self._descriptor)


def folded(text: str) -> str:
    """Return text without case and accents, as names are compared."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in plain if not unicodedata.combining(character))


def _known(resource: Resource) -> Known:
    names = resource.get("name", [])
    given = [part for name in names for part in name.get("given", [])]
    family = [name["family"] for name in names if "family" in name]
    official = names[0] if names else {}
    title = ", ".join(filter(None, (official.get("family", "").upper(), " ".join(official.get("given", [])))))
    parts = [word for text in (*given, *family) for word in (text, *text.split())]
    return Known(
        id=resource["id"],
        words=tuple(dict.fromkeys(map(folded, parts))),
        given=tuple(map(folded, given)),
        family=tuple(map(folded, family)),
        identifiers=tuple((one.get("system", ""), one.get("value", "")) for one in resource.get("identifier", [])),
        birth_date=resource.get("birthDate", ""),
        gender=resource.get("gender", ""),
        title=title or "Name not recorded",
        deceased="deceasedDateTime" in resource or resource.get("deceasedBoolean") is True,
    )
