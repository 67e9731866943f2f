"""Third-party data beside the repository, read in place; tests that want it skip, saying so, where it is absent."""

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("LIFECHART_SHARED", Path(__file__).parents[2] / "shared"))


def shared(path: str) -> Path:
    """Return a path under the shared folder, or skip the test."""
    found = ROOT / path
    if not found.exists():
        pytest.skip(f"third-party data {path} is not beside the repository")
    return found
