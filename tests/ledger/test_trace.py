"""From an answer back to the source files, along statements made before it; from a file up to every capability."""

import hashlib
from pathlib import Path

import pytest

from lifechart.core.errors import InputError
from lifechart.core.settings import Settings
from lifechart.ledger import lineage
from lifechart.ledger.graph import Edge
from lifechart.ledger.log import Log, open_log
from lifechart.ledger.statement import Statement, Subject
from lifechart.ledger.trace import trace

DATASET, MODEL, REPORT, MANIFEST, ANSWER, PATIENT = (character * 64 for character in "abcdef")
FILES = [f"c0ffee{hashlib.sha256(bytes([number % 256, number // 256])).hexdigest()[6:]}" for number in range(600)]
CARD = hashlib.sha256(b"card").hexdigest()
EXTRACT = lineage.extract_digest([lineage.File(f"{number}", digest, 1) for number, digest in enumerate(FILES)])


@pytest.fixture
def log(tmp_path: Path) -> Log:
    log = open_log(Settings(home=tmp_path))
    release = {"capability": "risk", "version": "1", "what": "released", "model": MODEL, "report": REPORT}
    files = [lineage.File(f"file {number}", digest, 10) for number, digest in enumerate(FILES)]
    how = lineage.transform("ingest", {"dates": "shift"}, ("core",))
    claims = [{"outcome": "SNOMED//84114007", "horizon_days": 365, "probability": 0.2}]
    answer = {
        "capability": "risk", "model": MODEL, "patient": PATIENT, "claims": claims,
        "cards": {"SNOMED//84114007": CARD},
    }  # fmt: skip
    log.append_many(
        [
            *lineage.extract(files, {"system": "the EHR", "transaction_time": "2026-01-01"}),
            how,
            Statement("ingest", (Subject("dataset", DATASET),), {"extract": EXTRACT, "transform": digest_of(how)}),
            Statement("train", (Subject("model", MODEL),), {"dataset": DATASET}),
            Statement("evaluate", (Subject("report", REPORT),), {"model": MODEL, "data": DATASET}),
            Statement("release", (Subject("risk/1", MANIFEST),), release),
            Statement("phase", (Subject("risk/1", MANIFEST),), {"capability": "risk", "what": "simulation"}),
            Statement("answer", (Subject("answer", ANSWER),), answer),
            Statement("feedback", (Subject("answer", ANSWER),), {"action": "dismissed"}),
            Statement("train", (Subject("model", MODEL),), {"dataset": "9" * 64}),
        ]
    )
    return log


def digest_of(statement: Statement) -> str:
    return statement.subjects[0].digest


def test_an_answer_leads_to_the_source_files(log: Log) -> None:
    graph = trace(log, ANSWER)
    assert {DATASET, MODEL, REPORT, MANIFEST, PATIENT, EXTRACT, *FILES} < set(graph.nodes)
    assert Edge(ANSWER, MANIFEST, "release") in graph.edges
    assert Edge(MANIFEST, REPORT, "report") in graph.edges
    assert Edge(MODEL, DATASET, "dataset") in graph.edges
    assert Edge(DATASET, EXTRACT, "extract") in graph.edges
    assert Edge(EXTRACT, FILES[3], "file 3") in graph.edges
    assert "9" * 64 not in graph.nodes, "what was said later is not what the answer rested on"
    text = str(graph)
    assert text.splitlines()[0].startswith(f"answer {ANSWER[:12]}: answer, entry ")
    assert "(see above)" in text
    assert "and 594 more" in text
    assert "feedback: dismissed" in text
    assert "phase simulation" in text
    assert len(text.splitlines()) < 40
    log.close()


@pytest.mark.parametrize("thing", [CARD, lineage.reference(CARD), CARD[:12], f" {lineage.reference(CARD).upper()} "])
def test_a_sentence_is_found_by_the_reference_that_the_page_prints(log: Log, thing: str) -> None:
    graph = trace(log, thing)
    assert graph.start == ANSWER
    assert graph.asked.endswith("is what risk said about SNOMED//84114007: 0.2 within 365 days")
    assert CARD not in graph.nodes, "another name of the answer, not what it rests on"
    log.close()


def test_an_entry_is_found_by_its_number(log: Log) -> None:
    (answer,) = log.find(kind="answer")
    assert trace(log, str(answer.index)).start == ANSWER
    with pytest.raises(InputError, match="a number below"):
        trace(log, "999")
    digits = "123456" + "ab" * 29
    log.append(Statement("train", (Subject("model", digits),), {"dataset": DATASET}))
    assert trace(log, "123456").start == digits, "no entry has this number yet, a digest begins so"
    log.close()


@pytest.mark.parametrize("digest", [FILES[0], FILES[599], EXTRACT])
def test_an_extract_leads_to_the_capabilities(log: Log, digest: str) -> None:
    graph = trace(log, digest)
    above = {edge.upper for edge in graph.above}
    assert {DATASET, MODEL, REPORT, MANIFEST} <= above
    assert ANSWER not in graph.nodes, "answers are counted, not listed"
    (use,) = graph.uses
    assert (use.capability, use.version, use.phase, use.current, use.on, use.answers) == (
        "risk", "1", "simulation", True, True, 1,
    )  # fmt: skip
    assert "risk, release 1: phase simulation, current; 1 answers" in str(graph)
    log.close()


def test_answers_are_counted_by_the_release_that_gave_them(log: Log) -> None:
    second = {"capability": "risk", "version": "2", "what": "released", "model": MODEL, "report": REPORT}
    other = "7" * 64
    answers = iter(range(10_000))

    def given(count: int) -> None:
        log.append_many(
            [
                Statement(
                    "answer",
                    (Subject("answer", hashlib.sha256(str(next(answers)).encode()).hexdigest()),),
                    {"capability": "risk", "model": MODEL, "patient": PATIENT},
                )
                for _ in range(count)
            ]
        )

    given(70)
    log.append(Statement("release", (Subject("risk/2", other),), second))
    given(500)
    again = {"capability": "risk", "version": "1", "what": "made current again"}
    log.append(Statement("release", (Subject("risk/1", MANIFEST),), again))
    given(30)
    graph = trace(log, DATASET)
    assert {use.version: (use.answers, use.current) for use in graph.uses} == {"1": (101, True), "2": (500, False)}
    assert trace(log, PATIENT).folded == {"answer": 601}
    assert len(str(graph).splitlines()) < 40
    log.close()


def test_a_dataset_rests_on_its_extract_and_transform(log: Log) -> None:
    graph = trace(log, DATASET, forward=False)
    assert graph.nodes[DATASET].kind == "ingest"
    assert {graph.nodes[edge.lower].kind for edge in graph.lower(DATASET)} == {"extract", "transform"}
    assert all(graph.nodes[digest].entry is None for digest in FILES)
    assert not graph.above
    log.close()


def test_a_withdrawal_is_said_of_the_data_set_that_it_names_and_makes_no_person(log: Log) -> None:
    log.append(Statement("withdrawal", (Subject("patient", PATIENT),), {"what": "withdrawn", "held_by": [DATASET]}))
    graph = trace(log, DATASET)
    assert "named by 1 withdrawals" in str(graph)
    assert PATIENT not in graph.nodes
    assert trace(log, PATIENT).folded == {"answer": 1, "withdrawal": 1}
    log.close()


def test_entries_of_before_there_were_extracts_are_still_read(tmp_path: Path) -> None:
    with open_log(Settings(home=tmp_path)) as log:
        inputs = {"files": 2, "bytes": 10, "digest": "8" * 64}
        log.append(Statement("ingest", (Subject("dataset", DATASET),), {"inputs": inputs}))
        graph = trace(log, DATASET)
        assert Edge(DATASET, "8" * 64, "inputs.digest") in graph.edges
        assert DATASET in {edge.upper for edge in trace(log, "8" * 64).above}


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        ("0f" * 32, "the ledger names"),
        ("short", "an entry's number"),
        ("abc", "first 6 digits"),
        ("c0ffee", "the beginning of one digest, not of 600"),
    ],
)
def test_what_the_ledger_knows_nothing_of_is_refused(log: Log, thing: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        trace(log, thing)
    log.close()


def test_a_file_is_called_by_its_own_name_only_if_a_standard_gave_it() -> None:
    names = {
        "Patient.ndjson": "Patient.ndjson",
        "Patient.0.ndjson.gz": "Patient.0.ndjson.gz",
        "measurement.parquet": "measurement.parquet",
        "Anna_Berg.json": "file 7 (.json)",
        "Patient_Anna_Berg.ndjson": "file 7 (.ndjson)",
        "Berg.Anna": "file 7",
        "Patient.0.Anna": "file 7",
        "Patient.1957.ndjson": "Patient.1957.ndjson",
    }
    assert {name: lineage.file_name(Path("x") / name, 7) for name in names} == names
