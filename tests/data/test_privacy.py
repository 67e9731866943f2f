"""No name, address, phone, record number or birth date of a patient occurs in anything that ingestion writes.

The search is over real-shaped records (615 Synthea patients): every Patient's identifying values are collected from the
source, and every file of the data set is decoded and searched, strings whole and word by word, dates as dates and as
text. A second test plants leaks, one of each sort, and sees that the search finds them.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest

from lifechart.core.timeline import BIRTH
from lifechart.data.account import Account
from lifechart.data.deidentify import structured
from lifechart.data.ingest import ingest
from tests.data.samples import KEY, Log
from tests.shared_data import shared

PATIENTS, RESOURCES, OUTSIDE = 615, 190_889, 204
"""What the archive holds: 615 patients' bundles with 190,889 resources, and two bundles, one of 102 organisations and
one of 102 practitioners, that belong to no patient."""

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
OF_MEDICINE = {
    "Brain damage - traumatic",
    "Chronic intractable migraine without aura",
    "Color of Urine: Brown color (qualifier value)",
    "Egg white IgE Ab in Serum",
    "Laceration of hand",
    "End of: Laceration of hand",
    "Localized, primary osteoarthritis of the hand",
    "White oak IgE Ab in Serum",
    "White",
}
"""Descriptions of the terminologies in which a patient's name is an ordinary word; each whole, not the words."""


@dataclass
class Identity:
    """Everything in one Patient resource that tells who it is."""

    names: set[str] = field(default_factory=set)
    """Parts of names, searched as whole words."""
    values: set[str] = field(default_factory=set)
    """Address lines, phones, record numbers, full postal codes, resource ids: searched anywhere in any string."""
    birth: date = date.min


def identity(patient: dict[str, Any]) -> Identity:
    found = Identity()
    for name in patient.get("name", []):
        parts = [name.get("family", ""), *name.get("given", [])]
        found.names |= {re.sub(r"\d+$", "", part).lower() for part in parts}
        found.values |= {part for part in parts if re.search(r"\d", part)}
    for extension in patient.get("extension", []):
        if extension["url"].endswith("mothersMaidenName"):
            found.names |= {re.sub(r"\d+$", "", part).lower() for part in extension["valueString"].split()}
    found.values |= {contact["value"] for contact in patient.get("telecom", [])}
    found.values |= {item["value"] for item in patient.get("identifier", [])} | {patient["id"]}
    for address in patient.get("address", []):
        found.values |= set(address.get("line", []))
        found.values |= {address["postalCode"]} if address.get("postalCode") else set()
    found.birth = date.fromisoformat(patient["birthDate"])
    found.names = {name for name in found.names if len(name) > 2}
    return found


def strings(dataset: Path) -> Iterator[tuple[str, str]]:
    """Yield (file, string) of every distinct string in every file: Parquet columns and JSON keys and values."""
    for path in sorted(dataset.rglob("*")):
        name = path.relative_to(dataset).as_posix()
        yield name, name
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path)
            for column in frame.columns:
                yield name, column
                series = frame[column]
                if series.dtype == pl.List(pl.String):
                    series = series.explode()
                if series.dtype == pl.String:
                    yield from ((name, value) for value in series.drop_nulls().unique())
                elif series.dtype.is_numeric():
                    yield from ((name, f"{value:.0f}") for value in series.drop_nulls().unique() if abs(value) >= 1e4)
            metadata = pl.read_parquet_metadata(path)
            yield from ((name, text) for pair in metadata.items() for text in pair if not text.startswith("/////"))
        elif path.is_file():
            for line in path.read_bytes().splitlines() if path.suffix == ".ndjson" else [path.read_bytes()]:
                yield from ((name, text) for text in _leaves(orjson.loads(line)))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield str(value)


def leaks(dataset: Path, identities: list[Identity]) -> list[tuple[str, str]]:
    """Return (file, what) of everything found."""
    names = set().union(*(one.names for one in identities))
    values = set().union(*(one.values for one in identities))
    births = {one.birth for one in identities}
    written = {form for birth in births for form in (f"{birth:%Y-%m-%d}", f"{birth:%m/%d/%Y}", f"{birth:%Y%m%d}")}
    found: list[tuple[str, str]] = []
    # A value stands by itself: five digits within a longer number are not somebody's postal code.
    any_value = "|".join(re.escape(value) for value in sorted(values | written, key=len, reverse=True))
    alone = re.compile(rf"(?<!\w)(?:{any_value})(?!\w)")
    for file, text in strings(dataset):
        if text in OF_MEDICINE:
            continue
        if any(word.lower() in names for word in _WORD.findall(text)):
            found.append((file, f"name in {text}"))
        elif _may_hold(text) and (hit := alone.search(text)):
            found.append((file, f"value in {text}: {hit.group()}"))
    return found


def _may_hold(text: str) -> bool:
    # A digest is 64 hex digits, and any run of five digits, a postal code's length, may stand in it by chance.
    return not re.fullmatch(r"[0-9a-f]{64}", text)


def own_births(dataset: Path, births: dict[int, date]) -> int:
    """Return how many subjects have their real birth date as a date of birth in the data set."""
    stated = pl.concat(pl.read_parquet(file) for file in (dataset / "data").rglob("*.parquet"))
    rows = stated.filter(pl.col("code") == BIRTH).select("subject_id", "time").iter_rows()
    return sum(births[subject] == time.date() for subject, time in rows)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]], int]:
    """The archive as compact bundles (a sixth of the bytes, the same content), its Patients, and its resources."""
    archive = shared("data/synthea-r4.tar.gz")
    folder = tmp_path_factory.mktemp("synthea")
    patients, resources = [], 0
    with tarfile.open(archive) as members:
        for member in members:
            file = members.extractfile(member) if member.name.endswith(".json") else None
            if file is not None:
                bundle = orjson.loads(file.read())
                resources += len(bundle["entry"])
                first = bundle["entry"][0]["resource"]
                patients += [first] if first["resourceType"] == "Patient" else []
                (folder / Path(member.name).name).write_bytes(orjson.dumps(bundle))
    return folder, patients, resources


@pytest.fixture(scope="module")
def ingested(
    unpacked: tuple[Path, list[dict[str, Any]], int], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Account, Log]:
    out, log = tmp_path_factory.mktemp("out") / "dataset", Log()
    return out, ingest(unpacked[0], out, key=KEY, log=log), log


def test_every_resource_of_615_patients_is_accounted_for(
    unpacked: tuple[Path, list[dict[str, Any]], int], ingested: tuple[Path, Account, Log]
) -> None:
    _, patients, resources = unpacked
    account = ingested[1]
    assert len(patients) == account.subjects == PATIENTS
    assert resources == RESOURCES + OUTSIDE
    assert account.total == resources
    assert sum(account.of(outcome) for outcome in ("kept", "not mapped", "after the end", "quarantined")) == resources
    # Synthea gives its goals neither a date nor an encounter.
    assert account.quarantined["Goal: no date"] == account.resources["Goal"]["quarantined"]
    assert account.of("quarantined") - account.resources["Goal"]["quarantined"] < 20


def test_nothing_that_names_a_patient_is_written(
    unpacked: tuple[Path, list[dict[str, Any]], int], ingested: tuple[Path, Account, Log]
) -> None:
    identities = [identity(patient) for patient in unpacked[1]]
    dataset, _, log = ingested
    assert len(set().union(*(one.names for one in identities))) > 500
    assert leaks(dataset, identities) == []
    assert [statement.kind for statement in log.statements][-1] == "ingest"
    spoken = [text for statement in log.statements for text in _leaves(statement.predicate)]
    spoken += [subject.name for statement in log.statements for subject in statement.subjects]
    names = set().union(*(one.names for one in identities))
    assert not {word.lower() for text in spoken for word in _WORD.findall(text)} & names


def test_nobody_keeps_a_birth_date(
    unpacked: tuple[Path, list[dict[str, Any]], int], ingested: tuple[Path, Account, Log]
) -> None:
    ids = pl.Series([patient["id"] for patient in unpacked[1]])
    subjects = structured.subject_ids(KEY, ids)
    births = {subject: date.fromisoformat(p["birthDate"]) for subject, p in zip(subjects, unpacked[1], strict=True)}
    assert own_births(ingested[0], births) == 0


PLANTS = {
    "a surname in a description": ("description", "Diabetes of {family}"),
    "a phone in a description": ("description", "call {phone}"),
    "a record number as a code": ("code", "OTHER//{mrn}"),
    "an address in a description": ("description", "{line}"),
    "a birth date in a description": ("description", "born {birth}"),
}


@pytest.mark.parametrize("plant", list(PLANTS))
def test_the_search_finds_a_planted_leak(
    unpacked: tuple[Path, list[dict[str, Any]], int], ingested: tuple[Path, Account, Log], tmp_path: Path, plant: str
) -> None:
    patients = unpacked[1]
    identities = [identity(patient) for patient in patients]
    chosen = patients[0]
    column, template = PLANTS[plant]
    text = template.format(
        family=re.sub(r"\d+$", "", chosen["name"][0]["family"]),
        phone=chosen["telecom"][0]["value"],
        mrn=chosen["identifier"][1]["value"],
        line=chosen["address"][0]["line"][0],
        birth=chosen["birthDate"],
    )
    codes = pl.read_parquet(ingested[0] / "metadata" / "codes.parquet")
    one_row = pl.int_range(pl.len()) == 7
    changed = codes.with_columns(pl.when(one_row).then(pl.lit(text)).otherwise(column).alias(column))
    changed.write_parquet(tmp_path / "codes.parquet")
    assert len(leaks(tmp_path, identities)) == 1


def test_the_search_finds_birth_dates_that_did_not_move(
    unpacked: tuple[Path, list[dict[str, Any]], int], ingested: tuple[Path, Account, Log], tmp_path: Path
) -> None:
    patient = unpacked[1][0]
    born = datetime.fromisoformat(patient["birthDate"])
    (tmp_path / "data").mkdir()
    pl.DataFrame({"subject_id": [7], "time": [born], "code": [BIRTH]}).write_parquet(tmp_path / "data" / "0.parquet")
    assert own_births(tmp_path, {7: born.date()}) == 1
