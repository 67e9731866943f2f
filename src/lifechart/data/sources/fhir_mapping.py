"""The table of what is read from most FHIR types: an element that does not stand here cannot reach a Timeline.

Each row names a resource type, the kind of event it gives, where its patient, code and times stand, and the statuses
under which it is withdrawn. An event is stamped with the *latest* of its times that are present: what the record only
came to know later must not be stamped earlier (a diagnosis recorded in 2015 with an onset in 2010 belongs to 2015 for a
model that forecasts from the record). `fhir_types` applies the table. `fhir_elements` has what is read of the types
that have more to them (Patient, Encounter, Observation, QuestionnaireResponse), `fhir_resources.csv` every type there
is.

STU3, R4, R4B and R5 name some elements differently; the names of all of them stand in one row. No name means one thing
in one version and another in the next, so a record says by its shape how it is read, and no version need be known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Mapped:
    """How one resource type becomes events. `a|b`: the first that is there; `a.b`: b within a."""

    kind: str
    times: tuple[str, ...]
    code: str = "code"
    """Where the CodeableConcept stands (or the CodeableReference of R5, or a Coding)."""
    supplier: str = ""
    """Element that may name another resource, a Medication or a Device, whose code counts: `medication` stands for
    medicationReference and medication.reference too."""
    patient: str = "subject"
    encounter: str = "encounter|context"
    withdrawn: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Element -> values under which the resource says that it did not happen."""
    prefix: str = ""
    """Stands before the code, as in `ALLERGY//SNOMED//…`."""
    each: bool = False
    """Whether several concepts are several things rather than several names of one."""
    also: Mapping[str, str] = field(default_factory=dict)
    """Prefix -> where further concepts stand, each an event of its own."""
    value: str = ""
    """Where a quantity stands that is the event's value."""
    ends: tuple[str, ...] = ()
    """Where an end stands that is an event of its own."""
    end_prefix: str = ""
    ended: frozenset[str] = frozenset()
    """Statuses under which `ends` has happened rather than being planned; empty: an end always has."""
    notes: str = ""
    """Element that holds attachments with text; read for a live chart, held back from a data set."""


_ERROR = "entered-in-error"
_TRUE = frozenset(("True",))
_INTENT = frozenset(("proposal", "plan", "option"))
_STOPPED = frozenset(("stopped", "completed", "ended"))


def none_of(*values: str) -> frozenset[str]:
    """Return these statuses and `entered-in-error`."""
    return frozenset((_ERROR, *values))


MAPPING: dict[str, Mapped] = {
    "Condition": Mapped(
        "condition",
        times=("recordedDate", "assertedDate", "onsetDateTime", "onsetPeriod.start"),
        withdrawn={"verificationStatus": none_of("refuted")},
        ends=("abatementDateTime", "abatementPeriod.end"),
        end_prefix="ABATED",
    ),
    "MedicationRequest": Mapped(
        "medication",
        times=("authoredOn",),
        code="medicationCodeableConcept|medication",
        supplier="medication",
        withdrawn={"status": none_of("cancelled", "draft"), "intent": _INTENT, "doNotPerform": _TRUE},
        ends=("dosageInstruction.timing.repeat.boundsPeriod.end",),
        end_prefix="STOPPED",
        ended=_STOPPED,
    ),
    "MedicationStatement": Mapped(
        "medication",
        times=("dateAsserted", "effectiveDateTime", "effectivePeriod.start"),
        code="medicationCodeableConcept|medication",
        supplier="medication",
        withdrawn={
            "status": none_of("not-taken", "intended", "draft"),
            "taken": frozenset(("n",)),
            "adherence.code": frozenset(("not-taking",)),
        },
        ends=("effectivePeriod.end",),
        end_prefix="STOPPED",
        ended=_STOPPED,
    ),
    "MedicationAdministration": Mapped(
        "medication",
        times=("effectiveDateTime", "effectivePeriod.start", "occurenceDateTime", "occurencePeriod.start"),
        code="medicationCodeableConcept|medication",
        supplier="medication",
        withdrawn={"status": none_of("not-done"), "notGiven": _TRUE},
        value="dosage.dose",
    ),
    "MedicationDispense": Mapped(
        "medication",
        times=("whenHandedOver", "whenPrepared"),
        code="medicationCodeableConcept|medication",
        supplier="medication",
        withdrawn={"status": none_of("cancelled", "declined", "preparation"), "notDone": _TRUE},
    ),
    "Procedure": Mapped(
        "procedure",
        times=(
            *("performedDateTime", "performedPeriod.end", "performedPeriod.start"),
            *("occurrenceDateTime", "occurrencePeriod.end", "occurrencePeriod.start"),
        ),
        withdrawn={"status": none_of("not-done", "preparation"), "notDone": _TRUE},
    ),
    "Immunization": Mapped(
        "immunization",
        times=("occurrenceDateTime", "recorded", "date"),
        code="vaccineCode",
        patient="patient",
        withdrawn={"status": none_of("not-done"), "notGiven": _TRUE},
    ),
    "AllergyIntolerance": Mapped(
        "allergy",
        times=("recordedDate", "assertedDate", "onsetDateTime"),
        code="code|reaction.substance",
        patient="patient",
        withdrawn={"verificationStatus": none_of("refuted")},
        prefix="ALLERGY",
    ),
    "AdverseEvent": Mapped(
        "condition",
        times=("recordedDate", "detected", "date", "occurrenceDateTime"),
        code="event|code|type",
        withdrawn={"actuality": frozenset(("potential",)), "status": none_of()},
        prefix="ADVERSE",
    ),
    "DiagnosticReport": Mapped(
        "report",
        times=("issued", "effectiveDateTime", "effectivePeriod.end"),
        withdrawn={"status": none_of("cancelled", "registered")},
        also={"CONCLUSION": "conclusionCode|codedDiagnosis"},
        notes="presentedForm",
    ),
    "DocumentReference": Mapped(
        "note",
        times=("date", "indexed", "context.period.end", "period.end"),
        code="type",
        encounter="context.encounter|context",
        withdrawn={"status": none_of(), "docStatus": none_of()},
        notes="content.attachment",
    ),
    "ImagingStudy": Mapped(
        "imaging",
        times=("started",),
        code="procedureCode|procedure.concept|modality|modalityList|series.modality",
        patient="subject|patient",
        withdrawn={"status": none_of("cancelled", "registered")},
    ),
    "FamilyMemberHistory": Mapped(
        "family_history",
        times=("date",),
        code="condition.code",
        patient="patient",
        withdrawn={"status": none_of("health-unknown"), "notDone": _TRUE},
        prefix="FAMILY",
        each=True,
    ),
    "CarePlan": Mapped(
        "care_plan",
        times=("period.start", "created"),
        code="category",
        withdrawn={"status": none_of("draft", "unknown"), "intent": frozenset(("proposal", "option"))},
    ),
    "CareTeam": Mapped(
        "care_plan",
        times=("period.start",),
        code="category|reasonCode|reason.concept|participant.role",
        withdrawn={"status": none_of("proposed")},
        prefix="TEAM",
    ),
    "Goal": Mapped(
        "care_plan",
        times=("startDate", "statusDate"),
        code="description|target.measure|category",
        withdrawn={
            "lifecycleStatus": none_of("proposed", "rejected", "cancelled"),
            "status": none_of("proposed", "rejected", "cancelled"),
        },
        prefix="GOAL",
    ),
    "ServiceRequest": Mapped(
        "order",
        times=("authoredOn",),
        code="code.concept|code",
        withdrawn={"status": none_of("draft", "revoked"), "intent": _INTENT, "doNotPerform": _TRUE},
        prefix="ORDERED",
    ),
    "ProcedureRequest": Mapped(
        "order",
        times=("authoredOn",),
        withdrawn={"status": none_of("draft", "cancelled"), "intent": _INTENT, "doNotPerform": _TRUE},
        prefix="ORDERED",
    ),
    "ReferralRequest": Mapped(
        "order",
        times=("authoredOn",),
        code="serviceRequested|type|specialty",
        withdrawn={"status": none_of("draft", "cancelled"), "intent": _INTENT},
        prefix="ORDERED",
    ),
    "DeviceRequest": Mapped(
        "order",
        times=("authoredOn",),
        code="codeCodeableConcept|code",
        supplier="code",
        withdrawn={"status": none_of("draft", "revoked", "cancelled"), "intent": _INTENT, "doNotPerform": _TRUE},
        prefix="ORDERED",
    ),
    "NutritionOrder": Mapped(
        "order",
        times=("dateTime",),
        code="oralDiet.type|enteralFormula.baseFormulaType|supplement.type",
        patient="patient|subject",
        withdrawn={"status": none_of("draft", "proposed", "planned", "revoked", "cancelled"), "intent": _INTENT},
        prefix="ORDERED",
    ),
    "DeviceUseStatement": Mapped(
        "device",
        times=("recordedOn", "timingDateTime", "timingPeriod.start"),
        code="",
        supplier="device",
        withdrawn={"status": none_of("intended")},
    ),
    "DeviceUsage": Mapped(
        "device",
        times=("dateAsserted", "timingDateTime", "timingPeriod.start"),
        code="device.concept",
        supplier="device",
        patient="patient",
        withdrawn={"status": none_of("intended", "not-done")},
    ),
    "DeviceAssociation": Mapped(
        "device",
        times=("period.start",),
        code="",
        supplier="device",
        withdrawn={"status": none_of()},
    ),
    "Coverage": Mapped(
        "administrative",
        times=("period.start",),
        code="type",
        patient="beneficiary",
        withdrawn={"status": none_of("draft", "cancelled")},
        prefix="COVERAGE",
        ends=("period.end",),
        end_prefix="ENDED",
    ),
    "EpisodeOfCare": Mapped(
        "administrative",
        times=("period.start",),
        code="type",
        patient="patient",
        withdrawn={"status": none_of("planned", "cancelled")},
        prefix="EPISODE",
        ends=("period.end",),
        end_prefix="ENDED",
    ),
    "Flag": Mapped(
        "administrative",
        times=("period.start",),
        withdrawn={"status": none_of()},
        prefix="FLAG",
        ends=("period.end",),
        end_prefix="ENDED",
    ),
}
"""Types whose resources give one event (and one more at their end)."""

PREFERRED_SYSTEMS = (
    "http://snomed.info/sct",
    "http://loinc.org",
    "http://www.nlm.nih.gov/research/umls/rxnorm",
    "http://hl7.org/fhir/sid/cvx",
    "http://hl7.org/fhir/sid/icd-10-cm",
    "http://hl7.org/fhir/sid/icd-10",
)
"""Of several codings of one concept, the first in this order; then the first of a listed system; then the first."""
