"""One question at the bedside, the same for every outlet: may they, forecast, answer, audit; only then show."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from fastapi import Request

from lifechart.core.answer import Answer
from lifechart.core.capability import Phase
from lifechart.core.report import Report
from lifechart.core.settings import Settings
from lifechart.ledger.log import Log
from lifechart.release.documents.tally import Tally
from lifechart.release.history import State
from lifechart.release.incidents.register import Incidents
from lifechart.release.shadow.course import Course
from lifechart.release.shelf import Shelf
from lifechart.release.trial.roster import Roster
from lifechart.serve.access import Access, Showing, User, showing
from lifechart.serve.audit import Auditor
from lifechart.serve.predict import Predictor
from lifechart.serve.records import Chart, Ehr, Resource
from lifechart.serve.store import Store

log = logging.getLogger("lifechart.serve")

_TEST_PATIENT = ("http://terminology.hl7.org/CodeSystem/v3-ActReason", "HTEST")


@dataclass(frozen=True, slots=True)
class House:
    """What every outlet works with; one for a process, found at `app.state.house`."""

    settings: Settings
    store: Store
    access: Access
    ehr: Ehr
    shelf: Shelf
    ledger: Log
    predictor: Predictor
    auditor: Auditor
    roster: Roster
    incidents: Incidents
    shadow: Course
    tally: Tally


def house_of(request: Request) -> House:
    """Return the house that serves this request."""
    house = request.app.state.house
    assert isinstance(house, House)
    return house


@dataclass(frozen=True, slots=True)
class Behind:
    """What stands behind an answer: its own digest, the release, and that release's Report."""

    digest: str
    version: str
    forecaster: str
    report: Report


@dataclass(frozen=True, slots=True)
class Shown:
    """What may be shown: an audited answer with what stands behind it, or why there is none."""

    answer: Answer | None = None
    behind: Behind | None = None
    withheld: str = ""
    audited: bool = True
    """Whether the ledger says that this patient was asked about. Who shows the chart without it has to state that."""


async def ask(house: House, capability: str, user: User, chart: Chart, outlet: str, *, asker: str = "") -> Shown:
    """Ask one capability about one patient, as of when the chart was read.

    `asker`: for whom a client system asks, so that a recall can reach them; never a patient's identity.

    The answer comes back only after its statement is in the ledger; AuditError passes through, and whoever catches it
    shows nothing. In phases that are kept from sight it is made and audited all the same.
    """
    plug = house.predictor.capabilities[capability]
    state = house.shelf.state(capability)
    verdict = showing(
        plug.declaration,
        user,
        state.phase,
        state.on,
        is_test=is_test_patient(chart.patient),
        is_allotted=state.phase is Phase.TRIAL and await asyncio.to_thread(_allotted, house, state, chart),
    )
    if verdict is Showing.NOTHING or state.version is None:
        return Shown(withheld=why_withheld(state.version, state.on, state.reason), audited=False)
    try:
        given = await house.predictor.answer(capability, chart.timeline, chart.as_of, chart.names)
    except Exception as error:
        await asyncio.to_thread(_failed, house, capability, state, user.name, outlet, error)
        raise
    patient = str(chart.patient["id"])
    digest = await asyncio.to_thread(
        house.auditor.answered, given.answer, chart.timeline, patient, user.name, outlet, verdict.value, asker
    )
    if verdict is Showing.SHADOW:
        return Shown(withheld="Forecasts are being made for comparison and are not shown yet.")
    report = await house.predictor.report(capability, given.version)
    return Shown(given.answer, Behind(digest, given.version, given.forecaster, report))


def _allotted(house: House, state: State, chart: Chart) -> bool:
    """Tell whether this patient was allotted the intervention in the trial that runs on the current release."""
    return house.roster.allotted(state.manifest, house.auditor.patient(str(chart.patient["id"])))


def _failed(house: House, capability: str, state: State, user: str, outlet: str, error: Exception) -> None:
    """State that a question could not be answered: uptime is counted from it."""
    first = house.ledger.find(kind="release", digest=state.manifest)[0].statement.predicate
    house.auditor.failed(capability, str(first["model"]), user, outlet, error)


def why_withheld(version: str | None, on: bool, reason: str) -> str:
    """Say in one sentence why a capability shows nothing."""
    if version is None:
        return "No model has been released for this yet."
    if not on:
        return f"This has been switched off: {reason}"
    return "This has not been released for use with this patient and your role."


def is_test_patient(patient: Resource) -> bool:
    """Say whether the EHR marks this patient as made up (FHIR security label HTEST)."""
    labels = patient.get("meta", {}).get("security", [])
    return any((label.get("system"), label.get("code")) == _TEST_PATIENT for label in labels)
