"""Speaks to a FHIR server for a bulk export: SMART Backend Services for the token, patience for everything else.

The token goes to the server's own origin and to nowhere else, and never over plain HTTP but on this machine. What the
server says in an error is not repeated, since it may name a patient: a message holds the status and where it happened.
Standards: SMART App Launch 2.2, Backend Services (private_key_jwt, RS384 or ES384); FHIR Bulk Data Access 2.0.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey, import_key

from lifechart.core.errors import InputError, LifechartError

ALGORITHMS = {"EC": "ES384", "RSA": "RS384"}
"""Kind of key -> how it signs; SMART asks servers to know both."""
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_SECONDS = 240
_EARLY_SECONDS = 30
# A token is renewed so long before it ends.
_PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
"""Statuses that may pass by themselves."""
_TRIES = 8
_LONGEST_WAIT = 120.0
_TIMEOUT = httpx.Timeout(120.0, connect=10.0)
_HERE = frozenset(("localhost", "127.0.0.1", "::1"))


class ExportFailed(LifechartError):
    """The server did not give what was asked; says at which step and with which status, never what it answered."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks: an OAuth client that the server knows by its public key, or a token somebody gave us, or nobody."""

    id: str = ""
    key: Path | None = None
    """Private key as a JWK or PEM: EC on P-384, or RSA."""
    token: str = ""
    scope: str = "system/*.read"
    token_url: str = ""
    """Where tokens are given; by default what the server's SMART configuration says."""


def new_key(path: Path) -> dict[str, Any]:
    """Write a new private key (ES384) readable by its owner alone; return the public JWK that the server must know."""
    key = ECKey.generate_key("P-384", {"use": "sig", "alg": "ES384"}, private=True, auto_kid=True)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(orjson.dumps(key.as_dict(private=True)))
        os.fsync(file.fileno())
    return dict(key.as_dict(private=False))


def load_key(path: Path) -> ECKey | RSAKey:
    """Return the private key at `path`; raises InputError if there is none that can sign."""
    expected = "a private key as JWK or PEM: EC on P-384, or RSA"
    found: object = None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError("--key", str(path), expected) from error
    if content.lstrip().startswith(b"{"):
        with suppress(ValueError, TypeError, JoseError):
            found = import_key(orjson.loads(content))
    else:
        for kind in (ECKey, RSAKey):
            with suppress(ValueError, TypeError, JoseError):
                found = kind.import_key(content)
                break
    if not isinstance(found, (ECKey, RSAKey)) or not found.is_private:
        raise InputError("--key", str(path), expected)
    if isinstance(found, ECKey) and found.curve_name != "P-384":
        raise InputError("--key", found.curve_name, expected)
    return found


def public_key(path: Path) -> dict[str, Any]:
    """Return the public JWK of the private key at `path`, with its kid."""
    key = load_key(path)
    key.ensure_kid()
    return dict(key.as_dict(private=False)) | {"use": "sig", "alg": ALGORITHMS[key.key_type]}


class Server:
    """One FHIR server: asks it, waits for it, and renews the token. Use it within `with`."""

    def __init__(self, base: str, client: Client, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Raises InputError for an address or a client that cannot be used."""
        self.base = base.rstrip("/")
        self._origin = _origin(self.base)
        if self._origin[0] != "https" and self._origin[1] not in _HERE:
            raise InputError("URL", self.base, "an https address (plain http on this machine only)")
        self._client, self._sleep = client, sleep
        self._key = load_key(client.key) if client.key is not None else None
        if self._key is not None and not client.id:
            raise InputError("--client-id", "", "the id under which the server knows this key")
        self._http = httpx.Client(timeout=_TIMEOUT, follow_redirects=False)
        self._token, self._until = client.token, float("inf")
        self._token_url = client.token_url

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def own(self, url: str) -> bool:
        """Return whether an address is this server's."""
        return _origin(url) == self._origin

    def get(self, url: str, step: str, *, accept: str, prefer: str = "") -> httpx.Response:
        """Return an answer below 300 with its body, having waited out what passes; raises ExportFailed."""
        for attempt in range(_TRIES):
            with self.stream(url, step, accept=accept, prefer=prefer) as answer:
                try:
                    answer.read()
                    return answer
                except (httpx.TransportError, httpx.DecodingError) as error:
                    if attempt == _TRIES - 1:
                        raise ExportFailed(f"{step}: {type(error).__name__}") from None
        raise AssertionError("unreachable")

    def forget(self, url: str) -> None:
        """Let the server delete an export that is finished; whether it does is its own affair."""
        try:
            self._http.delete(url, headers=self._authority(url))
        except httpx.HTTPError:
            return

    @contextmanager
    def stream(
        self, url: str, step: str, *, accept: str, prefer: str = "", token: bool = True
    ) -> Iterator[httpx.Response]:
        """Yield an answer below 300 whose body is still to be read; raises ExportFailed.

        `token`: whether to send ours; it is refused to any other server. The body is the caller's to read, and an error
        in it is httpx's.
        """
        answer = self._open(url, step, {"Accept": accept} | ({"Prefer": prefer} if prefer else {}), token)
        try:
            yield answer
        finally:
            answer.close()

    def _open(self, url: str, step: str, headers: dict[str, str], token: bool) -> httpx.Response:
        if token and not self.own(url):
            raise ExportFailed(f"{step}: the server sends us to {_origin(url)[1]}, which may not have its token")
        renewed, status = False, "no answer"
        for attempt in range(_TRIES):
            sent = headers | (self._authority(url) if token else {})
            try:
                answer = self._http.send(self._http.build_request("GET", url, headers=sent), stream=True)
            except httpx.TransportError as error:
                status = type(error).__name__
                self._sleep(min(2.0**attempt, _LONGEST_WAIT))
                continue
            if answer.status_code < 300:
                return answer
            answer.close()
            status = str(answer.status_code)
            place = answer.headers.get("Location")
            if answer.is_redirect and place:
                # Files may lie elsewhere: whoever sends us there has signed the address, and our token stays here.
                url = urljoin(url, place)
                token = token and self.own(url)
            elif answer.status_code == 401 and token and self._key is not None and not renewed:
                renewed, self._until = True, 0.0
            elif answer.status_code in _PASSING:
                wait = retry_after(answer)
                self._sleep(min(wait if wait is not None else 2.0**attempt, _LONGEST_WAIT))
            else:
                break
        raise ExportFailed(f"{step}: the server answers {status}")

    def _authority(self, url: str) -> dict[str, str]:
        if not self.own(url):
            return {}
        if self._key is not None and time.time() > self._until - _EARLY_SECONDS:
            self._renew()
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def _renew(self) -> None:
        """Ask for a token by a signed assertion (RFC 7523)."""
        assert self._key is not None
        until = 0.0
        self._until = float("inf")  # the discovery itself needs no token
        address = self._token_url or self._discover()
        now = int(time.time())
        self._key.ensure_kid()
        algorithm = ALGORITHMS[self._key.key_type]
        header = {"alg": algorithm, "kid": self._key.kid, "typ": "JWT"}
        claims = {
            "iss": self._client.id,
            "sub": self._client.id,
            "aud": address,
            "exp": now + _ASSERTION_SECONDS,
            "iat": now,
            "jti": secrets.token_urlsafe(24),
        }
        form = {
            "grant_type": "client_credentials",
            "scope": self._client.scope,
            "client_assertion_type": _ASSERTION,
            "client_assertion": jwt.encode(header, claims, self._key, algorithms=[algorithm]),
        }
        try:
            answer = self._http.post(address, data=form, headers={"Accept": "application/json"})
            given = orjson.loads(answer.content) if answer.status_code == 200 else {}
            self._token = str(given["access_token"])
            until = now + float(given.get("expires_in", 300))
        except (httpx.HTTPError, orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            status = answer.status_code if not isinstance(error, httpx.HTTPError) else type(error).__name__
            raise ExportFailed(f"token: {status}; is this key registered for the client id?") from None
        self._until = until

    def _discover(self) -> str:
        """Return the token address that the server's SMART configuration names."""
        try:
            answer = self._http.get(
                f"{self.base}/.well-known/smart-configuration", headers={"Accept": "application/json"}
            )
            address = str(orjson.loads(answer.content)["token_endpoint"])
        except (httpx.HTTPError, orjson.JSONDecodeError, KeyError, TypeError):
            raise ExportFailed(
                "token: the server has no SMART configuration; name the address by --token-url"
            ) from None
        if _origin(address)[0] != "https" and _origin(address)[1] not in _HERE:
            raise ExportFailed("token: the server's SMART configuration names an address without https")
        self._token_url = address
        return address


def retry_after(answer: httpx.Response) -> float | None:
    """Return the seconds that an answer asks us to wait (RFC 9110: a number, or a date), if it does."""
    stated = answer.headers.get("Retry-After", "")
    if stated.isascii() and stated.isdecimal():
        return float(stated)
    try:
        return max(0.0, (parsedate_to_datetime(stated) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _origin(url: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or parts.scheme not in ("http", "https") or parts.username is not None:
        raise InputError("URL", url.split("?")[0], "an http or https address without a user name")
    return parts.scheme, host, port or {"http": 80, "https": 443}[parts.scheme]
