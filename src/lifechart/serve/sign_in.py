"""Signing in and out, and the dependencies by which a route asks for a role and for a form that is this session's."""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import UploadFile

from lifechart.core.capability import Role
from lifechart.core.errors import AccessDenied, LifechartError
from lifechart.release.incidents.recall import Notice
from lifechart.serve.access import User
from lifechart.serve.bedside import House, house_of
from lifechart.serve.pages import render

log = logging.getLogger("lifechart.serve")

COOKIE = "lifechart_session"
_FORM_COOKIE = "lifechart_form"
_HOME = {Role.CLINICIAN: "/patients", Role.NURSE: "/patients", Role.STEWARD: "/steward", Role.AUDITOR: "/steward"}

router = APIRouter()


class SignInNeeded(Exception):
    """Nobody is signed in; the page asked for is shown after signing in."""


async def current_user(request: Request) -> User | None:
    """Return who is signed in, or None."""
    token = request.cookies.get(COOKIE)
    house = house_of(request)
    user = await asyncio.to_thread(house.access.user, token) if token else None
    request.state.user = user
    request.state.notices = await asyncio.to_thread(_notices, house, user.name) if user else []
    return user


def _notices(house: House, name: str) -> list[Notice] | None:
    """Return the recalls that somebody has to acknowledge; None if that cannot be known, which the page says."""
    try:
        return house.incidents.recalls.notices(name)
    except (LifechartError, OSError) as error:
        log.error("recall notices cannot be read: %s", type(error).__name__)
        return None


def signed_in(*roles: Role) -> Callable[..., Awaitable[User]]:
    """Return a dependency that gives the user, if they hold one of `roles`."""

    async def require(user: Annotated[User | None, Depends(current_user)]) -> User:
        if user is None:
            raise SignInNeeded
        if not user.roles & set(roles):
            wanted = " or ".join(sorted(role.value for role in roles))
            raise AccessDenied(f"This page is for the role {wanted}.")
        return user

    return require


async def form_fields(request: Request, user: Annotated[User | None, Depends(current_user)]) -> dict[str, str]:
    """Return a form's fields; refuses a form that this session's pages did not make (cross-site request forgery)."""
    if user is None:
        raise SignInNeeded
    fields = await _fields(request)
    if not hmac.compare_digest(fields.pop("form_token", "").encode(), user.form_token.encode()):
        raise AccessDenied("This form is out of date. Reload the page and try again.")
    return fields


Form = Annotated[dict[str, str], Depends(form_fields)]


@router.get("/", include_in_schema=False)
async def home(user: Annotated[User | None, Depends(current_user)]) -> Response:
    """Lead to the page that this user works on."""
    if user is None:
        raise SignInNeeded
    target = next((_HOME[role] for role in Role if role in user.roles and role in _HOME), None)
    if target is None:
        raise AccessDenied("There is no page for your role yet.")
    return RedirectResponse(target, status_code=303)


@router.get("/sign-in", include_in_schema=False)
async def sign_in_page(request: Request, next: str = "/") -> Response:
    """Show the form."""
    return _form_page(request, next)


@router.post("/sign-in", include_in_schema=False)
async def sign_in(request: Request) -> Response:
    """Sign in and go on to where the visitor was headed."""
    fields, house = await _fields(request), house_of(request)
    target = fields.get("next", "/")
    expected = request.cookies.get(_FORM_COOKIE, "")
    # Without a session there is no token to compare with, so the form repeats a cookie that other sites cannot read.
    if not expected or not hmac.compare_digest(fields.get("form_token", "").encode(), expected.encode()):
        return _form_page(request, target, "This form is out of date. Try again.", 403)
    name, address = fields.get("name", "").strip(), request.client.host if request.client else ""
    try:
        token = await asyncio.to_thread(house.access.sign_in, name, fields.get("password", ""), address)
    except AccessDenied as error:
        return _form_page(request, target, str(error), 403, name)
    response = RedirectResponse(local(target), status_code=303)
    _set_cookie(request, response, COOKIE, token, samesite="lax")
    response.delete_cookie(_FORM_COOKIE, path="/sign-in")
    return response


@router.post("/sign-out", include_in_schema=False)
async def sign_out(request: Request, fields: Form) -> Response:
    """End the session."""
    await asyncio.to_thread(house_of(request).access.sign_out, request.cookies[COOKIE])
    response = RedirectResponse("/sign-in", status_code=303)
    response.delete_cookie(COOKIE, path="/")
    return response


def _form_page(request: Request, target: str, error: str = "", status: int = 200, name: str = "") -> Response:
    token = secrets.token_urlsafe(32)
    context = {"next": local(target), "error": error, "name": name, "sign_in_token": token}
    response = render(request, "sign_in.html", context, status)
    _set_cookie(request, response, _FORM_COOKIE, token, samesite="strict", path="/sign-in")
    return response


def _set_cookie(request: Request, response: Response, key: str, value: str, *, samesite: str, path: str = "/") -> None:
    secure = house_of(request).settings.cookie_secure
    response.headers.append(
        "Set-Cookie",
        f"{key}={value}; Path={path}; HttpOnly; SameSite={samesite.capitalize()}" + ("; Secure" if secure else ""),
    )


def local(target: str) -> str:
    """Return `target` if it is a path on this server, else the start page: never a redirect elsewhere."""
    plain = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if plain and "\\" not in target else "/"


async def _fields(request: Request) -> dict[str, str]:
    form = await request.form(max_files=0, max_fields=50)
    return {key: value for key, value in form.items() if not isinstance(value, UploadFile)}
