"""Settings come from the environment; a bad one is refused by its variable's name."""

from pathlib import Path

import pytest

from lifechart.core.errors import SettingError
from lifechart.core.settings import load_settings


def test_defaults_lie_under_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIFECHART_HOME", str(tmp_path))
    settings = load_settings()
    assert settings.ledger == tmp_path / "ledger"
    assert settings.database == f"sqlite:///{tmp_path / 'lifechart.db'}"


def test_a_bad_setting_is_named_with_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECHART_PORT", "99999")
    with pytest.raises(SettingError, match=r"LIFECHART_PORT: got '99999', expected"):
        load_settings()
