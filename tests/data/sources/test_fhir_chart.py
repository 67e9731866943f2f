"""A live chart reads as the training data did: the same events in the same order, with real times and references."""

from __future__ import annotations

import base64
import tarfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest

from lifechart.core.errors import RecordError
from lifechart.data.deidentify import structured
from lifechart.data.sources import Source, sources
from lifechart.data.sources.fhir import chart, read_chart, source
from tests.data.samples import KEY, LOINC, RXNORM, concept, patient, resource, take, write
from tests.shared_data import shared


def history() -> list[dict[str, Any]]:
    at = "2015-06-01T10:00:00+02:00"
    return [
        patient(deceasedDateTime="2019-01-01T00:00:00Z"),
        resource(
            "Encounter", "e", **{"class": {"code": "IMP"}, "period": {"start": at, "end": "2015-06-05T09:00:00Z"}}
        ),
        resource("Condition", "c", recordedDate=None, encounter={"reference": "Encounter/e"}),
        resource("Condition", "c2", recordedDate="2015-06-01", abatementDateTime="2016-01-01"),
        resource("Observation", "o2", valueQuantity={"value": 5.5, "code": "%"}),
        resource("Observation", "o1"),
        resource("Observation", "o1b"),
        resource("MedicationRequest", "m", medicationReference={"reference": "Medication/d"})
        | {"medicationCodeableConcept": None},
        {"resourceType": "Medication", "id": "d", "code": concept("860975", RXNORM)},
        resource("Immunization", "i", vaccineCode=concept("140", "http://hl7.org/fhir/sid/cvx"), occurrenceDateTime=at),
        resource("Procedure", "x", status="not-done"),
        {key: value for key, value in resource("Observation", "s").items() if key != "valueQuantity"}
        | {"valueString": "POS."},
    ]


def same_as_ingested(resources: list[dict[str, Any]], ingested: pl.DataFrame) -> None:
    # What has no date is shown on a chart and left out of a data set.
    read = read_chart(resources).events.filter(pl.col("time").is_not_null() | (pl.col("kind") == "demographic"))
    columns = ["code", "numeric_value", "text_value", "unit", "kind"]
    trained = ingested.filter(pl.col("code") != "RECORD_END")
    assert read.select(columns).rows() == trained.select(columns).rows()
    shift = {a - b for a, b in zip(read["time"], trained["time"], strict=True) if a is not None}
    assert len(shift) == 1
    assert abs(shift.pop()) <= timedelta(days=365)


def test_the_chart_reads_as_the_training_data_did(tmp_path: Path) -> None:
    write(tmp_path / "in" / "all.ndjson", *history())
    _, ingested = take(tmp_path / "in", tmp_path / "out", dates="shift", as_of=datetime(2025, 1, 1))
    same_as_ingested(history(), ingested)
    same_as_ingested(history()[::-1], ingested)
    bundle = {"resourceType": "Bundle", "entry": [{"resource": one} for one in history()]}
    same_as_ingested([bundle], ingested)


def test_real_charts_read_as_the_training_data_did(tmp_path: Path) -> None:
    bundles = []
    with tarfile.open(shared("data/synthea-r4.tar.gz")) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.endswith(".json") else None
            if file is not None:
                bundles.append(orjson.loads(file.read()))
                (tmp_path / "in").mkdir(exist_ok=True)
                (tmp_path / "in" / f"{len(bundles)}.json").write_bytes(orjson.dumps(bundles[-1]))
            if len(bundles) == 6:
                break
    _, ingested = take(tmp_path / "in", tmp_path / "out", dates="shift", as_of=datetime(2030, 1, 1))
    compared = 0
    for bundle in bundles:
        resources = [entry["resource"] for entry in bundle["entry"]]
        if not (ids := [one["id"] for one in resources if one["resourceType"] == "Patient"]):
            continue
        subject = structured.subject_ids(KEY, pl.Series(ids))[0]
        events = ingested.filter(pl.col("subject_id") == subject)
        if (events["time"].max() - events["time"].min()).days < 32_000:
            same_as_ingested(resources, events)
            compared += 1
    assert compared >= 3


def test_references_texts_and_names_are_there() -> None:
    note = {"attachment": {"contentType": "text/plain", "data": base64.b64encode("Grüße".encode()).decode()}}
    document = resource("DocumentReference", "n", type=concept("11506-3", LOINC), date="2015-06-01", content=[note])
    read = chart([patient(), resource("Observation", "o"), document])
    by_code = {row["code"]: row for row in read.timeline.events.to_dicts()}
    assert by_code["LOINC//4548-4"]["reference"] == "Observation/o"
    assert by_code["LOINC//4548-4"]["time"] == datetime(2015, 6, 1, 10)
    assert by_code["LOINC//11506-3"]["text_value"] == "Grüße"
    assert read.names["LOINC//4548-4"] == "HbA1c"
    assert read.timeline.birth == datetime(1960, 5, 1)
    assert read.unread == ()


def test_an_allergy_without_date_or_code_is_shown() -> None:
    read = read_chart([patient(), resource("AllergyIntolerance", "a", code={"text": "penicillin"})])
    (allergy,) = read.of_kind("allergy").to_dicts()
    assert (allergy["time"], allergy["text_value"], allergy["reference"]) == (
        None,
        "penicillin",
        "AllergyIntolerance/a",
    )


def test_what_could_not_be_read_is_said() -> None:
    read = chart([patient(), resource("Observation", "o", effectiveDateTime="2015-13-01")])
    assert read.unread == ("Observation: date not valid",)


def test_a_bare_date_is_known_today_but_not_earlier_in_its_day_in_training() -> None:
    asked = datetime(2015, 6, 1, 15)
    resources = [patient(), resource("Condition", "c", recordedDate="2015-06-01")]
    assert read_chart(resources).until(asked).of_kind("condition").height == 0
    assert read_chart(resources, as_of=asked).until(asked).of_kind("condition").height == 1


def test_the_first_of_two_copies_counts() -> None:
    read = read_chart(
        [patient(), resource("Observation", "o"), resource("Observation", "o", valueQuantity={"value": 9})]
    )
    assert read.of_kind("laboratory")["numeric_value"].to_list() == [6.5]


@pytest.mark.parametrize(
    "resources",
    [
        [],
        [resource("Observation", "o")],
        [patient(), resource("Observation", "o", of="p2")],
        [patient(), patient("p2")],
    ],
    ids=["nothing", "no patient", "another's result", "two patients"],
)
def test_a_mixed_or_ownerless_chart_is_refused(resources: list[dict[str, Any]]) -> None:
    with pytest.raises(RecordError, match="one patient"):
        read_chart(resources)


def test_every_installed_source_keeps_the_contract() -> None:
    found = sources()
    assert {"fhir", "meds", "tables"} <= set(found)
    assert all(isinstance(plug, Source) and plug.name == name for name, plug in found.items())
    assert found["fhir"] is source
