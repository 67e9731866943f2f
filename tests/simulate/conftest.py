"""One small export, made once, for every test that only reads it."""

from pathlib import Path

import pytest

from lifechart.simulate.export import export
from tests.simulate import small_truth


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with truth/, fhir/ and gold/ of 60 made-up lives."""
    out = tmp_path_factory.mktemp("hospital")
    small_truth.write(out / "truth", lives=60)
    export(out / "truth", out)
    return out
