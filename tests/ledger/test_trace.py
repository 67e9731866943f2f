"""From an answer back to the source files, along statements that were made before it."""

from pathlib import Path

import pytest

from lifechart.core.errors import InputError
from lifechart.core.settings import Settings
from lifechart.ledger.log import Log, open_log
from lifechart.ledger.statement import Statement, Subject
from lifechart.ledger.trace import Edge, trace

DATASET, MODEL, REPORT, MANIFEST, ANSWER, PATIENT = (character * 64 for character in "abcdef")
FILES = [f"{number:064x}" for number in range(9)]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    log = open_log(Settings(home=tmp_path))
    release = {"capability": "risk", "model": MODEL, "report": REPORT}
    answer = {"capability": "risk", "model": MODEL, "patient": PATIENT}
    inputs = {f"{number}.ndjson": digest for number, digest in enumerate(FILES)}
    log.append_many(
        [
            Statement("ingest", (Subject("dataset", DATASET),), {"inputs": inputs}),
            Statement("train", (Subject("model", MODEL),), {"dataset": DATASET}),
            Statement("evaluate", (Subject("report", REPORT),), {"model": MODEL, "data": DATASET}),
            Statement("release", (Subject("risk/1", MANIFEST),), release),
            Statement("phase", (Subject("risk/1", MANIFEST),), {"what": "simulation"}),
            Statement("answer", (Subject("answer", ANSWER),), answer),
            Statement("feedback", (Subject("answer", ANSWER),), {"decision": "dismissed"}),
            Statement("train", (Subject("model", MODEL),), {"dataset": "9" * 64}),
        ]
    )
    return log


def test_an_answer_leads_to_the_source_files(log: Log) -> None:
    graph = trace(log, ANSWER)
    assert {DATASET, MODEL, REPORT, MANIFEST, PATIENT, *FILES} < set(graph.nodes)
    assert Edge(ANSWER, MANIFEST, "release") in graph.edges
    assert Edge(MANIFEST, REPORT, "report") in graph.edges
    assert Edge(MODEL, DATASET, "dataset") in graph.edges
    assert Edge(DATASET, FILES[3], "inputs.3.ndjson") in graph.edges
    assert "9" * 64 not in graph.nodes, "what was said later is not what the answer rested on"
    text = str(graph)
    assert text.splitlines()[0].startswith(f"answer {ANSWER[:12]}: answer, entry 5, ")
    assert "(see above)" in text
    assert "and 3 more" in text
    log.close()


def test_a_dataset_rests_on_files_only(log: Log) -> None:
    graph = trace(log, DATASET)
    assert set(graph.nodes) == {DATASET, *FILES}
    assert all(graph.nodes[digest].entry is None for digest in FILES)
    log.close()


@pytest.mark.parametrize("digest", ["0f" * 32, FILES[0], "short"])
def test_what_the_ledger_knows_nothing_of_is_refused(log: Log, digest: str) -> None:
    with pytest.raises(InputError, match="digest"):
        trace(log, digest)
    log.close()
