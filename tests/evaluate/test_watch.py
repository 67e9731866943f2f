"""Weekly data sets on disk: read, followed, stated, acted on; once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench._shifts import SCENARIOS, Replay, batches
from lifechart.cli import app
from lifechart.core.capability import Phase
from lifechart.core.errors import InputError
from lifechart.data import shards
from lifechart.evaluate.signals import Batch
from lifechart.evaluate.watch import read_week, watch
from lifechart.release import monitoring
from tests.release.conftest import institution  # noqa: F401  (a fixture)
from tests.release.institution import Institution

REFERENCE = 12


def write(weeks: Iterator[Batch], folder: Path, first: int = 0) -> None:
    """Write batches as an institution would lay them out."""
    for number, batch in enumerate(weeks, first):
        week = folder / f"2026-w{number:02}"
        shards.write_dataset(week, batch.events, {"LOINC//2345-7": "Glucose"})
        assert batch.sites is not None
        assert batch.forecasts is not None
        batch.sites.write_parquet(week / "sites.parquet")
        batch.forecasts.write_parquet(week / "forecasts.parquet")
        if batch.matured is not None:
            batch.matured.write_parquet(week / "matured.parquet")


@pytest.fixture(scope="module")
def weeks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, replay = tmp_path_factory.mktemp("weeks"), Replay(300, 150)
    write(batches(replay, REFERENCE, 1), folder)
    write(batches(replay, 4, 2, SCENARIOS[9], 1), folder, REFERENCE)
    return folder


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "monitoring.toml"
    text = monitoring.DEFAULT.read_text()
    path.write_text(text.replace("reference_weeks = 52", f"reference_weeks = {REFERENCE}"))
    return path


def test_a_unit_that_changed_lowers_the_phase(
    weeks: Path,
    policy: Path,
    institution: Institution,  # noqa: F811
) -> None:
    institution.release(0)
    institution.shelf.set_phase("risk", Phase.CLINICIANS, actor="steward", reason="tests")
    found = watch(institution.log, institution.shelf, "risk", weeks, policy=policy)
    assert found.weeks == 4
    assert ("result format", "LOINC//2345-7") in {(alarm.kind, alarm.what) for alarm in found.alarms}
    assert any("Glucose" in alarm.said for alarm in found.alarms)
    assert found.cause == "format change upstream: LOINC//2345-7"
    assert institution.shelf.phase("risk") is Phase.SHADOW
    again = watch(institution.log, institution.shelf, "risk", weeks, policy=policy)
    assert again.alarms == found.alarms
    assert len(institution.log.find(kind="alarm")) == len(found.alarms)


def test_the_command(weeks: Path, policy: Path, institution: Institution, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    institution.release(0)
    institution.log.close()
    monkeypatch.setenv("LIFECHART_HOME", str(institution.settings.home))
    result = CliRunner().invoke(app, ["monitor", "risk", str(weeks), "--policy", str(policy)])
    assert result.exit_code == 1, result.output
    assert "format change upstream: LOINC//2345-7" in result.output


def test_a_week_reads_back(weeks: Path) -> None:
    batch = read_week(weeks / "2026-w05")
    assert batch.name == "2026-w05"
    assert batch.sites is not None
    assert batch.matured is not None
    assert read_week(weeks / "2026-w00").matured is None


def test_too_few_weeks_are_refused(
    tmp_path: Path,
    policy: Path,
    institution: Institution,  # noqa: F811
) -> None:
    with pytest.raises(InputError, match="more than the 12 weeks"):
        watch(institution.log, institution.shelf, "risk", tmp_path, policy=policy)
