"""One small hospital that the simulator's tests share."""

from datetime import date
from pathlib import Path

import pytest

from lifechart.simulate.hospital import write_truth

TODAY = date(2026, 1, 1)


@pytest.fixture(scope="session")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The truth folder of 400 lives."""
    folder = tmp_path_factory.mktemp("hospital") / "truth"
    write_truth(folder, 400, 11, TODAY)
    return folder
