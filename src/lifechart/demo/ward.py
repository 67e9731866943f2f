"""The simulated hospital as of a day: its records cut there and exported, its EHR, and the house that serves it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path

import httpx
import polars as pl

from lifechart.care.risk import DECLARATION
from lifechart.core import durable
from lifechart.core.capability import Role
from lifechart.core.errors import LifechartError
from lifechart.core.settings import Settings
from lifechart.data import ingest, shards
from lifechart.data.consent import holdings
from lifechart.data.deidentify import structured
from lifechart.ledger import lineage
from lifechart.ledger.log import Log
from lifechart.model.forecaster import load_forecaster
from lifechart.serve import access
from lifechart.serve.app import create_app, open_house
from lifechart.serve.bedside import House, Shown, ask
from lifechart.serve.predict import Desk, Predictor
from lifechart.serve.records import Ehr
from lifechart.simulate import hospital
from lifechart.simulate.ehr import create_ehr
from lifechart.simulate.export import export

BASE = "http://ehr.simulated/fhir"
CLINICIAN, STEWARD = "dr.reyes", "sam.steward"


class Ward:
    """One simulated hospital whose whole future is known and told a day at a time."""

    def __init__(self, folder: Path, settings: Settings, log: Log) -> None:
        self.folder, self.settings, self.log = folder, settings, log
        self.truth = folder / "hospital" / "truth"
        self.key = structured.load_key(settings)

    @cache  # noqa: B019  one ward a story
    def lots(self) -> tuple[list[int], list[int]]:
        """Return the lives that a model may learn from and those that the lot holds out, by life."""
        people = pl.read_parquet(self.truth / "people.parquet").sort("life")
        ids = structured.subject_ids(self.key, people["patient_id"])
        chosen = people.with_columns(ids).with_columns(split=shards.split_of(pl.col("subject_id")))
        held_out = pl.col("split") == "held_out"
        return chosen.filter(~held_out)["life"].to_list(), chosen.filter(held_out)["life"].to_list()

    def extract(
        self,
        name: str,
        day: date,
        lives: Sequence[int],
        *,
        since: date | None = None,
        factor: tuple[str, float] = ("", 1),
    ) -> Path:
        """Export the records of some lives as of a day, and state it as an extract; return the FHIR folder.

        `since`: only what happened from then on, as a weekly extract has it. `factor`: a result and what it is
        multiplied by: a feed that sends another unit and does not say so.
        """
        out = self.folder / "extracts" / name
        hospital.cut(self.truth, out / "truth", day, lives, since=since, factor=factor)
        export(out / "truth", out, progress=False)
        fhir = out / "fhir"
        files = sorted(path for path in fhir.iterdir() if path.is_file())
        stated = [
            lineage.File(lineage.file_name(path, number), durable.file_digest(path), path.stat().st_size)
            for number, path in enumerate(files, start=1)
        ]
        about = {"system": f"simulated hospital: {name}", "source": "fhir", "transaction_time": day.isoformat()}
        self.log.append_many(lineage.extract(stated, about))
        return fhir

    def ingest(self, fhir: Path, out: Path, *, as_of: datetime | None = None) -> Path:
        """De-identify an extract into a data set."""
        ingest.ingest(
            fhir,
            out,
            key=self.key,
            log=self.log,
            admission=holdings.admission_for(self.settings, self.log, self.key, fhir, None),
            evidence=holdings.evidence_folder(self.settings),
            workers=1,
            as_of=as_of,
            progress=False,
        )
        return out

    def seen_between(self, start: date, stop: date) -> list[int]:
        """Return the lives with an encounter from `start` until before `stop`."""
        events = pl.scan_parquet(self.truth / "events.parquet")
        inside = (pl.col("kind") == "encounter") & pl.col("time").is_between(start, stop, closed="left")
        return sorted(events.filter(inside).select(pl.col("life").unique()).collect()["life"].to_list())

    def living(self, day: date, lives: Sequence[int]) -> list[tuple[int, str]]:
        """Return (life, patient's id) of the adults among `lives` who are alive on a day, by life."""
        people = pl.read_parquet(self.truth / "people.parquet").filter(pl.col("life").is_in(list(lives)))
        alive = (pl.col("death").is_null() | (pl.col("death") > day)) & (
            pl.col("birth") < day - timedelta(days=30 * 365)
        )
        return [(life, who) for life, who in people.filter(alive).sort("life").select("life", "patient_id").iter_rows()]

    def days_to_next_test(self, life: int, after: datetime, most: float) -> float:
        """Return the days from a moment to this life's next laboratory result, at most `most`."""
        events = pl.scan_parquet(self.truth / "events.parquet").filter(
            (pl.col("life") == life) & (pl.col("kind") == "observation") & (pl.col("time") > after)
        )
        times = events.filter(pl.col("key").is_in(["glucose", "hba1c", "creatinine"])).select("time").collect()["time"]
        first = times.min()
        days = (first - after).total_seconds() / 86_400 if isinstance(first, datetime) else most
        return min(days, most)


class Bedside:
    """The house that serves the ward: the real app and answers, with the EHR as of a day."""

    def __init__(self, settings: Settings, log: Log, calendar_local: object) -> None:
        assert callable(calendar_local)
        self._local = calendar_local

        def predictor(shelf: object) -> Predictor:
            from lifechart.release.shelf import Shelf

            assert isinstance(shelf, Shelf)
            return Predictor(shelf, lambda: ThreadPoolExecutor(1), Desk(shelf, load_forecaster).answer)

        self.house: House = open_house(settings, predictor, log)
        self.password = "a long enough demo password"
        for name, role in ((CLINICIAN, Role.CLINICIAN), (STEWARD, Role.STEWARD)):
            access.add_account(self.house.store, name, self.password, [role])
        self.user = access.User(CLINICIAN, frozenset({Role.CLINICIAN}))
        self._loop = asyncio.new_event_loop()

    def open_records(self, fhir: Path) -> None:
        """Read charts from this extract from now on."""
        transport = httpx.ASGITransport(create_ehr(fhir))
        self._loop.run_until_complete(self.house.ehr.close())
        self.house = replace(self.house, ehr=Ehr(self.house.settings, transport, self._local))

    def ask(self, patient: str) -> Shown:
        """Ask for the risks of one patient, as the clinician's page does."""

        async def asked() -> Shown:
            chart = await self.house.ehr.chart(patient)
            return await ask(self.house, DECLARATION.name, self.user, chart, "clinician")

        return self._loop.run_until_complete(asked())

    def run(self, coroutine: object) -> object:
        """Wait for something of the house."""
        return self._loop.run_until_complete(coroutine)  # type: ignore[arg-type]

    def page(self, name: str, address: str) -> str:
        """Return a served page as this person sees it, with its style inside, so that it can be read as a file."""
        return self._loop.run_until_complete(self._page(name, address))

    def close(self) -> None:
        """End the workers and connections; the log is its owner's to close."""
        self.house.predictor.close()
        self._loop.run_until_complete(self.house.ehr.close())
        self._loop.close()
        self.house.store.close()

    async def _page(self, name: str, address: str) -> str:
        app = create_app(self.house.settings)
        app.state.house = self.house
        transport = httpx.ASGITransport(app)
        headers = {"accept": "text/html"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1:8800", follow_redirects=True, headers=headers
        ) as client:
            await client.get("/sign-in")
            token = client.cookies["lifechart_form"]
            form = {"name": name, "password": self.password, "form_token": token}
            await client.post("/sign-in", data=form)
            got = await client.get(address)
            if got.status_code != 200:
                raise LifechartError(f"demo: {address} answered with status {got.status_code}")
            text = got.text
            for sheet in ("/static/vendor/nhsuk.css", "/static/lifechart.css"):
                style = (await client.get(sheet)).text
                text = text.replace(f'<link rel="stylesheet" href="{sheet}">', f"<style>{style}</style>")
        return text.replace('href="/', 'href="http://127.0.0.1:8800/').replace('src="/', 'src="http://127.0.0.1:8800/')
