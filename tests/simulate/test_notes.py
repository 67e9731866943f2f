"""Notes: the gold spans are exact and complete, and a note says nothing that the structured record does not."""

import base64
import itertools
import re
from pathlib import Path

import orjson
import polars as pl
import pytest

from lifechart.simulate.notes import CLASSES
from lifechart.simulate.tables import rows
from tests.simulate import small_truth

Note = tuple[dict, str, list]


def lines(path: Path) -> list[dict]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


@pytest.fixture(scope="module")
def notes(hospital: Path) -> list[Note]:
    gold = {row["document"]: row for row in lines(hospital / "gold/spans.ndjson")}
    found = []
    for document in lines(hospital / "fhir/DocumentReference.ndjson"):
        text = base64.b64decode(document["content"][0]["attachment"]["data"]).decode()
        row = gold.pop(document["id"])
        assert document["subject"]["reference"] == f"Patient/{row['patient']}"
        found.append((document, text, row["spans"]))
    assert not gold
    return found


@pytest.fixture(scope="module")
def patients(hospital: Path) -> dict[str, dict]:
    return {patient["id"]: patient for patient in lines(hospital / "fhir/Patient.ndjson")}


def masked(text: str, spans: list) -> str:
    for start, end, _, _ in spans:
        text = text[:start] + "\x00" * (end - start) + text[end:]
    return text


def test_spans_are_exact_in_order_and_apart(notes: list[Note]) -> None:
    for _, text, spans in notes:
        assert all(text[start:end] == words and words.strip() for start, end, _, words in spans)
        assert all(one[1] <= two[0] for one, two in itertools.pairwise(spans))


def test_every_class_occurs(notes: list[Note]) -> None:
    assert {span[2] for _, _, spans in notes for span in spans} == set(CLASSES)


def test_no_identifier_is_left_outside_the_spans(notes: list[Note], patients: dict[str, dict], hospital: Path) -> None:
    staff = [row["name"][0] for row in lines(hospital / "fhir/Practitioner.ndjson")]
    doctors = {f"{name['given'][0]} {name['family']}" for name in staff}
    sites = {row["name"] for row in lines(hospital / "fhir/Organization.ndjson")}
    for document, text, spans in notes:
        rest = masked(text, spans)
        patient = patients[document["subject"]["reference"].removeprefix("Patient/")]
        words = {identifier["value"] for identifier in patient["identifier"]}
        words |= {telecom["value"] for telecom in patient["telecom"]}
        words |= {
            f"{patient['name'][0]['given'][0]} {patient['name'][0]['family']}",
            patient["contact"][0]["name"]["text"],
        }
        words |= {patient["birthDate"], patient["address"][0]["line"][0], patient["address"][0]["postalCode"]}
        for word in words | doctors | sites:
            assert word.lower() not in rest.lower(), f"{document['id']} leaves an identifier unmarked"
        # Nothing that is left looks like a date, a telephone number or a year.
        assert not re.search(r"\d{4}-\d\d-\d\d|\d+/\d+/\d{4}|\d{3}.\d{4}|(19|20)\d\d\b|'\d\d\b|last [A-Z]", rest), rest


def test_only_ages_over_89_are_identifiers(notes: list[Note]) -> None:
    ages = [int(words) for _, _, spans in notes for _, _, kind, words in spans if kind == "AGE"]
    assert ages
    assert min(ages) >= 90


def test_a_note_says_only_what_is_recorded_by_then(notes: list[Note], hospital: Path) -> None:
    events = pl.read_parquet(hospital / "truth/events.parquet")
    people = pl.read_parquet(hospital / "truth/people.parquet").select("life", "patient_id")
    named = [
        (kind, row["key"], row["display"])
        for kind, name in small_truth.NAMES.items()
        if kind in ("condition", "symptom", "procedure", "medication")
        for row in rows(name)
    ]
    displays = [display.lower() for _, _, display in named]
    alone = [entry for entry in named if sum(entry[2].lower() in other for other in displays) == 1]
    assert len(alone) > 100
    events = events.join(people, on="life").with_columns(
        stamp=pl.col("time").dt.strftime("%Y-%m-%dT%H:%M:%S-07:00"), key=pl.col("key").replace("", None)
    )
    recorded: dict[tuple[str, str], str] = {}
    for patient, key, detail, stamp in events.select("patient_id", "key", "detail", "stamp").iter_rows():
        for name in (key, detail):
            recorded[patient, name] = min(stamp, recorded.get((patient, name), stamp))
    told = 0
    for document, text, _ in notes:
        patient = document["subject"]["reference"].removeprefix("Patient/")
        for _, key, display in alone:
            if display.lower() in text.lower():
                told += 1
                assert recorded.get((patient, key), "9") <= document["date"], (
                    f"{document['id']} speaks of {key} too early"
                )
    assert told > 1_000


def test_wording_varies(notes: list[Note]) -> None:
    plain = {re.sub(r"[\d\x00]+", "", masked(text, spans))[:60] for _, text, spans in notes}
    assert len(plain) > 0.3 * len(notes)
