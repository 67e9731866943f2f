"""AMD SEV-SNP attestation reports: signed by a chip's VCEK or a cloud's VLEK, which AMD's ASK and ARK vouch for.

Layout: AMD 56860, "SEV Secure Nested Paging Firmware ABI Specification", table ATTESTATION_REPORT (versions 2 to 5).
Certificates: AMD 57230, "Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from lifechart.core.errors import IntegrityError
from lifechart.data.vault.attestation import chain
from lifechart.data.vault.attestation.attested import Attested, number

REPORT_BYTES = 1184
_SIGNED_BYTES = 0x2A0
_VERSIONS = range(2, 6)
_ECDSA_P384_SHA384 = 1
_VCEK, _VLEK = 0, 1
_SCALAR, _FIELD = 48, 72
"""Bytes of r and of s, and of the field that each stands in, little-endian and filled up with zeros."""

_FIELDS: Mapping[str, tuple[int, int]] = {
    "family_id": (0x010, 16),
    "image_id": (0x020, 16),
    "measurement": (0x090, 48),
    "host_data": (0x0C0, 32),
    "id_key_digest": (0x0E0, 48),
    "author_key_digest": (0x110, 48),
}
_REPORTED_TCB, _CURRENT_TCB, _COMMITTED_TCB, _LAUNCH_TCB = 0x180, 0x038, 0x1E0, 0x1F0
_CHIP_ID = (0x1A0, 64)
_POLICY_ALWAYS, _POLICY_MIGRATE, _POLICY_DEBUG = 1 << 17, 1 << 18, 1 << 19

_TCB = {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7}
_TCB_TURIN = {"fmc": 0, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 7}
"""Byte of each component within a TCB version."""

_OID = "1.3.6.1.4.1.3704.1."
_VERSION_OIDS = {"bootloader": "3.1", "tee": "3.2", "snp": "3.3", "microcode": "3.8", "fmc": "3.9"}
_CHIP_OID = "4"
_INTEGER = 0x02


def verify(
    report: bytes, certificates: Sequence[x509.Certificate], at: datetime, roots: chain.Roots | None = None
) -> Attested:
    """Return what a report says, once its signature and everything that vouches for it hold; raises IntegrityError.

    `certificates`: VCEK and ASK, or VLEK and ASVK, then ARK. `at`: the time at which they must be valid.
    """
    what = "SEV-SNP report"
    if len(report) != REPORT_BYTES:
        raise IntegrityError(f"{what}: {len(report)} bytes, expected {REPORT_BYTES}")
    version, algorithm = number(report[:4]), number(report[0x34:0x38])
    if version not in _VERSIONS:
        raise IntegrityError(f"{what}: version {version}, expected one of {list(_VERSIONS)}")
    if algorithm != _ECDSA_P384_SHA384:
        raise IntegrityError(f"{what}: signature algorithm {algorithm}, expected {_ECDSA_P384_SHA384}")
    root = chain.check(certificates, chain.pinned("amd") if roots is None else roots, at, what)
    product = root.removeprefix("ARK-")
    leaf = certificates[0]
    key = (number(report[0x48:0x4C]) >> 2) & 7
    _check_roles(certificates, key, product, what)
    chain.check_signature(
        leaf.public_key(), _signature(report, what), report[:_SIGNED_BYTES], hashes.SHA384(), ec.SECP384R1, what
    )
    layout = _TCB_TURIN if product == "Turin" else _TCB
    reported = _versions(report, _REPORTED_TCB, layout)
    _check_platform(leaf, report, reported, key, what)
    policy = number(report[0x08:0x10])
    if not policy & _POLICY_ALWAYS:
        raise IntegrityError(f"{what}: guest policy {policy:#x} lacks the bit that every policy has")
    return Attested(
        technology="sev-snp",
        measurements={name: report[start : start + length].hex() for name, (start, length) in _FIELDS.items()},
        report_data=report[0x50:0x90],
        debug=bool(policy & _POLICY_DEBUG),
        facts={
            "vmpl": number(report[0x30:0x34]),
            "guest_svn": number(report[0x04:0x08]),
            "migratable": int(bool(policy & _POLICY_MIGRATE)),
        },
        tcb=_lowest(report, layout),
        root=root,
    )


def _signature(report: bytes, what: str) -> bytes:
    """Return r and s, big-endian; nothing but zeros may stand beside them."""
    found = report[_SIGNED_BYTES:]
    r, s, rest = found[:_FIELD], found[_FIELD : 2 * _FIELD], found[2 * _FIELD :]
    if any(r[_SCALAR:]) or any(s[_SCALAR:]) or any(rest):
        raise IntegrityError(f"{what}: bytes beside the signature, expected zeros")
    return r[:_SCALAR][::-1] + s[:_SCALAR][::-1]


def _check_roles(certificates: Sequence[x509.Certificate], key: int, product: str, what: str) -> None:
    """Check that the key that the report says it is signed with is the one that the certificates are of."""
    expected = {
        _VCEK: ["SEV-VCEK", f"SEV-{product}", f"ARK-{product}"],
        _VLEK: ["SEV-VLEK", f"SEV-VLEK-{product}", f"ARK-{product}"],
    }.get(key)
    found = [chain.name(certificate) for certificate in certificates]
    if found != expected:
        raise IntegrityError(f"{what}: signed with key {key} under {found}, expected {expected or 'key 0 or 1'}")


def _check_platform(leaf: x509.Certificate, report: bytes, reported: Mapping[str, int], key: int, what: str) -> None:
    """Check that the certificate is of this chip and of the firmware that the report states."""
    certified = {name: _extension(leaf, _VERSION_OIDS[name]) for name in reported}
    for name, content in certified.items():
        if content is None or len(content) < 3 or content[0] != _INTEGER or content[1] != len(content) - 2:
            raise IntegrityError(f"{what}: the certificate does not state the version of {name}")
        version = int.from_bytes(content[2:], "big")
        if version != reported[name]:
            raise IntegrityError(f"{what}: {name} {reported[name]}, but the certificate is of {version}")
    chip = report[_CHIP_ID[0] : sum(_CHIP_ID)]
    if key == _VCEK and _extension(leaf, _CHIP_OID) != chip:
        raise IntegrityError(f"{what}: the certificate is another chip's (or the chip's id is masked)")


def _extension(certificate: x509.Certificate, oid: str) -> bytes | None:
    try:
        found = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(_OID + oid)).value
    except x509.ExtensionNotFound:
        return None
    assert isinstance(found, x509.UnrecognizedExtension)
    return found.value


def _versions(report: bytes, start: int, layout: Mapping[str, int]) -> dict[str, int]:
    return {name: report[start + at] for name, at in layout.items()}


def _lowest(report: bytes, layout: Mapping[str, int]) -> dict[str, int]:
    """Return, by component, the lowest of the reported, current, committed and launch versions.

    A machine that was launched under old firmware, or can go back to it, is worth no more than that.
    """
    found = [_versions(report, start, layout) for start in (_REPORTED_TCB, _CURRENT_TCB, _COMMITTED_TCB, _LAUNCH_TCB)]
    return {name: min(each[name] for each in found) for name in layout}
