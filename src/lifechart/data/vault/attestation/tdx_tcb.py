"""Is a TDX platform's firmware up to date? By Intel's signed collateral: TCB info, enclave identity, revocation lists.

The method is Intel's: "SGX and TDX Provisioning Certification Service API" (version 4), sections "Get TDX TCB Info" and
"Get Enclave Identity". Collateral is a table of text under the names of Intel's quote verification library:
`tcb_info`, `tcb_info_signature`, `tcb_info_issuer_chain`, the same of `qe_identity`, `pck_crl` and `root_ca_crl`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from lifechart.core.errors import IntegrityError
from lifechart.data.vault.attestation import chain, pck
from lifechart.data.vault.attestation.attested import number

_SIGNER = "Intel SGX TCB Signing"
_WHAT = "TDX collateral"


@dataclass(frozen=True, slots=True)
class Module:
    """What a TD report says of the TDX module that made it."""

    svn: bytes
    signer: bytes
    attributes: bytes


@dataclass(frozen=True, slots=True)
class Assessed:
    """What Intel says of a platform."""

    statuses: tuple[str, ...]
    """Of the platform, of its TDX module (if that is listed by itself), and of the quoting enclave."""
    advisories: tuple[str, ...]


def assess(
    collateral: Mapping[str, str],
    certificates: Sequence[x509.Certificate],
    module: Module,
    qe_report: bytes,
    at: datetime,
    roots: chain.Roots,
) -> Assessed:
    """Return the statuses of a platform at a time; raises IntegrityError if the collateral is not to be believed."""
    tcb_info = _signed(collateral, "tcb_info", at, roots)
    identity = _signed(collateral, "qe_identity", at, roots)
    _check_revoked(collateral, certificates, at, roots)
    try:
        levels = [_platform(tcb_info, pck.read(certificates[0]), module)]
        levels += _module(tcb_info, module)
        levels.append(_enclave(identity, qe_report))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise IntegrityError(f"{_WHAT}: lacks what it should state ({type(error).__name__}: {error})") from error
    advisories = sorted({advisory for level in levels for advisory in level.get("advisoryIDs", [])})
    return Assessed(tuple(str(level["tcbStatus"]) for level in levels), tuple(advisories))


def _signed(collateral: Mapping[str, str], name: str, at: datetime, roots: chain.Roots) -> dict[str, Any]:
    """Return a document of the collateral once Intel's signature over it holds and it is current."""
    what = f"{_WHAT}, {name}"
    content = _text(collateral, name).encode()
    certificates = chain.load_pem(_text(collateral, f"{name}_issuer_chain").encode(), what)
    chain.check(certificates, roots, at, what)
    if len(certificates) != 2 or chain.name(certificates[0]) != _SIGNER:
        raise IntegrityError(f"{what}: signed by {chain.name(certificates[0])}, expected {_SIGNER}")
    signature = _hex(collateral, f"{name}_signature")
    chain.check_signature(certificates[0].public_key(), signature, content, hashes.SHA256(), ec.SECP256R1, what)
    try:
        found: dict[str, Any] = orjson.loads(content)
        issued, ends = (datetime.fromisoformat(found[key]) for key in ("issueDate", "nextUpdate"))
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{what}: signed, but not understood ({type(error).__name__})") from error
    if not issued <= at <= ends:
        raise IntegrityError(f"{what}: holds from {issued:%Y-%m-%d} to {ends:%Y-%m-%d}, not on {at:%Y-%m-%d}")
    return found


def _check_revoked(
    collateral: Mapping[str, str], certificates: Sequence[x509.Certificate], at: datetime, roots: chain.Roots
) -> None:
    lists = [_hex(collateral, "pck_crl"), _hex(collateral, "root_ca_crl")]
    chain.check_revocation(certificates, lists, at, _WHAT)
    for name in ("tcb_info_issuer_chain", "qe_identity_issuer_chain"):
        signers = chain.load_pem(_text(collateral, name).encode(), f"{_WHAT}, {name}")
        chain.check_revocation(signers, lists, at, f"{_WHAT}, {name}")


def _platform(tcb_info: dict[str, Any], platform: pck.Platform, module: Module) -> dict[str, Any]:
    """Return the first TCB level that the platform reaches in every component."""
    if tcb_info["id"] != "TDX" or tcb_info["version"] != 3:
        raise IntegrityError(
            f"{_WHAT}: TCB info {tcb_info['id']} version {tcb_info['version']}, expected TDX version 3"
        )
    if bytes.fromhex(tcb_info["fmspc"]) != platform.fmspc or bytes.fromhex(tcb_info["pceId"]) != platform.pceid:
        raise IntegrityError(f"{_WHAT}: TCB info of {tcb_info['fmspc']}, but the platform is {platform.fmspc.hex()}")
    # A TDX module with a major version is listed by itself; the first two numbers are then its own.
    first = 2 if module.svn[1] else 0
    for level in tcb_info["tcbLevels"]:
        sgx = [component["svn"] for component in level["tcb"]["sgxtcbcomponents"]]
        tdx = [component["svn"] for component in level["tcb"]["tdxtcbcomponents"]]
        reached = (
            len(sgx) == len(tdx) == 16
            and all(has >= wants for has, wants in zip(platform.components, sgx, strict=True))
            and platform.pcesvn >= level["tcb"]["pcesvn"]
            and all(has >= wants for has, wants in zip(module.svn[first:], tdx[first:], strict=True))
        )
        if reached:
            return dict(level)
    raise IntegrityError(f"{_WHAT}: the platform reaches none of the listed TCB levels")


def _module(tcb_info: dict[str, Any], module: Module) -> list[dict[str, Any]]:
    """Check who made the TDX module; return its TCB level if modules of its major version are listed by themselves."""
    about, levels = tcb_info["tdxModule"], []
    if module.svn[1]:
        wanted = f"TDX_{module.svn[1]:02X}"
        named = [each for each in tcb_info.get("tdxModuleIdentities", []) if each["id"].upper() == wanted]
        if not named:
            raise IntegrityError(f"{_WHAT}: says nothing of TDX module {wanted}")
        about = named[0]
        levels = [level for level in about["tcbLevels"] if module.svn[0] >= level["tcb"]["isvsvn"]][:1]
        if not levels:
            raise IntegrityError(f"{_WHAT}: TDX module {wanted} reaches none of the listed TCB levels")
    mask = bytes.fromhex(about["attributesMask"])
    attributes = bytes(a & b for a, b in zip(module.attributes, mask, strict=True))
    if module.signer != bytes.fromhex(about["mrsigner"]) or attributes != bytes.fromhex(about["attributes"]):
        raise IntegrityError(f"{_WHAT}: the TDX module is not the one that Intel signs")
    return levels


def _enclave(identity: dict[str, Any], report: bytes) -> dict[str, Any]:
    """Check that the quoting enclave is Intel's; return its TCB level."""
    if identity["id"] != "TD_QE" or identity["version"] != 2:
        raise IntegrityError(f"{_WHAT}: identity of {identity['id']}, expected TD_QE version 2")

    def masked(content: bytes, name: str) -> bool:
        mask = bytes.fromhex(identity[f"{name}Mask"])
        return bytes(a & b for a, b in zip(content, mask, strict=True)) == bytes.fromhex(identity[name])

    # Intel writes miscselect as a number, the report holds it little-endian.
    matches = (
        masked(report[16:20][::-1], "miscselect")
        and masked(report[48:64], "attributes")
        and report[128:160] == bytes.fromhex(identity["mrsigner"])
        and number(report[256:258]) == identity["isvprodid"]
    )
    if not matches:
        raise IntegrityError(f"{_WHAT}: the quoting enclave is not the one that Intel signs")
    reached = [level for level in identity["tcbLevels"] if number(report[258:260]) >= level["tcb"]["isvsvn"]]
    if not reached:
        raise IntegrityError(f"{_WHAT}: the quoting enclave reaches none of the listed TCB levels")
    return dict(reached[0])


def _text(collateral: Mapping[str, str], name: str) -> str:
    found = collateral.get(name)
    if not isinstance(found, str):
        raise IntegrityError(f"{_WHAT}: lacks {name}")
    return found


def _hex(collateral: Mapping[str, str], name: str) -> bytes:
    try:
        return bytes.fromhex(_text(collateral, name))
    except ValueError as error:
        raise IntegrityError(f"{_WHAT}: {name} is not hex") from error
