"""Who may import whom, read from the syntax trees: downward only, never across a bar."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "lifechart"
FLOORS = [
    {"core"},
    {"codes", "ledger"},
    {"data", "simulate", "release"},
    {"model", "evaluate", "care"},
    {"serve"},
    {"demo"},
    {"cli"},
]
LEVEL = {room: level for level, floor in enumerate(FLOORS) for room in floor}
ONLY_AT_HOME = {
    "torch": lambda path: path.startswith("model/"),
    "fastapi": lambda path: path.startswith("serve/") or path.startswith("simulate/ehr"),
    "starlette": lambda path: path.startswith("serve/") or path.startswith("simulate/ehr"),
}
CLOSED_TO_SERVE = (
    "lifechart.data.ingest",
    "lifechart.data.deidentify",
    "lifechart.data.shards",
    "lifechart.model.train",
)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the whole name"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda path: path.relative_to(SRC).as_posix())
def test_imports_go_downward(path: Path) -> None:
    here = path.relative_to(SRC).as_posix()
    room = here.split("/")[0].removesuffix(".py")
    for name in imports(path):
        parts = name.split(".")
        home = ONLY_AT_HOME.get(parts[0])
        assert home is None or home(here), f"{here} imports {name}"
        if room == "serve":
            assert not name.startswith(CLOSED_TO_SERVE), f"{here} imports {name}"
        if parts[0] == "lifechart" and len(parts) > 1 and room in LEVEL and parts[1] in LEVEL:
            allowed = parts[1] == room or LEVEL[parts[1]] < LEVEL[room]
            assert allowed, f"{here} ({room}) imports {name}"


def test_every_room_has_a_floor() -> None:
    rooms = {
        path.name.removesuffix(".py")
        for path in SRC.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert rooms - {"__init__"} <= set(LEVEL)
