"""Certificates from a leaf up to a root that is pinned by its SHA-256, at a given time, and none of them revoked."""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib import resources

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding

from lifechart.core.errors import IntegrityError

Roots = Mapping[str, str]
"""SHA-256 of a root certificate's DER (hex) -> its name."""


@cache
def pinned(vendor: str) -> Roots:
    """Return the roots of `amd` or `intel` that roots.toml names."""
    table = tomllib.loads(resources.files(__package__).joinpath("roots.toml").read_text())
    return {row["sha256"]: row["name"] for row in table["root"] if row["vendor"] == vendor}


def load_pem(content: bytes, what: str, one_spelling: bool = False) -> list[x509.Certificate]:
    """Read certificates in PEM, leaf first; raises IntegrityError if they are none.

    `one_spelling`: refuse all but the canonical form. PEM may be spelt in many ways, and a quote that carries it is not
    signed over it: bytes that could be changed without a change of meaning are then refused rather than ignored.
    """
    try:
        with _old_certificates():
            found = x509.load_pem_x509_certificates(content)
            for each in found:
                _read_through(each)
    except Exception as error:  # hostile bytes: whatever the parser makes of them, they are no certificates
        raise IntegrityError(f"{what}: not certificates in PEM ({error})") from error
    if one_spelling and content != b"".join(each.public_bytes(Encoding.PEM) for each in found):
        raise IntegrityError(f"{what}: has bytes beside its certificates, or spells them unusually")
    return found


def load_der(content: bytes, what: str) -> x509.Certificate:
    """Read one certificate in DER; raises IntegrityError if it is none."""
    try:
        with _old_certificates():
            found = x509.load_der_x509_certificate(content)
            _read_through(found)
    except Exception as error:  # as above
        raise IntegrityError(f"{what}: not a certificate in DER ({error})") from error
    return found


def _read_through(certificate: x509.Certificate) -> None:
    """Read every part that is used later: what cannot be parsed is found here, not in the middle of a judgement."""
    _ = certificate.subject, certificate.issuer, certificate.extensions, certificate.public_key()


def _old_certificates() -> warnings.catch_warnings[None]:
    """Return a context without the parser's warnings, such as of AMD's serial number 0, which RFC 5280 rules out."""
    return warnings.catch_warnings(action="ignore")


def check(certificates: Sequence[x509.Certificate], roots: Roots, at: datetime, what: str) -> str:
    """Return the name of the root that `certificates` (leaf first, root last) lead to, or raise IntegrityError."""
    if len(certificates) < 2:
        raise IntegrityError(f"{what}: {len(certificates)} certificates, expected a chain from the leaf to its root")
    for certificate in certificates:
        if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
            dates = f"{certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"
            raise IntegrityError(f"{what}: {name(certificate)} is valid from {dates}, not on {at:%Y-%m-%d}")
    root = certificates[-1]
    digest = root.fingerprint(hashes.SHA256()).hex()
    if digest not in roots:
        raise IntegrityError(
            f"{what}: leads to {name(root)} ({digest[:16]}…), expected one of {sorted(roots.values())}"
        )
    for lower, upper in zip(certificates, [*certificates[1:], root], strict=True):
        try:
            lower.verify_directly_issued_by(upper)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
            raise IntegrityError(f"{what}: {name(lower)} was not issued by {name(upper)}") from error
        if not _may_issue(upper):
            raise IntegrityError(f"{what}: {name(upper)} may not issue certificates")
    return roots[digest]


def check_revocation(certificates: Sequence[x509.Certificate], lists: Sequence[bytes], at: datetime, what: str) -> None:
    """Raise IntegrityError if a certificate is revoked, or has no current list of its issuer's (CRL in DER)."""
    known = {}
    for content in lists:
        try:
            revoked = x509.load_der_x509_crl(content)
            known[revoked.issuer.public_bytes()] = revoked
            _ = revoked.extensions, revoked.next_update_utc, revoked.last_update_utc
        except Exception as error:  # as above
            raise IntegrityError(f"{what}: not a list of revoked certificates in DER ({error})") from error
    for lower, upper in zip(certificates, [*certificates[1:], certificates[-1]], strict=True):
        found = known.get(lower.issuer.public_bytes())
        if found is None:
            raise IntegrityError(f"{what}: no list says whether {name(lower)} is revoked")
        if not _signs(upper, found):
            raise IntegrityError(f"{what}: the list of revoked certificates is not signed by {name(upper)}")
        end = found.next_update_utc
        if found.last_update_utc > at or end is None or end < at:
            raise IntegrityError(f"{what}: the list of {name(upper)} is not of {at:%Y-%m-%d}, but until {end}")
        if found.get_revoked_certificate_by_serial_number(lower.serial_number) is not None:
            raise IntegrityError(f"{what}: {name(lower)} is revoked")


def _signs(certificate: x509.Certificate, revoked: x509.CertificateRevocationList) -> bool:
    try:
        return revoked.is_signature_valid(certificate.public_key())  # type: ignore[arg-type]
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False


def name(certificate: x509.Certificate) -> str:
    """Return a certificate's common name."""
    found = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value) if found else "(unnamed)"


def check_signature(
    key: object,
    signature: bytes,
    content: bytes,
    algorithm: hashes.HashAlgorithm,
    curve: type[ec.EllipticCurve],
    what: str,
) -> None:
    """Check an ECDSA signature given as r and s, big-endian, of equal length; raises IntegrityError."""
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, curve):
        raise IntegrityError(f"{what}: its key is not of the curve {curve.name}")
    half = len(signature) // 2
    r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
    try:
        key.verify(utils.encode_dss_signature(r, s), content, ec.ECDSA(algorithm))
    except InvalidSignature as error:
        raise IntegrityError(f"{what}: the signature does not fit the content") from error


def _may_issue(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
