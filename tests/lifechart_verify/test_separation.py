"""Writer and verifier share no code: neither imports the other, read from the syntax trees."""

import ast
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src"


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            raise AssertionError(f"{path}: an import that cannot be read")
    return found


@pytest.mark.parametrize("path", sorted((SRC / "lifechart_verify").glob("**/*.py")), ids=lambda path: path.name)
def test_the_verifier_imports_nothing_but_itself_cryptography_and_the_standard_library(path: Path) -> None:
    allowed = {"lifechart_verify", "cryptography"} | sys.stdlib_module_names
    assert {name.split(".")[0] for name in imported(path)} <= allowed


@pytest.mark.parametrize("path", sorted((SRC / "lifechart/ledger").glob("**/*.py")), ids=lambda path: path.name)
def test_the_writer_imports_nothing_of_the_verifier(path: Path) -> None:
    assert not {name for name in imported(path) if name.split(".")[0] == "lifechart_verify"}


def test_it_is_small_enough_to_be_read() -> None:
    statements = 0
    for path in (SRC / "lifechart_verify").glob("**/*.py"):
        lines = path.read_text().splitlines()
        assert len(lines) < 300, path.name
        said = {
            line
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
            for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
        }
        statements += sum(
            bool(line.strip()) and not line.strip().startswith("#") and number not in said
            for number, line in enumerate(lines, start=1)
        )
    assert statements < 700, "lines of code, without blank lines, comments and docstrings"
