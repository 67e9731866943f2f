"""Signed notes: public keys, checkpoints, and the cosignatures of witnesses (C2SP signed-note, tlog-cosignature)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LOG, WITNESS = 1, 4
"""What a key signs, as its first byte says: notes, or cosignatures of them."""


class NoteError(Exception):
    """A key or note is not written as the format has it."""


@dataclass(frozen=True)
class Key:
    """A public key with its owner's name: `name+id+base64`, one line."""

    name: str
    use: int
    raw: bytes

    @classmethod
    def parse(cls, line: str) -> Key:
        """Read a key; raises NoteError if it is none, or if its id is not its own."""
        try:
            name, stated, encoded = line.strip().split("+", 2)
            content = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            raise NoteError("not a public key: expected one line `name+id+base64`") from None
        if len(content) != 33 or content[0] not in (LOG, WITNESS) or not name:
            raise NoteError("not an Ed25519 key of a log or a witness")
        key = cls(name, content[0], content[1:])
        if key.id.hex() != stated:
            raise NoteError(f"the key of {name} has the id {key.id.hex()}, its line says {stated}")
        return key

    @property
    def id(self) -> bytes:
        """Four bytes that stand for name and key."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.use]) + self.raw).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}"

    def signed(self, content: bytes, signature: bytes) -> bool:
        """Tell whether this key made the signature."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, content)
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class Note:
    """A checkpoint: who signed that the log `origin` has `size` entries with this root."""

    text: str
    origin: str
    size: int
    root: bytes
    lines: tuple[tuple[str, bytes, bytes], ...]
    """(name, key id, signature) of each signature."""

    @classmethod
    def parse(cls, content: str) -> Note:
        """Read a note, judging no signature; raises NoteError."""
        text, blank, rest = content.partition("\n\n")
        try:
            if not blank or not rest.endswith("\n"):
                raise ValueError("no signatures")
            origin, count, encoded = text.split("\n")
            size, root = int(count), base64.b64decode(encoded, validate=True)
            lines = tuple(_signature(line) for line in rest[:-1].split("\n"))
        except (ValueError, binascii.Error) as error:
            raise NoteError("not a signed note of origin, size and root") from error
        if f"{origin}\n{size}\n{base64.b64encode(root).decode()}" != text or len(root) != 32 or size < 0 or not origin:
            raise NoteError("origin, size and root are not in their one spelling")
        return cls(f"{text}\n", origin, size, root, lines)

    def signatures(self, key: Key) -> list[bool]:
        """Tell of each signature under this key's name and id whether the key made it."""
        return [self._fits(key, signature) for name, key_id, signature in self.lines if (name, key_id) == _who(key)]

    def cosigned_at(self, key: Key) -> int | None:
        """Return when a witness cosigned this (seconds since 1970), or None if it did not."""
        times = [
            int.from_bytes(signature[:8], "big")
            for name, key_id, signature in self.lines
            if (name, key_id) == _who(key) and self._fits(key, signature)
        ]
        return max(times, default=None)

    def _fits(self, key: Key, signature: bytes) -> bool:
        if key.use == LOG:
            return key.signed(self.text.encode(), signature)
        moment = int.from_bytes(signature[:8], "big")
        message = f"cosignature/v1\ntime {moment}\n{self.text}"
        return len(signature) == 72 and key.signed(message.encode(), signature[8:])


def _who(key: Key) -> tuple[str, bytes]:
    return key.name, key.id


def _signature(line: str) -> tuple[str, bytes, bytes]:
    dash, name, encoded = line.split(" ")
    content = base64.b64decode(encoded, validate=True)
    # The last letters of base64 hold bits that are not decoded, so a signature has several spellings: one is right.
    one_spelling = base64.b64encode(content).decode() == encoded
    if dash != "\u2014" or not name or len(content) < 5 or not one_spelling:
        raise ValueError("not a signature")
    return name, content[:4], content[4:]
