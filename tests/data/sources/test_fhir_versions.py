"""STU3, R4B and R5: what differs between them is read alike, and no resource type is passed over unnoticed."""

from __future__ import annotations

import csv
import importlib
import re
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import fhir.resources
import pytest

from lifechart.data.sources.fhir_mapping import MAPPING
from lifechart.data.sources.fhir_reader import Reader, frame_of
from lifechart.data.sources.fhir_types import HANDLERS
from lifechart.serve.records import PATIENT_TYPES
from tests.data.samples import concept, patient
from tests.data.sources.fhir_examples import AT, EXAMPLES, METFORMIN, Event, P, of

PACKAGES = {"STU3": "fhir.resources.STU3", "R4B": "fhir.resources.R4B", "R5": "fhir.resources"}
_OF_R4_ALONE = 18
# R4's MedicinalProduct family and SubstanceSpecification, which R4B took away; the validator knows R4B, not R4.


@pytest.mark.parametrize(("version", "given"), [row[:2] for row in EXAMPLES], ids=str)
def test_the_examples_are_valid_fhir_of_their_version(version: str, given: dict[str, Any]) -> None:
    type_ = given["resourceType"]
    model = getattr(importlib.import_module(f"{PACKAGES[version]}.{type_.lower()}"), type_)
    model.model_validate(given)


@pytest.mark.parametrize(("version", "given", "expected"), EXAMPLES, ids=str)
def test_each_version_is_read(version: str, given: dict[str, Any], expected: list[Event]) -> None:
    reader = Reader()
    reader.resource(given, 0)
    assert reader.faults == []
    assert reader.counts == {(given["resourceType"], "kept"): 1}
    found = [
        (row["time"] and row["time"].isoformat(), row["code"], row["numeric_value"], row["unit"], row["kind"])
        for row in frame_of(reader.rows).to_dicts()
    ]
    assert found == expected


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (of("MedicationStatement", status="active", taken="n", medicationCodeableConcept=METFORMIN, subject=P), "n"),
        (
            of("MedicationStatement", adherence={"code": concept("not-taking")}, medication={}, subject=P),
            "not-taking",
        ),
        (of("Immunization", status="completed", notGiven=True, vaccineCode=concept("140"), patient=P), "True"),
        (of("Procedure", status="completed", notDone=True, code=concept("1"), subject=P), "True"),
        (of("MedicationAdministration", status="completed", notGiven=True, subject=P), "True"),
        (of("Condition", verificationStatus="refuted", code=concept("1"), subject=P), "refuted"),
        (of("Goal", status="rejected", description=concept("1"), subject=P), "rejected"),
        (of("Goal", lifecycleStatus="proposed", description=concept("1"), subject=P), "proposed"),
        (of("DeviceAssociation", status=concept("entered-in-error"), subject=P), "entered-in-error"),
        (of("ServiceRequest", status="active", intent="proposal", code=concept("1"), subject=P), "proposal"),
        (of("AdverseEvent", actuality="potential", code=concept("1"), subject=P), "potential"),
        (of("QuestionnaireResponse", status="in-progress", subject=P), "in-progress"),
        (of("Device", status="entered-in-error"), "entered-in-error"),
    ],
    ids=str,
)
def test_each_version_has_its_own_way_to_say_that_it_did_not_happen(given: dict[str, Any], status: str) -> None:
    reader = Reader()
    reader.resource(given, 0)
    assert reader.rows.rows == []
    assert reader.withdrawn == {(given["resourceType"], status): 1}


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        (of("DeviceUseStatement", status="active", device={"reference": "Device/d1"}, subject=P, recordedOn=AT), "n"),
        (of("DeviceUsage", device={"reference": {"reference": "Device/d1"}}, patient=P, dateAsserted=AT), "n"),
        (of("DeviceRequest", intent="order", codeReference={"reference": "Device/d1"}, subject=P), "o"),
        (
            of(
                "MedicationRequest", intent="order", medication={"reference": {"reference": "Medication/d1"}}, subject=P
            ),
            "n",
        ),
    ],
    ids=str,
)
def test_a_reference_to_what_supplies_the_code_is_followed(use: dict[str, Any], expected: str) -> None:
    reader = Reader()
    for number, one in enumerate(
        [
            of("Device", type=concept("14106009")) | {"id": "d1"},
            of("Medication", code=concept("14106009")) | {"id": "d1"},
            use,
        ]
    ):
        reader.resource(one, number)
    assert reader.faults == []
    (row,) = frame_of(reader.rows).to_dicts()
    assert row["code"] == {"n": "\n?", "o": "ORDERED//\n?"}[expected]
    assert reader.rows.linked[row["link"]][0] == "SNOMED//14106009"


def test_every_mapped_type_has_an_example() -> None:
    shown = {given["resourceType"] for _, given, _ in EXAMPLES}
    assert set(HANDLERS) - shown == {"Patient", "Medication"}


def test_a_live_chart_is_read_in_the_types_that_a_data_set_is() -> None:
    not_of_r4 = {
        type_ for type_ in HANDLERS if type_ in ("ProcedureRequest", "ReferralRequest") or type_[:7] == "DeviceA"
    }
    elsewhere = {"Patient", "Medication", "DeviceUsage", "DocumentReference"}
    assert set(PATIENT_TYPES) == set(HANDLERS) - elsewhere - not_of_r4


@cache
def _published() -> frozenset[str]:
    """Return every resource type that the validator's three versions have."""
    found = set()
    for package in PACKAGES.values():
        (folder,) = importlib.import_module(package).__path__
        for file in Path(folder).glob("[a-z]*.py"):
            found |= set(
                re.findall(r"^class (\w+)\((?:\w+\.)?(?:Domain|Canonical|Metadata)?Resource\)", file.read_text(), re.M)
            )
    return frozenset(found - {"CanonicalResource", "DomainResource", "MetadataResource", "Resource"})


def test_every_resource_type_of_every_version_is_accounted_for() -> None:
    text = resources.files("lifechart.data.sources").joinpath("fhir_resources.csv").read_text()
    table = {row["type"]: row for row in csv.DictReader(text.splitlines())}
    assert len(_published()) > 170, fhir.resources.__version__
    assert _published() - set(table) == set()
    of_r4 = [type_ for type_ in set(table) - _published() if table[type_]["versions"] == "R4"]
    assert set(table) - _published() == set(of_r4)
    assert len(of_r4) < _OF_R4_ALONE
    assert {type_ for type_, row in table.items() if row["read"] == "yes"} == set(HANDLERS)
    assert [type_ for type_, row in table.items() if (row["read"] == "no") != bool(row["why"])] == []
    assert set(MAPPING) <= set(HANDLERS)


def test_a_type_that_no_version_has_is_not_repeated() -> None:
    reader = Reader()
    reader.resource({"resourceType": "John Quillfeather"}, 0)
    reader.block(b'{"resourceType":"Quillfeather","id":"x"}\n{"resourceType": "Claim"}\n', False)
    reader.resource(patient(), 1)
    assert reader.counts == {
        ("(unknown)", "not mapped"): 2,
        ("Claim", "not mapped"): 1,
        ("Patient", "kept"): 1,
    }
