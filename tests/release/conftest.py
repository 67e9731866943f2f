"""The institution that tests of releases start from."""

from pathlib import Path

import pytest

from lifechart.core.settings import Settings
from lifechart.ledger.log import open_log
from lifechart.release.shelf import open_shelf
from tests.release.institution import Institution
from tests.undemanding import undemanding


@pytest.fixture
def institution(tmp_path: Path) -> Institution:
    settings = Settings(home=tmp_path / "home", phases=undemanding(tmp_path / "phases.toml"))
    log = open_log(settings)
    return Institution(settings, log, open_shelf(settings, log), tmp_path)
