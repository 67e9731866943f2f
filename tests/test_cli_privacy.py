"""The verbs of privacy from a terminal: assess, sign, verify; withdraw and where; retention."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from lifechart.cli import app
from lifechart.core.errors import IntegrityError
from tests.data.consent.test_withdrawal import export


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIFECHART_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    export(tmp_path / "in", [f"p{number}" for number in range(40)])
    run("ingest", "in", "--out", "first", "--as-of", "2016-01-01", "--workers", "1")
    return tmp_path


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def test_an_assessment_is_made_signed_and_verified(home: Path) -> None:
    assert "A neighbour or colleague" in run("risk", "first", "--out", "risk", "--population", "4000")
    run("risk", "verify", "risk", "--key", str(home / "home/keys/ledger.pub"), code=1)
    signing = ("--key", "reviewer.pem", "--name", "dr.expert", "--role", "expert", "--conclusion", "very small")
    run("risk", "sign", "risk", *signing)
    said = run("risk", "verify", "risk", "--key", "reviewer.pub", "--dataset", "first")
    assert "dr.expert (expert)" in said
    page = home / "risk" / "risk.html"
    page.write_text(page.read_text().replace("exceed it", "meet it"))
    with pytest.raises(IntegrityError, match="not what was signed"):
        run("risk", "verify", "risk", "--key", "reviewer.pub")


def test_a_withdrawal_from_the_desk_to_the_next_build(home: Path) -> None:
    assert "yes" in run("consent", "where", "p7")
    run("consent", "withdraw", "p7", "--source", "letter 12")
    assert "letter 12" in run("consent", "list")
    assert "withdrawn" in run("consent", "status", "p7")
    # One of forty: the terminal does not say how many were withheld.
    table = run("ingest", "in", "--out", "second", "--as-of", "2016-01-01", "--workers", "1")
    assert "39 patients in second" in table
    assert "withheld" not in table
    assert len([line for line in run("consent", "where", "p7").splitlines() if "yes" in line]) == 1
    assert len([line for line in run("consent", "where", "p8").splitlines() if "yes" in line]) == 2
    assert "No data set" in run("consent", "where", "p777")
    run("consent", "record", "p7")
    assert "0 new decisions" in run("consent", "import", "in")
    assert "40 patients" in run("ingest", "in", "--out", "third", "--as-of", "2016-01-01", "--workers", "1")


def test_retention_lists_and_deletes_nothing_that_is_not_due(home: Path) -> None:
    assert "kept" in run("retention", "--folder", ".")
    assert "Nothing is due." in run("retention", "apply", "--folder", ".", "--reason", "yearly review")
    assert (home / "first" / "manifest.json").exists()
