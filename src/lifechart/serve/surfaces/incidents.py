"""Incidents from any page: the form for everybody, the work on them for stewards, and recalls to be acknowledged."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import unquote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from fastapi.routing import APIRoute

from lifechart.core import plugs
from lifechart.core.capability import Role
from lifechart.core.errors import InputError
from lifechart.ledger.statement import Subject
from lifechart.release.incidents.course import Incident, Standing
from lifechart.release.incidents.register import Incidents
from lifechart.release.incidents.scope import Scope
from lifechart.serve.access import User
from lifechart.serve.bedside import House, house_of
from lifechart.serve.pages import render
from lifechart.serve.sign_in import Form, local, signed_in
from lifechart.serve.surfaces import Outlet, Surface

router = APIRouter(prefix="/incidents")
surface = Outlet("incidents", router)

Anybody = Annotated[User, Depends(signed_in(*Role))]
Reader = Annotated[User, Depends(signed_in(Role.STEWARD, Role.AUDITOR))]
Steward = Annotated[User, Depends(signed_in(Role.STEWARD))]

_DIGEST = re.compile(r"[0-9a-f]{64}")


@router.get("")
async def overview(request: Request, user: Reader) -> Response:
    """Show every incident with its clocks, and every recall with who has acknowledged it."""
    return render(request, "incidents.html", await asyncio.to_thread(_overview, house_of(request)))


@router.get("/report")
async def report_form(request: Request, user: Anybody, page: str = "", answer: str = "") -> Response:
    """Show the form; `page` is where the visitor was, `answer` the digest of what they were shown."""
    policy = house_of(request).incidents.policy.demands
    context = {"policy": policy, "page": page[:300], "answer": answer if _DIGEST.fullmatch(answer) else ""}
    return render(request, "incident_report.html", context)


@router.post("/report")
async def report(request: Request, user: Anybody, fields: Form) -> Response:
    """Take a report; what was written stays in this house."""
    made = await asyncio.to_thread(_report, house_of(request), user, fields)
    return render(request, "incident_reported.html", {"incident": made})


@router.post("/recalls/{recall}/acknowledge")
async def acknowledge(request: Request, user: Anybody, fields: Form, recall: str) -> Response:
    """Record that this user has read a notice."""
    house = house_of(request)
    await asyncio.to_thread(house.incidents.recalls.acknowledge, recall, user.name)
    return RedirectResponse(local(fields.get("next", "/")), status_code=303)


@router.post("/recalls/{recall}/end")
async def end_recall(request: Request, user: Steward, fields: Form, recall: str) -> Response:
    """End a recall that somebody cannot acknowledge any more."""
    house, words = house_of(request), fields.get("words", "")
    await asyncio.to_thread(lambda: house.incidents.end_recall(recall, words, actor=user.name))
    return RedirectResponse("/incidents", status_code=303)


@router.get("/{number}")
async def incident_page(request: Request, user: Reader, number: str) -> Response:
    """Show one incident whole; that its text was read stands in the ledger before it is shown."""
    house = house_of(request)
    found = await asyncio.to_thread(house.incidents.get, number)
    subject = Subject("incident", found.digest)
    await asyncio.to_thread(house.auditor.read, subject, found.patients, user.name, surface.name)
    return render(request, "incident.html", await asyncio.to_thread(_incident, house, found))


@router.post("/{number}/triage")
async def triage(request: Request, user: Steward, fields: Form, number: str) -> Response:
    """Say how bad it is, and switch the capability off if so ticked."""
    severity, pause = fields.get("severity", ""), fields.get("pause") == "yes"
    return await _step(
        request, number, lambda all_: all_.triage(number, severity, _words(fields), actor=user.name, pause=pause)
    )


@router.post("/{number}/investigate")
async def investigate(request: Request, user: Steward, fields: Form, number: str) -> Response:
    """Say what the root cause was."""
    cause = fields.get("cause", "")
    return await _step(request, number, lambda all_: all_.investigate(number, cause, _words(fields), actor=user.name))


@router.post("/{number}/correct")
async def correct(request: Request, user: Steward, fields: Form, number: str) -> Response:
    """Say what was done about it."""
    return await _step(request, number, lambda all_: all_.correct(number, _words(fields), actor=user.name))


@router.post("/{number}/link")
async def link(request: Request, user: Steward, fields: Form, number: str) -> Response:
    """Link another answer, by the reference printed beside it."""
    house = house_of(request)
    answer = await asyncio.to_thread(_referred, house, fields.get("reference", ""))
    return await _step(request, number, lambda all_: all_.link(number, actor=user.name, answers=[answer]))


@router.post("/{number}/submitted")
async def submitted(request: Request, user: Steward, fields: Form, number: str) -> Response:
    """Record that a regulator was told."""
    regulator, reference = fields.get("regulator", ""), fields.get("reference", "")
    return await _step(request, number, lambda all_: all_.submitted(number, regulator, reference, actor=user.name))


@router.post("/{number}/recall")
async def recall(request: Request, user: Steward, fields: Form, number: str) -> Response:
    """Issue a recall: of everything that one release said, or of the answers that are linked."""
    version = fields.get("version", "")

    def issue(all_: Incidents) -> None:
        found = all_.get(number)
        linked = Scope(found.capability, answers=tuple(found.answers))
        if not version and not found.answers:
            raise InputError("answers", 0, "a release, or an incident with linked answers")
        scope = all_.release_scope(found.capability, version) if version else linked
        all_.recall(number, scope, _words(fields), actor=user.name)

    return await _step(request, number, issue)


@router.post("/{number}/close")
async def close(request: Request, user: Steward, fields: Form, number: str) -> Response:
    """Close an incident that the safety officer has signed for."""
    return await _step(request, number, lambda all_: all_.close(number, actor=user.name))


@router.post("/{number}/reopen")
async def reopen(request: Request, user: Steward, fields: Form, number: str) -> Response:
    """Take a closed incident up again."""
    return await _step(request, number, lambda all_: all_.reopen(number, _words(fields), actor=user.name))


async def _step(request: Request, number: str, act: Callable[[Incidents], object]) -> Response:
    house = house_of(request)
    await asyncio.to_thread(act, house.incidents)
    return RedirectResponse(f"/incidents/{house.incidents.get(number).number}", status_code=303)


def _words(fields: dict[str, str]) -> str:
    return fields.get("words", "")


def _report(house: House, user: User, fields: dict[str, str]) -> Incident:
    answer, occurred = fields.get("answer", ""), fields.get("occurred", "")
    page, patients = _where(house, fields.get("page", ""))
    try:
        when = datetime.fromisoformat(occurred).astimezone(UTC) if occurred else None
    except ValueError:
        raise InputError("occurred", "(not shown)", "a date and time") from None
    if answer and house.auditor.given(answer) is None:
        raise InputError("answer", "(not shown)", "an answer that was given")
    return house.incidents.report(
        fields.get("problem", ""),
        fields.get("severity", ""),
        fields.get("words", ""),
        actor=user.name,
        answers=[answer] if answer else [],
        patients=patients,
        page=page,
        occurred=when,
    )


def _where(house: House, path: str) -> tuple[str, list[str]]:
    """Return the template of the route that answers a path, and the keyed hash of the patient whose chart it is."""
    for outlet in plugs.load("lifechart.surfaces", Surface).values():
        assert isinstance(outlet, Surface)
        for route in outlet.router.routes:
            if (
                isinstance(route, APIRoute)
                and "GET" in (route.methods or ())
                and (found := route.path_regex.fullmatch(path))
            ):
                patient = unquote(found.groupdict().get("patient_id", ""))
                return route.path, [house.auditor.patient(patient)] if patient else []
    return "", []


def _referred(house: House, reference: str) -> str:
    """Return the digest that a printed reference begins."""
    wanted = reference.strip().lower().replace("-", "")
    found = house.ledger.digests(wanted) if re.fullmatch(r"[0-9a-f]{6,64}", wanted) else []
    if len(found) != 1:
        raise InputError("reference", "(not shown)", "a reference as it stands beside an answer")
    return found[0]


def _overview(house: House) -> dict[str, object]:
    incidents = house.incidents
    rows = [(each, incidents.overdue_now(each), each.triage_due(incidents.policy)) for each in incidents.all()]
    # What is late comes first, then what is open, the newest at the top.
    rows.sort(key=lambda row: (not row[1], row[0].closed is not None, -row[0].number))
    recalls = [
        (each, incidents.get(each.incident).number, incidents.recalls.tally(each)) for each in incidents.recalls.all()
    ]
    return {"rows": rows, "recalls": recalls[::-1], "policy": incidents.policy}


def _incident(house: House, found: Incident) -> dict[str, object]:
    incidents = house.incidents
    state = house.shelf.state(found.capability) if found.capability else None
    recalls = [incidents.recalls.get(digest) for digest in found.recalls]
    return {
        "incident": found,
        "steps": [(each, incidents.words.read(each.words) if each.words else "") for each in found.steps],
        "policy": incidents.policy,
        "overdue": incidents.overdue_now(found),
        "triage_due": found.triage_due(incidents.policy),
        "regulators": found.regulator_due(incidents.policy),
        "recalls": [(each, incidents.recalls.tally(each)) for each in recalls],
        "state": state,
        "is_open": found.standing is not Standing.CLOSED,
    }
