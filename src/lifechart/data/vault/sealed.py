"""An encrypted data set on disk: age files under the data set's own key, and vault.json, which says whose it is.

vault.json names the plain data set's digest, the SHA-256 of each encrypted file, and the wrapped keys; all but the keys
stands under a MAC that only holders of the data set's key can make. Each file is authenticated by age itself, by its
SHA-256 here, and after decryption by the plain manifest, whose digest is the one that the ledger names. So a byte that
was changed, a file that was swapped for another of the same data set or of an earlier one, and a file that is missing
are each refused. What stays visible: file names, sizes, recipients, and the plain data set's digest.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import orjson
import pyrage
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pyrage import x25519

from lifechart.core import durable
from lifechart.core.errors import AccessDenied, InputError, IntegrityError
from lifechart.core.settings import load_settings
from lifechart.data.vault import keys

VAULT = "vault.json"
SUFFIX = ".age"
FORMAT = "lifechart-vault/1"
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Vault:
    """What vault.json says. Nothing in it is to be believed before `unlock` has checked the MAC."""

    dataset: str
    """Digest of the plain data set: its name in the ledger, however often it is encrypted anew."""
    recipient: str
    """Public half of the data set's own key."""
    files: Mapping[str, str]
    """Path of a plain file -> SHA-256 of its encrypted form, which stands at the path with `.age` behind it."""
    wrapped: Mapping[str, str]
    """Recipient -> the data set's secret key, wrapped for it."""
    mac: str

    @property
    def digest(self) -> str:
        """The digest that names this encrypted form."""
        return durable.digest_of({"recipient": self.recipient, "files": dict(self.files)})

    def sealed_by(self, secret: x25519.Identity) -> str:
        """Return the MAC of everything but the wrapped keys, under a key derived from the data set's own."""
        derived = HKDF(hashes.SHA256(), 32, salt=None, info=FORMAT.encode()).derive(str(secret).encode())
        said = {"dataset": self.dataset, "recipient": self.recipient, "files": dict(self.files), "format": FORMAT}
        return hmac.new(derived, durable.canonical_json(said), hashlib.sha256).hexdigest()

    def granting(self, recipient: str, secret: x25519.Identity, kms_command: str) -> Vault:
        """Return the vault with its key wrapped for one more recipient."""
        checked = keys.check_recipient(recipient)
        return replace(self, wrapped={**self.wrapped, checked: keys.wrap(str(secret).encode(), checked, kms_command)})

    def save(self, folder: Path) -> None:
        """Write vault.json."""
        named = {"dataset": self.dataset, "recipient": self.recipient, "files": self.files, "mac": self.mac}
        durable.write_json(folder / VAULT, {"format": FORMAT, **named, "keys": self.wrapped})

    @classmethod
    def load(cls, folder: Path) -> Vault:
        """Read vault.json; raises IntegrityError if it is not one."""
        try:
            found: dict[str, Any] = orjson.loads((folder / VAULT).read_bytes())
            if found["format"] != FORMAT:
                raise IntegrityError(f"{folder.name}/{VAULT}: format {found['format']!r}, expected {FORMAT!r}")
            tables = (found["files"], found["keys"])
            if not all(isinstance(value, str) for table in tables for pair in table.items() for value in pair):
                raise TypeError("expected text")
            vault = cls(found["dataset"], found["recipient"], found["files"], found["keys"], found["mac"])
            for wrapped in vault.wrapped.values():
                base64.b64decode(wrapped, validate=True)
            inside = all(not PurePosixPath(name).is_absolute() and ".." not in name for name in vault.files)
            shaped = all(isinstance(part, str) for part in (vault.dataset, vault.recipient, vault.mac))
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError, binascii.Error) as error:
            raise IntegrityError(f"{folder.name}/{VAULT}: not the description of an encrypted data set") from error
        if not inside or not shaped:
            raise IntegrityError(f"{folder.name}/{VAULT}: names files outside its folder")
        return vault


def is_sealed(folder: Path) -> bool:
    """Tell whether a data set is encrypted."""
    return (folder / VAULT).exists()


class Unlocked:
    """An encrypted data set with its key: reads plain bytes, each file checked before it is given out."""

    def __init__(self, folder: Path, vault: Vault, secret: x25519.Identity) -> None:
        self.folder, self.vault, self.secret = folder, vault, secret
        if not hmac.compare_digest(vault.mac, vault.sealed_by(secret)):
            raise IntegrityError(f"{folder.name}/{VAULT}: what it says was not written by a holder of the key")
        manifest = orjson.loads(self._decrypted(MANIFEST))
        if manifest["digest"] != vault.dataset or durable.digest_of(manifest["files"]) != vault.dataset:
            raise IntegrityError(f"{folder.name}/{MANIFEST}: not the manifest of data set {vault.dataset[:12]}")
        self._plain: dict[str, str] = manifest["files"]

    def read(self, name: str) -> bytes:
        """Return a file's plain bytes by its plain path; raises IntegrityError if they are not those encrypted."""
        content = self._decrypted(name)
        if name in self._plain and hashlib.sha256(content).hexdigest() != self._plain[name]:
            raise IntegrityError(f"{self.folder.name}/{name}{SUFFIX}: holds other bytes than the manifest names")
        return content

    def _decrypted(self, name: str) -> bytes:
        if name not in self.vault.files:
            raise IntegrityError(f"{self.folder.name}/{name}{SUFFIX}: not named in {VAULT}")
        try:
            content = (self.folder / f"{name}{SUFFIX}").read_bytes()
        except OSError as error:
            raise IntegrityError(f"{self.folder.name}/{name}{SUFFIX}: named in {VAULT}, but not there") from error
        if hashlib.sha256(content).hexdigest() != self.vault.files[name]:
            raise IntegrityError(f"{self.folder.name}/{name}{SUFFIX}: its bytes are not those that {VAULT} names")
        try:
            plain: bytes = pyrage.decrypt(content, [self.secret])
        except pyrage.DecryptError as error:
            raise IntegrityError(f"{self.folder.name}/{name}{SUFFIX}: cannot be decrypted ({error})") from error
        return plain


def unlock(folder: Path, identities: Sequence[x25519.Identity] | None = None) -> Unlocked:
    """Open an encrypted data set with the first key that fits: of `identities`, by default those of the settings.

    An identity fits if the data set's key is wrapped for it, or if it is that key (as one that was released is). Raises
    AccessDenied if none fits, IntegrityError if what is there is not what was encrypted.
    """
    settings = load_settings()
    held = keys.mine(settings) if identities is None else identities
    vault = Vault.load(folder)
    for identity in held:
        if str(identity.to_public()) == vault.recipient:
            return Unlocked(folder, vault, identity)
    for recipient, wrapped in vault.wrapped.items():
        secret = keys.unwrap(wrapped, recipient, held, settings.kms_command)
        if secret is not None:
            found = keys.parse_identity(secret.decode(errors="replace"))
            if str(found.to_public()) != vault.recipient:
                raise IntegrityError(f"{folder.name}/{VAULT}: the key for {recipient} is another data set's")
            return Unlocked(folder, vault, found)
    where = f"{settings.vault_key}" if identities is None else "the identities given"
    needed = f"one of {sorted(vault.wrapped)}"
    if not held:
        raise InputError("LIFECHART_VAULT_IDENTITY", where, f"a file with a key to {folder.name}, for {needed}")
    raise AccessDenied(f"{folder.name}: no key in {where} opens it; it is encrypted for {needed}")
