"""Plugs come in by entry point, once each, and keep their contract."""

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from lifechart.core import plugs
from lifechart.core.errors import PlugError

GROUP = "lifechart.sources"


def registered(monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str]) -> None:
    found = EntryPoints(EntryPoint(name, value, GROUP) for name, value in points)
    monkeypatch.setattr(plugs, "entry_points", lambda group: found.select(group=group))


def test_a_plug_loads_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    registered(monkeypatch, ("pi", "math:pi"))
    assert plugs.load(GROUP, float) == {"pi": __import__("math").pi}


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([("pi", "math:pi"), ("pi", "math:tau")], "registered twice"),
        ([("pi", "math:no_such_thing")], "cannot be imported"),
        ([("pi", "no_such_module:pi")], "cannot be imported"),
        ([("name", "math:__name__")], "does not keep the contract float"),
    ],
)
def test_a_bad_plug_is_refused(monkeypatch: pytest.MonkeyPatch, points: list[tuple[str, str]], message: str) -> None:
    registered(monkeypatch, *points)
    with pytest.raises(PlugError, match=message):
        plugs.load(GROUP, float)


def test_a_group_that_does_not_exist_is_refused() -> None:
    with pytest.raises(PlugError, match=r"lifechart\.wishes"):
        plugs.load("lifechart.wishes", object)
