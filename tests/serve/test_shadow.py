"""Shadow at the bedside: nothing of an answer is in the ledger, its label comes from the chart, a failure counts."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from lifechart.core.capability import Phase
from lifechart.ledger.statement import Statement, Subject
from lifechart.release.shadow.sealing import Opener, Seals
from lifechart.serve.maturing import Matured, mature
from lifechart.serve.records import Ehr
from tests.serve.house import Hospital


def matured(ward: Hospital) -> Matured:
    house = ward.house

    async def run() -> Matured:
        # A client of this test's own loop; the house's belongs to the server's.
        ehr = Ehr(house.settings, ward.ehr)
        try:
            seals, opener = Seals.open(house.settings), Opener.of(house.settings)
            return await mature(house.ledger, ehr, seals, opener, house.auditor, capability="risk", progress=False)
        finally:
            await ehr.close()

    return asyncio.run(run())


def test_what_is_kept_from_sight_is_not_in_the_ledger_until_it_is_due(
    ward: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward.phase(Phase.SHADOW)
    assert "not shown yet" in ward.client.get("/patients/ines").text
    said = ward.statements("answer")[-1].predicate
    assert (said["claims"], said["cards"], said["showing"]) == ([], {}, "shadow")
    num_boxes = len(said["sealed"])
    assert num_boxes > 0
    assert matured(ward) == Matured(0, num_boxes, 0)
    later = datetime.now(UTC) + timedelta(days=4000)
    monkeypatch.setattr(ward.house.ledger, "_clock", lambda: later)
    assert matured(ward) == Matured(num_boxes, 0, 0)
    assert matured(ward) == Matured(0, 0, 0), "once"
    labels = [each.predicate for each in ward.statements("label")]
    assert len(labels) == num_boxes
    assert all(claim["happened"] is False for each in labels for claim in each["claims"])
    ward.sign_in("sam.steward")
    page = ward.client.get("/steward").text
    assert "Answers kept from sight" in page
    assert f"{num_boxes} of {num_boxes} boxes opened" in page


def test_an_answer_that_is_shown_says_what_it_claims(ward: Hospital) -> None:
    ward.phase(Phase.CLINICIANS)
    ward.client.get("/patients/ines")
    said = ward.statements("answer")[-1].predicate
    assert said["claims"]
    assert "sealed" not in said


def test_a_question_that_fails_is_stated_and_lowers_the_uptime(ward: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    ward.phase(Phase.SHADOW)
    ward.client.get("/patients/ines")

    def fail(*_: object) -> None:
        raise RuntimeError("ines cannot be forecast")

    monkeypatch.setattr(ward.forecaster, "forecast", fail)
    assert ward.client.get("/patients/ines").status_code == 500
    (fault,) = ward.statements("fault")
    assert fault.predicate["error"] == "RuntimeError"
    assert "ines" not in str(fault.predicate)
    found = ward.house.shadow.of(ward.house.shelf.current("risk").manifest.model_digest)
    assert (found.answers, found.faults, found.uptime) == (1, 1, 0.5)


def test_alarms_stand_on_the_stewards_page(ward: Hospital) -> None:
    said = {"capability": "risk", "week": "2026-w07", "since": "2026-w05", "kind": "value", "cause": "assay"}
    said |= {"said": "glucose: median from 97 to 5.5", "lower_to": "shadow"}
    ward.house.ledger.append(Statement("alarm", (Subject("alarm", "a" * 64),), said))
    ward.sign_in("sam.steward")
    page = ward.client.get("/steward").text
    assert "Alarms of monitoring" in page
    assert "glucose: median from 97 to 5.5" in page
