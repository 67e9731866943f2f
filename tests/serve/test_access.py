"""Who may: signing in, sessions, forms, roles on every route, guessing, and what becomes of an answer by phase."""

import re
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from sqlalchemy import select, update

from lifechart.care.risk import DECLARATION
from lifechart.core.capability import Phase, Role
from lifechart.core.errors import AccessDenied, InputError
from lifechart.core.plugs import load
from lifechart.core.settings import Settings
from lifechart.serve import sign_in
from lifechart.serve.access import Access, Showing, User, add_account, add_client, showing
from lifechart.serve.sign_in import COOKIE, local
from lifechart.serve.store import Account, SignedIn, Store, now
from lifechart.serve.surfaces import Surface
from tests.serve.house import PASSWORD, Hospital

OPEN = {"/sign-in", "/cds-services", "/"}
"""Routes without anything about anybody; `/` leads to the sign-in."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path}/lifechart.db")
    add_account(store, "dr.reyes", PASSWORD, [Role.CLINICIAN])
    return store


def access(store: Store, **settings: object) -> Access:
    return Access(store, Settings(**settings))


def age_session(store: Store, **fields: timedelta) -> None:
    with store.transaction() as session:
        session.execute(update(SignedIn).values({name: now() - ago for name, ago in fields.items()}))


def test_a_session_begins_and_ends_on_this_side(store: Store) -> None:
    gate = access(store)
    token = gate.sign_in("dr.reyes", PASSWORD, "10.0.0.1")
    user = gate.user(token)
    assert (user.name, user.roles) == ("dr.reyes", frozenset({Role.CLINICIAN}))
    gate.sign_out(token)
    assert gate.user(token) is None


def test_neither_token_nor_password_is_in_the_database(store: Store) -> None:
    token = access(store).sign_in("dr.reyes", PASSWORD, "10.0.0.1")
    client = add_client(store, "ehr")
    with store.engine.connect() as connection:
        dump = "".join(connection.connection.driver_connection.iterdump())
    assert "argon2id" in dump
    for secret in (token, client, PASSWORD):
        assert secret not in dump


@pytest.mark.parametrize(
    ("fields", "alive"),
    [
        ({"seen": timedelta(minutes=9)}, True),
        ({"seen": timedelta(minutes=11)}, False),
        ({"created": timedelta(hours=13)}, False),
    ],
)
def test_a_session_ends_by_idleness_and_by_age(store: Store, fields: dict, alive: bool) -> None:
    gate = access(store, session_minutes=10)
    token = gate.sign_in("dr.reyes", PASSWORD, "10.0.0.1")
    age_session(store, **fields)
    assert (gate.user(token) is not None) is alive


def test_a_new_password_or_an_inactive_account_ends_sessions(store: Store) -> None:
    gate = access(store)
    token = gate.sign_in("dr.reyes", PASSWORD, "10.0.0.1")
    add_account(store, "dr.reyes", PASSWORD + "!", [Role.CLINICIAN])
    assert gate.user(token) is None
    token = gate.sign_in("dr.reyes", PASSWORD + "!", "10.0.0.1")
    with store.transaction() as session:
        session.scalar(select(Account)).active = False
    assert gate.user(token) is None
    with pytest.raises(AccessDenied, match="wrong"):
        gate.sign_in("dr.reyes", PASSWORD + "!", "10.0.0.1")


def test_an_unknown_name_gets_the_same_words_as_a_wrong_password(store: Store) -> None:
    messages = set()
    for name in ("dr.reyes", "nobody"):
        with pytest.raises(AccessDenied) as refusal:
            access(store).sign_in(name, "not the password", "10.0.0.1")
        messages.add(str(refusal.value))
    assert len(messages) == 1


def test_guessing_is_slowed_for_the_guesser_and_not_for_the_account(store: Store) -> None:
    gate = access(store)
    for _ in range(5):
        with pytest.raises(AccessDenied, match="wrong"):
            gate.sign_in("dr.reyes", "guess", "10.6.6.6")
    with pytest.raises(AccessDenied, match="Too many"):
        gate.sign_in("dr.reyes", PASSWORD, "10.6.6.6")
    assert gate.sign_in("dr.reyes", PASSWORD, "10.0.0.1")


@pytest.mark.parametrize(
    ("name", "password", "roles"),
    [("x", "short", [Role.NURSE]), ("x", "p" * 300, [Role.NURSE]), ("x", PASSWORD, []), (" ", PASSWORD, [Role.NURSE])],
)
def test_poor_accounts_are_refused_without_showing_the_password(
    store: Store, name: str, password: str, roles: list[Role]
) -> None:
    with pytest.raises(InputError) as refusal:
        add_account(store, name, password, roles)
    assert password not in str(refusal.value)


def test_a_client_s_token_is_renewed_and_the_old_one_dies(store: Store) -> None:
    first = add_client(store, "ehr")
    second = add_client(store, "ehr")
    assert access(store).client(first) is None
    assert access(store).client(second).name == "client:ehr"


CLINICIAN, STEWARD = frozenset({Role.CLINICIAN}), frozenset({Role.STEWARD})


@pytest.mark.parametrize(
    ("phase", "on", "is_test", "roles", "expected"),
    [
        (Phase.CLINICIANS, True, False, CLINICIAN, Showing.SHOWN),
        (Phase.PUBLIC, True, False, CLINICIAN, Showing.SHOWN),
        (Phase.CLINICIANS, False, False, CLINICIAN, Showing.NOTHING),
        (Phase.CLINICIANS, True, False, STEWARD, Showing.NOTHING),
        (Phase.CLINICIANS, True, False, frozenset(), Showing.NOTHING),
        (Phase.OFF, True, True, CLINICIAN, Showing.NOTHING),
        (Phase.SIMULATION, True, True, CLINICIAN, Showing.SHOWN),
        (Phase.SIMULATION, True, False, CLINICIAN, Showing.NOTHING),
        (Phase.SHADOW, True, True, CLINICIAN, Showing.SHADOW),
        (Phase.TRIAL, True, False, CLINICIAN, Showing.SHADOW),
    ],
)
def test_what_becomes_of_an_answer(
    phase: Phase, on: bool, is_test: bool, roles: frozenset[Role], expected: Showing
) -> None:
    assert showing(DECLARATION, User("x", roles), phase, on, is_test=is_test) is expected


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/patients/7", "/patients/7"),
        ("https://evil.example", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/a\\..\\b", "/"),
        ("/a\r\nSet-Cookie: x", "/"),
        ("", "/"),
    ],
)
def test_signing_in_never_leads_off_this_server(target: str, path: str) -> None:
    assert local(target) == path


def routes() -> list[tuple[str, str]]:
    """Every method and path that the application answers, a real patient's id in place of parameters."""
    routers = [sign_in.router, *(surface.router for surface in load("lifechart.surfaces", Surface).values())]
    pattern = re.compile(r"\{\w+\}")
    return sorted(
        (method, pattern.sub("ines", route.path))
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    )


def test_every_route_asks_who_is_there(place: Hospital) -> None:
    tried = 0
    for method, path in routes():
        if path in OPEN:
            continue
        answer = place.client.request(method, path, follow_redirects=False)
        if path.startswith("/cds-services"):
            assert answer.status_code == 403, path
        else:
            assert answer.status_code == 303, path
            assert answer.headers["location"].startswith("/sign-in"), path
        tried += 1
    assert tried >= 10


def test_every_form_wants_this_session_s_token(ward: Hospital) -> None:
    ward.client.cookies.delete("lifechart_form")
    tried = 0
    for method, path in routes():
        if method != "POST" or path.startswith("/cds-services"):
            continue
        answer = ward.client.post(path, data={"form_token": "guessed"}, follow_redirects=False)
        assert answer.status_code == 403, path
        tried += 1
    assert tried >= 5


def test_roles_keep_to_their_pages(place: Hospital) -> None:
    place.sign_in("dr.reyes")
    assert place.client.get("/steward").status_code == 403
    place.sign_in("sam.steward")
    assert place.client.get("/patients/ines").status_code == 403
    assert place.client.get("/steward").status_code == 200


def test_the_cookie_is_out_of_reach_and_signing_out_ends_it(ward: Hospital) -> None:
    ward.client.get("/sign-in")
    token = ward.client.cookies["lifechart_form"]
    made = ward.client.post(
        "/sign-in", data={"name": "dr.reyes", "password": PASSWORD, "form_token": token}, follow_redirects=False
    )
    cookie = next(line for line in made.headers.get_list("set-cookie") if line.startswith(COOKIE))
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    kept = ward.client.cookies[COOKIE]
    page = ward.client.get("/patients").text
    form_token = re.search(r'name="form_token" value="([^"]+)"', page)[1]
    ward.client.post("/sign-out", data={"form_token": form_token})
    ward.client.cookies.set(COOKIE, kept)
    assert "/sign-in" in str(ward.client.get("/patients").url)


def test_a_form_from_another_site_is_refused_unread(ward: Hospital) -> None:
    answer = ward.client.post("/steward/verify", headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403


def test_a_wrong_password_is_said_on_the_page(place: Hospital) -> None:
    answer = place.sign_in(password="wrong")
    assert answer.status_code == 403
    assert "The name or the password is wrong." in answer.text
    assert COOKIE not in place.client.cookies
