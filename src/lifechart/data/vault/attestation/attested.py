"""What a verified report says, in one form for both makers of confidential machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lifechart.core.errors import IntegrityError

NOT_ASSESSED = "NotAssessed"
"""TCB status of a platform of which no signed collateral was given. No policy can accept it."""


@dataclass(frozen=True, slots=True)
class Attested:
    """A report whose signature, certificates and platform were verified. Digests and masks are lower-case hex."""

    technology: str
    """`sev-snp` or `tdx`."""
    measurements: Mapping[str, str]
    """By field: `measurement`, `host_data` …; `mrtd`, `rtmr0` …"""
    report_data: bytes
    """The 64 bytes that the workload had put into the report."""
    debug: bool
    """The host may look into the machine."""
    facts: Mapping[str, int] = field(default_factory=dict)
    """By field: `vmpl`, `migratable` …"""
    tcb: Mapping[str, int] = field(default_factory=dict)
    """Firmware versions by component, as the report is signed under (`sev-snp`)."""
    statuses: tuple[str, ...] = ()
    """What Intel's collateral says of platform, TDX module and quoting enclave (`tdx`)."""
    advisories: tuple[str, ...] = ()
    root: str = ""
    """The pinned root that vouches for it."""


def take(content: bytes, start: int, length: int, what: str) -> bytes:
    """Return `length` bytes from `start`; raises IntegrityError if there are not as many."""
    found = content[start : start + length]
    if len(found) != length:
        raise IntegrityError(f"{what}: ends at byte {len(content)}, expected {start + length} or more")
    return found


def number(content: bytes) -> int:
    """Return a little-endian number, as both makers write them."""
    return int.from_bytes(content, "little")
