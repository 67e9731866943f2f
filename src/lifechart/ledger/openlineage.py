"""The log as OpenLineage events, for tools that draw lineage: a view of it, made anew from the statements.

Each statement is a run of a job named for its kind, with a START and a COMPLETE event at the statement's time. What it
rests on are the inputs, its subject is the output; a dataset's name is its digest, so that events meet. Spec 2-0-2.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import lifechart
from lifechart.ledger.log import Entry, Log
from lifechart.ledger.trace import MANY, REMARKS, rests_on

PRODUCER = f"https://lifechart.example/lifechart/{lifechart.__version__}"
_SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
_FACETS = "https://openlineage.io/spec/facets"
_RUNS = uuid.UUID("7b0f4a3e-9f5d-5c56-8d0e-3f0a4f6f0c55")


def events(log: Log, *, answers: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the events of a log's statements, oldest first.

    Phases, switches, approvals and feedback say something of a thing but make none, so they are no runs. `answers`:
    whether each answer at the bedside is a run too.
    """
    left_out = {*REMARKS, *MANY} - ({"answer"} if answers else set())
    for entry in log.entries():
        if entry.statement.kind not in left_out:
            for state in ("START", "COMPLETE"):
                yield _event(log, entry, state)


def _event(log: Log, entry: Entry, state: str) -> dict[str, Any]:
    said, origin = entry.statement, log.head().origin
    about = {"entry": entry.index, "leaf": entry.leaf, "kind": said.kind}
    statement = _facet("https://lifechart.example/openlineage/1-0-0/StatementRunFacet.json", about)
    job_type = {"processingType": "BATCH", "integration": "LIFECHART", "jobType": said.kind.upper()}
    inputs = dict.fromkeys(rests_on(log, entry))
    return {
        "eventType": state,
        "eventTime": said.created,
        "producer": PRODUCER,
        "schemaURL": _SCHEMA,
        "run": {"runId": str(uuid.uuid5(_RUNS, entry.leaf)), "facets": {"lifechart_statement": statement}},
        "job": {
            "namespace": origin,
            "name": said.kind,
            "facets": {"jobType": _facet(f"{_FACETS}/2-0-4/JobTypeJobFacet.json", job_type)},
        },
        "inputs": [_dataset(origin, digest, label) for label, digest in inputs],
        "outputs": [_dataset(origin, said.subjects[0].digest, said.subjects[0].name)],
    }


def _dataset(origin: str, digest: str, name: str) -> dict[str, Any]:
    return {
        "namespace": origin,
        "name": f"sha256:{digest}",
        "facets": {
            "documentation": _facet(f"{_FACETS}/1-1-0/DocumentationDatasetFacet.json", {"description": name}),
            "version": _facet(f"{_FACETS}/1-0-1/DatasetVersionDatasetFacet.json", {"datasetVersion": digest}),
        },
    }


def _facet(schema: str, content: dict[str, Any]) -> dict[str, Any]:
    name = schema.rsplit("/", 1)[-1].removesuffix(".json")
    return {"_producer": PRODUCER, "_schemaURL": f"{schema}#/$defs/{name}", **content}
