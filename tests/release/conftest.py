"""The institution that tests of releases start from."""

import secrets
from pathlib import Path
from types import SimpleNamespace

import pytest

from lifechart.core.settings import Settings
from lifechart.ledger.log import open_log
from lifechart.release.shelf import open_shelf
from lifechart.release.trial import custody
from tests.release.institution import Institution
from tests.undemanding import undemanding


@pytest.fixture(autouse=True)
def one_allocation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every trial draws the same secret: by lot, one trial in twenty leaves its interval beside the truth."""
    drawn = SimpleNamespace(token_bytes=lambda size: bytes(range(1, size + 1)), token_hex=secrets.token_hex)
    monkeypatch.setattr(custody, "secrets", drawn)


@pytest.fixture
def institution(tmp_path: Path) -> Institution:
    settings = Settings(home=tmp_path / "home", phases=undemanding(tmp_path / "phases.toml"))
    log = open_log(settings)
    return Institution(settings, log, open_shelf(settings, log), tmp_path)
