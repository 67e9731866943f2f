"""Which data sets hold whom, provable and telling nothing: one keyed token a subject, under a Merkle root in the
ledger.

A token is an HMAC of the subject's id and the data set's digest, so that tokens of one person in two data sets have
nothing in common, and without the institution's key nobody can tell whose any is. The ingest statement carries the root
(RFC 6962) of the sorted tokens; the tokens themselves lie under home, cannot be changed unseen, and can be made again
from the data set and the key.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from lifechart.core import durable
from lifechart.core.errors import IntegrityError
from lifechart.data.deidentify import structured
from lifechart.ledger import merkle

_TOKEN_BYTES = 16
ROOT = "rfc6962:"
"""What a root begins with in a statement: it is no digest of a thing that could be looked up."""


def seal(dataset: Path, digest: str, key: bytes, evidence: Path | None) -> str:
    """Return the root over the tokens of a data set's subjects, and keep the tokens in the folder `evidence`.

    `digest`: the data set's. Without a folder they are not kept.
    """
    subjects = pl.read_parquet(dataset / "metadata" / "subject_splits.parquet").get_column("subject_id")
    found = tokens(key, digest, subjects.to_list())
    if evidence is not None:
        evidence.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = tokens_file(evidence, digest)
        durable.write_bytes(file, b"".join(found))
        file.chmod(0o600)
    return root(found)


def tokens_file(evidence: Path, digest: str) -> Path:
    """Return where a data set's tokens are kept."""
    return evidence / f"{digest}.bin"


def tokens(key: bytes, digest: str, subject_ids: Iterable[int]) -> list[bytes]:
    """Return the sorted tokens of subjects in one data set, 16 bytes each."""
    ours = hmac.digest(key, b"members\0" + bytes.fromhex(digest), "sha256")
    return sorted(hmac.digest(ours, id_.to_bytes(8, "big"), "sha256")[:_TOKEN_BYTES] for id_ in subject_ids)


def root(sorted_tokens: Iterable[bytes]) -> str:
    """Return the RFC 6962 root of tokens, as statements state it."""
    return ROOT + merkle.root([merkle.leaf_hash(token) for token in sorted_tokens]).hex()


def read(path: Path, stated_root: str) -> list[bytes]:
    """Return the tokens in a file; raises IntegrityError if they are not those under the root in the ledger."""
    content = path.read_bytes()
    found = [content[at : at + _TOKEN_BYTES] for at in range(0, len(content), _TOKEN_BYTES)]
    if root(found) != stated_root:
        raise IntegrityError(f"{path}: not the members that the ledger's statement is about")
    return found


def token_of(key: bytes, digest: str, patient: str) -> bytes:
    """Return the token that a patient (by the source's own id) would have in a data set."""
    (subject,) = structured.subject_ids(key, pl.Series([patient], dtype=pl.String)).to_list()
    (token,) = tokens(key, digest, [subject])
    return token
