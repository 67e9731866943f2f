"""Each thing that can be wrong with a report is refused, with its own reason."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from lifechart.core.errors import IntegrityError
from lifechart.data.vault.attestation import chain, sev_snp
from tests.data.vault.machines import NOW, Amd, Intel, issue, pem, roots


@cache
def amd(kind: str = "VCEK") -> Amd:
    return Amd(kind)


@pytest.mark.parametrize("kind", ["VCEK", "VLEK"])
def test_a_report_says_what_the_machine_put_in(kind: str) -> None:
    found = amd(kind).verify(amd(kind).report(b"mine"))
    assert found.report_data == b"mine".ljust(64, b"\0")
    assert found.measurements["measurement"] == "ab" * 48
    assert found.tcb == {"bootloader": 3, "tee": 0, "snp": 8, "microcode": 115}
    assert (found.debug, found.facts["vmpl"], found.facts["migratable"]) == (False, 0, 0)


def test_the_lowest_of_four_firmware_versions_counts() -> None:
    older = bytes([3, 0, 0, 0, 0, 0, 7, 100])
    assert amd().verify(amd().report(at_1f0=older)).tcb["snp"] == 7
    assert amd().verify(amd().report(at_1e0=older)).tcb["microcode"] == 100


def test_turin_orders_its_components_otherwise() -> None:
    certified = {"3.9": 1, "3.1": 3, "3.2": 2, "3.3": 8, "3.8": 115}
    machine = Amd(product="Turin", tcb=bytes([1, 3, 2, 8, 0, 0, 0, 115]), certified=certified)
    found = machine.verify(machine.report())
    assert found.tcb == {"fmc": 1, "bootloader": 3, "tee": 2, "snp": 8, "microcode": 115}


def test_debugging_and_migration_are_told() -> None:
    policy = (0x30000 | 1 << 17 | 1 << 18 | 1 << 19).to_bytes(8, "little")
    found = amd().verify(amd().report(at_08=policy))
    assert found.debug
    assert found.facts["migratable"]


WRONG_REPORTS: list[tuple[str, dict[str, bytes], str]] = [
    ("version", {"at_0": b"\x01"}, "version 1"),
    ("algorithm", {"at_34": b"\x02"}, "signature algorithm 2"),
    ("signed with the other key", {"at_48": b"\x04"}, "signed with key 1 under"),
    ("signed with no key", {"at_48": b"\x1c"}, "signed with key 7"),
    ("another chip", {"at_1a0": b"\xff"}, "another chip's"),
    ("a masked chip", {"at_1a0": bytes(64)}, "masked"),
    ("newer firmware than certified", {"at_180": bytes([3, 0, 0, 0, 0, 0, 9, 115])}, "snp 9, but the certificate is"),
    ("older firmware than certified", {"at_180": bytes([2, 0, 0, 0, 0, 0, 8, 115])}, "bootloader 2"),
    ("a policy without its constant bit", {"at_08": bytes(8)}, "lacks the bit"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "reason"), [row[1:] for row in WRONG_REPORTS], ids=[row[0] for row in WRONG_REPORTS]
)
def test_a_rightly_signed_report_may_still_be_wrong(changes: dict[str, bytes], reason: str) -> None:
    with pytest.raises(IntegrityError, match=reason):
        amd().verify(amd().report(**changes))


@given(at=st.integers(0, sev_snp.REPORT_BYTES - 1), value=st.integers(1, 255))
def test_any_changed_byte_of_a_report_is_refused(at: int, value: int) -> None:
    report = bytearray(_report())
    report[at] ^= value
    with pytest.raises(IntegrityError):
        amd().verify(bytes(report))


@cache
def _report() -> bytes:
    return amd().report(b"x")


@pytest.mark.parametrize("length", [0, 100, 1183, 1185])
def test_a_report_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(IntegrityError, match=f"{length} bytes"):
        amd().verify(amd().report().ljust(length, b"\0")[:length])


def test_chains_that_do_not_hold_are_refused() -> None:
    machine, report, other = amd(), amd().report(), Amd()
    leaf, ask, ark = (each.certificate for each in (machine.leaf, machine.ask, machine.ark))

    def refused(reason: str, certificates: list[Any], trusted: Any = None, at: Any = NOW) -> None:
        with pytest.raises(IntegrityError, match=reason):
            sev_snp.verify(report, certificates, at, trusted or machine.roots)

    refused("1 certificates", [leaf])
    refused("leads to ARK-Milan", [leaf, ask, other.ark.certificate])
    refused("leads to SEV-Milan", [leaf, ask])
    refused("SEV-VCEK was not issued by SEV-Milan", [leaf, other.ask.certificate, other.ark.certificate], other.roots)
    refused("SEV-VCEK is valid from", [leaf, ask, ark], at=NOW + timedelta(days=400))
    refused("SEV-VCEK is valid from", [leaf, ask, ark], at=NOW - timedelta(days=40))
    with pytest.raises(IntegrityError, match="leads to ARK-Milan"):
        sev_snp.verify(report, [leaf, ask, ark], NOW)  # the makers' own roots


def test_a_leaf_may_not_issue() -> None:
    curve = ec.SECP384R1()
    root = issue("ARK-Milan", None, curve)
    false = issue("SEV-Milan", root, curve, ca=False)
    leaf = issue("SEV-VCEK", false, curve, ca=False)
    with pytest.raises(IntegrityError, match="SEV-Milan may not issue"):
        chain.check([each.certificate for each in (leaf, false, root)], roots(root), NOW, "chain")


def test_pem_has_one_spelling() -> None:
    text = amd().certificates
    assert len(chain.load_pem(text.encode(), "chain")) == 3
    for other in (
        f"hello\n{text}",
        text.replace("\n", "\r\n"),
        text + "\n\n",
        text.replace("-----\n", "-----\n\n", 1),
        "",
    ):
        with pytest.raises(IntegrityError, match="chain"):
            chain.load_pem(other.encode(), "chain", one_spelling=True)
    assert len(chain.load_pem(text.replace("\n", "\r\n").encode(), "chain")) == 3
    with pytest.raises(IntegrityError, match="chain"):
        chain.load_pem(b"", "chain")


@cache
def intel(version: int = 4) -> tuple[Intel, bytes, dict[str, str]]:
    machine = Intel(version=version)
    return machine, machine.quote(b"mine"), machine.collateral()


@pytest.mark.parametrize("version", [4, 5])
def test_a_quote_says_what_the_machine_put_in(version: int) -> None:
    machine, quote, collateral = intel(version)
    found = machine.verify(quote, collateral)
    assert found.report_data == b"mine".ljust(64, b"\0")
    assert (found.measurements["mrtd"], found.measurements["rtmr3"]) == ("01" * 48, "05" * 48)
    assert ("mrservicetd" in found.measurements) == (version == 5)
    assert (found.debug, found.statuses, found.root) == (False, ("UpToDate",) * 3, "Intel SGX Root CA")


@given(data=st.data(), version=st.sampled_from([4, 5]), value=st.integers(1, 255))
def test_any_changed_byte_of_a_quote_is_refused(data: st.DataObject, version: int, value: int) -> None:
    machine, quote, collateral = intel(version)
    changed = bytearray(quote + bytes(8))
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= value
    with pytest.raises(IntegrityError):
        machine.verify(bytes(changed), collateral)


@given(at=st.integers(0, 4000))
def test_a_quote_that_breaks_off_is_refused(at: int) -> None:
    machine, quote, collateral = intel()
    with pytest.raises(IntegrityError):
        machine.verify(quote[: min(at, len(quote) - 1)] or b"\0", collateral)


@given(data=st.data())
def test_changed_collateral_is_refused_or_means_the_same(data: st.DataObject) -> None:
    machine, quote, collateral = intel()
    name = data.draw(st.sampled_from(sorted(collateral)))
    text = list(collateral[name])
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.sampled_from('0aAZ9{}\n :"é\0'))
    try:
        found = machine.verify(quote, collateral | {name: "".join(text)})
    except IntegrityError:
        return
    assert found == machine.verify(quote, collateral)


def _info(change: Callable[[Any], None]) -> Callable[[Intel], None]:
    return lambda machine: change(machine.tcb_info)


def _identity(**changes: Any) -> Callable[[Intel], None]:
    return lambda machine: machine.identity.update(changes)


WRONG_MACHINES: list[tuple[str, dict[str, Any], Callable[[Intel], None], str]] = [
    ("revoked", {"revoke": True}, lambda machine: None, "Intel SGX PCK Certificate is revoked"),
    ("firmware below every level", {"components": (0,) * 16}, lambda machine: None, "none of the listed TCB levels"),
    ("old PCE", {"pcesvn": 3}, lambda machine: None, "none of the listed TCB levels"),
    ("module too old", {"svn": bytes([1, 1, 3]) + bytes(13)}, lambda machine: None, "TDX module TDX_01 reaches none"),
    ("module not listed", {"svn": bytes([5, 9, 3]) + bytes(13)}, lambda machine: None, "nothing of TDX module TDX_09"),
    ("module of another signer", {"signer": b"\x01" * 48}, lambda machine: None, "not the one that Intel signs"),
    ("enclave of another signer", {"enclave": {128: b"\x00"}}, lambda machine: None, "quoting enclave is not the one"),
    ("enclave that may be debugged", {"enclave": {48: b"\x13"}}, lambda machine: None, "enclave is not the one"),
    ("enclave too old", {"enclave": {258: b"\x01"}}, lambda machine: None, "quoting enclave reaches none"),
    ("another attestation key", {"enclave": {320: b"\x00\x00"}}, lambda machine: None, "another attestation key"),
    ("collateral of another platform", {}, _info(lambda info: info.update(fmspc="00" * 6)), "TCB info of 000000000000"),
    ("collateral of SGX", {}, _info(lambda info: info.update(id="SGX")), "TCB info SGX"),
    ("old collateral", {}, _info(lambda info: info.update(nextUpdate="2026-05-30T00:00:00Z")), "holds from"),
    ("collateral without levels", {}, _info(lambda info: info.pop("tcbLevels")), "lacks what it should state"),
    ("identity of another enclave", {}, _identity(id="QE"), "identity of QE"),
    ("identity not yet valid", {}, _identity(issueDate="2026-06-10T00:00:00Z"), "holds from"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "change", "reason"), [row[1:] for row in WRONG_MACHINES], ids=[row[0] for row in WRONG_MACHINES]
)
def test_a_rightly_signed_quote_may_still_be_of_a_wrong_machine(
    options: dict[str, Any], change: Callable[[Intel], None], reason: str
) -> None:
    machine = Intel(**options)
    change(machine)
    with pytest.raises(IntegrityError, match=reason):
        machine.verify()


def test_old_firmware_is_told_with_its_advisories() -> None:
    found = Intel(components=(2,) * 8 + (0,) * 8).verify()
    assert (found.statuses, found.advisories) == (("OutOfDate", "UpToDate", "UpToDate"), ("INTEL-SA-1",))
    found = Intel(svn=bytes([3, 1, 3]) + bytes(13)).verify()
    assert (found.statuses, found.advisories) == (("UpToDate", "OutOfDate", "UpToDate"), ("INTEL-SA-2",))


def test_without_collateral_firmware_is_not_assessed_and_an_enclave_under_debug_is_still_refused() -> None:
    assert intel()[0].verify(intel()[1], None).statuses == ("NotAssessed",)
    machine = Intel(enclave={48: b"\x13"})
    with pytest.raises(IntegrityError, match="may be debugged"):
        machine.verify(collateral=None)


def test_debugging_is_told() -> None:
    assert Intel(attributes=bytes.fromhex("0100001000000000")).verify().debug


def test_collateral_signed_by_another_of_intels_certificates_is_refused() -> None:
    machine = Intel()
    told = machine.collateral()
    false = machine.signing
    machine.signing = issue("Intel SGX PCK Certificate", machine.root, ec.SECP256R1(), ca=False)
    with pytest.raises(IntegrityError, match="signed by Intel SGX PCK Certificate"):
        machine.verify(collateral=machine.collateral())
    machine.signing = false
    with pytest.raises(IntegrityError, match="lacks pck_crl"):
        machine.verify(collateral={name: value for name, value in told.items() if name != "pck_crl"})
    with pytest.raises(IntegrityError, match="no list says"):
        machine.verify(collateral=told | {"pck_crl": told["root_ca_crl"]})
    with pytest.raises(IntegrityError, match="not signed by"):
        machine.verify(collateral=told | {"pck_crl": Intel().collateral()["pck_crl"]})
    with pytest.raises(IntegrityError, match="lead"):
        machine.verify(collateral=told | {"tcb_info_issuer_chain": pem(Intel().signing, Intel().root)})
