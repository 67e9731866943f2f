"""A read-only FHIR R4 server over the simulated hospital's export: it stands in for the EHR.

It reads, searches by patient, gives a patient's whole chart (`$everything`) and everything there is (`$export`, in
`ehr_bulk`, for clients that `ehr_token` knows); `/` lists the patients with a link to open each in Lifechart. No
cross-origin access is granted, and nothing can be written.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lifechart.simulate import ehr_page
from lifechart.simulate.ehr_bulk import Bulk
from lifechart.simulate.ehr_records import Records
from lifechart.simulate.ehr_search import DIRECTORY, PAGING, BadSearch, parameters, search
from lifechart.simulate.ehr_token import TOKEN_PATH, Tokens

_JSON = "application/fhir+json"
_DEFAULT_COUNT, _MOST = 50, 1_000
_CONFIGURATION = "/fhir/.well-known/smart-configuration"
_OPEN = ("/fhir/metadata", _CONFIGURATION, TOKEN_PATH)
_HEADERS = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


def create_ehr(
    fhir_dir: Path,
    *,
    token: str = "",
    clients: Mapping[str, Any] | None = None,
    bulk_polls: int = 2,
    chart_url: str = "http://127.0.0.1:8800/patients/{patient}",
) -> Starlette:
    """Return the ASGI application; its index is built here, a few seconds for 2,000 lives.

    `token`: if given, everything but `/fhir/metadata` wants it as a bearer token. `clients`: client ids and their
    public JWK sets; if given, everything wants that token or one of those that these clients are given. `bulk_polls`:
    how often an export is not ready yet. `chart_url`: where `{patient}` opens in Lifechart. Raises InputError if the
    folder holds no export.
    """
    records = Records(fhir_dir)
    tokens, bulk = Tokens(clients or {}), Bulk(records, polls=bulk_polls)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        bulk.close()
        records.close()

    server = _Server(records, chart_url, secured=bool(token or tokens))
    routes = [
        Route("/", server.page),
        Route(TOKEN_PATH, tokens.give, methods=["POST"]),
        Route(_CONFIGURATION, tokens.configuration),
        Route("/fhir/metadata", server.metadata),
        Route("/fhir/$export", bulk.start),
        Route("/fhir/Patient/$export", bulk.start),
        Route("/fhir/Group/{group}/$export", bulk.start),
        Route("/fhir/bulk-status/{job}", bulk.status, methods=["GET", "DELETE"]),
        Route("/fhir/bulk-files/{job}/{file}", bulk.file),
        Route("/fhir/Patient/{id}/$everything", server.everything),
        Route("/fhir/{kind}", server.find),
        Route("/fhir/{kind}/{id}", server.read),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(_Guard, token=token, tokens=tokens)],
        exception_handlers={HTTPException: _refused, BadSearch: _bad_search},
        lifespan=lifespan,
    )


class _Server:
    def __init__(self, records: Records, chart_url: str, secured: bool) -> None:
        self._records, self._chart_url, self._secured = records, chart_url, secured

    def metadata(self, request: Request) -> Response:
        return _answer(_capabilities(_base(request), self._records.types, self._secured))

    def read(self, request: Request) -> Response:
        kind, name = request.path_params["kind"], request.path_params["id"]
        line = self._records.read(self._known(kind), name)
        if line is None:
            raise HTTPException(404, f"{kind}: there is none of that id")
        return Response(line, media_type=_JSON)

    def find(self, request: Request) -> Response:
        kind = self._known(request.path_params["kind"])
        found = search(self._records, kind, request.query_params.multi_items())
        return _bundle(request, [(kind, line) for line in found])

    def everything(self, request: Request) -> Response:
        patient = request.path_params["id"]
        if not self._records.has_patient(patient):
            raise HTTPException(404, "Patient: there is none of that id")
        for name in request.query_params:
            if name not in (*PAGING, "_type", "_format"):
                raise BadSearch(f"$everything: parameter {name!r} is not supported; there are _type, _count")
        kinds = ["Patient", *(kind for kind in self._records.types if kind not in ("Patient", *DIRECTORY))]
        if "_type" in request.query_params:
            wanted = request.query_params["_type"].split(",")
            kinds = [kind for kind in kinds if kind in wanted]
        found = [(kind, line) for kind in kinds for line in self._records.of_patient(kind, patient)]
        return _bundle(request, found)

    def page(self, request: Request) -> Response:
        return ehr_page.patients(request, self._records, self._chart_url)

    def _known(self, kind: str) -> str:
        if kind not in self._records.types:
            raise HTTPException(404, "resource type: this server has none of it")
        return kind


class _Guard:
    """Asks for the bearer token, and says to every answer that it must not be kept."""

    def __init__(self, app: ASGIApp, token: str, tokens: Tokens) -> None:
        self._app, self._wanted = app, f"Bearer {token}".encode() if token else b""
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        given = dict(scope["headers"]).get(b"authorization", b"")
        secured = (self._wanted or self._tokens) and scope["path"] not in _OPEN
        known = bool(self._wanted) and hmac.compare_digest(given, self._wanted)
        if secured and not known and not self._tokens.good(given):
            answer = _outcome(401, "login", "a bearer token is wanted", {"WWW-Authenticate": "Bearer"})
            await answer(scope, receive, sealed)
            return
        await self._app(scope, receive, sealed)


def _bundle(request: Request, found: list[tuple[str, bytes]]) -> Response:
    """Return one page of a searchset; the links to the pages before and after are in it."""
    count, offset = _number(request, "_count", _DEFAULT_COUNT), _number(request, "_offset", 0)
    count = min(count, _MOST)
    base = _base(request)
    entries = [_entry(base, kind, line) for kind, line in found[offset : offset + count]]
    links = [{"relation": "self", "url": _link(request, count, offset)}]
    if count and offset + count < len(found):
        links.append({"relation": "next", "url": _link(request, count, offset + count)})
    if count and offset:
        links.append({"relation": "previous", "url": _link(request, count, max(0, offset - count))})
    head = orjson.dumps({"resourceType": "Bundle", "type": "searchset", "total": len(found), "link": links})
    body = b'%s,"entry":[%s]}' % (head[:-1], b",".join(entries)) if entries else head
    return Response(body, media_type=_JSON)


def _entry(base: str, kind: str, line: bytes) -> bytes:
    # The id is within the first members of every line that the export writes; a full parse finds it anywhere.
    start = line.find(b'"id":"', 0, 100) + 6
    name = line[start : line.find(b'"', start)].decode() if start > 5 else orjson.loads(line)["id"]
    return b'{"fullUrl":"%s/%s/%s","resource":%s,"search":{"mode":"match"}}' % (
        base.encode(),
        kind.encode(),
        name.encode(),
        line,
    )


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise BadSearch(f"{name}: expected a whole number from 0", "value")
    return int(text)


def _link(request: Request, count: int, offset: int) -> str:
    kept = [(name, value) for name, value in request.query_params.multi_items() if name not in PAGING]
    query = urlencode([*kept, ("_count", count), ("_offset", offset)])
    return f"{_base(request)}{request.url.path.removeprefix('/fhir')}?{query}"


def _base(request: Request) -> str:
    return f"{str(request.base_url).rstrip('/')}/fhir"


def _answer(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type=_JSON)


def _outcome(status: int, code: str, text: str, headers: dict[str, str] | None = None) -> Response:
    issue = {"severity": "error", "code": code, "diagnostics": text}
    return _answer({"resourceType": "OperationOutcome", "issue": [issue]}, status, headers)


def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not-found", 405: "not-supported"}.get(error.status_code, "processing")
    return _outcome(error.status_code, code, error.detail, dict(error.headers or {}))


def _bad_search(_: Request, error: Exception) -> Response:
    assert isinstance(error, BadSearch)
    return _outcome(400, error.code, str(error))


def _capabilities(base: str, kinds: list[str], secured: bool) -> dict[str, object]:
    everything = {"name": "everything", "definition": "http://hl7.org/fhir/OperationDefinition/Patient-everything"}
    resources = [
        {
            "type": kind,
            "interaction": [{"code": "read"}, {"code": "search-type"}],
            "searchParam": [{"name": name, "type": _kind_of(name)} for name in parameters(kind)],
            **({"operation": [everything]} if kind == "Patient" else {}),
        }
        for kind in kinds
    ]
    bulk = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/export"
    rest: dict[str, object] = {
        "mode": "server",
        "resource": resources,
        "operation": [{"name": "export", "definition": bulk}],
    }
    if secured:
        rest["security"] = {"cors": False, "description": "A bearer token that the hospital hands out."}
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-01-01",
        "kind": "instance",
        "software": {"name": "Lifechart simulated hospital"},
        "implementation": {"description": "Simulated records of people who do not exist", "url": base},
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [rest],
    }


def _kind_of(name: str) -> str:
    return {
        "patient": "reference",
        "subject": "reference",
        "encounter": "reference",
        "name": "string",
        "family": "string",
        "given": "string",
        "birthdate": "date",
    }.get(name, "token")
