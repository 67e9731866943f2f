"""What people write about an incident: kept in files of this house by digest, readable by Lifechart's own user alone.

Free text names people. The ledger, which is kept for ever and read by auditors, gets the digest of the file; a random
salt in it keeps short sentences from being guessed.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from pathlib import Path

import orjson

from lifechart.core import durable
from lifechart.core.errors import InputError, IntegrityError

MOST = 5000
"""Characters of one text."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Words:
    """The texts of one institution, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, key: str, text: str) -> str:
        """Keep a text and return the digest (64 hex digits) of its file; raises InputError for none or too much.

        `key` names the field in the error; the text itself is never repeated.
        """
        text = text.strip()
        if not text or len(text) > MOST:
            raise InputError(key, f"{len(text)} characters", f"1 to {MOST} characters")
        content = durable.canonical_json({"salt": secrets.token_hex(16), "text": text})
        digest = hashlib.sha256(content).hexdigest()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with durable.replacing(self._path(digest)) as aside:
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
        return digest

    def read(self, digest: str) -> str:
        """Return a text; raises IntegrityError if it is gone or not the one that was kept."""
        path = self._path(digest)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise IntegrityError(f"{path}: the text that the ledger names is not there") from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise IntegrityError(f"{path}: not the text that the ledger names")
        text = orjson.loads(content)["text"]
        assert isinstance(text, str)
        return text

    def drop(self, digest: str) -> None:
        """Remove a text of which the ledger has not heard."""
        self._path(digest).unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        assert _DIGEST.fullmatch(digest)
        return self._folder / f"{digest}.json"
