"""A surface of one route: the answer about a patient as plain text, for a terminal on the ward."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import PlainTextResponse

from lifechart.core.capability import Role
from lifechart.serve.access import User
from lifechart.serve.bedside import ask, house_of
from lifechart.serve.sign_in import signed_in
from lifechart.serve.surfaces import Outlet

router = APIRouter()
surface = Outlet("plain", router)


@router.get("/plain/{patient_id}")
async def plain(
    request: Request, user: Annotated[User, Depends(signed_in(Role.CLINICIAN))], patient_id: str
) -> PlainTextResponse:
    """Say what may be said, one line a claim."""
    house = house_of(request)
    shown = await ask(house, "risk", user, await house.ehr.chart(patient_id), surface.name)
    if shown.answer is None:
        return PlainTextResponse(f"{shown.withheld}\n")
    lines = [shown.answer.reason, *(claim.text for claim in shown.answer.claims), *shown.answer.limits]
    return PlainTextResponse("\n".join(line for line in lines if line) + "\n")
