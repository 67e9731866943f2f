"""The log's side of witnesses: asks them to cosign a checkpoint, and keeps what they signed beside the log.

`cosigned/000000000700` is the checkpoint of 700 entries with the log's signature and the witnesses' below it: a signed
note like any other, so it also is a checkpoint kept from earlier, which the verifier holds the log against.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path

import httpx

from lifechart.core import durable
from lifechart.core.errors import InputError, IntegrityError
from lifechart.ledger import checkpoint, merkle
from lifechart.ledger.keys import PublicKey
from lifechart.ledger.log import Log
from lifechart.ledger.replica import CHECKPOINT
from lifechart.ledger.tiles import Tiles
from lifechart.ledger.witness import Witness, message, pack_request

FOLDER = "cosigned"
_SECONDS = 30.0


def proof_of(folder: Path, first: int, second: int) -> list[bytes]:
    """Return the proof, from the tiles of a copy of a log, that `second` entries begin with `first`; [] from none."""
    if first == 0:
        return []
    reader = Tiles(folder).reader(second)
    return [merkle.range_hash(start, end, reader) for start, end in merkle.consistency_ranges(first, second)]


def cosign_copy(witness: Witness, folder: Path) -> tuple[str, str]:
    """Cosign the checkpoint of a copy of a log that lies in a folder; return (the checkpoint's text, the line).

    Raises witness.Refused, for a copy that does not continue what was cosigned before above all.
    """
    try:
        note = (folder / CHECKPOINT).read_text()
    except OSError as error:
        raise InputError("COPY", str(folder), f"a copy of a log, with its {CHECKPOINT}") from error
    head = checkpoint.parse(note)
    last = witness.last(head.origin) if head.origin in witness.origins else None
    old = last.size if last else 0
    if old > head.size:
        raise IntegrityError(f"witness: history shortened: {head.size} entries, but {old} were cosigned")
    return head.text, witness.add_checkpoint(old, proof_of(folder, old, head.size), note)


def ask(log: Log, url: str, key: PublicKey, client: httpx.Client | None = None) -> str:
    """Ask a witness (its submission prefix) to cosign the log's checkpoint; keep and return its line.

    Raises IntegrityError if the witness refuses or its line is not its cosignature, InputError if it cannot be reached.
    """
    note = log.checkpoint()
    head = checkpoint.parse(note)
    with client or httpx.Client(timeout=_SECONDS) as http:
        old = 0
        for _ in range(3):
            body = pack_request(old, log.consistency(old, head.size) if old else [], note)
            try:
                answer = http.post(f"{url.rstrip('/')}/add-checkpoint", content=body.encode())
            except httpx.HTTPError as error:
                raise InputError("witness", url, f"a witness that answers ({type(error).__name__})") from error
            if answer.status_code == 409 and answer.text.strip().isdecimal():
                old = int(answer.text)
                if old > head.size:
                    raise IntegrityError(f"witness {url}: cosigned {old} entries, this log has {head.size}")
                continue
            if answer.status_code != 200:
                raise IntegrityError(f"witness {url}: refused with {answer.status_code}: {answer.text.strip()[:300]}")
            return keep(log, note, answer.text.splitlines(keepends=True), [key])
    raise IntegrityError(f"witness {url}: its state changed with every request")


def keep(log: Log, note: str, lines: Sequence[str], keys: Sequence[PublicKey]) -> str:
    """Add cosignatures by known witnesses to the kept checkpoint of this size; return those that were added."""
    head = checkpoint.verify(note, log.verifier)
    good = [line for line in lines if any(is_cosignature(line, head.text, key) for key in keys)]
    if not good:
        raise IntegrityError(f"no cosignature of the checkpoint of {head.size} entries by {[key.id for key in keys]}")
    path = log.folder / FOLDER / f"{head.size:012d}"
    there = path.read_text() if path.exists() else note
    if checkpoint.verify(there, log.verifier) != head:
        raise IntegrityError(f"{FOLDER}/{path.name}: of another root than the log's")
    known = {line.split(" ")[1] for line in good}
    rest = [line for line in there.splitlines(keepends=True) if not _is_by(line, known)]
    durable.write_bytes(path, "".join([*rest, *good]).encode())
    return "".join(good)


def is_cosignature(line: str, text: str, key: PublicKey) -> bool:
    """Tell whether a line is a witness's cosignature of a checkpoint's text."""
    try:
        dash, name, encoded = line.rstrip("\n").split(" ")
        content = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        return False
    if (dash, name, content[:4], len(content)) != ("\u2014", key.name, key.id_bytes, 76):
        return False
    return key.matches(content[12:], message(text, int.from_bytes(content[4:12], "big")))


def _is_by(line: str, names: set[str]) -> bool:
    return line.startswith("\u2014 ") and line.split(" ")[1] in names
