"""Who is there, and what they may see: accounts, sessions, clients, roles, and a capability's phase and switch."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from lifechart.core.capability import Declaration, Phase, Role
from lifechart.core.errors import AccessDenied, InputError
from lifechart.core.settings import Settings
from lifechart.serve.store import Account, Client, FailedSignIn, SignedIn, Store, now

MIN_PASSWORD = 12
MAX_PASSWORD = 256
_LONGEST_SESSION = timedelta(hours=12)
_TOUCH = timedelta(seconds=30)
"""A session's `seen` is written at most this often, so that reading pages does not mean writing rows."""

_LIMITS = ((("name", "address"), 5, timedelta(minutes=15)), (("address",), 30, timedelta(minutes=15)))
"""(fields alike, wrong passwords, within): past any of them a sign-in is refused unread. A name alone never locks an
account, or a stranger could lock a clinician out."""

_HASHER = PasswordHasher()
_NOBODYS_HASH = _HASHER.hash(secrets.token_hex(16))


@dataclass(frozen=True, slots=True)
class User:
    """Somebody signed in, or a client system."""

    name: str
    roles: frozenset[Role]
    form_token: str = ""
    """What every form of this session has to send back."""


class Showing(StrEnum):
    """What becomes of an answer."""

    SHOWN = "shown"
    SHADOW = "shadow"
    """Made and audited, shown to nobody."""
    NOTHING = "nothing"


def showing(
    declaration: Declaration, user: User, phase: Phase, switched_on: bool, *, is_test: bool, is_allotted: bool = False
) -> Showing:
    """Decide what this user may see of a capability.

    In `simulation` only test patients have answers; in `shadow` they are made and kept from sight; in `trial` too, but
    for participants who were allotted the intervention; from `clinicians` on they are shown to the roles that the
    capability declares.
    """
    if not switched_on or phase is Phase.OFF or not user.roles & set(declaration.users):
        return Showing.NOTHING
    if phase is Phase.SIMULATION:
        return Showing.SHOWN if is_test else Showing.NOTHING
    if phase is Phase.TRIAL and is_allotted:
        return Showing.SHOWN
    return Showing.SHOWN if phase.rank >= Phase.CLINICIANS.rank else Showing.SHADOW


class Access:
    """Signs people and systems in and out."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._idle = timedelta(minutes=settings.session_minutes)

    def sign_in(self, name: str, password: str, address: str) -> str:
        """Return a new session's token; raises AccessDenied, in the same words whether or not the name exists.

        Costs one Argon2 hash (tens of milliseconds), also for names that nobody has.
        """
        with self._store.transaction() as session:
            self._refuse_guessing(session, name, address)
            account = session.scalar(select(Account).where(Account.name == name, Account.active))
        good = _verify(account.password_hash if account else _NOBODYS_HASH, password)
        with self._store.transaction() as session:
            if account is None or not good:
                session.add(FailedSignIn(name=name[:100], address=address[:64], time=now()))
            else:
                session.execute(delete(FailedSignIn).where(FailedSignIn.name == name, FailedSignIn.address == address))
                token = secrets.token_urlsafe(32)
                session.add(
                    SignedIn(
                        token_hash=_hash(token),
                        account_id=account.id,
                        form_token=secrets.token_urlsafe(32),
                        created=now(),
                        seen=now(),
                    )
                )
                return token
        raise AccessDenied("The name or the password is wrong.")

    def user(self, token: str) -> User | None:
        """Return who holds this session, or None if it has ended, and note that they are still there."""
        with self._store.transaction() as session:
            row = session.get(SignedIn, _hash(token))
            if row is None:
                return None
            idle, age = now() - row.seen, now() - row.created
            if idle > self._idle or age > _LONGEST_SESSION or not row.account.active:
                session.delete(row)
                return None
            if idle > _TOUCH:
                row.seen = now()
            return User(row.account.name, _roles(row.account.roles), row.form_token)

    def sign_out(self, token: str) -> None:
        """End a session, on this side; the cookie is worth nothing from here on."""
        with self._store.transaction() as session:
            session.execute(delete(SignedIn).where(SignedIn.token_hash == _hash(token)))

    def client(self, token: str) -> User | None:
        """Return the system that holds this bearer token. It asks on behalf of clinicians, who signed in there."""
        with self._store.transaction() as session:
            row = session.scalar(select(Client).where(Client.token_hash == _hash(token), Client.active))
        return User(f"client:{row.name}", frozenset({Role.CLINICIAN})) if row else None

    def _refuse_guessing(self, session: Session, name: str, address: str) -> None:
        session.execute(delete(FailedSignIn).where(FailedSignIn.time < now() - timedelta(days=1)))
        alike = {"name": FailedSignIn.name == name[:100], "address": FailedSignIn.address == address[:64]}
        for fields, most, within in _LIMITS:
            conditions: list[ColumnElement[bool]] = [alike[field] for field in fields]
            failed = session.scalar(
                select(func.count()).select_from(FailedSignIn).where(FailedSignIn.time > now() - within, *conditions)
            )
            if (failed or 0) >= most:
                raise AccessDenied("Too many wrong passwords. Wait 15 minutes and try again.")


def add_account(store: Store, name: str, password: str, roles: list[Role]) -> None:
    """Add an account, or give an existing one this password and these roles and end its sessions.

    Raises InputError for a short or long password, an empty name, or no role.
    """
    if not name.strip() or len(name) > 100:
        raise InputError("account", name, "a name of 1 to 100 characters")
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise InputError("password", f"{len(password)} characters", f"{MIN_PASSWORD} to {MAX_PASSWORD} characters")
    if not roles:
        raise InputError("--role", roles, f"at least one of {[role.value for role in Role]}")
    with store.transaction() as session:
        account = session.scalar(select(Account).where(Account.name == name))
        if account is None:
            account = Account(name=name, created=now())
            session.add(account)
        else:
            session.execute(delete(SignedIn).where(SignedIn.account_id == account.id))
        account.password_hash = _HASHER.hash(password)
        account.roles = " ".join(sorted({role.value for role in roles}))
        account.active = True


def add_client(store: Store, name: str) -> str:
    """Add a client system, or renew its token; return the token, which is not kept and cannot be shown again."""
    if not name.strip() or len(name) > 100:
        raise InputError("client", name, "a name of 1 to 100 characters")
    token = secrets.token_urlsafe(32)
    with store.transaction() as session:
        client = session.scalar(select(Client).where(Client.name == name))
        if client is None:
            client = Client(name=name, created=now())
            session.add(client)
        client.token_hash, client.active = _hash(token), True
    return token


def _verify(password_hash: str, password: str) -> bool:
    if len(password) > MAX_PASSWORD:
        return False
    try:
        return _HASHER.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


def _hash(token: str) -> str:
    # Tokens carry 256 random bits, so a plain hash cannot be searched; passwords go through Argon2.
    return hashlib.sha256(token.encode()).hexdigest()


def _roles(text: str) -> frozenset[Role]:
    return frozenset(Role(name) for name in text.split())
