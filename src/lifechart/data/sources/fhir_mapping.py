"""The one table of what is read from FHIR R4: an element that does not stand here cannot reach a Timeline.

Each row names a resource type, the kind of event it gives, where its patient, code and times stand, and the statuses
under which it is withdrawn. An event is stamped with the *latest* of its times that are present: what the record only
came to know later must not be stamped earlier (a diagnosis recorded in 2015 with an onset in 2010 belongs to 2015 for a
model that forecasts from the record). `fhir_types` applies the table; `Patient`, `Encounter` and `Observation` have
more to them, and their elements are listed here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Mapped:
    """How one resource type becomes events."""

    kind: str
    times: tuple[str, ...]
    code: str = "code"
    """Element of the CodeableConcept; for medications `medicationCodeableConcept` or `medicationReference`."""
    patient: str = "subject"
    encounter: str = "encounter"
    withdrawn: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Element -> values under which the resource says that it did not happen."""
    prefix: str = ""
    """Stands before the code, as in `ALLERGY//SNOMED//…`."""
    ends: tuple[str, ...] = ()
    """Where an end stands that is an event of its own."""
    end_prefix: str = ""
    ended: frozenset[str] = frozenset()
    """Statuses under which `ends` has happened rather than being planned; empty: an end always has."""
    notes: str = ""
    """Element that holds attachments with text; read for a live chart, held back from a data set."""


_ERROR = "entered-in-error"


def _none_of(*values: str) -> frozenset[str]:
    return frozenset((_ERROR, *values))


MAPPING: dict[str, Mapped] = {
    "Condition": Mapped(
        "condition",
        times=("recordedDate", "onsetDateTime", "onsetPeriod.start"),
        withdrawn={"verificationStatus": _none_of("refuted")},
        ends=("abatementDateTime", "abatementPeriod.end"),
        end_prefix="ABATED",
    ),
    "MedicationRequest": Mapped(
        "medication",
        times=("authoredOn",),
        code="medication",
        withdrawn={
            "status": _none_of("cancelled", "draft"),
            "intent": frozenset(("proposal", "plan", "option")),
            "doNotPerform": frozenset(("True",)),
        },
        ends=("dosageInstruction.timing.repeat.boundsPeriod.end",),
        end_prefix="STOPPED",
        ended=frozenset(("stopped", "completed")),
    ),
    "MedicationStatement": Mapped(
        "medication",
        times=("dateAsserted", "effectiveDateTime", "effectivePeriod.start"),
        code="medication",
        encounter="context",
        withdrawn={"status": _none_of("not-taken", "intended")},
        ends=("effectivePeriod.end",),
        end_prefix="STOPPED",
        ended=frozenset(("stopped", "completed")),
    ),
    "MedicationAdministration": Mapped(
        "medication",
        times=("effectiveDateTime", "effectivePeriod.start"),
        code="medication",
        encounter="context",
        withdrawn={"status": _none_of("not-done")},
    ),
    "Procedure": Mapped(
        "procedure",
        times=("performedDateTime", "performedPeriod.end", "performedPeriod.start"),
        withdrawn={"status": _none_of("not-done", "preparation")},
    ),
    "Immunization": Mapped(
        "immunization",
        times=("occurrenceDateTime", "recorded"),
        code="vaccineCode",
        patient="patient",
        withdrawn={"status": _none_of("not-done")},
    ),
    "AllergyIntolerance": Mapped(
        "allergy",
        times=("recordedDate", "onsetDateTime"),
        patient="patient",
        withdrawn={"verificationStatus": _none_of("refuted")},
        prefix="ALLERGY",
    ),
    "DiagnosticReport": Mapped(
        "report",
        times=("issued", "effectiveDateTime", "effectivePeriod.end"),
        withdrawn={"status": _none_of("cancelled", "registered")},
        notes="presentedForm",
    ),
    "DocumentReference": Mapped(
        "note",
        times=("date", "context.period.end"),
        code="type",
        encounter="context.encounter",
        withdrawn={"status": _none_of(), "docStatus": _none_of()},
        notes="content.attachment",
    ),
    "ImagingStudy": Mapped(
        "imaging",
        times=("started",),
        code="procedureCode|series.modality",
        withdrawn={"status": _none_of("cancelled", "registered")},
    ),
    "FamilyMemberHistory": Mapped(
        "family_history",
        times=("date",),
        code="condition.code",
        patient="patient",
        withdrawn={"status": _none_of("health-unknown")},
        prefix="FAMILY",
    ),
    "CarePlan": Mapped(
        "care_plan",
        times=("period.start", "created"),
        code="category",
        withdrawn={"status": _none_of("draft", "unknown"), "intent": frozenset(("proposal", "option"))},
    ),
    "Device": Mapped(
        "device",
        times=(),
        code="type",
        patient="patient",
        withdrawn={"status": _none_of()},
    ),
}
"""Types whose resources give one event (and one more at their end)."""

OBSERVATION_WITHDRAWN = _none_of("cancelled", "registered")
OBSERVATION_TIMES = ("issued", "effectiveDateTime", "effectivePeriod.end", "effectiveInstant")
"""Of an Observation: status, category, code, subject, encounter, these times, value[x] (quantity, concept, string,
boolean, integer), and of each component its code and value[x]."""

OBSERVATION_KINDS = {
    "laboratory": "laboratory",
    "vital-signs": "vital",
    "exam": "vital",
    "imaging": "imaging",
    "procedure": "procedure",
}
"""Observation category -> kind; every other is `survey` (social history, questionnaires, therapy, activity)."""

ENCOUNTER_WITHDRAWN = _none_of("cancelled", "planned", "unknown")
ENCOUNTER_CLASSES = {
    "AMB": "ambulatory",
    "EMER": "emergency",
    "IMP": "inpatient",
    "ACUTE": "inpatient",
    "NONAC": "inpatient",
    "PRENC": "ambulatory",
    "SS": "ambulatory",
    "HH": "home",
    "VR": "virtual",
    "OBSENC": "observation",
    "FLD": "other",
}
"""v3-ActCode of Encounter.class -> ENCOUNTER//…; anything else is `other`. Of an Encounter: status, class, subject,
period; `ambulatory` also where older exports write words (`outpatient`, `wellness`, `urgentcare`)."""

ENCOUNTER_WORDS = {
    "inpatient": "inpatient",
    "emergency": "emergency",
    "urgentcare": "ambulatory",
    "outpatient": "ambulatory",
    "ambulatory": "ambulatory",
    "wellness": "ambulatory",
    "home": "home",
    "virtual": "virtual",
}

PATIENT_EXTENSIONS = {
    "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race": "RACE",
    "http://hl7.org/fhir/us/core/StructureDefinition/us-core-ethnicity": "ETHNICITY",
}
"""Of a Patient: birthDate, gender, deceasedDateTime, these extensions' ombCategory code, the first communication's
language (without region), and the first three digits of the first US postal code. No name, address, telecom, contact,
identifier, photo or narrative is ever looked at."""

PREFERRED_SYSTEMS = (
    "http://snomed.info/sct",
    "http://loinc.org",
    "http://www.nlm.nih.gov/research/umls/rxnorm",
    "http://hl7.org/fhir/sid/cvx",
    "http://hl7.org/fhir/sid/icd-10-cm",
    "http://hl7.org/fhir/sid/icd-10",
)
"""Of several codings of one concept, the first in this order; then the first of a listed system; then the first."""
