"""Keeps answers from sight until their labels mature: encrypted to a key that the steward holds, one box a horizon.

    seals = Seals.open(settings)                # the serving side has the public half alone
    told = seals.keep(answer=..., model=..., patient=..., as_of=..., claims=[...])   # for its statement
    box = opener.open(seal, now)                # refused before the seal's time

A box is X25519 (ephemeral), HKDF-SHA256 and ChaCha20-Poly1305. The time until which it is sealed is bound to it, so it
cannot be rewritten; whoever holds the private half could open earlier, so it does not belong on the server.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from lifechart.core import durable
from lifechart.core.errors import GateRefused, InputError, IntegrityError
from lifechart.core.settings import Settings

_PUBLIC, _PRIVATE = "shadow.pub", "shadow.key"
_KEY_BYTES = 32
_NONCE = bytes(12)
"""A box's key is used once, so its nonce may be constant."""
_PURPOSE = b"lifechart/shadow/v1"


@dataclass(frozen=True, slots=True)
class Seal:
    """One box: the claims of one answer at one horizon."""

    answer: str
    model: str
    horizon_days: int
    until: datetime
    box: bytes
    digest: str
    """SHA-256 of the line that holds it, as the answer's statement has it."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What was in a box."""

    patient: str
    """The id in the EHR."""
    as_of: datetime
    """When it was answered (naive, at the place of care)."""
    claims: dict[str, float]
    """Outcome to probability."""


class Seals:
    """The boxes of one institution: one file a month, appended to and synced before the ledger names a box."""

    def __init__(self, folder: Path, public: bytes) -> None:
        self.folder, self._public = folder, X25519PublicKey.from_public_bytes(public)

    @classmethod
    def open(cls, settings: Settings) -> Seals:
        """Open the institution's boxes. Where no steward has made a key pair, one is made here, for this user alone."""
        public = settings.keys / _PUBLIC
        if not public.exists():
            make_keys(settings, settings.keys / _PRIVATE)
        return cls(settings.home / "shadow", base64.b64decode(public.read_text()))

    def keep(
        self, *, answer: str, model: str, patient: str, as_of: datetime, now: datetime, claims: Sequence[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Seal the claims (outcome, horizon_days, probability), each horizon until its time is up after `now`.

        Returns what the answer's statement says: horizon, until and digest of each box. Durable when it returns.
        """
        lines, told = [], []
        for days in sorted({int(claim["horizon_days"]) for claim in claims}):
            until = (now + timedelta(days=days)).astimezone(UTC).isoformat(timespec="seconds")
            inside = {
                "patient": patient,
                "as_of": as_of.isoformat(),
                "claims": {each["outcome"]: each["probability"] for each in claims if each["horizon_days"] == days},
            }
            about = {"answer": answer, "model": model, "horizon_days": days, "until": until}
            box = _seal(self._public, orjson.dumps(inside), durable.canonical_json(about))
            line = durable.canonical_json({**about, "box": base64.b64encode(box).decode()})
            lines.append(line)
            told.append({"horizon_days": days, "until": until, "digest": hashlib.sha256(line).hexdigest()})
        if lines:
            self._append(f"{now:%Y-%m}.ndjson", b"".join(line + b"\n" for line in lines))
        return told

    def all(self) -> Iterator[Seal]:
        """Yield every box, oldest file first; a line that was cut off by a crash was never named, and is left out."""
        for path in sorted(self.folder.glob("*.ndjson")):
            for line in path.read_bytes().splitlines():
                try:
                    row = orjson.loads(line)
                except orjson.JSONDecodeError:
                    continue
                yield Seal(
                    row["answer"],
                    row["model"],
                    row["horizon_days"],
                    datetime.fromisoformat(row["until"]),
                    base64.b64decode(row["box"]),
                    hashlib.sha256(line).hexdigest(),
                )

    def _append(self, name: str, content: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        durable.sync_directory(self.folder)


class Opener:
    """The private half: opens boxes whose time is up."""

    def __init__(self, private: bytes) -> None:
        self._key = X25519PrivateKey.from_private_bytes(private)

    @classmethod
    def load(cls, path: Path) -> Opener:
        """Read the private half from its file; raises InputError."""
        try:
            return cls(base64.b64decode(path.read_text().strip(), validate=True))
        except (OSError, ValueError) as error:
            raise InputError("shadow key", str(path), "a file that `lifechart shadow key` wrote") from error

    @classmethod
    def of(cls, settings: Settings, path: Path | None = None) -> Opener:
        """Read it from `path`, by default from where it was made if no steward took it away."""
        return cls.load(path or settings.keys / _PRIVATE)

    def open(self, seal: Seal, now: datetime) -> Opened:
        """Open a box; raises GateRefused before its time, IntegrityError if it was changed or is not for this key."""
        if now < seal.until:
            raise GateRefused(
                f"answer {seal.answer[:12]}…: sealed until {seal.until:%Y-%m-%d}; its label is not mature"
            )
        about = {
            "answer": seal.answer,
            "model": seal.model,
            "horizon_days": seal.horizon_days,
            "until": seal.until.isoformat(timespec="seconds"),
        }
        sender, content = seal.box[:_KEY_BYTES], seal.box[_KEY_BYTES:]
        shared = self._key.exchange(X25519PublicKey.from_public_bytes(sender))
        mine = self._key.public_key().public_bytes_raw()
        try:
            inside = ChaCha20Poly1305(_derived(shared, sender + mine)).decrypt(
                _NONCE, content, durable.canonical_json(about)
            )
        except InvalidTag as error:
            raise IntegrityError(f"answer {seal.answer[:12]}…: its box was changed, or is for another key") from error
        said = orjson.loads(inside)
        return Opened(said["patient"], datetime.fromisoformat(said["as_of"]), said["claims"])


def make_keys(settings: Settings, private: Path) -> None:
    """Make the key pair of shadow: the public half under keys/, the private half in `private` (mode 0600).

    Raises InputError if there is a pair already: what was sealed under it could never be opened.
    """
    public = settings.keys / _PUBLIC
    if public.exists():
        raise InputError("shadow key", str(public), "none yet; answers are sealed under it")
    key = X25519PrivateKey.generate()
    raw = key.private_bytes(serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    private.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64encode(raw) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    durable.write_bytes(public, base64.b64encode(key.public_key().public_bytes_raw()) + b"\n")


def _seal(public: X25519PublicKey, content: bytes, about: bytes) -> bytes:
    once = X25519PrivateKey.generate()
    sender = once.public_key().public_bytes_raw()
    key = _derived(once.exchange(public), sender + public.public_bytes_raw())
    return sender + ChaCha20Poly1305(key).encrypt(_NONCE, content, about)


def _derived(shared: bytes, parties: bytes) -> bytes:
    return HKDF(hashes.SHA256(), _KEY_BYTES, salt=parties, info=_PURPOSE).derive(shared)
