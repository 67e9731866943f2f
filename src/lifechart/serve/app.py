"""Puts the house together: what is opened at start, what every response carries, and what an error may say."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lifechart.core import plugs
from lifechart.core.errors import AccessDenied, AuditError, GateRefused, InputError, IntegrityError, LifechartError
from lifechart.core.settings import Settings
from lifechart.ledger.log import Log, open_log
from lifechart.release.documents.tally import Tally
from lifechart.release.incidents.register import open_incidents
from lifechart.release.protocol import open_registry
from lifechart.release.shadow.course import Course
from lifechart.release.shelf import Shelf, open_shelf
from lifechart.release.trial.roster import Roster
from lifechart.serve import memory, pages, sign_in
from lifechart.serve.access import Access
from lifechart.serve.audit import Auditor
from lifechart.serve.bedside import House
from lifechart.serve.predict import Predictor, processes
from lifechart.serve.records import ChartUnreadable, Ehr, NoSuchPatient
from lifechart.serve.store import Store
from lifechart.serve.surfaces import Surface

log = logging.getLogger("lifechart.serve")

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_ELSEWHERE = ("cross-site", "same-site")
_STATUS: dict[type[LifechartError], tuple[int, str]] = {
    AccessDenied: (403, "You may not see this"),
    NoSuchPatient: (404, "There is no such patient"),
    InputError: (400, "That could not be used"),
    GateRefused: (409, "That is not possible yet"),
    ChartUnreadable: (502, "The chart could not be read"),
    AuditError: (503, "Nothing can be shown"),
    IntegrityError: (503, "Something did not verify"),
}
_SAID: dict[type[LifechartError], str] = {
    ChartUnreadable: "The EHR did not give the whole chart, so nothing is shown rather than a part of it. Try again.",
    AuditError: "The audit log cannot be written at the moment. Until it can, no answer is shown.",
    IntegrityError: "A release or the ledger is not what was signed, so nothing is shown. A steward has to look at it.",
}
"""What the page says in place of the error's own message, where that is for the log."""


def create_app(settings: Settings, opener: Callable[[Settings], House] | None = None) -> FastAPI:
    """Return the application. `opener` gives another house than the settings describe, as one with an EHR in memory."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        house = (opener or open_house)(settings)
        app.state.house = house
        try:
            yield
        finally:
            house.predictor.close()
            await house.ehr.close()
            house.ledger.close()
            house.store.close()

    app = FastAPI(title="Lifechart", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(_Guard)
    app.mount("/static", StaticFiles(directory=pages.STATIC), name="static")
    app.include_router(sign_in.router)
    for surface in plugs.load("lifechart.surfaces", Surface).values():
        assert isinstance(surface, Surface)
        app.include_router(surface.router)
    app.add_exception_handler(sign_in.SignInNeeded, _to_sign_in)
    app.add_exception_handler(LifechartError, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http_error)
    return app


def open_house(
    settings: Settings, predictor: Callable[[Shelf], Predictor] | None = None, ledger: Log | None = None
) -> House:
    """Open everything that the outlets work with.

    `predictor` makes another than the one with processes; `ledger`: one that is open already.
    """
    store, ledger = Store(settings.database), ledger or open_log(settings)
    shelf = open_shelf(settings, ledger)
    return House(
        settings=settings,
        store=store,
        access=Access(store, settings),
        ehr=Ehr(settings),
        shelf=shelf,
        ledger=ledger,
        predictor=predictor(shelf) if predictor else Predictor(shelf, lambda: processes(settings)),
        auditor=Auditor(ledger, settings),
        roster=Roster(open_registry(settings, ledger)),
        incidents=open_incidents(settings, ledger, shelf),
        shadow=Course(ledger),
        tally=Tally(ledger),
    )


def run(settings: Settings) -> None:
    """Serve until stopped. Uvicorn's own access log is off: it would write addresses, and those name patients."""
    uvicorn.Server(server_config(create_app(settings, _open_for_good), settings.host, settings.port)).run()


def _open_for_good(settings: Settings) -> House:
    """Open the house in a process that serves it and does nothing else."""
    house = open_house(settings)
    house.predictor.prepare()
    memory.keep()
    return house


def server_config(app: FastAPI, host: str, port: int) -> uvicorn.Config:
    """Return how the application is served, wherever it is."""
    return uvicorn.Config(app, host, port, access_log=False, server_header=False, log_level="warning")


class _Guard:
    """Refuses what another site sends, adds the headers, and logs the route's template with status and time.

    Plain ASGI: a hook's body of some hundred kilobytes is not handed from task to task on its way in.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.perf_counter(), 0

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                is_static = scope["path"].startswith("/static/")
                headers["Cache-Control"] = "public, max-age=3600" if is_static else "no-store"
            await send(message)

        request = Request(scope, receive)
        try:
            if scope["method"] not in ("GET", "HEAD") and request.headers.get("sec-fetch-site") in _ELSEWHERE:
                await JSONResponse({"detail": "Not from another site."}, 403)(scope, receive, send_guarded)
            else:
                await self._app(scope, receive, send_guarded)
        except Exception as error:
            # The message could hold an identifier; the kind of error and where it arose cannot.
            log.error("unexpected %s at %s", type(error).__name__, _where(error))
            if not status:
                response = _problem(request, 500, "Something went wrong", "The fault has been logged.")
                await response(scope, receive, send_guarded)
        route = getattr(scope.get("route"), "path", "(no route)")
        log.info("%s %s %d %.1f ms", scope["method"], route, status, 1000 * (time.perf_counter() - start))


def _where(error: BaseException) -> str:
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " > ".join(frames[-6:])


async def _to_sign_in(request: Request, error: Exception) -> Response:
    target = request.url.path if request.method == "GET" else "/"
    address = f"/sign-in?next={target}"
    if request.headers.get("hx-request"):
        return Response(status_code=401, headers={"HX-Redirect": "/sign-in"})
    return RedirectResponse(address, status_code=303)


async def _refused(request: Request, error: Exception) -> Response:
    kind = next((kind for kind in _STATUS if isinstance(error, kind)), None)
    status, title = _STATUS[kind] if kind else (500, "Something went wrong")
    # An InputError repeats what was typed, which can be a name; its key says enough for a log.
    log.warning("%s: %s", type(error).__name__, error.key if isinstance(error, InputError) else error)
    said = _SAID.get(kind, str(error)) if kind else "The fault has been logged."
    return _problem(request, status, title, said)


async def _malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    places = sorted({".".join(str(part) for part in each["loc"]) for each in error.errors()})
    return _problem(request, 400, "That could not be used", f"Not as expected: {', '.join(places)}.")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title = "Page not found" if error.status_code == 404 else "That cannot be done"
    return _problem(request, error.status_code, title, "Check the address.")


def _problem(request: Request, status: int, title: str, said: str) -> Response:
    """Return a page to a person, JSON to a system. Neither ever holds an identifier."""
    if "text/html" in request.headers.get("accept", ""):
        # An address can name a patient, so the page that shows nothing does not repeat it either.
        return pages.render(request, "problem.html", {"title": title, "said": said, "path": ""}, status)
    return JSONResponse({"title": title, "detail": said}, status)
