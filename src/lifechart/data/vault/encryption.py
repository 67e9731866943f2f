"""Encrypt a data set, make a plain copy again, let one more recipient in. Each is a statement in the ledger.

The statement names the plain digest and the encrypted form's, so what rests on a data set rests on it however often it
is encrypted anew, and an auditor can tell which encrypted copies there were.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pyrage
from pyrage import x25519
from rich.console import Console
from rich.progress import track

from lifechart.core import durable
from lifechart.core.errors import InputError
from lifechart.core.settings import load_settings
from lifechart.data import shards
from lifechart.data.vault import keys, sealed
from lifechart.data.vault.sealed import SUFFIX, Unlocked, Vault
from lifechart.ledger.statement import Statement, Subject


class Ledger(Protocol):
    """Where statements go."""

    def append(self, statement: Statement) -> object:
        """Write it durably, or raise AuditError."""


def encrypt(dataset: Path, out: Path, recipients: Sequence[str], *, log: Ledger, progress: bool | None = None) -> Vault:
    """Write `dataset` to `out`, each file encrypted under a new key that is wrapped for `recipients`; return the vault.

    `dataset` may itself be encrypted: then it is encrypted anew, under a new key, without a plain byte on disk. It is
    verified first. `out` appears whole, once the ledger has the statement. Raises InputError for recipients that
    are none or none given, IntegrityError for a data set that is not what its manifest says.
    """
    checked = [keys.check_recipient(recipient) for recipient in recipients]
    if not checked:
        raise InputError("--to", [], "at least one recipient, or nobody could ever read it")
    digest = shards.verify(dataset)
    opened = sealed.unlock(dataset) if sealed.is_sealed(dataset) else None
    names = sorted(opened.vault.files) if opened else sorted(durable.tree_digests(dataset))
    secret = x25519.Identity.generate()
    kms_command = load_settings().kms_command
    with _appearing(out) as aside:
        files = {name: _seal(dataset, opened, name, aside, secret) for name in _shown(names, "Encrypting", progress)}
        vault = Vault(digest, str(secret.to_public()), files, {}, "")
        vault = Vault(digest, vault.recipient, files, {}, vault.sealed_by(secret))
        for recipient in checked:
            vault = vault.granting(recipient, secret, kms_command)
        vault.save(aside)
        # What nobody can open is not kept, and what cannot be read back is not either.
        _read_back(aside, secret)
        log.append(_statement("encrypt", vault))
    return vault


def decrypt(dataset: Path, out: Path, *, log: Ledger, progress: bool | None = None) -> str:
    """Write a plain copy of an encrypted data set to `out`; return its digest. The ledger is told before it appears."""
    if not sealed.is_sealed(dataset):
        raise InputError("DATASET", str(dataset), "an encrypted data set")
    opened = sealed.unlock(dataset)
    with _appearing(out) as aside:
        for name in _shown(sorted(opened.vault.files), "Decrypting", progress):
            durable.write_bytes(aside / name, opened.read(name))
        digest = shards.verify(aside)
        log.append(_statement("decrypt", opened.vault))
    return digest


def grant(dataset: Path, recipient: str, *, log: Ledger) -> Vault:
    """Wrap an encrypted data set's key for one more recipient; the caller must hold a key to it."""
    opened = sealed.unlock(dataset)
    vault = opened.vault.granting(recipient, opened.secret, load_settings().kms_command)
    log.append(_statement("encrypt", vault))
    vault.save(dataset)
    return vault


def _seal(dataset: Path, opened: Unlocked | None, name: str, aside: Path, secret: x25519.Identity) -> str:
    """Encrypt one file; return the SHA-256 of its encrypted form. Memory holds one file at most."""
    content = opened.read(name) if opened else (dataset / name).read_bytes()
    target = aside / f"{name}{SUFFIX}"
    durable.write_bytes(target, pyrage.encrypt(content, [secret.to_public()]))
    return durable.file_digest(target)


def _read_back(folder: Path, secret: x25519.Identity) -> None:
    opened = sealed.unlock(folder, [secret])
    for name in opened.vault.files:
        opened.read(name)


def _statement(kind: str, vault: Vault) -> Statement:
    predicate = {"dataset": vault.dataset, "key": vault.recipient, "recipients": sorted(vault.wrapped)}
    return Statement(kind, (Subject("encrypted data set", vault.digest),), predicate)


def _shown(names: Sequence[str], title: str, progress: bool | None) -> Iterator[str]:
    shown = sys.stderr.isatty() if progress is None else progress
    yield from track(names, title, console=Console(stderr=True), disable=not shown, transient=True)


@contextlib.contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """Yield a folder beside `out` that takes its place if the block ends without error, and is gone otherwise."""
    if out.exists():
        raise InputError("--out", str(out), "a folder that does not exist yet")
    aside = out.with_name(f".{out.name}.vault")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True, mode=0o700)
    try:
        yield aside
        aside.rename(out)
        durable.sync_directory(out.absolute().parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
