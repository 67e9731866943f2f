"""Docs fail the tests when they lag: every command, setting, plug, bench and web route is named in them."""

from pathlib import Path

import pytest
import typer

from lifechart.cli import app
from lifechart.core.plugs import GROUPS, entry_points
from lifechart.core.settings import Settings

ROOT = Path(__file__).parents[1]
DOCS = "\n".join(path.read_text() for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))])


def commands() -> list[str]:
    def walk(command: object, prefix: str) -> list[str]:
        children = getattr(command, "commands", None)
        if not children:
            return [prefix]
        return [name for key, child in children.items() for name in walk(child, f"{prefix} {key}")]

    return sorted(walk(typer.main.get_command(app), "lifechart"))


@pytest.mark.parametrize("command", commands())
def test_every_command_is_documented(command: str) -> None:
    assert f"`{command}" in DOCS or f"\n{command}" in DOCS


@pytest.mark.parametrize("setting", sorted(Settings.model_fields))
def test_every_setting_is_documented(setting: str) -> None:
    assert f"`LIFECHART_{setting.upper()}`" in (ROOT / "docs/guides/settings.md").read_text()


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_every_plug_is_documented_and_every_group_has_a_page(group: str) -> None:
    for point in entry_points(group=group):
        assert f"`{point.name}`" in DOCS, f"{group}: {point.name}"
    assert f"`{group}`" in DOCS


@pytest.mark.parametrize("bench", sorted(path.stem for path in (ROOT / "bench").glob("[!_]*.py")))
def test_every_bench_is_documented(bench: str) -> None:
    assert f"python -m bench {bench}" in DOCS


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        path.relative_to(ROOT)
        for folder in ("src", "tests", "bench", "examples")
        for path in (ROOT / folder).rglob("*.py")
        if path.stat().st_size and not path.read_text().lstrip().startswith(('"""', "#!"))
    ]
    assert not silent
