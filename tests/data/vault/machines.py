"""Confidential machines made of paper: chains, reports, quotes and collateral that are right in every byte.

Their roots are nobody's, so they prove nothing about hardware; with them a test can change one thing at a time and sign
the rest again. What the makers' own machines sign is tested on vectors in test_vectors.py.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from lifechart.data.vault.attestation import sev_snp, tdx
from lifechart.data.vault.attestation.attested import Attested

NOW = datetime(2026, 6, 1, tzinfo=UTC)
Key = ec.EllipticCurvePrivateKey


@dataclass
class Issuer:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Key


def issue(
    name: str,
    above: Issuer | None,
    curve: ec.EllipticCurve,
    extensions: Sequence[tuple[str, bytes]] = (),
    ca: bool = True,
) -> Issuer:
    key = ec.generate_private_key(curve)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder(
            above.certificate.subject if above else subject, subject, key.public_key(), x509.random_serial_number()
        )
        .not_valid_before(NOW - timedelta(days=30))
        .not_valid_after(NOW + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca, None), critical=True)
    )
    for oid, content in extensions:
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), content), critical=False)
    return Issuer(builder.sign(above.key if above else key, hashes.SHA384()), key)


def roots(*issuers: Issuer) -> dict[str, str]:
    return {
        each.certificate.fingerprint(hashes.SHA256()).hex(): each.certificate.subject.rfc4514_string()[3:]
        for each in issuers
    }


def pem(*issuers: Issuer) -> str:
    return b"".join(each.certificate.public_bytes(Encoding.PEM) for each in issuers).decode()


def signed(key: Key, content: bytes, algorithm: hashes.HashAlgorithm, size: int, order: Any = "big") -> bytes:
    r, s = utils.decode_dss_signature(key.sign(content, ec.ECDSA(algorithm)))
    return r.to_bytes(size, order) + s.to_bytes(size, order)


def integer(value: int) -> bytes:
    content = value.to_bytes(value.bit_length() // 8 + 1, "big")
    return bytes([2, len(content)]) + content


@dataclass
class Amd:
    """A SEV-SNP machine. Fields are as its report will state them."""

    kind: str = "VCEK"
    product: str = "Milan"
    chip: bytes = bytes(range(64))
    tcb: bytes = bytes([3, 0, 0, 0, 0, 0, 8, 115])
    certified: dict[str, int] = field(default_factory=lambda: {"3.1": 3, "3.2": 0, "3.3": 8, "3.8": 115})

    def __post_init__(self) -> None:
        curve = ec.SECP384R1()
        self.ark = issue(f"ARK-{self.product}", None, curve)
        middle = f"SEV-{self.product}" if self.kind == "VCEK" else f"SEV-VLEK-{self.product}"
        self.ask = issue(middle, self.ark, curve)
        extensions = [(f"1.3.6.1.4.1.3704.1.{oid}", integer(value)) for oid, value in self.certified.items()]
        if self.kind == "VCEK":
            extensions.append(("1.3.6.1.4.1.3704.1.4", self.chip))
        self.leaf = issue(f"SEV-{self.kind}", self.ask, curve, extensions, ca=False)
        self.roots = roots(self.ark)
        self.certificates = pem(self.leaf, self.ask, self.ark)

    def report(self, data: bytes = bytes(64), **changes: bytes) -> bytes:
        """A report; `changes` are `at_1a0=b"…"`: bytes at an offset in hex."""
        content = bytearray(0x2A0)
        struct.pack_into("<IIQ", content, 0, 3, 1, 0x30000 | 1 << 17)
        struct.pack_into("<I", content, 0x34, 1)
        content[0x50:0x90] = data.ljust(64, b"\0")
        content[0x90:0xC0] = b"\xab" * 48
        struct.pack_into("<I", content, 0x48, (0 if self.kind == "VCEK" else 1) << 2)
        for start in (0x38, 0x180, 0x1E0, 0x1F0):
            content[start : start + 8] = self.tcb
        content[0x1A0:0x1E0] = self.chip
        for at, value in changes.items():
            start = int(at[3:], 16)
            content[start : start + len(value)] = value
        signature = signed(self.leaf.key, bytes(content), hashes.SHA384(), 72, "little")
        return bytes(content) + signature + bytes(512 - 144)

    def verify(self, report: bytes, at: datetime = NOW) -> Attested:
        chain = [self.leaf.certificate, self.ask.certificate, self.ark.certificate]
        return sev_snp.verify(report, chain, at, self.roots)


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    if len(content) < 128:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes(2, "big")
    return bytes([tag, 0x82]) + length + content


def _pair(numbers: tuple[int, ...], value: bytes) -> bytes:
    return _der(0x30, _der(6, bytes.fromhex("2a864886f84d010d01") + bytes(numbers)), value)


@dataclass
class Intel:
    """A TDX machine with everything that Intel would say of it."""

    components: tuple[int, ...] = (3,) * 8 + (0,) * 8
    pcesvn: int = 11
    svn: bytes = bytes([5, 1, 3]) + bytes(13)
    attributes: bytes = bytes.fromhex("0000001000000000")
    signer: bytes = bytes(48)
    enclave: dict[int, bytes] = field(default_factory=dict)
    """Changes to the quoting enclave's report, by offset."""
    version: int = 4
    revoke: bool = False

    def __post_init__(self) -> None:
        curve = ec.SECP256R1()
        self.root = issue("Intel SGX Root CA", None, curve)
        self.ca = issue("Intel SGX PCK Platform CA", self.root, curve)
        versions = [_pair((2, n), integer(value)) for n, value in enumerate(self.components, start=1)]
        versions.append(_pair((2, 17), integer(self.pcesvn)))
        table = _der(
            0x30, _pair((2,), _der(0x30, *versions)), _pair((3,), _der(4, bytes(2))), _pair((4,), _der(4, b"\x90" * 6))
        )
        self.pck = issue("Intel SGX PCK Certificate", self.ca, curve, [("1.2.840.113741.1.13.1", table)], ca=False)
        self.signing = issue("Intel SGX TCB Signing", self.root, curve, ca=False)
        self.key = ec.generate_private_key(curve)
        self.roots = roots(self.root)
        self.tcb_info: dict[str, Any] = {
            "id": "TDX", "version": 3, "issueDate": "2026-05-20T00:00:00Z", "nextUpdate": "2026-06-20T00:00:00Z",
            "fmspc": "90" * 6, "pceId": "0000",
            "tdxModule": {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8},
            "tdxModuleIdentities": [
                {
                    "id": "TDX_01", "mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8,
                    "tcbLevels": [
                        {"tcb": {"isvsvn": 5}, "tcbStatus": "UpToDate"},
                        {"tcb": {"isvsvn": 2}, "tcbStatus": "OutOfDate", "advisoryIDs": ["INTEL-SA-2"]},
                    ],
                }
            ],
            "tcbLevels": [self._level(3, "UpToDate"), self._level(1, "OutOfDate", ["INTEL-SA-1"])],
        }  # fmt: skip
        self.identity: dict[str, Any] = {
            "id": "TD_QE", "version": 2, "issueDate": "2026-05-20T00:00:00Z", "nextUpdate": "2026-06-20T00:00:00Z",
            "miscselect": "00000000", "miscselectMask": "FFFFFFFF",
            "attributes": "11" + "00" * 15, "attributesMask": "FBFFFFFFFFFFFFFF" + "00" * 8,
            "mrsigner": "CC" * 32, "isvprodid": 2,
            "tcbLevels": [{"tcb": {"isvsvn": 4}, "tcbStatus": "UpToDate"}],
        }  # fmt: skip

    @staticmethod
    def _level(svn: int, status: str, advisories: Sequence[str] = ()) -> dict[str, Any]:
        components = [{"svn": svn}] * 8 + [{"svn": 0}] * 8
        tcb = {"sgxtcbcomponents": components, "tdxtcbcomponents": [{"svn": svn}] * 3 + [{"svn": 0}] * 13, "pcesvn": 11}
        return {"tcb": tcb, "tcbStatus": status, "advisoryIDs": list(advisories)}

    def _crl(self, issuer: Issuer, *revoked: Issuer) -> str:
        builder = x509.CertificateRevocationListBuilder(
            issuer.certificate.subject, NOW - timedelta(days=1), NOW + timedelta(days=20)
        )
        for each in revoked:
            row = x509.RevokedCertificateBuilder(each.certificate.serial_number, NOW - timedelta(days=2)).build()
            builder = builder.add_revoked_certificate(row)
        return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER).hex()

    def collateral(self) -> dict[str, str]:
        found = {}
        for name, content in (("tcb_info", self.tcb_info), ("qe_identity", self.identity)):
            text = json.dumps(content, separators=(",", ":"))
            found[name] = text
            found[f"{name}_signature"] = signed(self.signing.key, text.encode(), hashes.SHA256(), 32).hex()
            found[f"{name}_issuer_chain"] = pem(self.signing, self.root)
        revoked = [self.pck] if self.revoke else []
        return found | {"pck_crl": self._crl(self.ca, *revoked), "root_ca_crl": self._crl(self.root)}

    def quote(self, data: bytes = bytes(64)) -> bytes:
        header = struct.pack("<HHIHH", self.version, 2, 0x81, 0, 0) + tdx._INTEL_QE + bytes(20)
        body = bytearray(584 if self.version == 4 else 648)
        body[0:16], body[64:112], body[120:128] = self.svn, self.signer, self.attributes
        for at, value in ((136, b"\x01"), (328, b"\x02"), (376, b"\x03"), (424, b"\x04"), (472, b"\x05")):
            body[at : at + 48] = value * 48
        body[520:584] = data.ljust(64, b"\0")
        kind = struct.pack("<HI", 3, len(body)) if self.version == 5 else b""
        content = header + kind + bytes(body)
        public = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
        enclave = bytearray(384)
        enclave[48], enclave[128:160] = 0x11, b"\xcc" * 32
        enclave[256:260] = struct.pack("<HH", 2, 4)
        enclave[320:352] = hashlib.sha256(public + b"auth").digest()
        for at, value in self.enclave.items():
            enclave[at : at + len(value)] = value
        chain = pem(self.pck, self.ca, self.root).encode() + b"\0"
        certification = (
            bytes(enclave)
            + signed(self.pck.key, bytes(enclave), hashes.SHA256(), 32)
            + struct.pack("<H", 4) + b"auth"
            + struct.pack("<HI", 5, len(chain)) + chain
        )  # fmt: skip
        rest = signed(self.key, content, hashes.SHA256(), 32) + public + struct.pack("<HI", 6, len(certification))
        return content + struct.pack("<I", len(rest) + len(certification)) + rest + certification

    def verify(self, quote: bytes | None = None, collateral: Any = ..., at: datetime = NOW) -> Attested:
        told = self.collateral() if collateral is ... else collateral
        return tdx.verify(quote or self.quote(), told, at, self.roots)
