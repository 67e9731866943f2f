"""Ingestion from NDJSON to written shards: beside orjson on one core, on two cores, in memory, and of other formats.

The input is the Synthea patients as compact NDJSON, one file a type (as Bulk Data exports are), or where they are not
at hand lines made here. Rates are per second of the core's own time (all threads of a process bound to one core), best
of several rounds in turn, so that neighbours on the machine do not decide; the time by the clock stands beside them.
Copies of the input are of patients of their own. Two processes on two cores are held against one on one by the clock,
in turn, best of each: a busy machine shows less than there is.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

_SHARED = Path(os.environ.get("LIFECHART_SHARED", Path(__file__).parents[2] / "shared"))
_SYNTHEA = _SHARED / "data" / "synthea-r4.tar.gz"
_QUICK_PATIENTS, _QUICK_LIVES = 100, 60
_MADE_PATIENTS, _LIVES = 1000, 600
_ROUNDS, _SCALING_ROUNDS = 3, 2
_COPIES = 10
_NAMED = re.compile(rb'("id":"|urn:uuid:|"reference":"[A-Za-z]+/)')
"""What comes before an id, in a resource and in a reference to it."""


def main(quick: bool) -> dict[str, float]:
    """Prepare the lines, then measure in processes that are bound to their cores."""
    with tempfile.TemporaryDirectory(prefix="lifechart-bench-") as name:
        folder = Path(name)
        lines, many, dataset = folder / "one", folder / "many", folder / "dataset"
        patients = _QUICK_PATIENTS if quick else _MADE_PATIENTS
        _write(_synthea(patients) if _SYNTHEA.exists() else _made(patients), lines)
        rates = _run("rates", lines, _ROUNDS, dataset)
        _copy(lines, many)
        one, ten = _run("once", lines, 1), [_run("once", many, n) for _ in range(_SCALING_ROUNDS) for n in (1, 2)]
        clocks = {n: min(run["clock"] for run in ten[n - 1 :: 2]) for n in (1, 2)}
        meds = _run("once", dataset, 1)
        omop = _run("once", _omop(folder, _QUICK_LIVES if quick else _LIVES), 1)
    ratio = rates["ingest"] / rates["orjson"]
    _print(rates, [("FHIR", ten[0]), ("MEDS", meds), ("OMOP", omop)])
    return {
        "fhir_ratio_to_orjson": round(ratio, 4),
        "omop_events_per_s": round(omop["events"] / omop["core"]),
        "meds_events_per_s": round(meds["events"] / meds["core"]),
        "scaling_2_processes": round(clocks[1] / clocks[2], 3),
        "memory_growth_10x": round(ten[0]["peak"] / one["peak"], 3),
    }


def _run(part: str, folder: Path, number: int, *rest: Path) -> dict[str, float]:
    """Measure one part in a process of its own."""
    environment = os.environ | {"POLARS_MAX_THREADS": "1"}
    command = [sys.executable, "-m", "bench._ingest_one_core", part, str(folder), str(number), *map(str, rest)]
    found: dict[str, float] = orjson.loads(
        subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    )
    return found


def _print(rates: dict[str, float], runs: list[tuple[str, dict[str, float]]]) -> None:
    table = Table(title=f"{rates['resources']:,.0f} resources on one core")
    for column in ("", "resources/s of core time", "MB/s", "resources/s by the clock"):
        table.add_column(column, justify="right")
    size = rates["bytes"] / rates["resources"] / 1e6
    for name in ("orjson", "ingest"):
        table.add_row(name, f"{rates[name]:,.0f}", f"{rates[name] * size:,.0f}", f"{rates[name + '_clock']:,.0f}")
    by_core, by_clock = (rates[f"ingest{mark}"] / rates[f"orjson{mark}"] for mark in ("", "_clock"))
    table.add_row("ratio", f"{by_core:.3f}", "", f"{by_clock:.3f}")
    Console().print(table)
    table = Table(title="one process")
    for column in ("", "events/s of core time", "peak MB"):
        table.add_column(column, justify="right")
    for name, run in runs:
        table.add_row(name, f"{run['events'] / run['core']:,.0f}", f"{run['peak']:,.0f}")
    Console().print(table)


def _omop(folder: Path, lives: int) -> Path:
    """Return an OMOP export, in CSV, of a simulated hospital."""
    from bench._omop_export import export
    from lifechart.simulate import hospital

    hospital.simulate(folder / "hospital", lives, 5, date(2026, 1, 1))
    export(folder / "hospital", folder / "omop")
    return folder / "omop"


def _copy(lines: Path, many: Path) -> None:
    """Write _COPIES of each file, each copy's resources with ids of their own."""
    many.mkdir()
    for path in sorted(lines.iterdir()):
        for number in range(_COPIES):
            with path.open("rb") as given, (many / f"{path.stem}.{number}.ndjson").open("wb") as out:
                mark = rb"\g<1>" + b"%d-" % number
                out.writelines(_NAMED.sub(mark, line) for line in given)


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
    folder.mkdir()
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
