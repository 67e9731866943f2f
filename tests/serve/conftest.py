"""The house that the tests of this folder walk through."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from lifechart.serve import access
from tests.serve.house import Hospital, hospital


@pytest.fixture(autouse=True, scope="session")
def cheap_passwords() -> Iterator[None]:
    """Hash passwords at the least cost: what Argon2 withstands is not ours to test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(access, "_HASHER", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        yield


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Hospital]:
    """A running house with one release in phase `simulation`; nobody is signed in."""
    with hospital(tmp_path) as held:
        yield held


@pytest.fixture
def ward(place: Hospital) -> Hospital:
    """The same, with the clinician signed in."""
    place.sign_in()
    return place
