"""What a workload hands over to be believed: its report, what came with it, and the recipient of its key.

One JSON file: `technology` (`sev-snp` or `tdx`), `recipient` (age1…, of a key that was made inside the machine),
`report` (Base64), and, by technology, `certificates` (PEM: VCEK, ASK, ARK) or `collateral` (tdx_tcb).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from lifechart.core.errors import InputError
from lifechart.data.vault import keys
from lifechart.data.vault.attestation import chain, sev_snp, tdx
from lifechart.data.vault.attestation.attested import Attested

TECHNOLOGIES = ("sev-snp", "tdx")


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence as it came; nothing in it is to be believed before `verify`."""

    technology: str
    recipient: str
    report: bytes
    certificates: str = ""
    collateral: Mapping[str, str] | None = None

    @property
    def digest(self) -> str:
        """The digest that names the report in the ledger."""
        return hashlib.sha256(self.report).hexdigest()

    def verify(self, at: datetime, roots: chain.Roots | None = None) -> Attested:
        """Return what the report says; raises IntegrityError that says what does not hold."""
        if self.technology == "tdx":
            return tdx.verify(self.report, self.collateral, at, roots)
        certificates = chain.load_pem(self.certificates.encode(), "SEV-SNP certificates")
        return sev_snp.verify(self.report, certificates, at, roots)

    @classmethod
    def load(cls, path: Path) -> Evidence:
        """Read a file of evidence; raises InputError if it is none."""
        try:
            found: dict[str, Any] = orjson.loads(path.read_bytes())
            evidence = cls(
                technology=found["technology"],
                recipient=keys.check_recipient(found["recipient"]),
                report=base64.b64decode(found["report"], validate=True),
                certificates=str(found.get("certificates", "")),
                collateral=found.get("collateral"),
            )
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError, AttributeError, binascii.Error) as error:
            raise InputError("EVIDENCE", str(path), f"JSON with technology, recipient and report ({error})") from error
        if evidence.technology not in TECHNOLOGIES:
            raise InputError("EVIDENCE, technology", evidence.technology, f"one of {TECHNOLOGIES}")
        if evidence.recipient.startswith(keys.KMS):
            raise InputError("EVIDENCE, recipient", evidence.recipient, "age1…: a key made inside the machine")
        if evidence.collateral is not None and not isinstance(evidence.collateral, dict):
            raise InputError("EVIDENCE, collateral", type(evidence.collateral).__name__, "a table of text")
        return evidence
