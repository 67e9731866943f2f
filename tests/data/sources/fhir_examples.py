"""Resources as servers of each FHIR version write them, valid by an independent validator, and what each becomes."""

from __future__ import annotations

from typing import Any

from tests.data.samples import LOINC, RXNORM, Resource, concept

DAY, AT = "2015-06-01", "2015-06-01T10:00:00+02:00"
NOON, NIGHT = "2015-06-01T10:00:00", "2015-06-01T23:59:59"
"""As written of AT and of DAY."""
P, E = {"reference": "Patient/p1"}, {"reference": "Encounter/e1"}
ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
LOCAL = "http://terminology.hl7.org/CodeSystem/x"
CVX = "http://hl7.org/fhir/sid/cvx"
METFORMIN = concept("860975", RXNORM)
Event = tuple[str | None, str, Any, str | None, str]


def of(type_: str, **more: Any) -> Resource:
    return {"resourceType": type_, "id": "x1", **more}


def _drug(code: str = "RxNorm//860975", at: str = NOON) -> Event:
    return (at, code, None, None, "medication")


EXAMPLES: list[tuple[str, Resource, list[Event]]] = [
    # Encounter: class is a Coding, then a list of concepts; hospitalization, then admission.
    (
        "STU3",
        of(
            "Encounter",
            status="finished",
            **{"class": {"system": ACT, "code": "IMP"}},
            subject=P,
            period={"start": AT, "end": "2015-06-04T09:00:00Z"},
            reason=[concept("29857009")],
            hospitalization={"dischargeDisposition": concept("home", LOCAL)},
        ),
        [
            (NOON, "ENCOUNTER//inpatient", None, None, "encounter"),
            (NOON, "REASON//SNOMED//29857009", None, None, "encounter"),
            ("2015-06-04T09:00:00", "DISCHARGE//inpatient", None, None, "encounter"),
            ("2015-06-04T09:00:00", "DISCHARGED//OTHER//home", None, None, "encounter"),
        ],
    ),
    (
        "R4B",
        of(
            "Encounter",
            status="finished",
            **{"class": {"system": ACT, "code": "EMER"}},
            type=[concept("50849002")],
            priority=concept("EM", LOCAL),
            subject=P,
            period={"start": AT},
            reasonCode=[concept("29857009"), concept("267036007")],
            hospitalization={"admitSource": concept("emd", LOCAL)},
        ),
        [
            (NOON, "ENCOUNTER//emergency", None, None, "encounter"),
            (NOON, "VISIT//SNOMED//50849002", None, None, "encounter"),
            (NOON, "PRIORITY//OTHER//EM", None, None, "encounter"),
            (NOON, "ADMITTED//OTHER//emd", None, None, "encounter"),
            (NOON, "REASON//SNOMED//29857009", None, None, "encounter"),
            (NOON, "REASON//SNOMED//267036007", None, None, "encounter"),
        ],
    ),
    (
        "R5",
        of(
            "Encounter",
            status="completed",
            **{"class": [concept("IMP", ACT)]},
            subject=P,
            actualPeriod={"start": AT, "end": "2015-06-04T09:00:00Z"},
            reason=[{"use": [concept("CC", LOCAL)], "value": [{"concept": concept("29857009")}]}],
            diagnosis=[{"condition": [{"concept": concept("22298006")}, {"reference": {"reference": "Condition/c"}}]}],
            admission={"dischargeDisposition": concept("exp", LOCAL)},
        ),
        [
            (NOON, "ENCOUNTER//inpatient", None, None, "encounter"),
            (NOON, "REASON//SNOMED//29857009", None, None, "encounter"),
            ("2015-06-04T09:00:00", "DISCHARGE//inpatient", None, None, "encounter"),
            ("2015-06-04T09:00:00", "DISCHARGED//OTHER//exp", None, None, "encounter"),
            ("2015-06-04T09:00:00", "DIAGNOSED//SNOMED//22298006", None, None, "encounter"),
        ],
    ),
    # Condition: clinicalStatus is a code, then a concept; assertedDate, then recordedDate.
    (
        "STU3",
        of(
            "Condition",
            clinicalStatus="active",
            verificationStatus="confirmed",
            code=concept("44054006"),
            subject=P,
            context=E,
            assertedDate=DAY,
        ),
        [(NIGHT, "SNOMED//44054006", None, None, "condition")],
    ),
    (
        "R5",
        of(
            "Condition",
            clinicalStatus=concept("resolved", LOCAL),
            verificationStatus=concept("confirmed", LOCAL),
            code=concept("44054006"),
            subject=P,
            recordedDate=AT,
            abatementDateTime="2016-01-01",
        ),
        [
            (NOON, "SNOMED//44054006", None, None, "condition"),
            ("2016-01-01T23:59:59", "ABATED//SNOMED//44054006", None, None, "condition"),
        ],
    ),
    # Observation: one interpretation, then a list.
    (
        "STU3",
        of(
            "Observation",
            status="final",
            code=concept("4548-4", LOINC),
            subject=P,
            context=E,
            effectiveDateTime=AT,
            valueQuantity={"value": 6.5, "code": "%"},
            interpretation=concept("H", LOCAL),
        ),
        [(NOON, "LOINC//4548-4", 6.5, "%", "survey")],
    ),
    (
        "R5",
        of(
            "Observation",
            status="final",
            code=concept("4548-4", LOINC),
            subject=P,
            effectiveDateTime=AT,
            valueQuantity={"value": 6.5, "code": "%"},
            interpretation=[concept("H", LOCAL)],
        ),
        [(NOON, "LOINC//4548-4", 6.5, "%", "survey")],
    ),
    # Medications: a concept or a reference of its own name, then one CodeableReference.
    (
        "STU3",
        of("MedicationRequest", intent="order", medicationCodeableConcept=METFORMIN, subject=P, authoredOn=AT),
        [_drug()],
    ),
    (
        "R5",
        of(
            "MedicationRequest",
            status="ended",
            intent="order",
            medication={"concept": METFORMIN},
            subject=P,
            authoredOn=AT,
            dosageInstruction=[{"timing": {"repeat": {"boundsPeriod": {"end": "2015-09-01T00:00:00Z"}}}}],
        ),
        [_drug(), _drug("STOPPED//RxNorm//860975", "2015-09-01T00:00:00")],
    ),
    (
        "STU3",
        of(
            "MedicationStatement",
            status="active",
            taken="y",
            medicationCodeableConcept=METFORMIN,
            subject=P,
            dateAsserted=AT,
        ),
        [_drug()],
    ),
    (
        "R5",
        of(
            "MedicationStatement", status="recorded", medication={"concept": METFORMIN}, subject=P, effectiveDateTime=AT
        ),
        [_drug()],
    ),
    (
        "STU3",
        of(
            "MedicationAdministration",
            status="completed",
            medicationCodeableConcept=METFORMIN,
            subject=P,
            effectiveDateTime=AT,
            dosage={"dose": {"value": 500, "code": "mg"}},
        ),
        [(NOON, "RxNorm//860975", 500.0, "mg", "medication")],
    ),
    (
        "R5",
        of(
            "MedicationAdministration",
            status="completed",
            medication={"concept": METFORMIN},
            subject=P,
            occurenceDateTime=AT,
            dosage={"text": "as ever", "dose": {"value": 500, "unit": "mg"}},
        ),
        [(NOON, "RxNorm//860975", 500.0, "mg", "medication")],
    ),
    (
        "R4B",
        of(
            "MedicationDispense",
            status="completed",
            medicationCodeableConcept=METFORMIN,
            subject=P,
            whenPrepared="2015-05-31",
            whenHandedOver=AT,
        ),
        [_drug()],
    ),
    (
        "R5",
        of(
            "MedicationDispense",
            status="completed",
            medication={"concept": METFORMIN},
            subject=P,
            whenHandedOver=AT,
        ),
        [_drug()],
    ),
    (
        "STU3",
        of("Procedure", status="completed", code=concept("73761001"), subject=P, performedDateTime=AT),
        [(NOON, "SNOMED//73761001", None, None, "procedure")],
    ),
    (
        "R5",
        of("Procedure", status="completed", code=concept("73761001"), subject=P, occurrencePeriod={"end": AT}),
        [(NOON, "SNOMED//73761001", None, None, "procedure")],
    ),
    (
        "STU3",
        of(
            "Immunization",
            status="completed",
            notGiven=False,
            vaccineCode=concept("140", CVX),
            patient=P,
            date=AT,
            primarySource=True,
        ),
        [(NOON, "CVX//140", None, None, "immunization")],
    ),
    (
        "R5",
        of("Immunization", status="completed", vaccineCode=concept("140", CVX), patient=P, occurrenceDateTime=AT),
        [(NOON, "CVX//140", None, None, "immunization")],
    ),
    (
        "STU3",
        of("AllergyIntolerance", verificationStatus="confirmed", code=concept("91936005"), patient=P, assertedDate=AT),
        [(NOON, "ALLERGY//SNOMED//91936005", None, None, "allergy")],
    ),
    (
        "R5",
        of(
            "AllergyIntolerance",
            reaction=[{"substance": concept("91936005"), "manifestation": [{"concept": concept("1")}]}],
            patient=P,
            recordedDate=AT,
        ),
        [(NOON, "ALLERGY//SNOMED//91936005", None, None, "allergy")],
    ),
    (
        "R4B",
        of("AdverseEvent", actuality="actual", event=concept("62014003"), subject=P, date=AT),
        [(NOON, "ADVERSE//SNOMED//62014003", None, None, "condition")],
    ),
    (
        "R5",
        of(
            "AdverseEvent",
            status="completed",
            actuality="actual",
            code=concept("62014003"),
            subject=P,
            recordedDate=AT,
        ),
        [(NOON, "ADVERSE//SNOMED//62014003", None, None, "condition")],
    ),
    (
        "R4B",
        of(
            "DiagnosticReport",
            status="final",
            code=concept("24331-1", LOINC),
            subject=P,
            effectiveDateTime=AT,
            conclusionCode=[concept("254837009"), concept("55342001")],
        ),
        [
            (NOON, "LOINC//24331-1", None, None, "report"),
            (NOON, "CONCLUSION//SNOMED//254837009", None, None, "report"),
            (NOON, "CONCLUSION//SNOMED//55342001", None, None, "report"),
        ],
    ),
    (
        "STU3",
        of(
            "DocumentReference",
            status="current",
            type=concept("11506-3", LOINC),
            subject=P,
            indexed=AT,
            content=[{"attachment": {"contentType": "text/plain"}}],
        ),
        [(NOON, "LOINC//11506-3", None, None, "note")],
    ),
    (
        "STU3",
        of(
            "ImagingStudy",
            uid="urn:oid:1.2",
            patient=P,
            started=AT,
            modalityList=[{"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "CT"}],
        ),
        [(NOON, "DCM//CT", None, None, "imaging")],
    ),
    (
        "R5",
        of(
            "ImagingStudy",
            status="available",
            subject=P,
            started=AT,
            modality=[concept("CT", "http://dicom.nema.org/resources/ontology/DCM")],
        ),
        [(NOON, "DCM//CT", None, None, "imaging")],
    ),
    (
        "R4B",
        of(
            "FamilyMemberHistory",
            status="completed",
            patient=P,
            date=AT,
            relationship=concept("MTH", LOCAL),
            condition=[{"code": concept("22298006")}],
        ),
        [(NOON, "FAMILY//SNOMED//22298006", None, None, "family_history")],
    ),
    (
        "STU3",
        of(
            "CarePlan", status="active", intent="plan", category=[concept("698360004")], subject=P, period={"start": AT}
        ),
        [(NOON, "SNOMED//698360004", None, None, "care_plan")],
    ),
    (
        "R4B",
        of("CareTeam", status="active", category=[concept("LA27976-2", LOINC)], subject=P, period={"start": AT}),
        [(NOON, "TEAM//LOINC//LA27976-2", None, None, "care_plan")],
    ),
    (
        "R5",
        of(
            "CareTeam",
            status="active",
            subject=P,
            period={"start": AT},
            reason=[{"concept": concept("44054006")}],
        ),
        [(NOON, "TEAM//SNOMED//44054006", None, None, "care_plan")],
    ),
    (
        "STU3",
        of("Goal", status="in-progress", description=concept("289169006"), subject=P, statusDate=AT[:10]),
        [(NIGHT, "GOAL//SNOMED//289169006", None, None, "care_plan")],
    ),
    (
        "R4B",
        of(
            "Goal",
            lifecycleStatus="active",
            description={"text": "HbA1c below 7"},
            subject=P,
            startDate=DAY,
            target=[{"measure": concept("4548-4", LOINC), "detailQuantity": {"value": 7}}],
        ),
        [(NIGHT, "GOAL//LOINC//4548-4", None, None, "care_plan")],
    ),
    (
        "R4B",
        of("ServiceRequest", status="active", intent="order", code=concept("24331-1", LOINC), subject=P, authoredOn=AT),
        [(NOON, "ORDERED//LOINC//24331-1", None, None, "order")],
    ),
    (
        "R5",
        of(
            "ServiceRequest",
            status="active",
            intent="order",
            code={"concept": concept("24331-1", LOINC)},
            subject=P,
            authoredOn=AT,
        ),
        [(NOON, "ORDERED//LOINC//24331-1", None, None, "order")],
    ),
    (
        "STU3",
        of("ProcedureRequest", status="active", intent="order", code=concept("73761001"), subject=P, authoredOn=AT),
        [(NOON, "ORDERED//SNOMED//73761001", None, None, "order")],
    ),
    (
        "STU3",
        of(
            "ReferralRequest",
            status="active",
            intent="order",
            serviceRequested=[concept("183519002")],
            subject=P,
            authoredOn=AT,
        ),
        [(NOON, "ORDERED//SNOMED//183519002", None, None, "order")],
    ),
    (
        "R4B",
        of("DeviceRequest", intent="order", codeCodeableConcept=concept("58938008"), subject=P, authoredOn=AT),
        [(NOON, "ORDERED//SNOMED//58938008", None, None, "order")],
    ),
    (
        "R4B",
        of(
            "NutritionOrder",
            status="active",
            intent="order",
            patient=P,
            dateTime=AT,
            oralDiet={"type": [concept("160670007")]},
        ),
        [(NOON, "ORDERED//SNOMED//160670007", None, None, "order")],
    ),
    (
        "R4B",
        of(
            "Coverage",
            status="active",
            type=concept("EHCPOL", ACT),
            beneficiary=P,
            payor=[{"display": "x"}],
            period={"start": AT, "end": "2016-01-01"},
        ),
        [
            (NOON, "COVERAGE//OTHER//EHCPOL", None, None, "administrative"),
            ("2016-01-01T23:59:59", "ENDED//COVERAGE//OTHER//EHCPOL", None, None, "administrative"),
        ],
    ),
    (
        "R4B",
        of("EpisodeOfCare", status="active", type=[concept("hacc", LOCAL)], patient=P, period={"start": AT}),
        [(NOON, "EPISODE//OTHER//hacc", None, None, "administrative")],
    ),
    (
        "R4B",
        of("Flag", status="active", code=concept("129839007"), subject=P, period={"start": AT}),
        [(NOON, "FLAG//SNOMED//129839007", None, None, "administrative")],
    ),
    (
        "STU3",
        of("Device", type=concept("14106009"), patient=P),
        [(None, "SNOMED//14106009", None, None, "device")],
    ),
    ("R5", of("Device", type=[concept("14106009")]), []),
    (
        "STU3",
        of(
            "DeviceUseStatement",
            status="active",
            device={"reference": "#d"},
            contained=[{"resourceType": "Device", "id": "d", "type": concept("14106009")}],
            subject=P,
            recordedOn=AT,
        ),
        [(NOON, "SNOMED//14106009", None, None, "device")],
    ),
    (
        "R5",
        of("DeviceUsage", status="active", device={"concept": concept("14106009")}, patient=P, dateAsserted=AT),
        [(NOON, "SNOMED//14106009", None, None, "device")],
    ),
    (
        "R5",
        of(
            "DeviceAssociation",
            status=concept("implanted", LOCAL),
            device={"reference": "Device/d"},
            subject=P,
            period={"start": AT},
        ),
        [(NOON, "\n?", None, None, "device")],
    ),
    (
        "R4B",
        of(
            "QuestionnaireResponse",
            questionnaire="http://example.org/phq",
            status="completed",
            subject=P,
            authored=AT,
            item=[
                {"linkId": "/44250-9", "answer": [{"valueCoding": {"system": LOINC, "code": "LA6568-5"}}]},
                {
                    "linkId": "about",
                    "item": [
                        {"linkId": "weight", "answer": [{"valueDecimal": 70.5}]},
                        {"linkId": "smokes", "answer": [{"valueBoolean": True}]},
                        {"linkId": "name", "answer": [{"valueString": "Quillfeather"}]},
                        {"linkId": "height", "answer": [{"valueQuantity": {"value": 170, "code": "cm"}}]},
                    ],
                },
            ],
        ),
        [
            (NOON, "LOINC//44250-9//LOINC//LA6568-5", None, None, "survey"),
            (NOON, "OTHER//weight", 70.5, None, "survey"),
            (NOON, "OTHER//smokes", 1.0, None, "survey"),
            (NOON, "OTHER//height", 170.0, "cm", "survey"),
        ],
    ),
]
