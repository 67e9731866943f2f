"""What each mapped FHIR type becomes, what is withdrawn, and what cannot be used: tables of resources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lifechart.data.sources import OUTCOMES
from lifechart.data.sources.fhir_reader import Reader, frame_of
from lifechart.data.sources.fhir_types import HANDLERS
from tests.data.samples import LOINC, RXNORM, concept, patient, resource

DAY = "2015-06-01"


def rows(*resources: dict[str, Any]) -> list[dict[str, Any]]:
    reader = Reader()
    for number, one in enumerate(resources):
        reader.resource(one, number)
    assert reader.faults == []
    return frame_of(reader.rows).to_dicts()


def brief(*resources: dict[str, Any]) -> list[tuple[str | None, str, Any, str | None, str]]:
    return [
        (row["time"] and row["time"].isoformat(), row["code"], row["numeric_value"], row["unit"], row["kind"])
        for row in rows(*resources)
    ]


MAPPED = [
    (resource("Encounter", "e"), [("2015-06-01T10:00:00", "ENCOUNTER//ambulatory", None, None, "encounter")]),
    (
        resource(
            "Encounter", "e", **{"class": {"code": "IMP"}, "period": {"start": DAY, "end": "2015-06-04T09:00:00Z"}}
        ),
        [
            ("2015-06-01T23:59:59", "ENCOUNTER//inpatient", None, None, "encounter"),
            ("2015-06-04T09:00:00", "DISCHARGE//inpatient", None, None, "encounter"),
        ],
    ),
    (resource("Condition", "c"), [("2015-06-01T10:00:00", "SNOMED//44054006", None, None, "condition")]),
    (
        resource("Condition", "c", onsetDateTime="2010-01-01T00:00:00Z", abatementDateTime="2016"),
        [
            ("2015-06-01T10:00:00", "SNOMED//44054006", None, None, "condition"),
            ("2016-12-31T23:59:59", "ABATED//SNOMED//44054006", None, None, "condition"),
        ],
    ),
    (resource("Observation", "o"), [("2015-06-01T10:00:00", "LOINC//4548-4", 6.5, "%", "laboratory")]),
    (
        resource("Observation", "o", issued="2015-06-02T08:00:00.123+02:00"),
        [("2015-06-02T08:00:00", "LOINC//4548-4", 6.5, "%", "laboratory")],
    ),
    (
        resource("Observation", "o", valueQuantity={"value": 7}),
        [("2015-06-01T10:00:00", "LOINC//4548-4", 7.0, None, "laboratory")],
    ),
    (
        resource(
            "Observation",
            "o",
            category=[{"coding": [{"code": "vital-signs"}]}],
            code=concept("85354-9", LOINC),
            component=[
                {"code": concept("8480-6", LOINC), "valueQuantity": {"value": 120, "code": "mm[Hg]"}},
                {"code": concept("8462-4", LOINC), "valueQuantity": {"value": 80, "code": "mm[Hg]"}},
            ],
        )
        | {"valueQuantity": None},
        [
            ("2015-06-01T10:00:00", "LOINC//8480-6", 120.0, "mm[Hg]", "vital"),
            ("2015-06-01T10:00:00", "LOINC//8462-4", 80.0, "mm[Hg]", "vital"),
        ],
    ),
    (
        resource("MedicationRequest", "m"),
        [("2015-06-01T10:00:00", "RxNorm//860975", None, None, "medication")],
    ),
    (
        resource(
            "MedicationRequest",
            "m",
            status="stopped",
            dosageInstruction=[{"timing": {"repeat": {"boundsPeriod": {"end": "2015-09-01T00:00:00Z"}}}}],
        ),
        [
            ("2015-06-01T10:00:00", "RxNorm//860975", None, None, "medication"),
            ("2015-09-01T00:00:00", "STOPPED//RxNorm//860975", None, None, "medication"),
        ],
    ),
    (
        resource(
            "MedicationRequest",
            "m",
            dosageInstruction=[{"timing": {"repeat": {"boundsPeriod": {"end": "2015-09-01T00:00:00Z"}}}}],
        ),
        [("2015-06-01T10:00:00", "RxNorm//860975", None, None, "medication")],
    ),
    (
        resource(
            "MedicationStatement",
            "m",
            medicationCodeableConcept=concept("860975", RXNORM),
            effectivePeriod={"start": "2010-01-01", "end": "2014-01-01"},
            dateAsserted=DAY,
            status="completed",
        ),
        [
            ("2015-06-01T23:59:59", "RxNorm//860975", None, None, "medication"),
            ("2014-01-01T23:59:59", "STOPPED//RxNorm//860975", None, None, "medication"),
        ],
    ),
    (
        resource(
            "MedicationAdministration",
            "m",
            medicationReference={"reference": "#inside"},
            contained=[{"resourceType": "Medication", "id": "inside", "code": concept("1", RXNORM)}],
            effectiveDateTime="2015-06-01T10:00",
        ),
        [("2015-06-01T10:00:00", "RxNorm//1", None, None, "medication")],
    ),
    (
        resource("Procedure", "p") | {"performedPeriod": {"start": DAY, "end": "2015-06-03T12:00:00Z"}},
        [("2015-06-03T12:00:00", "SNOMED//73761001", None, None, "procedure")],
    ),
    (
        resource(
            "Immunization", "i", vaccineCode=concept("140", "http://hl7.org/fhir/sid/cvx"), occurrenceDateTime=DAY
        ),
        [("2015-06-01T23:59:59", "CVX//140", None, None, "immunization")],
    ),
    (
        resource("AllergyIntolerance", "a", code=concept("91936005"), recordedDate=DAY),
        [("2015-06-01T23:59:59", "ALLERGY//SNOMED//91936005", None, None, "allergy")],
    ),
    (
        resource("DiagnosticReport", "d", code=concept("24331-1", LOINC), effectiveDateTime=DAY),
        [("2015-06-01T23:59:59", "LOINC//24331-1", None, None, "report")],
    ),
    (
        resource("DocumentReference", "d", type=concept("11506-3", LOINC), date="2015-06-01T18:00:00Z"),
        [("2015-06-01T18:00:00", "LOINC//11506-3", None, None, "note")],
    ),
    (
        resource("ImagingStudy", "i", started=DAY, series=[{"modality": {"system": "x", "code": "CT"}}]),
        [("2015-06-01T23:59:59", "OTHER//CT", None, None, "imaging")],
    ),
    (
        resource("FamilyMemberHistory", "f", date=DAY, condition=[{"code": concept("1")}, {"code": concept("2")}]),
        [
            ("2015-06-01T23:59:59", "FAMILY//SNOMED//1", None, None, "family_history"),
            ("2015-06-01T23:59:59", "FAMILY//SNOMED//2", None, None, "family_history"),
        ],
    ),
    (
        resource(
            "CarePlan",
            "c",
            category=[concept("assess-plan", "http://hl7.org/fhir/us/core/x"), concept("698360004")],
            period={"start": DAY},
        ),
        [("2015-06-01T23:59:59", "SNOMED//698360004", None, None, "care_plan")],
    ),
    (resource("Device", "d", type=concept("14106009")), [(None, "SNOMED//14106009", None, None, "device")]),
    (
        resource(
            "Condition",
            "c",
            code={
                "coding": [
                    {"system": "urn:local", "code": "DM"},
                    *concept("E11.9", "http://hl7.org/fhir/sid/icd-10-cm")["coding"],
                ]
            },
        ),
        [("2015-06-01T10:00:00", "ICD10CM//E11.9", None, None, "condition")],
    ),
]


@pytest.mark.parametrize(
    ("given", "expected"), MAPPED, ids=lambda value: value.get("resourceType", "") if isinstance(value, dict) else ""
)
def test_a_mapped_type_becomes_these_events(given: dict[str, Any], expected: list[tuple[Any, ...]]) -> None:
    assert brief(given) == expected


def test_the_guide_names_every_type_and_every_outcome() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "guides" / "ingest.md").read_text()
    assert [type_ for type_ in HANDLERS if type_ not in guide] == []
    assert [outcome for outcome in OUTCOMES if f"| {outcome} |" not in guide] == []


def test_a_patient_gives_only_what_the_table_allows() -> None:
    full = patient(
        name=[{"family": "Quillfeather", "given": ["Ada"]}],
        telecom=[{"system": "phone", "value": "555-0100"}],
        address=[{"line": ["1 Rue Morgue"], "city": "Springfield", "postalCode": "90210-1234"}],
        identifier=[{"value": "MRN-1"}],
        deceasedDateTime="2020-02-03T04:05:06-05:00",
        communication=[{"language": {"coding": [{"code": "en-US"}]}}],
        extension=[
            {
                "url": "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race",
                "extension": [
                    {"url": "ombCategory", "valueCoding": {"code": "2106-3", "display": "White"}},
                    {"url": "text", "valueString": "Quillfeather"},
                ],
            }
        ],
    )
    assert [(row["time"] and row["time"].isoformat(), row["code"]) for row in rows(full)] == [
        ("1960-05-01T00:00:00", "MEDS_BIRTH"),
        (None, "GENDER//female"),
        (None, "RACE//2106-3"),
        (None, "LANGUAGE//en"),
        (None, "ZIP3//902"),
        ("2020-02-03T04:05:06", "MEDS_DEATH"),
    ]


@pytest.mark.parametrize(
    ("value", "code", "number", "text"),
    [
        (
            {"valueCodeableConcept": concept("266919005", display="Never")},
            "LOINC//4548-4//SNOMED//266919005",
            None,
            None,
        ),
        ({"valueCodeableConcept": {"text": "mild"}}, "LOINC//4548-4", None, "mild"),
        ({"valueString": "Positive"}, "LOINC//4548-4", None, "positive"),
        ({"valueString": "Some growth"}, "LOINC//4548-4", None, "Some growth"),
        ({"valueInteger": 3}, "LOINC//4548-4", 3.0, None),
        ({"valueBoolean": True}, "LOINC//4548-4", 1.0, None),
        ({"dataAbsentReason": concept("unknown")}, "LOINC//4548-4", None, None),
    ],
)
def test_an_observation_can_answer_in_other_ways(value: Any, code: str, number: Any, text: Any) -> None:
    given = resource("Observation", "o") | value
    del given["valueQuantity"]
    (row,) = rows(given)
    assert (row["code"], row["numeric_value"], row["text_value"]) == (code, number, text)


@pytest.mark.parametrize(
    ("said", "marks"),
    [
        ({"valueQuantity": {"value": 5, "comparator": "<", "code": "mg/L"}}, ("<", None, None, None)),
        ({"valueQuantity": {"value": 5, "comparator": "about"}}, (None, None, None, None)),
        ({"referenceRange": [{"low": {"value": 4}, "high": {"value": 6}}]}, (None, 4.0, 6.0, None)),
        (
            {
                "referenceRange": [
                    {"low": {"value": 1}, "appliesTo": [concept("248153007")]},
                    {"low": {"value": 2}, "age": {"low": {"value": 65}}},
                    {"low": {"value": 3}, "type": concept("therapeutic")},
                    {"high": {"value": 9}, "type": concept("normal")},
                ]
            },
            (None, None, 9.0, None),
        ),
        ({"interpretation": [concept("H")]}, (None, None, None, "H")),
        ({"interpretation": concept("LL")}, (None, None, None, "LL")),
        ({"interpretation": [concept("Dr Quillfeather worries")]}, (None, None, None, None)),
        ({"valueQuantity": None, "dataAbsentReason": concept("masked")}, (None, None, None, "masked")),
    ],
)
def test_what_a_record_says_of_a_value_is_kept_beside_it(said: dict[str, Any], marks: tuple[Any, ...]) -> None:
    (row,) = rows(resource("Observation", "o") | said)
    assert (row["comparator"], row["low"], row["high"], row["flag"]) == marks


@pytest.mark.parametrize(
    ("value", "text", "unit"),
    [
        ({"valueRange": {"low": {"value": 5, "code": "/[HPF]"}, "high": {"value": 10}}}, "5-10", "/[HPF]"),
        ({"valueRatio": {"numerator": {"value": 1}, "denominator": {"value": 64}}}, "1:64", None),
        ({"valueRange": {}}, None, None),
    ],
)
def test_ranges_and_ratios_are_kept_as_written(value: Any, text: str | None, unit: str | None) -> None:
    given = resource("Observation", "o") | value
    del given["valueQuantity"]
    (row,) = rows(given)
    assert (row["numeric_value"], row["text_value"], row["unit"]) == (None, text, unit)


def test_a_concept_in_words_alone_keeps_its_words_and_has_no_code_of_its_own() -> None:
    (row,) = rows(resource("AllergyIntolerance", "a", code={"text": "penicillin"}, recordedDate=DAY))
    assert (row["code"], row["text_value"]) == ("ALLERGY//OTHER//*", "penicillin")


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (resource("Encounter", "x", status="cancelled"), "cancelled"),
        (resource("Observation", "x", status="entered-in-error"), "entered-in-error"),
        (resource("Condition", "x", verificationStatus=concept("refuted")), "refuted"),
        (resource("Condition", "x", verificationStatus=concept("entered-in-error")), "entered-in-error"),
        (resource("Procedure", "x", status="not-done"), "not-done"),
        (resource("MedicationRequest", "x", intent="plan"), "plan"),
        (resource("MedicationRequest", "x", doNotPerform=True), "True"),
        (resource("MedicationStatement", "x", status="not-taken"), "not-taken"),
        (resource("Immunization", "x", status="not-done"), "not-done"),
        (resource("AllergyIntolerance", "x", verificationStatus=concept("refuted")), "refuted"),
    ],
)
def test_what_did_not_happen_is_withdrawn_and_counted(given: dict[str, Any], status: str) -> None:
    reader = Reader()
    reader.resource(given, 0)
    assert reader.rows.rows == []
    assert reader.withdrawn == {(given["resourceType"], status): 1}
    assert reader.counts == {(given["resourceType"], "withdrawn"): 1}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (resource("Observation", "x", effectiveDateTime="2015-13-01"), "date not valid"),
        (resource("Observation", "x", effectiveDateTime="2015-02-30T10:00:00Z"), "date not valid"),
        (resource("Observation", "x", effectiveDateTime="last week"), "date not valid"),
        (resource("Observation", "x", valueQuantity={"value": "6.5"}), "value is not a number"),
        (resource("Observation", "x", subject={"reference": "Group/1"}), "subject is not a patient"),
        (resource("Observation", "x", subject={"reference": "#p"}), "subject is not a patient"),
        (resource("Observation", "x", subject={"display": "Smith"}), "malformed"),
        (resource("Observation", "x", code={}), "no code"),
        (resource("Condition", "x", code={}), "no code"),
        (resource("Condition", "x", code={"coding": [{"system": "urn:x"}]}), "no code"),
        (resource("Condition", "x", recordedDate=20150601), "malformed"),
        (resource("Encounter", "x", period={}), "no date"),
        ({"resourceType": "Condition"}, "no code"),
        (resource("Condition", "x") | {"subject": None}, "no patient"),
        (resource("Condition", None) | {"id": 7}, "id is not a string"),
        ({"no": "type"}, "not a resource"),
        ([], "not a resource"),
    ],
)
def test_what_cannot_be_used_is_quarantined_for_a_reason_without_values(given: Any, reason: str) -> None:
    reader = Reader()
    reader.resource(given, 7)
    assert reader.rows.rows == []
    assert [(fault.position, fault.reason) for fault in reader.faults] == [(7, reason)]


def test_references_in_any_form_name_the_same_patient() -> None:
    forms = ["Patient/p1", "urn:uuid:p1", "https://ehr.example/fhir/Patient/p1", "Patient/p1/_history/2"]
    reader = Reader()
    for number, form in enumerate(forms):
        reader.resource(resource("Observation", str(number), subject={"reference": form}), number)
    assert set(frame_of(reader.rows)["patient"]) == {"p1"}


def test_a_bundle_whose_entries_are_named_by_url_resolves() -> None:
    reader = Reader()
    entries = [
        {"fullUrl": "urn:uuid:aaa", "resource": patient("p9")},
        {"fullUrl": "urn:uuid:bbb", "resource": resource("Observation", "o", subject={"reference": "urn:uuid:aaa"})},
    ]
    reader.resource({"resourceType": "Bundle", "entry": entries}, 0)
    assert set(frame_of(reader.rows)["patient"]) == {"p9"}
