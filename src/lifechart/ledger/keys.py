"""Ed25519 keys: who signs, and how a signer is recognised. Key ids and public keys as in C2SP signed-note."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from lifechart.core import durable
from lifechart.core.errors import InputError, IntegrityError

NOTES, COSIGNATURES = b"\x01", b"\x04"
"""What a key signs, as the first byte of its text says: notes, or witnesses' cosignatures of them."""
_USES = {NOTES: "a log", COSIGNATURES: "a witness"}
_PUBLIC_BYTES = 32


class PublicKey:
    """One signer's name and public key, enough to check what they signed."""

    __slots__ = ("_key", "_raw", "_use", "id_bytes", "name")

    def __init__(self, name: str, raw: bytes, use: bytes = NOTES) -> None:
        if not name or "+" in name or any(character.isspace() for character in name):
            raise InputError("key name", name, "a name without spaces and plus signs")
        self.name = name
        self._raw, self._use = raw, use
        self._key = Ed25519PublicKey.from_public_bytes(raw)
        self.id_bytes = hashlib.sha256(name.encode() + b"\n" + use + raw).digest()[:4]

    @property
    def id(self) -> str:
        """`name+12ab34cd`: what a signature's `keyid` says."""
        return f"{self.name}+{self.id_bytes.hex()}"

    def __str__(self) -> str:
        """Return the key as one line of text (a C2SP verifier key), which `parse` reads."""
        return f"{self.id}+{base64.b64encode(self._use + self._raw).decode()}"

    @property
    def raw(self) -> bytes:
        """The 32 bytes of the key itself, whoever's name it bears."""
        return self._raw

    @classmethod
    def parse(cls, text: str, use: bytes = NOTES) -> PublicKey:
        """Read a verifier key `name+id+base64`; raises InputError if it is not one or its id is not its own."""
        try:
            name, key_id, encoded = text.strip().split("+", 2)
            kind_and_key = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error) as error:
            raise InputError("public key", text, "one line `name+id+base64`") from error
        if kind_and_key[:1] != use or len(kind_and_key) != 1 + _PUBLIC_BYTES:
            raise InputError("public key", text, f"an Ed25519 key of 32 bytes of {_USES[use]}")
        key = cls(name, kind_and_key[1:], use)
        if key.id_bytes.hex() != key_id:
            raise InputError("public key", text, f"the id {key.id_bytes.hex()} that belongs to this key and name")
        return key

    @classmethod
    def load(cls, path: Path, use: bytes = NOTES) -> PublicKey:
        """Read a verifier key from a file."""
        try:
            return cls.parse(path.read_text(), use)
        except OSError as error:
            raise InputError("public key", str(path), "a file with a verifier key") from error

    def matches(self, signature: bytes, content: bytes) -> bool:
        """Tell whether `signature` is this key's over `content`."""
        try:
            self._key.verify(signature, content)
        except InvalidSignature:
            return False
        return True


class Signer:
    """A private key with its owner's name."""

    __slots__ = ("_key", "public")

    def __init__(self, name: str, key: Ed25519PrivateKey, use: bytes = NOTES) -> None:
        self._key = key
        raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        self.public = PublicKey(name, raw, use)

    @classmethod
    def generate(cls, name: str, use: bytes = NOTES) -> Signer:
        """Make a new key that is nowhere but in memory."""
        return cls(name, Ed25519PrivateKey.generate(), use)

    @classmethod
    def load(cls, path: Path, name: str, use: bytes = NOTES) -> Signer:
        """Read a private key (PEM, PKCS #8); raises InputError if others may read it too."""
        try:
            if path.stat().st_mode & 0o077:
                raise InputError("private key", str(path), "a file that only its owner may read (chmod 600)")
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError) as error:
            raise InputError("private key", str(path), "a PEM file with an Ed25519 key") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise InputError("private key", type(key).__name__, "an Ed25519 key")
        return cls(name, key, use)

    @classmethod
    def open(cls, path: Path, name: str, use: bytes = NOTES) -> Signer:
        """Read the private key at `path`, or make one there on first use (mode 0600, public key beside it as .pub).

        Two processes that start at once end up with the same key. A key keeps the name that it was made with, which
        its public half states; `name` is for a new one.
        """
        public = path.with_suffix(".pub")
        if public.exists():
            name = PublicKey.load(public, use).name
        if not path.exists():
            pem = cls.generate(name)._key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            _write_once(path, pem)
        signer = cls.load(path, name, use)
        if not public.exists():
            durable.write_bytes(public, f"{signer.public}\n".encode())
        elif str(PublicKey.load(public, use)) != str(signer.public):
            raise InputError("public key", str(public), f"the public half of {path}")
        return signer

    def sign(self, content: bytes) -> bytes:
        """Return the 64 bytes of an Ed25519 signature."""
        return self._key.sign(content)


class Verifier:
    """The public keys that somebody trusts."""

    def __init__(self, keys: Iterable[PublicKey]) -> None:
        self._keys = {key.id: key for key in keys}
        if not self._keys:
            raise InputError("public keys", [], "at least one")

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the trusted keys."""
        return tuple(self._keys)

    @property
    def lines(self) -> tuple[str, ...]:
        """The trusted keys as lines of text, as a verifier reads them."""
        return tuple(str(key) for key in self._keys.values())

    def key(self, key_id: str) -> PublicKey | None:
        """Return the trusted key of this id."""
        return self._keys.get(key_id)

    def check(self, key_id: str, signature: bytes, content: bytes, what: str) -> PublicKey:
        """Return the key that signed `content`; raises IntegrityError that names `what` otherwise."""
        key = self.key(key_id)
        if key is None:
            raise IntegrityError(f"{what}: signed by {key_id!r}, expected one of {sorted(self._keys)}")
        if not key.matches(signature, content):
            raise IntegrityError(f"{what}: the signature of {key_id} does not fit the content")
        return key


def _write_once(path: Path, content: bytes) -> None:
    """Write a private file unless one is there; whoever comes second keeps what the first wrote."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(aside, path)
        except FileExistsError:
            return
        durable.sync_directory(path.parent)
    finally:
        aside.unlink()
