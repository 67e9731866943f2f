"""What is read of the FHIR types that have more to them than a code and a date: a continuation of `fhir_mapping`."""

from __future__ import annotations

from lifechart.data.sources.fhir_mapping import none_of

OBSERVATION_WITHDRAWN = none_of("cancelled", "registered")
OBSERVATION_KINDS = {
    "laboratory": "laboratory",
    "vital-signs": "vital",
    "exam": "vital",
    "imaging": "imaging",
    "procedure": "procedure",
}
"""Observation category -> kind; every other is `survey` (social history, questionnaires, therapy, activity).

Of an Observation: status, category, code, subject, encounter (context), issued, effective[x], value[x] (quantity,
concept, string, boolean, integer, range, ratio), the quantity's comparator, referenceRange, interpretation,
dataAbsentReason, and of each component its code, value[x] and what stands beside it. Of several reference ranges the
first that is normal and for everybody counts."""

ENCOUNTER_WITHDRAWN = none_of("cancelled", "planned", "unknown")
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
"""v3-ActCode of Encounter.class -> ENCOUNTER//…; anything else is `other`. `ambulatory` also where older exports write
words (`outpatient`, `wellness`, `urgentcare`)."""

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

ENCOUNTER_START = {
    "VISIT": ("type",),
    "PRIORITY": ("priority",),
    "ADMITTED": ("hospitalization.admitSource", "admission.admitSource"),
    "REASON": ("reasonCode", "reason.value.concept", "reason"),
}
"""Prefix -> where concepts stand that are known when a visit begins; the first that is there counts."""

ENCOUNTER_END = {
    "DISCHARGED": ("hospitalization.dischargeDisposition", "admission.dischargeDisposition"),
    "DIAGNOSED": ("diagnosis.condition.concept",),
}
"""The same of what is known when it ends. An R4 visit's diagnoses are Conditions, which are read themselves.

Of an Encounter besides: status, class, subject, period (actualPeriod)."""

PATIENT_EXTENSIONS = {
    "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race": "RACE",
    "http://hl7.org/fhir/us/core/StructureDefinition/us-core-ethnicity": "ETHNICITY",
}
"""Of a Patient: birthDate, gender, deceasedDateTime, these extensions' ombCategory code, the first communication's
language (without region), and the first three digits of the first US postal code. No name, address, telecom, contact,
identifier, photo or narrative is ever looked at."""

QUESTIONNAIRE_WITHDRAWN = none_of("in-progress", "stopped")
QUESTION_IS_LOINC = r"/?(\d{1,7}-\d)"
"""A question whose linkId has this form is named by LOINC, every other by its linkId as a local code.

Of a QuestionnaireResponse: status, subject, encounter (context), authored, and of each item at any depth its linkId and
its coded, numeric and yes-or-no answers. Answers in words are not looked at."""
