"""Reports that the makers' own machines signed: believed as they are, refused when any byte of them is changed."""

from __future__ import annotations

import json
import tarfile
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifechart.core.errors import IntegrityError
from lifechart.data.vault.attestation import chain, sev_snp, tdx
from tests.shared_data import shared


@cache
def vectors() -> dict[str, bytes]:
    with tarfile.open(shared("vectors/attestation.tar.gz")) as archive:
        files = ((member, archive.extractfile(member)) for member in archive.getmembers())
        return {member.name.removeprefix("attest/"): file.read() for member, file in files if file is not None}


@cache
def amd() -> tuple[bytes, list[Any]]:
    leaf = chain.load_der(vectors()["sev_testdata/vcek.testcer"], "VCEK")
    return vectors()["sev_testdata/attestation.bin"], [
        leaf,
        *chain.load_pem(vectors()["sev_testdata/milan.testcer"], "x"),
    ]


IN_2023, IN_2025, IN_2026 = (datetime(year, month, 25, tzinfo=UTC) for year, month in ((2023, 1), (2025, 6), (2026, 2)))


def test_a_report_of_a_milan_chip() -> None:
    report, certificates = amd()
    found = sev_snp.verify(report, certificates, IN_2023)
    assert found.root == "ARK-Milan"
    assert found.measurements["measurement"].startswith("b07af9620f3b839b47996422ddec6058")
    assert found.report_data == bytes([1, 2, 3, 4, 5]) + bytes(59)
    assert found.tcb == {"bootloader": 2, "tee": 0, "snp": 5, "microcode": 68}
    # It was launched with a policy that lets its host debug it: no key for it (test_release.py).
    assert found.debug


def test_certificates_count_at_their_time() -> None:
    report, certificates = amd()
    for year in (2021, 2030):
        with pytest.raises(IntegrityError, match="SEV-VCEK is valid from 2022-09-24 to 2029-09-24"):
            sev_snp.verify(report, certificates, datetime(year, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("name", ["milan", "milan_vlek", "genoa", "genoa_vlek", "turin_vcek", "turin_vlek"])
def test_amds_own_chains_lead_to_the_pinned_roots(name: str) -> None:
    certificates = chain.load_pem(vectors()[f"sev_trust/ask_ark_{name}.pem"], name)
    root = chain.check(certificates, chain.pinned("amd"), IN_2026, name)
    assert root.lower() == f"ark-{name.partition('_')[0]}"


def flipped(content: bytes, at: int) -> bytes:
    """One bit of one byte changed; which of the eight follows from where."""
    changed = bytearray(content)
    changed[at] ^= 1 << (at * 5 % 8)
    return bytes(changed)


def test_every_byte_of_a_chips_report_counts() -> None:
    report, certificates = amd()
    for at in range(len(report)):
        with pytest.raises(IntegrityError, match="SEV-SNP report: "):
            sev_snp.verify(flipped(report, at), certificates, IN_2023)


def test_every_byte_of_a_chips_certificate_counts() -> None:
    report, certificates = amd()
    content = vectors()["sev_testdata/vcek.testcer"]
    for at in range(len(content)):
        with pytest.raises(IntegrityError):
            sev_snp.verify(report, [chain.load_der(flipped(content, at), "VCEK"), *certificates[1:]], IN_2023)


def quote(name: str) -> bytes:
    content = vectors()[name]
    return bytes.fromhex(content.decode().strip().removeprefix("0x")) if name.endswith(".hex") else content


def collateral(name: str) -> dict[str, str]:
    return dict(json.loads(vectors()[f"dcap_qvl/sample/{name}_collateral.json"]))


def test_a_quote_with_its_collateral() -> None:
    found = tdx.verify(quote("dcap_qvl/sample/tdx_quote"), collateral("tdx_quote"), IN_2025)
    assert (found.statuses, found.debug, found.root) == (("UpToDate",) * 3, False, "Intel SGX Root CA")
    assert found.measurements["tdattributes"] == "0000001000000000"
    assert any(found.report_data)


REFUSED = [
    ("collateral that has run out", "tdx_quote", "tdx_quote", IN_2026, "holds from 2025-06-19 to 2025-07-19"),
    ("collateral of another platform", "tdx_quote", "tdx_quote_outdated", IN_2026, "but the platform is b0c06f000000"),
    ("a platform below every TCB level", "tdx_quote_outdated", "tdx_quote_outdated", IN_2026, "reaches none of"),
    ("a quote of SGX", "sgx_quote", "sgx_quote", IN_2025, "version 3, expected 4 or 5"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "with_", "at", "reason"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_quotes_that_are_not_enough(name: str, with_: str, at: datetime, reason: str) -> None:
    with pytest.raises(IntegrityError, match=reason):
        tdx.verify(quote(f"dcap_qvl/sample/{name}"), collateral(with_), at)


MORE = (
    "dcap_qvl/sample/tdx-quote.hex",
    "dcap_qvl/sample/quote-from-tappd.hex",
    "dcap_qvl/sample/tdx_quote_outdated",
    "tdx_testdata/quote_v5_sample.dat",
    "tdx_testdata/ccel/cos-113-tdx-quote.dat",
)


@pytest.mark.parametrize("name", MORE)
def test_quotes_without_collateral_are_genuine_but_not_assessed(name: str) -> None:
    found = tdx.verify(quote(name), None, IN_2026)
    assert (found.statuses, found.debug) == (("NotAssessed",), False)


def test_the_cos_quote_binds_its_nonce() -> None:
    found = tdx.verify(quote("tdx_testdata/ccel/cos-113-tdx-quote.dat"), None, IN_2026)
    assert found.report_data == vectors()["tdx_testdata/ccel/nonce.dat"]


def test_words_after_a_quote_are_refused() -> None:
    content = quote("tdx_testdata/tdx_prod_quote_SPR_E4.dat")
    with pytest.raises(IntegrityError, match="bytes after its end"):
        tdx.verify(content, None, IN_2026)
    assert tdx.verify(content[:4935], None, IN_2026).root == "Intel SGX Root CA"


@pytest.mark.parametrize("name", ["dcap_qvl/sample/tdx_quote", *MORE[-2:]])
def test_every_byte_of_a_quote_counts(name: str) -> None:
    content = quote(name)
    for at in range(len(content)):
        with pytest.raises(IntegrityError, match="TDX quote"):
            tdx.verify(flipped(content, at), None, IN_2026)


@given(data=st.data())
def test_changed_collateral_is_refused_or_means_the_same(data: st.DataObject) -> None:
    told = collateral("tdx_quote")
    name = data.draw(st.sampled_from(sorted(told.keys() - {"pck_crl_issuer_chain"})))
    text = list(told[name])
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.sampled_from('0aAZ9{}\n :"é\0'))
    try:
        found = tdx.verify(quote("dcap_qvl/sample/tdx_quote"), told | {name: "".join(text)}, IN_2025)
    except IntegrityError:
        return
    assert found == tdx.verify(quote("dcap_qvl/sample/tdx_quote"), told, IN_2025)
