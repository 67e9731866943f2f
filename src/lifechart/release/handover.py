"""A release for another institution: the same signed files, but for those that hold a row for each patient."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.ledger.log import Log
from lifechart.ledger.statement import Statement, Subject
from lifechart.release.manifest import HOUSE_ONLY, MANIFEST
from lifechart.release.shelf import Release


def hand_over(release: Release, out: Path, *, to: str, actor: str, log: Log) -> tuple[str, ...]:
    """Write a release to `out` as it leaves the house; return the files of it that stay.

    The ledger says to whom it goes before the folder is there. Approvals stay too: they let it out here and nowhere
    else. Raises InputError for a folder that exists or cannot be made and for a recipient without a name, StorageError
    where there is no room.
    """
    if not to.strip():
        raise InputError("--to", to, "the name of the institution that gets it")
    if out.exists():
        raise InputError("--out", str(out), "a folder that does not exist yet")
    names = [file.path for file in release.manifest.files]
    kept = tuple(name for name in names if name in HOUSE_ONLY)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("--out", str(out), f"a folder that can be made here ({error.strerror})") from error
    draft = out.with_name(f".{out.name}.{secrets.token_hex(4)}.part")
    try:
        for name in (MANIFEST, *(each for each in names if each not in kept)):
            durable.write_bytes(draft / name, (release.folder / name).read_bytes())
        about = {"capability": release.capability, "version": release.version, "to": to, "actor": actor, "kept": kept}
        subject = Subject(f"{release.capability}/{release.version}", release.manifest.digest)
        log.append(Statement("hand-over", (subject,), about))
        draft.replace(out)
        durable.sync_directory(out.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return kept
