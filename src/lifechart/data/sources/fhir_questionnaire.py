"""Reads a QuestionnaireResponse: every coded, numeric or yes-or-no answer at any depth, named by its question."""

from __future__ import annotations

import re
from typing import Any

from lifechart.codes import systems
from lifechart.data.sources.fhir_concepts import encounter_link
from lifechart.data.sources.fhir_elements import QUESTION_IS_LOINC, QUESTIONNAIRE_WITHDRAWN
from lifechart.data.sources.fhir_observation import number_of, unit_of
from lifechart.data.sources.fhir_rows import Resource, Rows, Unusable, code_of

_TYPE, _KIND = "QuestionnaireResponse", "survey"
_LOINC = re.compile(QUESTION_IS_LOINC)
_LOINC_URI = systems.URIS["LOINC"]


def questionnaire_response(rows: Rows, r: Resource) -> str | None:
    """Append a row for each answer; return the status under which it is withdrawn."""
    status: str | None = r.get("status")
    if status in QUESTIONNAIRE_WITHDRAWN:
        return status
    subject = r.get("subject") or r.get("source")
    if subject is None:
        raise Unusable("no patient")
    number = rows.patient(subject["reference"])
    authored = r.get("authored")
    time = rows.when(authored) if authored else None
    link = None if time is not None else encounter_link(rows, r, (("encounter",), ("context",)))
    before = len(rows.rows)
    waiting: list[Any] = list(reversed(r.get("item") or r.get("group") or []))
    while waiting:
        item = waiting.pop()
        within = list(item.get("item") or ())
        for answer in item.get("answer") or ():
            within += answer.get("item") or ()
            found = _answer(rows, str(item["linkId"]), answer)
            if found is not None:
                concept, value, unit = found
                rows.rows.append((rows.position, number, r.get("id"), concept, time, value, unit, None, link))
        waiting.extend(reversed(within))
    if len(rows.rows) == before:
        raise Unusable("no answer that is read")
    return None


def _answer(rows: Rows, link_id: str, answer: Resource) -> tuple[int, float | None, str | None] | None:
    """Return (concept, value, unit) of an answer, or None if it is in words."""
    loinc = _LOINC.fullmatch(link_id)
    question = systems.join(_LOINC_URI, loinc[1]) if loinc else systems.join("", link_id)
    coding = answer.get("valueCoding")
    if coding is not None:
        return rows.fixed(f"{question}//{code_of(coding)}", coding.get("display"), _KIND, _TYPE), None, None
    quantity = answer.get("valueQuantity")
    if quantity is not None:
        return rows.fixed(question, None, _KIND, _TYPE), number_of(quantity), unit_of(quantity)
    for element in ("valueDecimal", "valueInteger", "valueBoolean"):
        if element in answer:
            return rows.fixed(question, None, _KIND, _TYPE), number_of({"value": answer[element]}), None
    return None
