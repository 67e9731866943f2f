"""What a trial keeps in its folder: the allocation's secret, and outcomes, each under a digest in the ledger."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

import orjson

from lifechart.core import durable
from lifechart.core.errors import IntegrityError
from lifechart.release.trial import allocation

_SECRET_BYTES = 32


class Custody:
    """One trial's folder."""

    def __init__(self, folder: Path) -> None:
        self._secret_file, self._outcomes_file = folder / "allocation.secret", folder / "outcomes.ndjson"

    def draw(self, entropy: Callable[[int], bytes]) -> str:
        """Draw a new secret, which only its owner may read; return the commitment to it."""
        self._secret_file.parent.mkdir(parents=True, exist_ok=True)
        # Left over from an opening that never reached the ledger, an earlier secret binds nobody.
        self._secret_file.unlink(missing_ok=True)
        descriptor = os.open(self._secret_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(entropy(_SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        durable.sync_directory(self._secret_file.parent)
        return allocation.commitment(self._secret_file.read_bytes())

    def secret(self, commitment: str) -> bytes:
        """Return the secret; raises IntegrityError if it is not the one that was committed to."""
        secret = self._secret_file.read_bytes()
        if allocation.commitment(secret) != commitment:
            raise IntegrityError(f"{self._secret_file}: not the secret that this trial committed to")
        return secret

    def keep(self, participant: str, outcome: float) -> str:
        """Write one outcome durably; return the digest that commits to it. A salt keeps it from being guessed."""
        row = {"participant": participant, "outcome": outcome, "salt": secrets.token_hex(16)}
        self._outcomes_file.parent.mkdir(parents=True, exist_ok=True)
        with open(self._outcomes_file, "ab") as file:
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
            file.flush()
            os.fsync(file.fileno())
        return durable.digest_of(row)

    def outcomes(self, digests: Mapping[str, str]) -> dict[str, float]:
        """Return the outcomes that these digests (by participant) commit to.

        Raises IntegrityError if one changed or is gone.
        """
        found: dict[str, float] = {}
        lines = self._outcomes_file.read_bytes().splitlines() if self._outcomes_file.exists() else []
        for line in lines:
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            # A line that the ledger never heard of was cut off before its statement; its outcome was asked for again.
            if digests.get(row["participant"]) == durable.digest_of(row):
                found[row["participant"]] = row["outcome"]
        if missing := len(digests.keys() - found.keys()):
            raise IntegrityError(f"{self._outcomes_file}: {missing} recorded outcome(s) changed or gone since")
        return found
