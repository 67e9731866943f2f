"""A trace drawn: nothing overlaps, every line leads down, the page loads nothing; and the command that writes it."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from lifechart.cli import app
from lifechart.core.durable import file_digest
from lifechart.core.settings import Settings
from lifechart.ledger import lineage, page
from lifechart.ledger.drawing import BOX_HEIGHT, BOX_WIDTH, draw
from lifechart.ledger.graph import Edge, Graph, Node, Use
from lifechart.ledger.log import open_log
from lifechart.ledger.statement import Statement, Subject


def graph_of(size: int, pairs: list[tuple[int, int]], uses: int = 0) -> Graph:
    nodes = {f"{number:064x}": Node(f"{number:064x}", f"<thing> {number}", None) for number in range(size)}
    edges = {Edge(f"{min(pair):064x}", f"{max(pair):064x}", "") for pair in pairs if pair[0] != pair[1]}
    used = [Use("risk", str(number), f"{number:064x}", "off", True, True, 0) for number in range(uses)]
    return Graph(f"{0:064x}", "", nodes, tuple(sorted(edges, key=str)), (), tuple(used))


@given(st.integers(1, 14).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2)))))
def test_boxes_stay_apart_and_lines_lead_down(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    drawing = draw(graph_of(*drawn, uses=1))
    for number, box in enumerate(drawing.boxes):
        assert 0 <= box.x <= drawing.width - BOX_WIDTH + 1e-6
        assert 0 <= box.y <= drawing.height - BOX_HEIGHT + 1e-6
        for other in drawing.boxes[:number]:
            assert abs(box.x - other.x) >= BOX_WIDTH or abs(box.y - other.y) >= BOX_HEIGHT
    for line in drawing.lines:
        (_, top), *_, (_, bottom) = [tuple(map(float, pair)) for pair in re.findall(r"([\d.]+) ([\d.]+)", line)]
        assert top < bottom


def test_many_files_share_a_box() -> None:
    drawing = draw(graph_of(500, [(0, number) for number in range(1, 500)]))
    assert len(drawing.boxes) == 4
    assert "497 more" in {box.title for box in drawing.boxes}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIFECHART_HOME", str(tmp_path / "home"))
    records = tmp_path / "fhir"
    records.mkdir()
    (records / "Patient.ndjson").write_text('{"resourceType": "Patient", "id": "p"}\n')
    file = lineage.File("Patient.ndjson", file_digest(records / "Patient.ndjson"), 1)
    with open_log(Settings(home=tmp_path / "home")) as log:
        log.append_many(lineage.extract([file], {"system": "<b>EHR</b>"}))
        extract = lineage.extract_digest([file])
        log.append(Statement("ingest", (Subject("dataset", "a" * 64),), {"extract": extract}))
    return tmp_path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_file_or_folder_of_records_is_traced_by_its_path(home: Path) -> None:
    for thing in (home / "fhir", home / "fhir/Patient.ndjson"):
        assert "dataset aaaaaaaaaaaa: ingest, entry 1" in run("trace", str(thing))
    found = json.loads(run("trace", "aaaaaaaa", "--json"))
    assert found["start"] == "a" * 64
    assert [label for _, _, label in found["rests_on"]] == ["extract", "Patient.ndjson"]


def test_the_page_stands_alone_and_escapes_what_it_shows(home: Path) -> None:
    run("trace", "1", "--html", str(home / "trace.html"))
    text = (home / "trace.html").read_text()
    assert not re.search(r"<script|https?://|@import|url\(", text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)
    with open_log(Settings(home=home / "home")) as log:
        shown = str(page.body(graph_of(3, [(0, 1), (1, 2)]), lambda digest: digest))
        assert "<thing>" not in shown
        assert "&lt;thing&gt; 1" in shown
        assert log.size == 2
