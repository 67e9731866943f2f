"""The log's signed head: a C2SP checkpoint (origin, size, root) in a signed note."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from lifechart.core.errors import IntegrityError
from lifechart.ledger.keys import Signer, Verifier
from lifechart.ledger.merkle import HASH_BYTES

_DASH = "\u2014 "


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log commits to: so many entries, with this root."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    def signed(self, signer: Signer) -> str:
        """Return the signed note."""
        signature = signer.public.id_bytes + signer.sign(self.text.encode())
        return f"{self.text}\n{_DASH}{signer.public.name} {base64.b64encode(signature).decode()}\n"


def parse(note: str) -> Checkpoint:
    """Read a checkpoint without judging its signatures; raises IntegrityError if it is malformed."""
    try:
        text, _ = _halves(note)
        origin, size, root = text.split("\n")[:3]
        checkpoint = Checkpoint(origin, int(size), base64.b64decode(root, validate=True))
    except (ValueError, binascii.Error) as error:
        raise IntegrityError(f"checkpoint: not a signed note with origin, size and root ({error})") from error
    # The note must be what we would write: no extension lines, no zeros before the size, no second spelling of a root.
    if checkpoint.text != text or not origin or checkpoint.size < 0 or len(checkpoint.root) != HASH_BYTES:
        raise IntegrityError("checkpoint: its text is not origin, size and root, each in its one spelling")
    return checkpoint


def verify(note: str, verifier: Verifier) -> Checkpoint:
    """Return the checkpoint if a trusted key signed it.

    Signatures by unknown keys are passed over; one by a trusted key that does not fit condemns the note.
    Raises IntegrityError.
    """
    checkpoint = parse(note)
    text, signatures = _halves(note)
    trusted = 0
    for line in signatures:
        name, key_id, signature = _signature(line)
        full_id = f"{name}+{key_id}"
        if verifier.key(full_id) is not None:
            verifier.check(full_id, signature, text.encode(), f"checkpoint of {checkpoint.size} entries")
            trusted += 1
    if not trusted:
        raise IntegrityError(
            f"checkpoint of {checkpoint.size} entries: no signature by a trusted key {sorted(verifier.ids)}"
        )
    return checkpoint


def _halves(note: str) -> tuple[str, list[str]]:
    """Return the signed text (with its last newline) and the signature lines."""
    text, blank, signatures = note.rpartition("\n\n")
    if not blank or not signatures.endswith("\n"):
        raise ValueError("no blank line before the signatures")
    return text + "\n", signatures[:-1].split("\n")


def _signature(line: str) -> tuple[str, str, bytes]:
    try:
        if not line.startswith(_DASH):
            raise ValueError("no dash")
        name, encoded = line.removeprefix(_DASH).split(" ")
        content = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error) as error:
        raise IntegrityError("checkpoint: a line below the blank one is not a signature") from error
    return name, content[:4].hex(), content[4:]
