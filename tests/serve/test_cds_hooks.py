"""CDS Hooks 2.0 as a client sees it: discovery, cards, the reasons for none, and feedback that finds its answer."""

import re
import uuid
from collections import defaultdict

import httpx
import pytest

from lifechart.core.capability import Phase
from lifechart.ledger.trace import trace
from lifechart.serve.surfaces.cds_hooks import PREFETCH, SERVICE
from tests.serve.house import Hospital, make_readonly
from tests.serve.toy_ehr import BASE

KIND = {key: query.split("?")[0].split("/")[0] for key, query in PREFETCH.items()}


def prefetched(place: Hospital, patient_id: str) -> dict:
    by_kind = defaultdict(list)
    for resource in place.ehr.patients[patient_id]:
        by_kind[resource["resourceType"]].append({"resource": resource})
    bundles = {
        key: {"resourceType": "Bundle", "type": "searchset", "entry": by_kind[kind]}
        for key, kind in KIND.items()
        if key != "patient"
    }
    return {"patient": by_kind["Patient"][0]["resource"], **bundles}


def call(place: Hospital, patient_id: str = "ines", token: str | None = None, **fields: object) -> httpx.Response:
    body = {
        "hook": "patient-view",
        "hookInstance": str(uuid.uuid4()),
        "context": {"userId": "Practitioner/1", "patientId": patient_id},
        **fields,
    }
    headers = {
        "authorization": f"Bearer {place.token if token is None else token}".strip(),
        "accept": "application/json",
    }
    return place.client.post(f"/cds-services/{SERVICE}", json=body, headers=headers)


def test_discovery_is_open_and_says_what_is_needed(place: Hospital) -> None:
    (service,) = place.client.get("/cds-services").json()["services"]
    assert service["hook"] == "patient-view"
    assert service["id"] == SERVICE
    assert service["prefetch"]["patient"] == "Patient/{{context.patientId}}"
    assert "patient={{context.patientId}}" in service["prefetch"]["observations"]
    assert {"title", "description"} <= set(service)


def test_cards_from_the_prefetch_alone(place: Hospital) -> None:
    answer = call(place, prefetch=prefetched(place, "ines"))
    assert answer.status_code == 200
    assert not place.ehr.requests
    cards = answer.json()["cards"]
    assert [card["summary"].split(":")[0] for card in cards] == ["Heart failure", "Lung cancer"]
    for card in cards:
        assert len(card["summary"]) < 140
        assert card["indicator"] in ("info", "warning", "critical")
        assert uuid.UUID(card["uuid"])
        assert card["source"]["label"] == "Lifechart, Riverbend Hospital"
        assert card["source"]["url"] == str(place.client.base_url).rstrip("/")
        (link,) = card["links"]
        assert link["type"] == "absolute"
        assert "/patients/ines#SNOMED--" in link["url"]
        assert all({"code", "system", "display"} <= set(reason) for reason in card["overrideReasons"])
    detail = cards[0]["detail"]
    for part in ("within 1 year: 20%", "95% interval 14%–28%", "Usual for patients aged 65 to 79: 5.0%", "AUROC"):
        assert part in detail
    (answer,) = place.statements("answer")
    for card in cards:
        reference = re.search(r"Reference ([0-9a-f-]{14})$", card["detail"])[1]
        assert trace(place.house.ledger, reference).start == answer.subjects[0].digest


def test_the_link_leads_to_that_risk_on_the_page(place: Hospital) -> None:
    link = call(place).json()["cards"][0]["links"][0]["url"]
    place.sign_in()
    assert f'id="{link.split("#")[1]}"' in place.client.get(link).text


@pytest.mark.parametrize("missing", ["patient", "observations", "allergies"])
def test_what_is_missing_from_the_prefetch_is_fetched(place: Hospital, missing: str) -> None:
    sent = prefetched(place, "ines")
    for absent in (None, {"resourceType": "OperationOutcome"}):
        sent[missing] = absent
        answer = call(place, prefetch=sent, fhirServer=BASE, fhirAuthorization={"access_token": "lent"})
        assert len(answer.json()["cards"]) == 2
        assert place.ehr.requests[-1].headers["authorization"] == "Bearer lent"


def test_only_the_configured_ehr_is_asked(place: Hospital) -> None:
    for server in ("http://169.254.169.254/fhir", "http://ehr.test.evil.example/fhir", "http://localhost:8800"):
        answer = call(place, fhirServer=server, fhirAuthorization={"access_token": "bait"})
        assert answer.status_code == 412
    assert not place.ehr.requests


def test_a_chart_that_cannot_be_read_gives_412_and_no_name(place: Hospital) -> None:
    place.ehr.broken["metadata"] = httpx.ConnectError("down")
    answer = call(place)
    assert answer.status_code == 412
    assert "ines" not in answer.text
    assert call(place, patient_id="nobody").status_code == 412


def test_prefetch_of_another_patient_is_refused(place: Hospital) -> None:
    assert call(place, patient_id="ines", prefetch=prefetched(place, "tom")).status_code == 412


@pytest.mark.parametrize("token", ["", "guess", "Bearer"])
def test_no_token_no_cards(place: Hospital, token: str) -> None:
    assert call(place, token=token).status_code == 403


@pytest.mark.parametrize("body", [{"hook": "order-sign"}, {"hookInstance": "x"}, {"context": {}}])
def test_what_is_not_a_call_is_refused_without_an_echo(place: Hospital, body: dict) -> None:
    answer = call(place, **body)
    assert answer.status_code == 400
    assert "ines" not in answer.text


def test_a_red_flag_comes_first_as_a_warning(place: Hospital) -> None:
    first = call(place, "tom").json()["cards"][0]
    assert first["indicator"] == "warning"
    assert first["summary"].startswith("Potassium is dangerously high: 6.8 mmol/L")
    assert first["links"][0]["url"].endswith("#Observation-tk-now")


def test_too_little_on_record_is_said(place: Hospital) -> None:
    (card,) = call(place, "ada").json()["cards"]
    assert card["summary"].startswith("No forecast: The chart lacks")


def test_no_cards_when_switched_off_and_again_when_on(place: Hospital) -> None:
    place.switch(False)
    assert call(place).json() == {"cards": []}
    assert not place.statements("answer")
    place.switch(True)
    assert len(call(place).json()["cards"]) == 2


@pytest.mark.parametrize(
    ("phase", "audited", "shown"),
    [(Phase.OFF, 0, 0), (Phase.SHADOW, 1, 0), (Phase.TRIAL, 1, 0), (Phase.SIMULATION, 1, 2), (Phase.CLINICIANS, 1, 2)],
)
def test_each_phase(place: Hospital, phase: Phase, audited: int, shown: int) -> None:
    place.phase(phase)
    assert len(call(place).json()["cards"]) == shown
    statements = place.statements("answer")
    assert len(statements) == audited
    if audited:
        assert statements[0].predicate["showing"] == ("shown" if shown else "shadow")


def test_in_simulation_a_real_patient_has_no_cards(place: Hospital) -> None:
    del place.ehr.patients["ines"][0]["meta"]
    assert call(place).json() == {"cards": []}
    place.phase(Phase.CLINICIANS)
    assert len(call(place).json()["cards"]) == 2


def test_the_answer_is_in_the_ledger_without_the_patient(place: Hospital) -> None:
    call(place)
    (statement,) = place.statements("answer")
    said = statement.predicate
    assert said["user"] == "client:ehr"
    assert said["outlet"] == "cds_hooks"
    assert said["model"] == place.forecaster.digest
    assert len(said["inputs"]) == len(said["patient"]) == 64
    text = str(statement)
    for secret in ("ines", "Márquez", "MRN-INES-4471", "1955-03-02"):
        assert secret not in text


def test_no_audit_no_cards(place: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    make_readonly(monkeypatch)
    answer = call(place)
    assert answer.status_code == 503
    assert answer.json() == {"cards": []}


def feedback(place: Hospital, *entries: dict) -> httpx.Response:
    headers = {"authorization": f"Bearer {place.token}"}
    return place.client.post(f"/cds-services/{SERVICE}/feedback", json={"feedback": list(entries)}, headers=headers)


def entry(card: str, **fields: object) -> dict:
    return {"card": card, "outcome": "accepted", "outcomeTimestamp": "2026-01-10T12:00:00Z", **fields}


def test_feedback_finds_its_answer_and_reaches_page_and_ledger(place: Hospital) -> None:
    card = call(place).json()["cards"][0]
    override = {"reason": {"code": "known", "system": "x"}, "userComment": "Mrs M sees cardiology"}
    answer = feedback(place, entry(card["uuid"], outcome="overridden", overrideReason=override))
    assert answer.status_code == 200
    (statement,) = place.statements("feedback")
    assert statement.subjects == place.statements("answer")[0].subjects
    assert statement.predicate["outcome"] == "SNOMED//84114007"
    assert (statement.predicate["action"], statement.predicate["reason"]) == ("dismissed", "known")
    assert "cardiology" not in str(statement)
    place.sign_in()
    page = place.client.get("/patients/ines").text
    assert "Already known and being managed" in page.split("lc-decide__button")[0]


def test_feedback_on_a_card_that_never_was_is_refused(place: Hospital) -> None:
    assert feedback(place, entry(str(uuid.uuid4()))).status_code == 400
    assert feedback(place).status_code == 400
    assert not place.statements("feedback")
