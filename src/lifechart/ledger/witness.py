"""A witness: another party that keeps the last checkpoint it saw of a log, and cosigns a new one that continues it.

    witness = Witness.open(Path("witness"), "registry.example", [log_key])
    line = witness.add_checkpoint(old_size, proof, note)

The state and the answers are those of C2SP tlog-witness, the cosignature that of tlog-cosignature (Ed25519, v1). A
witness that lost its state would believe whatever it is shown first, so it refuses to start without it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from lifechart.core import durable
from lifechart.core.errors import InputError, IntegrityError
from lifechart.ledger import checkpoint, merkle
from lifechart.ledger.checkpoint import Checkpoint
from lifechart.ledger.keys import COSIGNATURES, PublicKey, Signer, Verifier

_KEY, _LOGS = "witness.pem", "logs"
_MOST_STEPS = 63


class Refused(IntegrityError):
    """The witness does not cosign. `status` is HTTP's, as tlog-witness has it; `size` is the last one cosigned."""

    def __init__(self, status: int, message: str, size: int = 0) -> None:
        self.status, self.size = status, size
        super().__init__(f"witness: {message}")


class Witness:
    """Keeps the last cosigned checkpoint of each log that it knows. Processes may share its folder."""

    def __init__(self, folder: Path, signer: Signer, logs: Sequence[PublicKey]) -> None:
        self.folder, self.public = folder, signer.public
        self._signer = signer
        self._logs = {key.name: Verifier([key]) for key in logs}

    @classmethod
    def open(cls, folder: Path, name: str, logs: Sequence[PublicKey]) -> Witness:
        """Open a witness's folder; its key (witness.pem, witness.pub) and state are made on first use."""
        if (folder / _KEY).exists() and not (folder / _LOGS).is_dir():
            raise InputError("witness", str(folder), f"its state in {_LOGS}/: without it, begin a new witness")
        (folder / _LOGS).mkdir(parents=True, exist_ok=True)
        return cls(folder, Signer.open(folder / _KEY, name, COSIGNATURES), logs)

    @property
    def origins(self) -> frozenset[str]:
        """The logs that it knows."""
        return frozenset(self._logs)

    def last(self, origin: str) -> Checkpoint | None:
        """Return the last checkpoint of a log that was cosigned here."""
        path = self._path(origin)
        return checkpoint.verify(path.read_text(), self._logs[origin]) if path.exists() else None

    def add_checkpoint(self, old: int, proof: Sequence[bytes], note: str, now: int | None = None) -> str:
        """Return the cosignature of a checkpoint, a line of a note, once it is on disk that it was given.

        `old`: the size that the sender believes was cosigned last; `proof`: that the new tree begins with that one.
        `now`: seconds since 1970; by default the clock's. Raises Refused.
        """
        try:
            head = checkpoint.parse(note)
        except IntegrityError as error:
            raise Refused(400, str(error)) from error
        if head.origin not in self._logs:
            raise Refused(404, f"the log {head.origin!r} is not one of {sorted(self._logs)}")
        try:
            checkpoint.verify(note, self._logs[head.origin])
        except IntegrityError as error:
            raise Refused(403, str(error)) from error
        if old > head.size:
            raise Refused(400, f"the old size {old} is above the checkpoint's {head.size}")
        with self._locked():
            self._compare(old, proof, head)
            durable.write_bytes(self._path(head.origin), note.encode())
            moment = int(time.time()) if now is None else now
        return cosign(self._signer, head, moment)

    def _compare(self, old: int, proof: Sequence[bytes], head: Checkpoint) -> None:
        """Hold a checkpoint against the last one; raises Refused, for a forked history above all."""
        last = self.last(head.origin)
        size = last.size if last else 0
        if old != size:
            raise Refused(409, f"the last cosigned checkpoint has {size} entries, not {old}", size)
        if last is None or size == 0:
            if proof:
                raise Refused(422, "a proof from an empty tree is empty")
            return
        if size == head.size and last.root != head.root:
            raise Refused(409, f"history forked: two roots of {size} entries are signed by {head.origin}", size)
        try:
            merkle.verify_consistency(size, head.size, proof, last.root, head.root)
        except IntegrityError as error:
            message = f"history forked: {head.size} entries do not begin with the {size} that were cosigned ({error})"
            raise Refused(422, message, size) from error

    def _path(self, origin: str) -> Path:
        return self.folder / _LOGS / hashlib.sha256(origin.encode()).hexdigest()[:32]

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Compare and keep as one step, so that no two requests roll the state back."""
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def cosign(signer: Signer, head: Checkpoint, moment: int) -> str:
    """Return a cosignature/v1 of a checkpoint as a signature line: key id, time (8 bytes), Ed25519 signature."""
    signature = signer.sign(message(head.text, moment))
    content = signer.public.id_bytes + moment.to_bytes(8, "big") + signature
    return f"\u2014 {signer.public.name} {base64.b64encode(content).decode()}\n"


def message(text: str, moment: int) -> bytes:
    """Return what a cosignature signs: a header, the time, and the whole text of the checkpoint."""
    return f"cosignature/v1\ntime {moment}\n{text}".encode()


def pack_request(old: int, proof: Sequence[bytes], note: str) -> str:
    """Return the body of add-checkpoint."""
    steps = "".join(f"{base64.b64encode(step).decode()}\n" for step in proof)
    return f"old {old}\n{steps}\n{note}"


def unpack_request(body: str) -> tuple[int, list[bytes], str]:
    """Return old size, proof and note of a body of add-checkpoint; raises Refused."""
    head, blank, note = body.partition("\n\n")
    first, *steps = head.split("\n")
    digits = first.removeprefix("old ")
    try:
        proof = [base64.b64decode(step, validate=True) for step in steps]
    except (ValueError, binascii.Error):
        raise Refused(400, "a step of the proof is not base64") from None
    if not blank or not digits.isascii() or not digits.isdecimal() or first != f"old {int(digits)}":
        raise Refused(400, "the request does not begin with `old` and a size")
    if len(proof) > _MOST_STEPS or any(len(step) != merkle.HASH_BYTES for step in proof):
        raise Refused(400, f"a proof is at most {_MOST_STEPS} hashes of {merkle.HASH_BYTES} bytes")
    return int(digits), proof, note
