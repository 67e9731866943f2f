"""CDS Hooks 2.0: discovery, the patient-view service, and feedback. Cards say little and link to the page."""

from __future__ import annotations

import asyncio
import re
import uuid
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

import orjson
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lifechart.care.alike import horizon_in_words
from lifechart.care.comparison import excess
from lifechart.care.risk import DECLARATION
from lifechart.core.answer import Claim, Disposition
from lifechart.core.errors import AccessDenied, AuditError, InputError, IntegrityError
from lifechart.ledger.lineage import reference as reference_of
from lifechart.release.incidents.recall import Notice
from lifechart.serve import decisions, risk_view
from lifechart.serve.access import User
from lifechart.serve.audit import WHOLE, card_digest, card_id, reference_to
from lifechart.serve.bedside import House, Shown, ask, house_of
from lifechart.serve.chart_view import anchor
from lifechart.serve.pages import certainty, one_in, percent
from lifechart.serve.records import Chart, ChartUnreadable, NoSuchPatient, Resource, chart_of, entries_of, same_server
from lifechart.serve.store import Decision
from lifechart.serve.surfaces import Outlet

router = APIRouter(prefix="/cds-services")
surface = Outlet("cds_hooks", router)

SERVICE = "lifechart-risk"
MOST_CARDS = 3
_RECALLS = uuid.UUID("0d7e6d0a-93a5-5c1e-8a43-9a51f9c3f0b2")
_PRACTITIONER = re.compile(r"(Practitioner|PractitionerRole)/[A-Za-z0-9.-]{1,64}")
_REASON_SYSTEM = "urn:lifechart:override-reason"
_PER_TYPE = {
    "conditions": "Condition",
    "observations": "Observation",
    "medications": "MedicationRequest",
    "procedures": "Procedure",
    "encounters": "Encounter",
    "immunizations": "Immunization",
    "allergies": "AllergyIntolerance",
}
PREFETCH = {"patient": "Patient/{{context.patientId}}"} | {
    key: f"{kind}?patient={{{{context.patientId}}}}&_count=1000" for key, kind in _PER_TYPE.items()
}
"""Everything that the model reads. Where a client sends all of it, no call goes back to the EHR."""


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Context(_Lenient):
    """Of the hook patient-view."""

    userId: str = ""
    patientId: str


class Authorization(_Lenient):
    """A token that the client lends for its FHIR server."""

    access_token: str


Body = TypeVar("Body", bound=_Lenient)


class Call(_Lenient):
    """A request of the hook patient-view."""

    hook: Literal["patient-view"]
    hookInstance: uuid.UUID
    context: Context
    fhirServer: str = ""
    fhirAuthorization: Authorization | None = None
    prefetch: dict[str, Resource | None] = Field(default_factory=dict)


class Coding(_Lenient):
    """A coded reason."""

    code: str = ""


class OverrideReason(_Lenient):
    """Why a card was dismissed."""

    reason: Coding | None = None
    userComment: str = ""


class Entry(_Lenient):
    """What became of one card."""

    card: uuid.UUID
    outcome: Literal["accepted", "overridden"]
    overrideReason: OverrideReason | None = None
    outcomeTimestamp: datetime


class Feedback(_Lenient):
    """A request of the feedback endpoint."""

    feedback: list[Entry] = Field(min_length=1, max_length=100)


async def client_system(request: Request) -> User:
    """Return the calling system, by its bearer token; raises AccessDenied."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    user = None
    if scheme.lower() == "bearer" and token:
        user = await asyncio.to_thread(house_of(request).access.client, token.strip())
    if user is None:
        raise AccessDenied("This service is for systems that hold a token of ours.")
    return user


Client = Annotated[User, Depends(client_system)]


@router.get("")
async def discovery(request: Request) -> Response:
    """List the services. Open to all, as the specification has it: it holds nothing about anybody."""
    service = {
        "hook": "patient-view",
        "id": SERVICE,
        "title": DECLARATION.title,
        "description": DECLARATION.intended_use,
        "usageRequirements": "Send an Authorization header with the bearer token that Lifechart's operator gave you.",
        "prefetch": PREFETCH,
    }
    return JSONResponse({"services": [service]})


@router.post(f"/{SERVICE}")
async def patient_view(request: Request, client: Client) -> Response:
    """Answer with cards: none where nothing stands out, nothing is released, or nothing may be shown."""
    house = house_of(request)
    call = await _body(request, Call)
    try:
        chart = await _chart(house, call)
    except (ChartUnreadable, NoSuchPatient) as error:
        # 412 is the specification's word for data that could be neither found in the prefetch nor fetched.
        return JSONResponse({"detail": str(error)}, 412)
    try:
        asker = asker_of(house, call.context.userId)
        shown = await ask(house, DECLARATION.name, client, chart, surface.name, asker=asker)
        notices = await asyncio.to_thread(house.incidents.recalls.notices, f"{client.name} {asker}".strip())
    except (AuditError, IntegrityError):
        return JSONResponse({"cards": []}, 503)
    page = f"{str(request.base_url).rstrip('/')}/patients/{call.context.patientId}"
    recalled = [recall_card(notice, client, asker, page, house.settings.institution) for notice in notices]
    return JSONResponse({"cards": recalled + cards(shown, chart, page, house.settings.institution)})


@router.post(f"/{SERVICE}/feedback")
async def feedback(request: Request, client: Client) -> Response:
    """Keep what users did with cards."""
    body = await _body(request, Feedback)
    await asyncio.to_thread(_keep, house_of(request), client, body)
    return JSONResponse({})


def cards(shown: Shown, chart: Chart, page: str, institution: str) -> list[dict[str, Any]]:
    """Return an answer's cards: red flags, then at most three risks that stand above what is usual."""
    answer, behind = shown.answer, shown.behind
    if answer is None or behind is None:
        return []
    made = [
        _flag_card(f"flag-{number}", claim, behind.digest, page, institution)
        for number, claim in enumerate(risk_view.flags(answer))
    ]
    if answer.disposition in (Disposition.ABSTAINED, Disposition.NEEDS_INFORMATION):
        return [_card(behind.digest, WHOLE, "info", f"No forecast: {answer.reason}", answer.reason, page, institution)]
    risks = risk_view.risks(answer, behind, chart.timeline, {})
    outstanding = [risk for risk in risks if excess(risk.headline.probability or 0.0, risk.usual.usual) > 0]
    return made + [_risk_card(risk, behind.digest, page, institution) for risk in outstanding[:MOST_CARDS]]


def asker_of(house: House, user_id: str) -> str:
    """Return for whom a client asks, as it stands in the ledger: a practitioner's reference, else a keyed hash.

    The hook's user may be a patient, whose identity has no place there.
    """
    if not user_id:
        return ""
    return user_id if _PRACTITIONER.fullmatch(user_id) else f"user:{house.auditor.patient(user_id)[:32]}"


def recall_card(notice: Notice, client: User, asker: str, page: str, institution: str) -> dict[str, Any]:
    """Return the card that tells a user of a recall. It comes with every hook until its feedback says it was read."""
    many = "answer that was" if notice.seen.answers == 1 else "answers that were"
    summary = f"Recall: do not rely on {notice.seen.answers} {many} shown to you"
    reference = reference_of(notice.recall)
    return {
        "uuid": recall_id(notice.recall, f"{client.name} {asker}".strip()),
        "summary": summary,
        "indicator": "critical",
        "detail": f"{notice.message}\n\nReference {reference}. Dismiss this card to say that you have read it.",
        "source": {"label": f"Lifechart, {institution}", "url": page.split("/patients/")[0]},
        "overrideReasons": [{"code": "known", "system": _REASON_SYSTEM, "display": "I have read this"}],
    }


def recall_id(recall: str, name: str) -> str:
    """Return the uuid of the card by which one person is told of a recall."""
    return str(uuid.uuid5(_RECALLS, f"{recall}#{name}"))


async def _body(request: Request, model: type[Body]) -> Body:
    """Read a request's JSON; raises InputError that names the places that are not as specified, never their values."""
    try:
        return model.model_validate(orjson.loads(await request.body()))
    except orjson.JSONDecodeError:
        raise InputError("body", "(not shown)", "JSON") from None
    except ValidationError as error:
        places = sorted({".".join(str(part) for part in each["loc"]) for each in error.errors(include_input=False)})
        raise InputError(", ".join(places), "(not shown)", "as CDS Hooks 2.0 has it") from None


async def _chart(house: House, call: Call) -> Chart:
    """Take the chart from the prefetch if all of it is there, else from the EHR."""
    patient_id, sent = call.context.patientId, call.prefetch
    patient = sent.get("patient")
    parts = [entries_of(bundle) if (bundle := sent.get(key)) else None for key in _PER_TYPE]
    if patient is not None and patient.get("resourceType") == "Patient" and all(part is not None for part in parts):
        return chart_of([patient, *(resource for part in parts if part for resource in part)], patient_id)
    if call.fhirServer and not same_server(call.fhirServer, house.ehr.base):
        raise ChartUnreadable("fhirServer: not the EHR that this service is configured for, which alone is asked")
    token = call.fhirAuthorization.access_token if call.fhirServer and call.fhirAuthorization else ""
    return await house.ehr.chart(patient_id, token)


def _flag_card(about: str, claim: Claim, digest: str, page: str, institution: str) -> dict[str, Any]:
    chart, threshold = claim.evidence
    detail = f"**{claim.text}**\n\nThreshold: {threshold.reference}."
    return _card(digest, about, "warning", claim.text, detail, f"{page}#{anchor(chart.reference)}", institution)


def _risk_card(risk: risk_view.RiskView, digest: str, page: str, institution: str) -> dict[str, Any]:
    claim, interval = risk.headline, risk.headline.interval
    assert interval is not None
    assert claim.probability is not None
    assert claim.horizon_days is not None
    span = f"{percent(interval.low)}–{percent(interval.high)}"
    horizon = horizon_in_words(claim.horizon_days)
    summary = f"{risk.name}: {percent(claim.probability)} {horizon} ({span}), usual {percent(risk.usual.usual)}"
    lines = [
        f"**{risk.name} {horizon}: {percent(claim.probability)}**, about {one_in(claim.probability)}.",
        f"95% interval {span}; {certainty(interval.low, interval.high)}.",
        f"Usual for {risk.usual.people}: {percent(risk.usual.usual)}.",
    ]
    if risk.drivers:
        moved = "; ".join(f"{driver.label} ({'raises' if driver.raises else 'lowers'})" for driver in risk.drivers[:4])
        lines.append(f"Moved most by: {moved}.")
    lines.append(f"How the model did on people like this: {claim.evidence[-1].label}.")
    return _card(
        digest, risk.outcome, "info", summary, "\n\n".join(lines), f"{page}#{anchor(risk.outcome)}", institution
    )


def _card(
    digest: str, about: str, indicator: str, summary: str, detail: str, page: str, institution: str
) -> dict[str, Any]:
    return {
        "uuid": card_id(digest, about),
        "summary": summary if len(summary) < 140 else summary[:138] + "…",
        "indicator": indicator,
        "detail": f"{detail}\n\nReference {reference_to(digest, about)}",
        "source": {"label": f"Lifechart, {institution}", "url": page.split("/patients/")[0]},
        "links": [{"label": "Open in Lifechart", "url": page, "type": "absolute"}],
        "overrideReasons": [
            {"code": code, "system": _REASON_SYSTEM, "display": words} for code, words in decisions.REASONS.items()
        ],
    }


def _keep(house: House, client: User, body: Feedback) -> None:
    for entry in body.feedback:
        if _acknowledged(house, client, str(entry.card)):
            continue
        digest = card_digest(str(entry.card))
        answer = house.auditor.given(digest)
        if answer is None:
            raise InputError("card", str(entry.card), "the uuid of a card that was given")
        override, overridden = entry.overrideReason, entry.outcome == "overridden"
        code = override.reason.code if override and override.reason else "other"
        decision = Decision(
            by=client.name,
            capability=DECLARATION.name,
            subject=answer.subjects[0].digest,
            outcome=next(about for about, card in answer.predicate["cards"].items() if card == digest),
            patient=answer.predicate["patient"],
            action=decisions.DISMISSED if overridden else decisions.ACCEPTED,
            reason=(code if code in decisions.REASONS else "other") if overridden else "",
            comment=override.userComment if override else "",
        )
        decisions.decide(house.store, house.auditor, decision)


def _acknowledged(house: House, client: User, card: str) -> bool:
    """Tell whether a card is a recall's, and record that whoever it was made for has read it."""
    recalls = house.incidents.recalls
    for recall in recalls.all():
        for name in recalls.tally(recall).people:
            mine = name == client.name or name.startswith(f"{client.name} ")
            if mine and recall_id(recall.digest, name) == card:
                recalls.acknowledge(recall.digest, name)
                return True
    return False
