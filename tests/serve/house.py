"""A house to test in: a real store, ledger and app, with the toy EHR, a toy shelf and the toy forecaster."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from bench._institution import CRITERIA
from lifechart.core.capability import Phase, Role
from lifechart.core.durable import file_digest
from lifechart.core.settings import Settings
from lifechart.ledger.statement import Statement, Subject
from lifechart.serve.access import add_account, add_client
from lifechart.serve.app import create_app, open_house, server_config
from lifechart.serve.bedside import House
from lifechart.serve.predict import Desk, Predictor
from lifechart.serve.records import Ehr
from tests.care.toy import ALIKE, DIGEST, ToyForecaster, report
from tests.serve.toy_ehr import BASE, ToyEhr
from tests.undemanding import undemanding

PASSWORD = "correct horse battery"


def put_on_shelf(house: House, folder: Path) -> None:
    """Release the toy forecaster through the real gate: its training and evaluation stand in the ledger."""
    weights = folder / "model" / "weights.bin"
    weights.parent.mkdir(exist_ok=True)
    weights.write_bytes(b"toy")
    examined = report()
    examined.save(folder / "report.json")
    (folder / "report.html").write_text("<!DOCTYPE html><title>Report</title><h1>Report</h1>")
    (folder / "criteria.toml").write_text(CRITERIA)
    files = {"weights.bin": file_digest(weights)}
    house.ledger.append(Statement("train", (Subject("model", DIGEST),), {"dataset": "cd" * 32, "files": files}))
    house.ledger.append(Statement("evaluate", (Subject("report", examined.digest),), {}))
    where = {"model": folder / "model", "report": folder / "report.json", "criteria": folder / "criteria.toml"}
    house.shelf.release("risk", **where, actor="sam.steward", reason="examined on held-out patients")


@dataclass
class Hospital:
    """What a test holds: an HTTP client, the EHR and the forecaster that it can turn, and the house itself."""

    app: FastAPI
    client: httpx.Client
    token: str
    ehr: ToyEhr
    folder: Path
    forecaster: ToyForecaster
    settings: Settings

    @property
    def house(self) -> House:
        return self.app.state.house

    def sign_in(self, name: str = "dr.reyes", password: str = PASSWORD):
        self.client.get("/sign-in")
        token = self.client.cookies["lifechart_form"]
        return self.client.post("/sign-in", data={"name": name, "password": password, "form_token": token})

    def phase(self, phase: Phase) -> None:
        self.house.shelf.set_phase("risk", phase, actor="sam.steward", reason="for this test")

    def switch(self, on: bool, reason: str = "for this test") -> None:
        self.house.shelf.switch("risk", on, actor="sam.steward", reason=reason)

    def statements(self, kind: str) -> list:
        return [entry.statement for entry in self.house.ledger.find(kind=kind)]


@contextmanager
def hospital(folder: Path) -> Iterator[Hospital]:
    """Open a house in `folder` with a clinician, a steward and a client system."""
    settings = Settings(
        home=folder / "home",
        institution="Riverbend Hospital",
        fhir_url=BASE,
        phases=undemanding(folder / "phases.toml"),
    )
    ehr, forecaster = ToyEhr(), ToyForecaster(alike=ALIKE)
    # Threads in the place of processes, so that a test can turn the forecaster; test_predict has the processes.
    hire = partial(ThreadPoolExecutor, 1)

    def opener(settings: Settings) -> House:
        house = open_house(settings, lambda shelf: Predictor(shelf, hire, Desk(shelf, lambda path: forecaster).answer))
        return replace(house, ehr=Ehr(settings, ehr))

    app = create_app(settings, opener)
    with serving(app) as address, httpx.Client(base_url=address, follow_redirects=True, timeout=30) as client:
        client.headers["accept"] = "text/html"
        store = app.state.house.store
        add_account(store, "dr.reyes", PASSWORD, [Role.CLINICIAN])
        add_account(store, "sam.steward", PASSWORD, [Role.STEWARD])
        held = Hospital(app, client, add_client(store, "ehr"), ehr, folder, forecaster, settings)
        put_on_shelf(held.house, folder)
        held.phase(Phase.SIMULATION)
        yield held


def make_readonly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no file of the ledger be opened for writing, for root either, whom a file's mode does not stop."""
    real = os.open

    def refuse(path: object, flags: int, *rest: object, **more: object) -> int:
        if "ledger" in str(path) and flags & os.O_ACCMODE != os.O_RDONLY:
            raise PermissionError("read-only")
        return real(path, flags, *rest, **more)

    monkeypatch.setattr("os.open", refuse)


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve `app` on a free port, in a thread; yield its address."""
    server = uvicorn.Server(server_config(app, "127.0.0.1", 0))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server ended while starting"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
