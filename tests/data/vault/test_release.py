"""A key goes to the workload that the policy names and to no other, once, and the ledger has every answer first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pyrage
import pytest

from lifechart.core.errors import AccessDenied, AuditError, InputError, IntegrityError, LifechartError
from lifechart.data import shards
from lifechart.data.vault import keys, release, sealed
from lifechart.data.vault.attestation.evidence import Evidence
from lifechart.data.vault.attestation.policy import Policy
from lifechart.data.vault.release import Custodian, binding, challenge
from lifechart.ledger.keys import Signer, Verifier
from lifechart.ledger.log import Log as RealLog
from lifechart.ledger.statement import Statement, Subject
from lifechart.ledger.trace import trace
from lifechart_verify.audit import verify as audit
from lifechart_verify.notes import Key
from tests.data.samples import Log, patient, resource, take, write
from tests.data.vault.machines import NOW, Amd, Intel

POLICY = """
[[workload]]
name = "training on AMD"
technology = "sev-snp"
datasets = ["DATASET"]
measurements.measurement = ["{snp}"]
minimum_tcb = {{ bootloader = 3, tee = 0, snp = 8, microcode = 115 }}
review_by = 2027-01-01

[[workload]]
name = "training on Intel"
technology = "tdx"
datasets = ["*"]
measurements.mrtd = ["{one}"]
measurements.rtmr1 = ["{three}", "{two}"]
measurements.rtmr2 = ["{four}"]
tcb_statuses = ["UpToDate", "SWHardeningNeeded"]
review_by = 2027-01-01
""".format(snp="ab" * 48, **{name: f"0{n}" * 48 for n, name in enumerate(("one", "two", "three", "four"), start=1)})


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An encrypted data set, whose custodian is this process."""
    monkeypatch.setenv("LIFECHART_HOME", str(tmp_path / "home"))
    recipient = keys.make(tmp_path / "home" / "keys" / "vault.key")
    lines = [line for n in range(30) for line in (patient(f"p{n}"), resource("Observation", f"o{n}", f"p{n}"))]
    write(tmp_path / "in" / "all.ndjson", *lines)
    take(tmp_path / "in", tmp_path / "out", encrypt_to=[recipient])
    return tmp_path / "out"


class Office:
    """A custodian, and a workload in a machine of paper."""

    def __init__(self, locked: Path, tmp_path: Path, machine: Amd | Intel, policy: str = POLICY) -> None:
        text = policy.replace("DATASET", sealed.Vault.load(locked).dataset)
        (tmp_path / "policy.toml").write_text(text)
        self.log, self.locked, self.machine = Log(), locked, machine
        rows = Policy.load(tmp_path / "policy.toml")
        self.custodian = Custodian(rows, self.log, tmp_path / "challenges", machine.roots)
        self.recipient = keys.make(tmp_path / "workload.key")
        self.challenge = challenge(self.custodian.challenges, NOW)

    def evidence(self, data: bytes | None = None, **changes: bytes) -> Evidence:
        content = binding(self.challenge, self.recipient) if data is None else data
        if isinstance(self.machine, Amd):
            report = self.machine.report(content, **changes)
            return Evidence("sev-snp", self.recipient, report, self.machine.certificates)
        return Evidence("tdx", self.recipient, self.machine.quote(content), collateral=self.machine.collateral())

    def ask(self, evidence: Evidence | None = None, **options: Any) -> bytes:
        told = {"challenge": self.challenge, "at": NOW} | options
        return self.custodian.release(self.locked, evidence or self.evidence(), **told)

    def refused(self, reason: str, evidence: Evidence | None = None, **options: Any) -> None:
        before = len(self.log.statements)
        with pytest.raises(LifechartError, match=reason) as error:
            self.ask(evidence, **options)
        (said,) = self.log.statements[before:]
        assert (said.kind, said.predicate["decision"]) == ("key-release", "refused")
        assert said.predicate["reason"] == str(error.value)


@pytest.mark.parametrize("machine", [Amd, lambda: Amd("VLEK"), Intel, lambda: Intel(version=5)])
def test_an_attested_workload_gets_the_key_and_nobody_else_can_open_it(
    machine: Any, locked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = Office(locked, tmp_path, machine())
    released = office.ask()
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(released, [pyrage.x25519.Identity.generate()])
    # In the machine: the workload's key file, and no other.
    monkeypatch.setenv("LIFECHART_HOME", str(tmp_path / "machine"))
    monkeypatch.setenv("LIFECHART_VAULT_IDENTITY", str(tmp_path / "workload.key"))
    with pytest.raises(AccessDenied):
        shards.read_split(locked, "train")
    assert release.accept(released, tmp_path / "workload.key") == sealed.Vault.load(locked).recipient
    assert shards.read_split(locked, "train").height
    (said,) = office.log.statements
    assert (said.kind, said.predicate["decision"]) == ("key-release", "released")
    assert said.predicate["workload"].startswith("training on")
    assert said.predicate["recipient"] == office.recipient
    assert said.predicate["dataset"] == sealed.Vault.load(locked).dataset
    assert "AGE-SECRET-KEY" not in said.payload().decode()


def test_a_challenge_is_good_once_and_for_some_minutes(locked: Path, tmp_path: Path) -> None:
    office = Office(locked, tmp_path, Amd())
    evidence = office.evidence()
    office.ask(evidence)
    office.refused("was used before", evidence)
    office.refused("was not given out here", evidence, challenge="00" * 32)
    office.refused("was not given out here", evidence, challenge="../../etc/passwd")
    office.challenge = challenge(office.custodian.challenges, NOW)
    office.refused("was good until 2026-06-01 00:10 UTC", at=NOW + timedelta(minutes=release.MINUTES))
    assert not list(office.custodian.challenges.iterdir())


def test_of_many_who_ask_at_once_with_one_challenge_one_is_heard(tmp_path: Path) -> None:
    given = challenge(tmp_path, NOW)

    def spends(_: int) -> bool:
        try:
            release.spend(tmp_path, given, NOW)
        except AccessDenied:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(spends, range(64))) == 1


def test_a_refused_attempt_spends_its_challenge(locked: Path, tmp_path: Path) -> None:
    office = Office(locked, tmp_path, Amd())
    office.refused("not over this challenge", office.evidence(b"other"))
    office.refused("was used before")


def test_evidence_for_another_recipient_or_challenge_is_refused(locked: Path, tmp_path: Path) -> None:
    office = Office(locked, tmp_path, Amd())
    thief = str(pyrage.x25519.Identity.generate().to_public())
    office.refused("not over this challenge and recipient", replace(office.evidence(), recipient=thief))
    old = office.evidence()
    office.challenge = challenge(office.custodian.challenges, NOW)
    office.refused("not over this challenge and recipient", old)


DEBUG = ((1 << 17) | (1 << 19)).to_bytes(8, "little")
MOVABLE = ((1 << 17) | (1 << 18)).to_bytes(8, "little")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"at_90": b"\xac"}, "training on AMD: measurement acab"),
        ({"at_08": DEBUG}, "its host may debug it"),
        ({"at_08": MOVABLE}, "its host may move it"),
        ({"at_30": b"\x01"}, "privilege level 1"),
        ({"at_1f0": bytes([3, 0, 0, 0, 0, 0, 7, 115])}, "snp 7 is older than 8"),
    ],
)
def test_a_genuine_report_of_what_the_policy_does_not_allow_is_refused(
    changes: dict[str, bytes], reason: str, locked: Path, tmp_path: Path
) -> None:
    office = Office(locked, tmp_path, Amd())
    office.refused(reason, office.evidence(**changes))


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        (lambda: Intel(attributes=bytes.fromhex("0100001000000000")), "its host may debug it"),
        (lambda: Intel(components=(2,) * 8 + (0,) * 8), "firmware is OutOfDate INTEL-SA-1"),
        (lambda: Intel(revoke=True), "is revoked"),
    ],
)
def test_tdx_machines_that_get_no_key(machine: Any, reason: str, locked: Path, tmp_path: Path) -> None:
    Office(locked, tmp_path, machine()).refused(reason)


def test_without_collateral_there_is_no_key(locked: Path, tmp_path: Path) -> None:
    office = Office(locked, tmp_path, Intel())
    office.refused("NotAssessed", replace(office.evidence(), collateral=None))


def test_forged_reports_are_refused(locked: Path, tmp_path: Path) -> None:
    office = Office(locked, tmp_path, Amd())
    forged = bytearray(office.evidence().report)
    forged[0x90] ^= 1
    office.refused("signature does not fit", replace(office.evidence(), report=bytes(forged)))
    office.challenge = challenge(office.custodian.challenges, NOW)
    mine = Amd()
    own = Evidence(
        "sev-snp", office.recipient, mine.report(binding(office.challenge, office.recipient)), mine.certificates
    )
    office.refused("leads to ARK-Milan", own)


def test_rows_that_are_not_of_this_data_set_or_out_of_date_allow_nothing(locked: Path, tmp_path: Path) -> None:
    first = POLICY.split('\n[[workload]]\nname = "training on Intel"')[0]
    office = Office(locked, tmp_path, Amd(), first.replace("DATASET", "0" * 64))
    office.refused("no workload of the policy may have the key")
    (tmp_path / "workload.key").unlink()
    office = Office(locked, tmp_path, Amd(), first.replace("2027-01-01", "2026-06-01"))
    office.refused("to be reviewed by 2026-06-01")


def test_a_data_set_swapped_while_it_is_judged_is_not_released(
    locked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the description says is not believed before the key has vouched for it, nor read twice."""
    office = Office(locked, tmp_path, Amd())
    genuine = (locked / "vault.json").read_bytes()
    said = orjson.loads(genuine)
    # The policy allows this one; the folder holds another, which its real description says.
    allowed = "5" * 64
    text = (tmp_path / "policy.toml").read_text().replace(said["dataset"], allowed)
    (tmp_path / "policy.toml").write_text(text)
    office.custodian = replace(office.custodian, policy=Policy.load(tmp_path / "policy.toml"))
    (locked / "vault.json").write_bytes(orjson.dumps(said | {"dataset": allowed}))
    unlock = sealed.unlock

    def swapped(folder: Path, *more: Any) -> Any:
        (folder / "vault.json").write_bytes(genuine)
        return unlock(folder, *more)

    monkeypatch.setattr(sealed, "unlock", swapped)
    office.refused("changed while it was asked for")
    monkeypatch.setattr(sealed, "unlock", unlock)
    (locked / "vault.json").write_bytes(orjson.dumps(said | {"dataset": allowed}))
    office.challenge = challenge(office.custodian.challenges, NOW)
    office.refused("not written by a holder of the key")


def test_challenges_that_ran_out_are_cleared_away(tmp_path: Path) -> None:
    for minutes in (0, 5, 11, 30):
        challenge(tmp_path, NOW + timedelta(minutes=minutes))
    assert len(list(tmp_path.iterdir())) == 1


def test_without_a_statement_no_key(locked: Path, tmp_path: Path) -> None:
    class Refusing:
        def append(self, statement: Statement) -> None:
            raise AuditError("no room")

    office = Office(locked, tmp_path, Amd())
    office.custodian = replace(office.custodian, log=Refusing())
    with pytest.raises(AuditError):
        office.ask()


def test_a_custodian_without_a_key_of_its_own_cannot_release(
    locked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = Office(locked, tmp_path, Amd())
    monkeypatch.setenv("LIFECHART_HOME", str(tmp_path / "elsewhere"))
    office.refused("LIFECHART_VAULT_IDENTITY")


def test_lineage_and_the_log_hold(locked: Path, tmp_path: Path) -> None:
    office = Office(locked, tmp_path, Amd())
    digest = sealed.Vault.load(locked).dataset
    signer = Signer.generate("test")
    with RealLog(tmp_path / "log", "test", Verifier([signer.public]), signer) as log:
        log.append(Statement("ingest", (Subject("dataset", digest),), {"inputs": "1" * 64}))
        office.custodian = replace(office.custodian, log=log)
        office.ask()
        with pytest.raises(AccessDenied):
            office.ask()
        entries = log.find(kind="key-release")
        assert [entry.statement.predicate["decision"] for entry in entries] == ["released", "refused"]
        for entry in entries:
            assert "1" * 64 in trace(log, entry.statement.subjects[0].digest).nodes
        assert trace(log, digest).nodes[digest].entry.statement.kind == "ingest"  # type: ignore[union-attr]
        log.publish()
    assert audit(tmp_path / "log", Key.parse(str(signer.public))).sound


@cache
def _row() -> str:
    return POLICY.split('\n[[workload]]\nname = "training on Intel"')[0]


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ('technology = "sev-snp"', 'technology = "sgx"', "technology"),
        ("review_by = 2027-01-01", "", "review_by"),
        ("review_by", "reviewed_by", "review"),
        ('datasets = ["DATASET"]', "datasets = []", "datasets"),
        ("measurements.measurement", "measurements.host_data", "measurement"),
        ("measurements.measurement = [\"" + "ab" * 48, "measurements.measurement = [\"XY", "pattern"),
        ("snp = 8,", "", "minimum_tcb.snp"),
        ("[[workload]]", "[[workload]", "TOML"),
        ("review_by", 'tcb_statuses = ["NotAssessed"]\nreview_by', "NotAssessed"),
    ],
)  # fmt: skip
def test_a_policy_that_says_too_little_or_too_much_is_refused(
    before: str, after: str, reason: str, tmp_path: Path
) -> None:
    assert before in _row()
    (tmp_path / "policy.toml").write_text(_row().replace(before, after))
    with pytest.raises(InputError, match=reason):
        Policy.load(tmp_path / "policy.toml")


def test_a_tdx_policy_pins_more_than_the_firmware(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(POLICY.replace(f'measurements.rtmr2 = ["{"04" * 48}"]', ""))
    with pytest.raises(InputError, match="rtmr2"):
        Policy.load(tmp_path / "policy.toml")
    assert Policy.load(_written(tmp_path, POLICY)).workload[1].review_by == date(2027, 1, 1)


def _written(folder: Path, text: str) -> Path:
    (folder / "p.toml").write_text(text)
    return folder / "p.toml"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "JSON"),
        (b"[]", "JSON"),
        (b'{"technology":"sgx","recipient":"R","report":""}', "technology"),
        (b'{"technology":"tdx","recipient":"kms:x","report":""}', "recipient"),
        (b'{"technology":"tdx","recipient":"nobody","report":""}', "recipient"),
        (b'{"technology":"tdx","recipient":"R","report":"?"}', "JSON"),
        (b'{"technology":"tdx","recipient":"R","report":"","collateral":[]}', "collateral"),
    ],
)
def test_evidence_that_is_none_is_refused(content: bytes, reason: str, tmp_path: Path) -> None:
    recipient = str(pyrage.x25519.Identity.generate().to_public()).encode()
    (tmp_path / "evidence.json").write_bytes(content.replace(b'"R"', b'"' + recipient + b'"'))
    with pytest.raises(InputError, match=reason):
        Evidence.load(tmp_path / "evidence.json")


def test_a_released_key_for_somebody_else_is_not_accepted(locked: Path, tmp_path: Path) -> None:
    office = Office(locked, tmp_path, Amd())
    released = office.ask()
    keys.make(tmp_path / "other.key")
    with pytest.raises(AccessDenied, match="not for an identity"):
        release.accept(released, tmp_path / "other.key")


def test_the_vectors_genuine_debug_machine_gets_no_key(locked: Path, tmp_path: Path) -> None:
    from tests.data.vault.test_vectors import IN_2023, amd

    report, certificates = amd()
    office = Office(locked, tmp_path, Amd())
    row = POLICY.replace("ab" * 48, report[0x90:0xC0].hex()).replace(
        "snp = 8, microcode = 115", "snp = 5, microcode = 68"
    )
    row = row.replace("bootloader = 3", "bootloader = 2").replace("DATASET", sealed.Vault.load(locked).dataset)
    from lifechart.data.vault.attestation import sev_snp

    found = sev_snp.verify(report, certificates, IN_2023)
    with pytest.raises(AccessDenied, match="training on AMD: its host may debug it"):
        Policy.load(_written(tmp_path, row)).judge(found, sealed.Vault.load(office.locked).dataset, IN_2023)


def test_integrity_errors_are_refusals_too(locked: Path, tmp_path: Path) -> None:
    office = Office(locked, tmp_path, Amd())
    with pytest.raises(IntegrityError):
        office.ask(replace(office.evidence(), certificates="no PEM"))
    assert office.log.statements[-1].predicate["decision"] == "refused"
