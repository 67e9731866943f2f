"""The example of a source of one's own works through the door that outsiders use."""

from __future__ import annotations

from datetime import datetime
from importlib.metadata import EntryPoint
from pathlib import Path

import polars as pl
import pytest

from lifechart.core import plugs
from lifechart.data.sources import find_source
from tests.data.samples import take

RECORDS = Path(__file__).parents[2] / "examples" / "new_source" / "records"


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = plugs.entry_points
    point = EntryPoint("pipes", "examples.new_source.pipes:source", "lifechart.sources")
    monkeypatch.setattr(plugs, "entry_points", lambda group: [*installed(group=group), point])


def test_the_example_is_found_and_read(tmp_path: Path) -> None:
    assert find_source(RECORDS).name == "pipes"
    account, events = take(RECORDS, tmp_path / "out", as_of=datetime(2020, 1, 1))
    assert account.resources == {"measurement": {"kept": 4, "not mapped": 1, "quarantined": 1}}
    assert events.filter(pl.col("kind") == "vital")["numeric_value"].sort().to_list() == [84.5, 127.0, 138.0, 151.0]
    assert events.filter(pl.col("code") == "MEDS_BIRTH").height == account.subjects == 2
