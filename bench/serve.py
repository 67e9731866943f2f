"""How soon a card is on the clinician's screen: patient-view at 20 requests/s, model pass and audit included.

A real server process with a real model answers requests that carry their prefetch, for the charts with the most in
them. Arrivals do not wait for answers (open loop) and each time counts from when the request was due, so a queue shows.
The figures are of a steady rate; arrivals at random (a Poisson process of the same rate), which bunch, stand beside it.
Every answer is a statement in the ledger, fsynced, before its cards leave; the bench counts them.

BENCH_SERVE_DIR names a folder that keeps hospital, data set, model and release for the next run; or one that the demo
wrote (its folders `hospital` and `home` are then used as they are).
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from lifechart.core.capability import Phase
from lifechart.core.settings import Settings
from lifechart.data.deidentify.structured import load_key
from lifechart.data.ingest import ingest
from lifechart.evaluate.examine import examine
from lifechart.ledger.keys import Signer
from lifechart.ledger.log import Log, open_log
from lifechart.model.forecaster import load_forecaster
from lifechart.model.train import train
from lifechart.release.people import Office, People
from lifechart.release.shelf import Shelf, open_shelf
from lifechart.serve.access import add_client
from lifechart.serve.store import Store
from lifechart.serve.surfaces.cds_hooks import PREFETCH, SERVICE
from lifechart.simulate.hospital import simulate

RATE = 20.0
STEADY = "steady"
Run = tuple[int, list[float], list[int]]
SEED = 5
PATIENTS = 200
BUDGET_MS = 150.0
_SERVER = "from lifechart.core.settings import load_settings; from lifechart.serve.app import run; run(load_settings())"
_KINDS = {key: query.split("?")[0].split("/")[0] for key, query in PREFETCH.items()}


def main(quick: bool) -> dict[str, float]:
    """Prepare what is missing, drive the server, print the table, and return the figures."""
    seconds = 5.0 if quick else 30.0
    kept = os.environ.get("BENCH_SERVE_DIR")
    with tempfile.TemporaryDirectory() as passing:
        folder = Path(kept or passing)
        settings = Settings(home=folder / "home", port=_free_port())
        if not (settings.shelf / "risk").exists():
            _prepare(folder, settings, 600 if quick else 1_500)
        bodies = _requests(folder / "hospital" / "fhir")
        token = add_client(store := Store(settings.database), "bench")
        store.close()
        with open_log(settings) as log:
            before = len(log.find(kind="answer"))
        with _server(settings):
            runs = {name: asyncio.run(_drive(settings, token, bodies, due)) for name, due in _arrivals(seconds).items()}
        with open_log(settings) as log:
            audited = len(log.find(kind="answer")) - before
    asked = sum(warm + len(times) for warm, times, _ in runs.values())
    assert audited == asked, f"{audited} answers in the ledger, expected {asked}"
    _show(runs, [len(body) for body in bodies])
    p50, p99 = (float(np.percentile(runs[STEADY][1], q)) for q in (50, 99))
    return {"card_p50_ms": round(p50, 2), "card_p99_ms": round(p99, 2)}


def _prepare(folder: Path, settings: Settings, lives: int) -> None:
    """Make hospital, data set, model and release by the stages' own functions, in phase `simulation`.

    One pass over the data: a model that knows little takes as long to ask as one that knows much.
    """
    hospital, dataset, model, report = (folder / name for name in ("hospital", "dataset", "model", "report"))
    # Up to today, so that the charts are as fresh as in a clinic: a stale one is refused before it is explained.
    simulate(hospital, lives, SEED, date.today())
    with open_log(settings) as log:
        ingest(hospital / "fhir", dataset, key=load_key(settings), log=log)
        train(dataset, model, size="s", seed=SEED, log=log, epochs=1)
        examine(dataset, load_forecaster(model), report, log=log, baselines=False, max_prompts=2_000, bootstrap=20)
        shelf = open_shelf(settings, log)
        shelf.release("risk", model, report / "report.json", actor="bench", criteria=_criteria(folder))
        _sign(shelf, log)
        shelf.set_phase("risk", Phase.SIMULATION, actor="bench", reason="to be measured")


def _sign(shelf: Shelf, log: Log) -> None:
    """Have two made-up officers sign, as the phase demands."""
    for number, office in enumerate((Office.MEDICAL_OFFICER, Office.DATA_STEWARD)):
        signer = Signer.generate(f"a.{office.value}")
        People(log).register(signer.public, (office,), staff_number=str(number), actor="bench")
        shelf.approve("risk", Phase.SIMULATION, signer, office=office, comment="to be measured")


def _criteria(folder: Path) -> Path:
    """Let everything out that was examined at all: what is measured is time, with as many outcomes as there can be."""
    path = folder / "criteria.toml"
    path.write_text(
        'capability = "risk"\nreview_by = 2030-01-01\n'
        '[[criterion]]\nname = "examined"\nscope = "pair"\nmetric = "num_prompts"\nat_least = 1\n'
        'why = "A bench measures time, not worth."\n'
    )
    return path


def _requests(fhir: Path) -> list[bytes]:
    """Return the bodies of patient-view calls with everything prefetched, for the living with the most on record."""
    charts: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for path in track(sorted(fhir.glob("*.ndjson")), "Charts", console=Console(stderr=True), transient=True):
        kind = path.name.split(".")[0]
        if kind not in _KINDS.values():
            continue
        for line in path.read_bytes().splitlines():
            resource = orjson.loads(line)
            owner = resource.get("subject") or resource.get("patient") or {}
            patient = resource["id"] if kind == "Patient" else owner.get("reference", "").rpartition("/")[2]
            charts[patient][resource["resourceType"]].append({"resource": resource})
    living = [name for name, chart in charts.items() if "deceasedDateTime" not in chart["Patient"][0]["resource"]]
    chosen = sorted(living)[:PATIENTS]
    return [orjson.dumps(_call(name, charts[name])) for name in chosen]


def _call(patient: str, chart: dict[str, list[Any]]) -> dict[str, Any]:
    bundles = {
        key: {"resourceType": "Bundle", "type": "searchset", "entry": chart[kind]}
        for key, kind in _KINDS.items()
        if key != "patient"
    }
    return {
        "hook": "patient-view",
        "hookInstance": str(uuid.uuid4()),
        "context": {"userId": "Practitioner/bench", "patientId": patient},
        "prefetch": {"patient": chart["Patient"][0]["resource"], **bundles},
    }


class _server:  # noqa: N801  used as a statement
    """A server process of its own, for as long as the block lasts."""

    def __init__(self, settings: Settings) -> None:
        self._address = f"http://127.0.0.1:{settings.port}"
        names = {"LIFECHART_HOME": str(settings.home), "LIFECHART_PORT": str(settings.port)}
        self._environment = {**os.environ, **names}

    def __enter__(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-c", _SERVER], env=self._environment)
        for _ in range(600):
            try:
                httpx.get(f"{self._address}/cds-services").raise_for_status()
                return
            except httpx.HTTPError:
                assert self._process.poll() is None, "the server ended while starting"
                time.sleep(0.1)
        raise TimeoutError("the server did not start within a minute")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)


def _arrivals(seconds: float) -> dict[str, NDArray[np.float64]]:
    """Return when requests are due, in seconds from the start, by kind of arrival."""
    number = int(RATE * seconds)
    return {
        STEADY: np.arange(number) / RATE,
        "at random": np.cumsum(np.random.default_rng(SEED).exponential(1 / RATE, number)),
    }


async def _drive(settings: Settings, token: str, bodies: list[bytes], due: NDArray[np.float64]) -> Run:
    """Send when `due`; return how many warmed up, each answer's time in ms, and how many cards it had."""
    requests = [_request(settings, token, body) for body in bodies]
    times: list[float] = []
    answers: list[bytes] = []
    warm = min(10, len(bodies))
    for request in requests[:warm]:
        await _ask(settings.port, request)
    begin = time.perf_counter()

    async def one(at: float, request: bytes) -> None:
        await asyncio.sleep(begin + at - time.perf_counter())
        answers.append(await _ask(settings.port, request))
        times.append(1000 * (time.perf_counter() - begin - at))

    await asyncio.gather(*(one(at, requests[number % len(bodies)]) for number, at in enumerate(due)))
    return warm, times, [len(orjson.loads(answer)["cards"]) for answer in answers]


def _request(settings: Settings, token: str, body: bytes) -> bytes:
    """Return a whole request: made beforehand, as the load's process has to leave the cores to the server."""
    head = (
        f"POST /cds-services/{SERVICE} HTTP/1.1",
        f"host: 127.0.0.1:{settings.port}",
        f"authorization: Bearer {token}",
        "content-type: application/json",
        "connection: close",
        f"content-length: {len(body)}",
    )
    return "\r\n".join((*head, "", "")).encode() + body


async def _ask(port: int, request: bytes) -> bytes:
    """Send a request over a connection of its own and return the body of its answer, which has to be 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    status = head.partition(b"\r\n")[0]
    assert b" 200 " in status, status
    return answer


def _show(runs: dict[str, Run], sizes: list[int]) -> None:
    table = Table(title=f"patient-view at {RATE:g} requests/s, {os.cpu_count()} cores", title_justify="left")
    table.add_column("arrivals")
    for name in ("answers", "p50 ms", "p90 ms", "p99 ms", "slowest ms", "cards each", "prefetch kB"):
        table.add_column(name, justify="right")
    for name, (_, times, cards) in runs.items():
        quantiles = [f"{np.percentile(times, q):.1f}" for q in (50, 90, 99, 100)]
        table.add_row(name, str(len(times)), *quantiles, f"{np.mean(cards):.1f}", f"{np.mean(sizes) / 1000:.0f}")
    Console().print(table)
    for name, (_, times, _) in runs.items():
        kept = "within" if np.percentile(times, 99) < BUDGET_MS else "PAST"
        Console().print(f"{name}: p99 is {kept} the budget of {BUDGET_MS:g} ms")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
