"""The verbs of incidents from a terminal: from the report of a bad answer to its signed closure."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench._institution import Institution
from lifechart.cli import app
from lifechart.core.errors import GateRefused, InputError
from lifechart.ledger.keys import Signer
from lifechart.ledger.statement import Statement, Subject
from lifechart.release.people import Office

ANSWER = "5" * 64


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = Institution(tmp_path)
    said = {
        "capability": "risk",
        "model": place.release().manifest.model_digest,
        "patient": "6" * 64,
        "user": "dr.reyes",
        "showing": "shown",
        "claims": [],
    }
    place.log.append(Statement("answer", (Subject("answer", ANSWER),), said))
    officer = Signer.open(tmp_path / "dr.safe.pem", "dr.safe")
    place.people.register(officer.public, (Office.SAFETY_OFFICER,), staff_number="77", actor="root")
    place.log.close()
    monkeypatch.setenv("LIFECHART_HOME", str(tmp_path / "home"))
    return tmp_path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["incident", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_an_incident_from_a_terminal(home: Path) -> None:
    report = ("report", "--problem", "wrong-answer", "--severity", "harm", "--words", "Ines fell", "--patient", "ines")
    assert "incident 1: triage by" in run(*report, "--answer", "5555-5555-5555")
    assert "fda has to know by" in run("triage", "1", "--severity", "death", "--words", "looked", "--pause")
    run("investigate", "1", "--cause", "data", "--words", "a unit changed")
    said = run("recall", "1", "--release", "1", "--message", "Do not rely on it.")
    assert "1 answers about 1 people, shown to dr.reyes" in said
    recall = said.split()[1]
    assert "waiting for dr.reyes" in run("list")
    run("correct", "1", "--words", "refused from now on")
    sign = ("sign", "1", "--key", str(home / "dr.safe.pem"), "--comment", "weighed")
    with pytest.raises(GateRefused, match="fda has not been told; mhra has not been told; 1 have not acknowledged"):
        run(*sign)
    assert "items filled in" in run("export", "1", "--to", "fda", "--out", str(home / "out"))
    assert "Ines" not in (home / "out" / "incident-1-fda.json").read_text()
    for regulator in ("fda", "mhra"):
        run("submitted", "1", "--to", regulator, "--reference", "2026-17")
    run("end-recall", recall, "--reason", "dr.reyes has left")
    run(*sign)
    assert "closed, signed by dr.safe" in run("close", "1")
    assert "incident 1: triaged" in run("reopen", "1", "--reason", "a second patient")
    assert "1 answers, 3 patients" in run("link", "1", "--patient", "tom")


def test_a_reference_of_nothing_is_refused(home: Path) -> None:
    with pytest.raises(InputError, match="the reference of one answer"):
        run("report", "--problem", "missed", "--severity", "harm", "--words", "x", "--answer", "0123-4567-89ab")
