"""The application's database: accounts, sessions, clients and decisions. SQLite by default, PostgreSQL by URL.

Nothing clinical is kept: a patient stands in `decisions` as a keyed hash, an answer as its digest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import DateTime, ForeignKey, String, Text, create_engine, event
from sqlalchemy.engine import Dialect, Engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship, sessionmaker
from sqlalchemy.types import TypeDecorator

from lifechart.core.errors import SettingError


class Moment(TypeDecorator[datetime]):
    """A time in UTC, aware on both sides; SQLite itself would forget the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the zone back."""
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class Base(DeclarativeBase):
    """Root of the tables."""


class Account(Base):
    """Somebody who may sign in."""

    __tablename__ = "accounts"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    password_hash: Mapped[str] = mapped_column(String(200))
    roles: Mapped[str] = mapped_column(String(200))
    """Role names, separated by spaces."""
    created: Mapped[datetime] = mapped_column(Moment)
    active: Mapped[bool] = mapped_column(default=True)


class SignedIn(Base):
    """One session of one account. Holds the hash of the cookie's token, so that a copy of the table opens nothing."""

    __tablename__ = "sessions"

    token_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id", ondelete="CASCADE"), index=True)
    form_token: Mapped[str] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(Moment)
    seen: Mapped[datetime] = mapped_column(Moment)
    account: Mapped[Account] = relationship(lazy="joined")


class FailedSignIn(Base):
    """One wrong password, kept for a day to slow guessing."""

    __tablename__ = "failed_sign_ins"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), index=True)
    address: Mapped[str] = mapped_column(String(64), index=True)
    time: Mapped[datetime] = mapped_column(Moment, index=True)


class Client(Base):
    """A system that may call the hooks, by bearer token (kept as its hash)."""

    __tablename__ = "clients"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    created: Mapped[datetime] = mapped_column(Moment)
    active: Mapped[bool] = mapped_column(default=True)


class Decision(Base):
    """What somebody did with one claim of one answer."""

    __tablename__ = "decisions"

    id: Mapped[int] = mapped_column(primary_key=True)
    time: Mapped[datetime] = mapped_column(Moment, index=True)
    by: Mapped[str] = mapped_column(String(100))
    capability: Mapped[str] = mapped_column(String(100))
    subject: Mapped[str] = mapped_column(String(64), index=True)
    """Digest of the answer."""
    outcome: Mapped[str] = mapped_column(String(100), default="")
    patient: Mapped[str] = mapped_column(String(64), default="", index=True)
    """Keyed hash."""
    action: Mapped[str] = mapped_column(String(20))
    """`accepted` or `dismissed`."""
    reason: Mapped[str] = mapped_column(String(100), default="")
    comment: Mapped[str] = mapped_column(Text, default="")


class Store:
    """The database; its tables are made when it is opened."""

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise SettingError("LIFECHART_DATABASE_URL", "(not shown)", "an SQLAlchemy URL") from error
        is_file = parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:")
        if is_file and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        self.engine: Engine = create_engine(parsed, pool_pre_ping=not is_file)
        if parsed.get_backend_name() == "sqlite":
            event.listen(self.engine, "connect", _sqlite_pragmas)
        Base.metadata.create_all(self.engine)
        if is_file and parsed.database:
            Path(parsed.database).chmod(0o600)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Yield a session whose work is committed when the block ends, and undone if it raises."""
        with self._sessions.begin() as session:
            yield session

    def close(self) -> None:
        """Let go of every connection."""
        self.engine.dispose()


def now() -> datetime:
    """Return the present, in UTC."""
    return datetime.now(UTC)


def _sqlite_pragmas(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    # Readers do not wait for the writer; deleting an account deletes its sessions.
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA busy_timeout=5000")
    cursor.close()
