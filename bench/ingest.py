"""Ingestion on one core, from NDJSON to written shards, beside orjson parsing the same lines in the same run.

The input is the Synthea patients as compact NDJSON, one file a type (as Bulk Data exports are), or where they are not
at hand lines made here. Rates are per second of the core's own time (all threads of a process bound to one core), best
of several rounds in turn, so that neighbours on the machine do not decide; the time by the clock stands beside them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from bench import _other_sources

_SHARED = Path(os.environ.get("LIFECHART_SHARED", Path(__file__).parents[2] / "shared"))
_SYNTHEA = _SHARED / "data" / "synthea-r4.tar.gz"
_QUICK_PATIENTS = 100
_MADE_PATIENTS = 1000
_ROUNDS = 3


def main(quick: bool) -> dict[str, float]:
    """Prepare the lines, then measure in a process that is bound to one core."""
    with tempfile.TemporaryDirectory(prefix="lifechart-bench-") as folder:
        lines = Path(folder) / "export"
        lines.mkdir()
        patients = _QUICK_PATIENTS if quick else _MADE_PATIENTS
        _write(_synthea(patients) if _SYNTHEA.exists() else _made(patients), lines)
        environment = os.environ | {"POLARS_MAX_THREADS": "1"}
        command = [sys.executable, "-m", "bench._ingest_one_core", str(lines), str(_ROUNDS)]
        measured = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    figures: dict[str, float] = orjson.loads(measured)
    ratio = figures["ingest"] / figures["orjson"]
    table = Table(title=f"{figures['resources']:,.0f} resources on one core")
    for column in ("", "resources/s of core time", "MB/s", "resources/s by the clock"):
        table.add_column(column, justify="right")
    size = figures["bytes"] / figures["resources"] / 1e6
    for name in ("orjson", "ingest"):
        table.add_row(name, f"{figures[name]:,.0f}", f"{figures[name] * size:,.0f}", f"{figures[name + '_clock']:,.0f}")
    table.add_row("ratio", f"{ratio:.3f}", "", f"{figures['ingest_clock'] / figures['orjson_clock']:.3f}")
    Console().print(table)
    return {"fhir_ratio_to_orjson": round(ratio, 4), **_other_sources.measure(quick)}


def _synthea(patients: int) -> Iterator[dict[str, Any]]:
    with tarfile.open(_SYNTHEA) as archive:
        read = 0
        for member in archive:
            if read == patients:
                return
            file = archive.extractfile(member) if member.name.endswith(".json") else None
            if file is not None:
                yield from (entry["resource"] for entry in orjson.loads(file.read())["entry"])
                read += 1


def _made(patients: int) -> Iterator[dict[str, Any]]:
    """Yield 151 resources a patient: 15 visits with eight results and a claim each."""
    for number in range(patients):
        subject = {"reference": f"Patient/p{number}"}
        yield {"resourceType": "Patient", "id": f"p{number}", "gender": "female", "birthDate": "1960-05-01"}
        for visit in range(15):
            at = f"20{visit + 5:02d}-03-{number % 28 + 1:02d}T10:00:00+01:00"
            place = {"reference": f"Encounter/e{number}-{visit}"}
            common = {"subject": subject, "encounter": place, "status": "finished"}
            yield {
                "resourceType": "Encounter",
                "id": f"e{number}-{visit}",
                "class": {"code": "AMB"},
                "period": {"start": at, "end": at},
                **common,
            }
            for test in range(8):
                coding = {"system": "http://loinc.org", "code": f"{2000 + test}-1", "display": f"Result {test}"}
                yield {
                    "resourceType": "Observation",
                    "id": f"o{number}-{visit}-{test}",
                    "category": [{"coding": [{"code": "laboratory"}]}],
                    "code": {"coding": [coding]},
                    "effectiveDateTime": at,
                    "valueQuantity": {"value": 5.25 + test, "unit": "mmol/L", "code": "mmol/L"},
                    **common,
                }
            yield {"resourceType": "Claim", "id": f"c{number}-{visit}", "item": [{"sequence": n} for n in range(30)]}


def _write(resources: Iterator[dict[str, Any]], folder: Path) -> None:
    files: dict[str, Any] = {}
    try:
        for resource in resources:
            kind = resource["resourceType"]
            if kind not in files:
                files[kind] = (folder / f"{kind}.ndjson").open("wb")
            files[kind].write(orjson.dumps(resource, option=orjson.OPT_APPEND_NEWLINE))
    finally:
        for file in files.values():
            file.close()
