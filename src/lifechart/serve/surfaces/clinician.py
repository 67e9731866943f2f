"""The clinician's pages: find a patient, read the chart with what may lie ahead, say what one makes of it."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from lifechart.care.risk import DECLARATION
from lifechart.core.capability import Role
from lifechart.core.errors import InputError
from lifechart.release.incidents.book import Recall
from lifechart.serve import chart_view, decisions, risk_view
from lifechart.serve.access import User
from lifechart.serve.audit import WHOLE, reference_to
from lifechart.serve.bedside import House, Shown, ask, house_of
from lifechart.serve.pages import render
from lifechart.serve.records import FOUND_AT_MOST, Chart, local_now
from lifechart.serve.sign_in import Form, signed_in
from lifechart.serve.store import Decision
from lifechart.serve.surfaces import Outlet

router = APIRouter()
surface = Outlet("clinician", router)

Reader = Annotated[User, Depends(signed_in(Role.CLINICIAN, Role.NURSE))]
_SHORTEST_SEARCH = 2
_SHOWN_SERIES = 12
"""Series of results that are not folded away: a long chart has dozens."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


@router.get("/patients")
async def find(request: Request, user: Reader, q: str = "") -> Response:
    """Find a patient by name or record number."""
    text = q.strip()
    found = None
    if len(text) >= _SHORTEST_SEARCH:
        house = house_of(request)
        patients = await house.ehr.search_patients(text[:100])
        if patients:
            shown = [str(each["id"]) for each in patients]
            await asyncio.to_thread(house.auditor.viewed, shown, user.name, surface.name, "search")
        found = [chart_view.person(each, local_now().date()) for each in patients]
    too_short = bool(text) and found is None
    context = {"q": text, "found": found, "too_short": too_short, "most": FOUND_AT_MOST}
    return render(request, "find.html", context)


@router.get("/patients/{patient_id}")
async def patient(request: Request, user: Reader, patient_id: str) -> Response:
    """Show one patient: banner, what may lie ahead, timeline, results, and the chart's lists."""
    house = house_of(request)
    chart = await house.ehr.chart(patient_id)
    shown = await ask(house, "risk", user, chart, surface.name)
    if not shown.audited:
        await asyncio.to_thread(house.auditor.viewed, [patient_id], user.name, surface.name, "chart")
    key = house.auditor.patient(patient_id)
    decided = await asyncio.to_thread(decisions.latest, house.store, "risk", key)
    recalled = await asyncio.to_thread(_recalled, house, key)
    return render(request, "patient.html", {**_context(chart, shown, decided), "recalled": recalled})


@router.post("/patients/{patient_id}/decisions")
async def decide(request: Request, user: Reader, patient_id: str, fields: Form) -> Response:
    """Keep what the clinician makes of one risk."""
    house = house_of(request)
    decision = Decision(
        by=user.name,
        capability="risk",
        subject=fields.get("answer", ""),
        outcome=fields.get("outcome", ""),
        patient=house.auditor.patient(patient_id),
        action=fields.get("action", ""),
        reason=fields.get("reason", "") if fields.get("action") == decisions.DISMISSED else "",
        comment=fields.get("comment", "").strip(),
    )
    await asyncio.to_thread(_keep, house, decision)
    if request.headers.get("hx-request"):
        context = {"decision": decision, "reasons": decisions.REASONS}
        return render(request, "decided.html", context)
    return RedirectResponse(f"/patients/{patient_id}#{chart_view.anchor(decision.outcome)}", status_code=303)


def _recalled(house: House, key: str) -> list[tuple[Recall, str, datetime]]:
    """Return the recalls of answers about a patient: each with its message, and when one was last shown."""
    recalls = house.incidents.recalls
    return [(recall, recalls.message(recall), when) for recall, when in recalls.about(key)]


def _keep(house: House, decision: Decision) -> None:
    given = house.auditor.given(decision.subject) if _DIGEST.fullmatch(decision.subject) else None
    about = given is not None and given.predicate["patient"] == decision.patient
    if given is None or not about or decision.outcome not in given.predicate["cards"]:
        raise InputError("answer", "(not shown)", "an answer that was given about this patient")
    decisions.decide(house.store, house.auditor, decision)


def _context(chart: Chart, shown: Shown, decided: dict[str, Decision]) -> dict[str, object]:
    now = chart.as_of
    answer, behind = shown.answer, shown.behind
    risks = risk_view.risks(answer, behind, chart.timeline, decided, chart.names) if answer and behind else []
    lists = {
        "conditions": chart_view.conditions(chart),
        "medications": chart_view.medications(chart),
        "encounters": chart_view.encounters(chart),
        "procedures": chart_view.procedures(chart),
    }
    series = chart_view.measurements(chart)
    anchors = {item.anchor for items in lists.values() for item in items}
    anchors |= {point.anchor for each in series for point in each.points if point.anchor}
    return {
        "person": chart_view.person(chart.patient, now.date()),
        "allergies": chart_view.allergies(chart),
        "answer": answer,
        "withheld": shown.withheld,
        "flags": risk_view.flags(answer) if answer else [],
        "risks": risks,
        "uncounted": [claim for claim in answer.background if claim.outcome is None] if answer else [],
        "behind": behind,
        "reference": partial(reference_to, behind.digest) if behind else None,
        "whole": WHOLE,
        "declaration": DECLARATION,
        "reasons": decisions.REASONS,
        "series": series,
        "shown_series": _SHOWN_SERIES,
        "anchors": anchors,
        "anchor": chart_view.anchor,
        "axis": chart_view.axis((item for items in lists.values() for item in items), now),
        "unread": chart.unread,
        **lists,
    }
