"""The steward's pages: what is released and on what evidence, how far it is let out, the switch, and the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from lifechart.core.capability import Declaration, Phase, Role
from lifechart.core.errors import InputError, IntegrityError, LifechartError
from lifechart.core.report import Report
from lifechart.data.consent import standing
from lifechart.ledger import page
from lifechart.ledger.statement import Statement
from lifechart.ledger.trace import trace
from lifechart.release.documents import page as document_page
from lifechart.release.documents import write
from lifechart.release.documents.evidence import Dossier, gather
from lifechart.release.gate import Check
from lifechart.release.history import State
from lifechart.release.protocol import open_registry
from lifechart.release.shadow import course
from lifechart.release.shelf import Release
from lifechart.serve import decisions
from lifechart.serve.access import User
from lifechart.serve.bedside import House, house_of
from lifechart.serve.pages import render
from lifechart.serve.sign_in import Form, signed_in
from lifechart.serve.surfaces import Outlet
from lifechart_verify.audit import verify
from lifechart_verify.findings import Verification
from lifechart_verify.notes import Key

router = APIRouter(prefix="/steward")
surface = Outlet("steward", router)

Reader = Annotated[User, Depends(signed_in(Role.STEWARD, Role.AUDITOR))]
Steward = Annotated[User, Depends(signed_in(Role.STEWARD))]

_LAST = 12
_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"
_PHASE_WORDS = {
    Phase.OFF: "Shown to nobody",
    Phase.SIMULATION: "Shown for test patients only",
    Phase.SHADOW: "Made and audited, shown to nobody",
    Phase.TRIAL: "Made and audited; shown within a trial only",
    Phase.CLINICIANS: "Shown to the roles that it is for",
    Phase.INSTITUTIONS: "Also for other institutions",
    Phase.PUBLIC: "Also for the public",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """How one capability stands."""

    declaration: Declaration
    state: State
    release: Release | None
    fault: str
    """Why the current release does not verify, or nothing."""
    criteria: list[Criterion]
    decided: list[tuple[str, str, str, int]]
    shadow: course.Standing | None
    """The current model's shadow period, if it had one."""
    alarms: list[tuple[int, dict[str, Any]]]
    """Ledger entry and content of monitoring's last alarms, newest first."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One criterion of the gate over all that it was asked of."""

    name: str
    scope: str
    limit: str
    num_checks: int
    num_passed: int
    figure: float | None
    """The figure, where it was asked once."""


@router.get("")
async def overview(request: Request, user: Reader) -> Response:
    """Show every capability and the ledger."""
    house = house_of(request)
    context = await asyncio.to_thread(_overview, house)
    return render(request, "steward.html", {**context, "verification": None})


@router.post("/verify")
async def verify_ledger(request: Request, user: Reader, fields: Form) -> Response:
    """Re-hash the whole ledger and say what was found."""
    house = house_of(request)
    context = await asyncio.to_thread(_overview, house)
    verification = await asyncio.to_thread(_verify, house)
    return render(request, "steward.html", {**context, "verification": verification})


@router.get("/trace")
async def find_trace(request: Request, user: Reader, thing: str = "") -> Response:
    """Lead from the form to the page of a thing."""
    wanted = thing.strip()
    if not wanted:
        return RedirectResponse("/steward", status_code=303)
    return RedirectResponse(f"/steward/trace/{quote(wanted[:100], safe='')}", status_code=303)


@router.get("/trace/{thing}")
async def trace_page(request: Request, user: Reader, thing: str) -> Response:
    """Show what a thing rests on, and what rests on it: an answer, a release, a model, a data set, an extract."""
    house = house_of(request)
    graph = await asyncio.to_thread(trace, house.ledger, thing)
    shown = page.body(graph, lambda digest: f"/steward/trace/{digest}")
    return render(request, "trace.html", {"graph": graph, "node": graph.nodes[graph.start], "body": shown})


@router.post("/{capability}/switch")
async def switch(request: Request, user: Steward, fields: Form, capability: str) -> Response:
    """Switch a capability off or on; it takes effect with the next question."""
    house = house_of(request)
    on, reason = fields.get("switch") == "on", fields.get("reason", "")
    _known(house, capability)
    await asyncio.to_thread(lambda: house.shelf.switch(capability, on, actor=user.name, reason=reason))
    return RedirectResponse("/steward", status_code=303)


@router.post("/{capability}/phase")
async def set_phase(request: Request, user: Steward, fields: Form, capability: str) -> Response:
    """Let the current release out to a phase, or take it back."""
    house = house_of(request)
    _known(house, capability)
    wanted = fields.get("phase", "")
    if wanted not in set(Phase):
        raise InputError("phase", "(not shown)", f"one of {[phase.value for phase in Phase]}")
    reason = fields.get("reason", "")
    await asyncio.to_thread(lambda: house.shelf.set_phase(capability, Phase(wanted), actor=user.name, reason=reason))
    return RedirectResponse("/steward", status_code=303)


@router.get("/{capability}/releases/{version}")
async def release(request: Request, user: Reader, capability: str, version: str) -> Response:
    """Show one release: what it consists of and every check of its gate."""
    house = house_of(request)
    _known(house, capability)
    found = await asyncio.to_thread(house.shelf.get, capability, version)
    report = await asyncio.to_thread(Report.load, found.report)
    context = {
        "release": found,
        "names": report.outcome_names,
        "criteria": criteria_of(found.manifest.checks),
        "pairs": _pairs(found, report),
        "has_page": found.report.with_suffix(".html").exists(),
    }
    return render(request, "release.html", context)


@router.get("/{capability}/releases/{version}/report")
async def report_page(request: Request, user: Reader, capability: str, version: str) -> Response:
    """Show the evaluation's own page, confined: it may style itself and hold its plots, and do nothing else."""
    house = house_of(request)
    _known(house, capability)
    found = await asyncio.to_thread(house.shelf.get, capability, version)
    page = found.report.with_suffix(".html")
    if not page.exists():
        raise InputError("report", version, "a release whose report has a page")
    return FileResponse(page, media_type="text/html", headers={"Content-Security-Policy": _REPORT_POLICY})


@router.get("/{capability}/documents")
async def documents_list(request: Request, user: Reader, capability: str) -> Response:
    """List the documents of the current release, and why the others cannot be written."""
    house = house_of(request)
    written = await asyncio.to_thread(lambda: write.make_all(_dossier(house, capability)))
    context = {"capability": capability, "documents": written.documents, "refused": written.refused}
    return render(request, "documents.html", context)


@router.get("/{capability}/documents/{name}")
async def document(request: Request, user: Reader, capability: str, name: str) -> Response:
    """Show one document, made now from evidence and confined as the report is."""
    house = house_of(request)
    made = await asyncio.to_thread(lambda: document_page.render(write.make(_dossier(house, capability), name)))
    return HTMLResponse(made, headers={"Content-Security-Policy": _REPORT_POLICY})


def _dossier(house: House, capability: str) -> Dossier:
    _known(house, capability)
    declaration = house.predictor.capabilities[capability].declaration
    registry = open_registry(house.settings, house.ledger)
    return gather(house.shelf, house.ledger, registry, declaration, house.settings.institution, house.tally)


def criteria_of(checks: Sequence[Check]) -> list[Criterion]:
    """Return the gate's checks by criterion, in the gate's order."""
    grouped: dict[str, list[Check]] = {}
    for check in checks:
        grouped.setdefault(check.criterion, []).append(check)
    return [
        Criterion(
            name,
            found[0].scope,
            found[0].limit,
            len(found),
            sum(check.passed for check in found),
            found[0].figure if len(found) == 1 else None,
        )
        for name, found in grouped.items()
    ]


def _overview(house: House) -> dict[str, object]:
    standings: list[Standing] = []
    last: list[tuple[int, Statement]] = []
    fault = ""
    withdrawn: list[standing.Standing] = []
    try:
        house.ledger.refresh()
        size = house.ledger.size
        last = [(entry.index, entry.statement) for entry in house.ledger.entries(max(0, size - _LAST), size)]
        standings = [_standing(house, plug.declaration) for plug in house.predictor.capabilities.values()]
        withdrawn = standing.affected(house.ledger)
    except IntegrityError as error:
        fault = str(error)
    return {
        "standings": standings,
        "withdrawn": withdrawn,
        "phases": _PHASE_WORDS,
        "reasons": decisions.REASONS,
        "size": house.ledger.size,
        "root": house.ledger.root,
        "last": last[::-1],
        "fault": fault,
    }


def _standing(house: House, declaration: Declaration) -> Standing:
    state = house.shelf.state(declaration.name)
    release, fault = None, ""
    if state.version is not None:
        try:
            release = house.shelf.current(declaration.name)
        except IntegrityError as error:
            fault = str(error)
    criteria = criteria_of(release.manifest.checks) if release else []
    found = house.shadow.of(release.manifest.model_digest) if release else None
    numbers = house.ledger.numbers(kind="alarm", capability=declaration.name).tolist()[-_LAST:]
    alarms = [(entry.index, entry.statement.predicate) for entry in house.ledger.read(numbers)][::-1]
    decided = decisions.tally(house.store, declaration.name)
    shown = found if found and (found.answers or found.faults) else None
    return Standing(declaration, state, release, fault, criteria, decided, shown, alarms)


def _verify(house: House) -> Verification | str:
    """Check the log with the program that an auditor would take, in this process."""
    try:
        house.ledger.publish()
    except LifechartError as error:
        return str(error)
    return verify(house.ledger.folder, Key.parse(house.ledger.verifier.lines[0]))


def _pairs(release: Release, report: Report) -> list[tuple[str, list[tuple[int, bool, list[Check]]]]]:
    """Return (outcome's name, [(horizon in days, released, failed checks)]) of everything that was examined."""
    by_outcome: dict[str, dict[int, list[Check]]] = {}
    for check in release.manifest.checks:
        if check.outcome and check.horizon_days and check.scope != "whole":
            by_outcome.setdefault(check.outcome, {}).setdefault(check.horizon_days, []).append(check)
    released = set(release.released)
    rows = [
        (
            report.outcome_names.get(outcome, outcome),
            [
                (days, (outcome, days) in released, [check for check in checks if not check.passed])
                for days, checks in sorted(horizons.items())
            ],
        )
        for outcome, horizons in by_outcome.items()
    ]
    return sorted(rows, key=lambda row: (-sum(shown for _, shown, _ in row[1]), row[0]))


def _known(house: House, capability: str) -> None:
    if capability not in house.predictor.capabilities:
        raise InputError("capability", "(not shown)", f"one of {sorted(house.predictor.capabilities)}")
