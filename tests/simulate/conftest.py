"""What the simulator's tests share: the truth of a simulated hospital, and one small export."""

from datetime import date
from pathlib import Path

import pytest

from lifechart.simulate.export import export
from lifechart.simulate.hospital import write_truth
from tests.simulate import small_truth

TODAY = date(2026, 1, 1)


@pytest.fixture(scope="session")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the truth folder of 400 simulated lives."""
    folder = tmp_path_factory.mktemp("hospital") / "truth"
    write_truth(folder, 400, 11, TODAY)
    return folder


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with truth/, fhir/ and gold/ of 60 made-up lives."""
    out = tmp_path_factory.mktemp("hospital")
    small_truth.write(out / "truth", lives=60)
    export(out / "truth", out)
    return out
