"""Intel TDX quotes, versions 4 and 5: signed by a quoting enclave, which the platform's PCK certificate vouches for.

Layout: Intel, "TDX DCAP Quoting Library API", appendix 3 (version 4: a TD report 1.0; version 5: also 1.5). The chain
of trust: Intel's root, its PCK CA, the platform's PCK, the quoting enclave's report, its attestation key, the quote.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from lifechart.core.errors import IntegrityError
from lifechart.data.vault.attestation import chain, tdx_tcb
from lifechart.data.vault.attestation.attested import NOT_ASSESSED, Attested, number, take

_WHAT = "TDX quote"
_HEADER_BYTES, _REPORT_BYTES, _QE_REPORT_BYTES = 48, 584, 384
_ECDSA_P256, _TDX = 2, 0x81
_INTEL_QE = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_BODIES = {2: _REPORT_BYTES, 3: _REPORT_BYTES + 64}
"""Body types of version 5 (TD report 1.0 and 1.5), and their bytes."""
_QE_REPORT_DATA, _PCK_CHAIN = 6, 5
"""Types of certification data."""
_PCK = "Intel SGX PCK Certificate"
_PCK_CAS = ("Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA")

_FIELDS: dict[str, tuple[int, int]] = {
    "tee_tcb_svn": (0, 16),
    "mrseam": (16, 48),
    "mrsignerseam": (64, 48),
    "seamattributes": (112, 8),
    "tdattributes": (120, 8),
    "xfam": (128, 8),
    "mrtd": (136, 48),
    "mrconfigid": (184, 48),
    "mrowner": (232, 48),
    "mrownerconfig": (280, 48),
    "rtmr0": (328, 48),
    "rtmr1": (376, 48),
    "rtmr2": (424, 48),
    "rtmr3": (472, 48),
}
_FIELDS_15 = {"tee_tcb_svn2": (584, 16), "mrservicetd": (600, 48)}
_REPORT_DATA = (520, 64)
_UNDER_DEBUG = 0xFF
"""Bits of TDATTRIBUTES that let the host in; bit 0 is DEBUG."""
_QE_DEBUG = 0x02


@dataclass(frozen=True, slots=True)
class Quote:
    """A quote's parts, none of them believed yet."""

    signed: bytes
    body: bytes
    signature: bytes
    attestation_key: bytes
    qe_report: bytes
    qe_signature: bytes
    qe_authentication: bytes
    certificates: bytes

    def field(self, name: str) -> bytes:
        """Return a field of the TD report."""
        start, length = (_FIELDS | _FIELDS_15)[name]
        return self.body[start : start + length]


def verify(
    quote: bytes,
    collateral: Mapping[str, str] | None,
    at: datetime,
    roots: chain.Roots | None = None,
) -> Attested:
    """Return what a quote says, once its signatures and everything that vouches for it hold; raises IntegrityError.

    `collateral`: what Intel's service says of the platform, under the names of its library (`tdx_tcb`); without it the
    platform's firmware is not assessed, and no list of revoked certificates is looked at. `at`: the time of asking.
    """
    trusted = chain.pinned("intel") if roots is None else roots
    found = parse(quote)
    certificates = chain.load_pem(found.certificates, f"{_WHAT}'s certificates", one_spelling=True)
    root = chain.check(certificates, trusted, at, _WHAT)
    names = [chain.name(certificate) for certificate in certificates]
    if len(names) != 3 or names[0] != _PCK or names[1] not in _PCK_CAS:
        raise IntegrityError(f"{_WHAT}: certificates of {names}, expected {_PCK} under one of {list(_PCK_CAS)}")
    _check_enclave(found, certificates[0])
    _check_quote(found)
    svn, attributes = found.field("tee_tcb_svn"), number(found.field("tdattributes"))
    assessed = tdx_tcb.Assessed((NOT_ASSESSED,), ())
    if collateral is not None:
        module = tdx_tcb.Module(svn, found.field("mrsignerseam"), found.field("seamattributes"))
        assessed = tdx_tcb.assess(collateral, certificates, module, found.qe_report, at, trusted)
    elif number(found.qe_report[48:64]) & _QE_DEBUG:
        raise IntegrityError(f"{_WHAT}: the quoting enclave may be debugged")
    fields = _FIELDS | (_FIELDS_15 if len(found.body) > _REPORT_BYTES else {})
    return Attested(
        technology="tdx",
        measurements={name: found.field(name).hex() for name in fields},
        report_data=found.body[_REPORT_DATA[0] : sum(_REPORT_DATA)],
        debug=bool(attributes & _UNDER_DEBUG),
        statuses=assessed.statuses,
        advisories=assessed.advisories,
        root=root,
    )


def parse(quote: bytes) -> Quote:
    """Take a quote apart; raises IntegrityError for what is none, or has anything but zeros after its end."""
    header = take(quote, 0, _HEADER_BYTES, _WHAT)
    version, key_type, tee = number(header[:2]), number(header[2:4]), number(header[4:8])
    if version not in (4, 5):
        raise IntegrityError(f"{_WHAT}: version {version}, expected 4 or 5")
    if key_type != _ECDSA_P256 or tee != _TDX or header[12:28] != _INTEL_QE:
        raise IntegrityError(f"{_WHAT}: key type {key_type}, TEE {tee:#x}, not a TDX quote of Intel's quoting enclave")
    start, length = _HEADER_BYTES, _REPORT_BYTES
    if version == 5:
        kind, stated = number(take(quote, start, 2, _WHAT)), number(take(quote, start + 2, 4, _WHAT))
        if _BODIES.get(kind) != stated:
            raise IntegrityError(f"{_WHAT}: body of type {kind} and {stated} bytes, expected one of {_BODIES}")
        start, length = start + 6, stated
    body = take(quote, start, length, _WHAT)
    signed = quote[: start + length]
    size = number(take(quote, len(signed), 4, _WHAT))
    rest = take(quote, len(signed) + 4, size, _WHAT)
    if any(quote[len(signed) + 4 + size :]):
        raise IntegrityError(f"{_WHAT}: bytes after its end, expected nothing or zeros")
    certification = _data(rest[128:], _QE_REPORT_DATA, "certification data")
    behind = _QE_REPORT_BYTES + 64
    length = number(take(certification, behind, 2, _WHAT))
    pem = _data(certification[behind + 2 + length :], _PCK_CHAIN, "certificates")
    return Quote(
        signed=signed,
        body=body,
        signature=take(rest, 0, 64, _WHAT),
        attestation_key=take(rest, 64, 64, _WHAT),
        qe_report=certification[:_QE_REPORT_BYTES],
        qe_signature=take(certification, _QE_REPORT_BYTES, 64, _WHAT),
        qe_authentication=take(certification, behind + 2, length, _WHAT),
        # A C string's end, in some makers' quotes.
        certificates=pem.removesuffix(b"\0"),
    )


def _data(content: bytes, kind: int, what: str) -> bytes:
    """Return certification data that must be of one type and fill what it stands in."""
    found, size = number(take(content, 0, 2, _WHAT)), number(take(content, 2, 4, _WHAT))
    if found != kind or size != len(content) - 6:
        raise IntegrityError(f"{_WHAT}: {what} of type {found}, {size} bytes; expected type {kind}, {len(content) - 6}")
    return content[6:]


def _check_enclave(quote: Quote, pck: x509.Certificate) -> None:
    """Check that the platform signed the quoting enclave's report, and that it names the attestation key."""
    what = f"{_WHAT}: the quoting enclave's report"
    chain.check_signature(pck.public_key(), quote.qe_signature, quote.qe_report, hashes.SHA256(), ec.SECP256R1, what)
    bound = hashlib.sha256(quote.attestation_key + quote.qe_authentication).digest()
    if quote.qe_report[320:] != bound + bytes(32):
        raise IntegrityError(f"{what} is of another attestation key")


def _check_quote(quote: Quote) -> None:
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + quote.attestation_key)
    except ValueError as error:
        raise IntegrityError(f"{_WHAT}: the attestation key is not a point of the curve") from error
    chain.check_signature(key, quote.signature, quote.signed, hashes.SHA256(), ec.SECP256R1, _WHAT)
