"""Every way to cheat is refused, and each for its own reason."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bench._cheats import CHEATS
from bench._institution import Institution
from lifechart.core.errors import LifechartError


@pytest.mark.parametrize(("attempt", "reason"), CHEATS.values(), ids=CHEATS.keys())
def test_it_is_refused_for_its_reason(attempt: Callable[[Institution], None], reason: str, tmp_path: Path) -> None:
    with pytest.raises(LifechartError) as refusal:
        attempt(Institution(tmp_path))
    assert re.search(reason, str(refusal.value)), str(refusal.value)
