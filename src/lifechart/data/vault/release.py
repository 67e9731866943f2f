"""A data set's key to an attested workload, or a refusal: either is a statement in the ledger before anything is given.

The custodian, who holds a key to the data set, gives out a challenge: a number that is good for one question and some
minutes. The workload makes a key pair inside its machine and asks the machine for a report over `binding(challenge,
recipient)`. If the report holds, names that binding, and is of a workload that the policy allows, the data set's key is
released, encrypted for the recipient: nobody else can open it, and the same evidence never works again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pyrage
from pyrage import x25519

from lifechart.core import durable
from lifechart.core.errors import AccessDenied, InputError, IntegrityError, LifechartError
from lifechart.core.settings import Settings
from lifechart.data.vault import keys, sealed
from lifechart.data.vault.attestation import chain
from lifechart.data.vault.attestation.attested import Attested
from lifechart.data.vault.attestation.evidence import Evidence
from lifechart.data.vault.attestation.policy import Policy
from lifechart.data.vault.encryption import Ledger
from lifechart.ledger.statement import Statement, Subject

MINUTES = 10
"""How long a challenge is good for."""
_CHALLENGE_BYTES = 32
_PURPOSE = b"lifechart key release 1\0"


@dataclass(frozen=True, slots=True)
class Custodian:
    """Who gives keys out: its policy, its ledger, and the folder of challenges that are still open."""

    policy: Policy
    log: Ledger
    challenges: Path
    roots: chain.Roots | None = None
    """Pinned roots, in place of those of roots.toml."""

    def release(self, dataset: Path, evidence: Evidence, challenge: str, at: datetime | None = None) -> bytes:
        """Return the data set's key as an age file for the workload's recipient.

        Raises AccessDenied or IntegrityError with the reason otherwise, which the ledger then holds too; AuditError if
        the ledger cannot take the statement, and then nothing is released. `at`: the time of asking, by default now.
        """
        now = at or datetime.now(UTC)
        # Whose key it is, is read before anything is believed, so that a refusal can name it.
        vault = sealed.Vault.load(dataset)
        about = {"dataset": vault.dataset, "encrypted": vault.digest, "evidence": evidence.digest}
        about |= {"recipient": evidence.recipient, "policy": self.policy.digest, "technology": evidence.technology}
        try:
            spend(self.challenges, challenge, now)
            attested = evidence.verify(now, self.roots)
            if attested.report_data != binding(challenge, evidence.recipient):
                raise AccessDenied("the report is not over this challenge and recipient")
            workload = self.policy.judge(attested, vault.dataset, now)
            opened = sealed.unlock(dataset)
            if opened.vault != vault:
                # Nothing vouched for what was read at first; what was judged must be what is released.
                raise IntegrityError(f"{dataset.name}: changed while it was asked for")
        except LifechartError as error:
            self._state("refused", about, {"reason": str(error)})
            raise
        released: bytes = pyrage.encrypt(str(opened.secret).encode(), [x25519.Recipient.from_str(evidence.recipient)])
        self._state("released", about, {"workload": workload.name, **_said(attested)})
        return released

    def _state(self, decision: str, about: dict[str, Any], more: dict[str, Any]) -> None:
        said = {"decision": decision, **about, **more}
        self.log.append(Statement("key-release", (Subject(f"key release, {decision}", durable.digest_of(said)),), said))


def custodian(settings: Settings, policy: Path, log: Ledger) -> Custodian:
    """Return this institution's custodian."""
    return Custodian(Policy.load(policy), log, challenges_folder(settings))


def challenges_folder(settings: Settings) -> Path:
    """Return where open challenges are kept."""
    return settings.home / "challenges"


def challenge(folder: Path, at: datetime | None = None) -> str:
    """Return a new challenge (64 hex digits), good once and for some minutes."""
    found, now = secrets.token_hex(_CHALLENGE_BYTES), at or datetime.now(UTC)
    for old in folder.glob("*.json"):
        with contextlib.suppress(FileNotFoundError):
            if datetime.fromisoformat(_read(old)["ends"]) < now:
                old.unlink()
    durable.write_json(folder / _name(found), {"ends": (now + timedelta(minutes=MINUTES)).isoformat()})
    return found


def spend(folder: Path, challenge: str, at: datetime) -> None:
    """Use a challenge up; raises AccessDenied if it was never given out, was used before, or is too old."""
    path = folder / _name(challenge)
    mine = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        # Of two who ask with the same challenge at the same time, one finds it there.
        os.rename(path, mine)  # noqa: PTH104 -- one system call, and the error is the answer
    except OSError as error:
        raise AccessDenied("the challenge was not given out here, or was used before") from error
    ends = datetime.fromisoformat(_read(mine)["ends"])
    mine.unlink()
    durable.sync_directory(folder)
    if at >= ends:
        raise AccessDenied(f"the challenge was good until {ends:%Y-%m-%d %H:%M} UTC")


def binding(challenge: str, recipient: str) -> bytes:
    """Return the 64 bytes that the report must be over: SHA-512 of purpose, challenge and recipient."""
    try:
        number = bytes.fromhex(challenge)
    except ValueError as error:
        raise InputError("CHALLENGE", challenge, f"{2 * _CHALLENGE_BYTES} hex digits") from error
    return hashlib.sha512(_PURPOSE + number + b"\0" + recipient.encode()).digest()


def accept(released: bytes, identity: Path) -> str:
    """Add a released key to the identity file it was released for; return the data set's recipient.

    Inside the machine: the file must be on a file system in memory, or on an encrypted one.
    """
    try:
        secret = pyrage.decrypt(released, keys.load(identity))
    except pyrage.DecryptError as error:
        raise AccessDenied(f"the released key is not for an identity in {identity}") from error
    found = keys.parse_identity(secret.decode(errors="replace"))
    with durable.replacing(identity) as aside:
        aside.touch(mode=0o600)
        aside.write_text(f"{identity.read_text().rstrip()}\n# released for {found.to_public()}\n{found}\n")
    return str(found.to_public())


def _said(attested: Attested) -> dict[str, Any]:
    measured = {name: value for name, value in attested.measurements.items() if value.strip("0")}
    firmware = {"tcb": dict(attested.tcb), "statuses": list(attested.statuses), "root": attested.root}
    return {"measurements": measured, **firmware}


def _name(challenge: str) -> str:
    # Not the challenge itself: whoever reads the folder must not learn it, and it may hold anything.
    return hashlib.sha256(challenge.encode()).hexdigest() + ".json"


def _read(path: Path) -> dict[str, str]:
    found: dict[str, str] = orjson.loads(path.read_bytes())
    return found
