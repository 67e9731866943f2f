"""The log as OpenLineage: its own classes take each event, and the edges are those of the trace."""

import json
from datetime import datetime
from pathlib import Path
from uuid import UUID

import pytest

from lifechart.core.settings import Settings
from lifechart.ledger import lineage
from lifechart.ledger.log import Log, open_log
from lifechart.ledger.openlineage import events
from lifechart.ledger.statement import Statement, Subject
from lifechart.ledger.trace import trace
from tests.ledger.test_page import run

base = pytest.importorskip("openlineage.client.event_v2", reason="openlineage-python is not installed")
FACETS = {
    "documentation": "documentation_dataset.DocumentationDatasetFacet",
    "version": "dataset_version_dataset.DatasetVersionDatasetFacet",
    "jobType": "job_type_job.JobTypeJobFacet",
}


def write(log: Log) -> None:
    file = lineage.File("Patient.ndjson", "f" * 64, 3)
    how = lineage.transform("ingest", {}, ("core",))
    made = {"extract": lineage.extract_digest([file]), "transform": how.subjects[0].digest}
    log.append_many(
        [
            *lineage.extract([file], {"system": "the EHR"}),
            how,
            Statement("ingest", (Subject("dataset", "a" * 64),), made),
            Statement("train", (Subject("model", "b" * 64),), {"dataset": "a" * 64}),
            Statement("release", (Subject("risk/1", "d" * 64),), {"capability": "risk", "model": "b" * 64}),
            Statement("phase", (Subject("risk/1", "d" * 64),), {"capability": "risk", "what": "off"}),
            Statement("answer", (Subject("answer", "e" * 64),), {"capability": "risk", "model": "b" * 64}),
            Statement("view", (Subject("patient", "9" * 64),), {"what": "chart"}),
        ]
    )


def rebuilt(event: dict) -> object:
    """Build the event from OpenLineage's classes, whose validators refuse what the specification does."""

    def facets(content: dict) -> dict:
        found = {}
        for name, facet in content.items():
            assert {"_producer", "_schemaURL"} <= facet.keys()
            if name in FACETS:
                module, _, kind = FACETS[name].partition(".")
                made = getattr(__import__(f"openlineage.client.generated.{module}", fromlist=[kind]), kind)
                found[name] = made(**{key: value for key, value in facet.items() if not key.startswith("_")})
                assert facet["_schemaURL"] == found[name]._get_schema(), name
        return found

    def datasets(kind: type, rows: list) -> list:
        return [kind(namespace=row["namespace"], name=row["name"], facets=facets(row["facets"])) for row in rows]

    job = event["job"]
    return base.RunEvent(
        eventType=base.RunState(event["eventType"]),
        eventTime=event["eventTime"],
        producer=event["producer"],
        run=base.Run(runId=event["run"]["runId"], facets={}),
        job=base.Job(namespace=job["namespace"], name=job["name"], facets=facets(job["facets"])),
        inputs=datasets(base.InputDataset, event["inputs"]),
        outputs=datasets(base.OutputDataset, event["outputs"]),
    )


def test_every_event_is_one_that_openlineage_takes(tmp_path: Path) -> None:
    with open_log(Settings(home=tmp_path)) as log:
        write(log)
        found = list(events(log, answers=True))
    assert [event["job"]["name"] for event in found[::2]] == [
        "extract",
        "transform",
        "ingest",
        "train",
        "release",
        "answer",
    ]
    for event in found:
        made = rebuilt(event)
        assert event["schemaURL"] == made.schemaURL  # type: ignore[attr-defined]
        assert UUID(event["run"]["runId"]).version == 5
        assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
        assert json.loads(json.dumps(event)) == event
    runs = [event["run"]["runId"] for event in found]
    assert runs[::2] == runs[1::2]
    assert len(set(runs)) == len(found) // 2


def test_what_is_no_uuid_or_time_would_be_refused(tmp_path: Path) -> None:
    with open_log(Settings(home=tmp_path)) as log:
        write(log)
        event = next(events(log))
    with pytest.raises(ValueError, match="badly formed"):
        rebuilt({**event, "run": {"runId": "17"}})
    with pytest.raises(ValueError, match="Expected 4 digits"):
        rebuilt({**event, "eventTime": "yesterday"})


def test_the_edges_are_those_of_the_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECHART_HOME", str(tmp_path / "home"))
    with open_log(Settings(home=tmp_path / "home")) as log:
        write(log)
        graph = trace(log, "d" * 64)
    assert "10 events" in run("ledger", "openlineage", "--out", str(tmp_path / "events.ndjson"))
    lines = [json.loads(line) for line in (tmp_path / "events.ndjson").read_text().splitlines()]
    edges = {
        (event["outputs"][0]["name"], each["name"])
        for event in lines
        for each in event["inputs"]
        if event["eventType"] == "COMPLETE"
    }
    assert {(f"sha256:{edge.upper}", f"sha256:{edge.lower}") for edge in graph.edges} == edges
