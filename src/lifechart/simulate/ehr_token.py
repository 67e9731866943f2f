"""The simulated EHR's token endpoint: SMART Backend Services, for clients whose public keys it was given at start."""

from __future__ import annotations

import secrets
import time
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lifechart.core.errors import InputError

TOKEN_PATH = "/auth/token"
SECONDS = 300
"""A token's life, as SMART advises."""
_ALGORITHMS = ["RS384", "ES384"]
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_FRESH = {"Cache-Control": "no-store"}


def load_clients(path: Path) -> dict[str, dict[str, Any]]:
    """Return {client id: its JWK set} from a JSON file; raises InputError."""
    try:
        found = orjson.loads(path.read_bytes())
        for keys in found.values():
            KeySet.import_key_set(keys)
        return dict(found)
    except (OSError, orjson.JSONDecodeError, AttributeError, TypeError, ValueError, KeyError, JoseError) as error:
        raise InputError("--clients", str(path), 'a JSON file {"CLIENT ID": {"keys": [JWK, …]}}') from error


class Tokens:
    """Gives tokens to known clients, and knows those that are good. Safe to use from several threads."""

    def __init__(self, clients: Mapping[str, Any]) -> None:
        self._clients = {name: KeySet.import_key_set(keys) for name, keys in clients.items()}
        self._until: dict[bytes, float] = {}
        self._used: dict[str, float] = {}
        self._lock = Lock()

    def __bool__(self) -> bool:
        return bool(self._clients)

    def good(self, authorization: bytes) -> bool:
        """Return whether an Authorization header holds a token that was given here and has not ended."""
        return self._until.get(authorization.removeprefix(b"Bearer "), 0.0) > time.time()

    async def give(self, request: Request) -> Response:
        """Answer a token request (RFC 7523)."""
        form = await request.form()
        try:
            self._check(form, str(request.url).split("?")[0])
        except (JoseError, ValueError, KeyError, TypeError):
            return JSONResponse({"error": "invalid_client"}, 400, _FRESH)
        scope = str(form.get("scope", ""))
        if form.get("grant_type") != "client_credentials" or not scope.startswith("system/"):
            return JSONResponse({"error": "invalid_request"}, 400, _FRESH)
        token = secrets.token_urlsafe(32)
        with self._lock:
            now = time.time()
            self._until = {known: end for known, end in self._until.items() if end > now}
            self._until[token.encode()] = now + SECONDS
        given = {"access_token": token, "token_type": "bearer", "expires_in": SECONDS, "scope": scope}
        return JSONResponse(given, headers=_FRESH)

    def configuration(self, request: Request) -> Response:
        """Answer /.well-known/smart-configuration."""
        return JSONResponse(
            {
                "token_endpoint": f"{str(request.base_url).rstrip('/')}{TOKEN_PATH}",
                "token_endpoint_auth_methods_supported": ["private_key_jwt"],
                "token_endpoint_auth_signing_alg_values_supported": _ALGORITHMS,
                "grant_types_supported": ["client_credentials"],
                "scopes_supported": ["system/*.read", "system/*.rs"],
                "capabilities": ["client-confidential-asymmetric"],
            }
        )

    def _check(self, form: Any, audience: str) -> None:
        """Raise unless the form's assertion is a known client's, for us, short-lived and new."""
        if form.get("client_assertion_type") != _ASSERTION:
            raise ValueError("client_assertion_type")
        assertion = str(form["client_assertion"])
        # Whose keys to try stands in the assertion itself; nothing else of it is believed before they fit.
        claimed = orjson.loads(_unsigned_claims(assertion))["iss"]
        token = jwt.decode(assertion, self._clients[claimed], algorithms=_ALGORITHMS)
        rules = jwt.JWTClaimsRegistry(
            leeway=5,
            iss={"essential": True, "value": claimed},
            sub={"essential": True, "value": claimed},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
            jti={"essential": True},
        )
        rules.validate(token.claims)
        now, identity = time.time(), f"{claimed} {token.claims['jti']}"
        if token.claims["exp"] > now + SECONDS + 5:
            raise ValueError("exp")
        with self._lock:
            self._used = {known: end for known, end in self._used.items() if end > now}
            if identity in self._used:
                raise ValueError("jti")
            self._used[identity] = float(token.claims["exp"]) + 60


def _unsigned_claims(assertion: str) -> bytes:
    part = assertion.split(".")[1]
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))
