"""Who can open an encrypted data set: age identities (X25519) in files, their recipients, and an external key service.

An identity file is age's own: lines `AGE-SECRET-KEY-1…`, `#` for comments, readable by its owner alone. A recipient is
a line `age1…`, or `kms:NAME` for a key that never leaves a key service: then a command of the institution's wraps and
unwraps. It is called with `wrap NAME` or `unwrap NAME`, reads stdin and writes stdout.
"""

from __future__ import annotations

import base64
import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pyrage
from pyrage import x25519

from lifechart.core import durable
from lifechart.core.errors import AccessDenied, InputError
from lifechart.core.settings import Settings

KMS = "kms:"
_KMS_SECONDS = 60
_RECIPIENT_LETTERS = 62


def make(path: Path) -> str:
    """Write a new identity to `path` (mode 0600), which must not exist; return its recipient."""
    identity = x25519.Identity.generate()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise InputError("identity", str(path), "a file that does not exist yet: a key is never overwritten") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(f"# public key: {identity.to_public()}\n{identity}\n")
        file.flush()
        os.fsync(file.fileno())
    durable.sync_directory(path.parent)
    return str(identity.to_public())


def load(path: Path) -> list[x25519.Identity]:
    """Read an identity file; raises InputError if there is none, it holds none, or others may read it too."""
    try:
        if path.stat().st_mode & 0o077:
            raise InputError("identity", str(path), "a file that only its owner may read (chmod 600)")
        lines = [line.strip() for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("identity", str(path), "an age identity file: `lifechart vault key` makes one") from error
    found = [parse_identity(line) for line in lines if line and not line.startswith("#")]
    if not found:
        raise InputError("identity", str(path), "a file with at least one AGE-SECRET-KEY-1…")
    return found


def parse_identity(line: str) -> x25519.Identity:
    """Read one secret key; what it says stands in no error."""
    try:
        return x25519.Identity.from_str(line)
    except pyrage.IdentityError as error:
        raise InputError("identity", "a line that is none", "AGE-SECRET-KEY-1…") from error


def check_recipient(text: str) -> str:
    """Return a recipient in its one spelling; raises InputError if it is none."""
    if text.startswith(KMS) and len(text) > len(KMS):
        return text
    if len(text) == _RECIPIENT_LETTERS and text.islower():
        try:
            return str(x25519.Recipient.from_str(text))
        except pyrage.RecipientError:
            pass
    raise InputError("recipient", text, "a line `age1…` (the public half of an identity), or `kms:NAME`")


def wrap(secret: bytes, recipient: str, kms_command: str) -> str:
    """Return `secret` wrapped for `recipient`, as Base64."""
    if recipient.startswith(KMS):
        return base64.b64encode(_ask(kms_command, "wrap", recipient, secret)).decode()
    return base64.b64encode(pyrage.encrypt(secret, [x25519.Recipient.from_str(recipient)])).decode()


def unwrap(wrapped: str, recipient: str, identities: Sequence[x25519.Identity], kms_command: str) -> bytes | None:
    """Return the secret, or None if none of the identities is the one it was wrapped for."""
    content = base64.b64decode(wrapped)
    if recipient.startswith(KMS):
        return _ask(kms_command, "unwrap", recipient, content) if kms_command else None
    mine = [identity for identity in identities if str(identity.to_public()) == recipient]
    try:
        return pyrage.decrypt(content, mine) if mine else None
    except pyrage.DecryptError:
        return None


def mine(settings: Settings) -> list[x25519.Identity]:
    """Return this process's identities: those of `LIFECHART_VAULT_IDENTITY`, or none if that file is not there."""
    path = settings.vault_key
    return load(path) if path.exists() or settings.vault_identity else []


def _ask(command: str, verb: str, recipient: str, content: bytes) -> bytes:
    if not command:
        raise InputError("LIFECHART_KMS_COMMAND", "", f"the command that wraps keys for {recipient}")
    call = [*shlex.split(command), verb, recipient.removeprefix(KMS)]
    try:
        done = subprocess.run(call, input=content, capture_output=True, timeout=_KMS_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        # Its words may hold what it was given; only how it ended is told.
        how = (
            f"exit status {error.returncode}" if isinstance(error, subprocess.CalledProcessError) else str(type(error))
        )
        raise AccessDenied(f"the key service did not {verb} for {recipient}: {how}") from None
    return done.stdout
