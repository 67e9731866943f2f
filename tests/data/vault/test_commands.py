"""The commands, one after the other, as the guide gives them."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lifechart.cli import app
from lifechart.core.errors import AccessDenied
from lifechart.data import shards
from lifechart.data.vault.attestation import chain
from tests.data.samples import patient, resource, write
from tests.data.vault import machines


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIFECHART_HOME", str(tmp_path / "home"))
    lines = [line for n in range(30) for line in (patient(f"p{n}"), resource("Observation", f"o{n}", f"p{n}"))]
    write(tmp_path / "in" / "all.ndjson", *lines)
    return tmp_path


def do(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None:
        raise result.exception
    return result.output


def test_from_records_to_a_key_in_a_machine(at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "NOW", datetime.now(UTC))
    machine = machines.Amd()
    monkeypatch.setattr(chain, "pinned", lambda vendor: machine.roots)
    mine = do("vault", "key").strip()
    do("ingest", "in", "--out", "locked", "--encrypt", mine)
    assert shards.read_split(at / "locked", "train").height
    digest = re.findall(r"data set +([0-9a-f]{64})", do("vault", "show", "locked"))[0]
    theirs = do("vault", "key", "--out", "machine/workload.key").strip()
    challenge = do("vault", "challenge").strip()
    bound = bytes.fromhex(do("vault", "binding", challenge, theirs).strip())
    evidence = {"technology": "sev-snp", "recipient": theirs, "certificates": machine.certificates}
    evidence["report"] = base64.b64encode(machine.report(bound)).decode()
    (at / "evidence.json").write_text(json.dumps(evidence))
    assert "debug off" in do("vault", "verify", "evidence.json")
    (at / "policy.toml").write_text(
        f'[[workload]]\nname = "w"\ntechnology = "sev-snp"\ndatasets = ["{digest}"]\nreview_by = 2100-01-01\n'
        f'measurements.measurement = ["{"ab" * 48}"]\n'
        "minimum_tcb = { bootloader = 3, tee = 0, snp = 8, microcode = 115 }\n"
    )
    options = ("--challenge", challenge, "--policy", "policy.toml", "--out", "released.age")
    do("vault", "release", "locked", "evidence.json", *options)
    with pytest.raises(AccessDenied, match="used before"):
        do("vault", "release", "locked", "evidence.json", *options)
    monkeypatch.setenv("LIFECHART_VAULT_IDENTITY", "machine/workload.key")
    do("vault", "accept", "released.age")
    assert shards.verify(at / "locked") == digest
    do("vault", "grant", "locked", "--to", theirs)
    assert theirs in do("vault", "show", "locked")
    do("vault", "encrypt", "locked", "--out", "anew", "--to", theirs)
    do("vault", "decrypt", "anew", "--out", "plain")
    assert shards.verify(at / "plain") == digest
    said = do("ledger", "verify")
    assert all(kind in said for kind in ("key-release", "encrypt", "decrypt"))
