"""A problem reported from a page, worked on by a steward, and a recall that reaches those who were shown an answer."""

import re
import uuid
from datetime import UTC, datetime

import pytest

from lifechart.core.capability import Phase, Role
from lifechart.ledger.keys import Signer
from lifechart.ledger.statement import Statement, Subject
from lifechart.release.people import Office, People
from lifechart.serve.access import add_account
from tests.serve.house import PASSWORD, Hospital

WORDS = "Ines was told that nothing was wrong"


@pytest.fixture
def open_ward(ward: Hospital) -> Hospital:
    ward.phase(Phase.CLINICIANS)
    return ward


def post(place: Hospital, path: str, **fields: str):
    token = re.search(r'name="form_token" value="([^"]+)"', place.client.get("/incidents/report").text)[1]
    return place.client.post(path, data={"form_token": token, **fields})


def report(place: Hospital, **fields: str):
    given = {"problem": "wrong-answer", "severity": "harm", "words": WORDS, "page": "/patients/ines"}
    return post(place, "/incidents/report", **(given | fields))


def steps(place: Hospital) -> list[str]:
    return [said.predicate["step"] for said in place.statements("incident")]


def recalled(place: Hospital) -> str:
    """Let the clinician be shown an answer, complain, and the steward recall it; return the recall's digest."""
    page = place.client.get("/patients/ines").text
    answer = re.search(r"answer=([0-9a-f]{64})", page)[1]
    assert "Reported as incident 1" in report(place, answer=answer).text
    place.sign_in("sam.steward")
    post(place, "/incidents/1/triage", severity="harm", words="looked")
    page = post(place, "/incidents/1/recall", version="1", words="Do not rely on <it>.").text
    assert re.search(r"waiting for [^<]*dr\.reyes", page)
    return place.house.incidents.recalls.all()[0].digest


def test_every_page_leads_to_the_form_which_knows_where_one_was(open_ward: Hospital) -> None:
    for path in ("/patients?q=ma", "/patients/ines", "/patients/nobody", "/steward"):
        page = open_ward.client.get(path).text
        assert "Report a problem" in page, path
    form = open_ward.client.get("/incidents/report?page=/patients/ines").text
    assert 'value="/patients/ines"' in form
    report(open_ward)
    said = open_ward.statements("incident")[0].predicate
    assert said["page"] == "/patients/{patient_id}"
    assert said["patients"] == [open_ward.house.auditor.patient("ines")]
    assert not any(
        "Ines" in str(each.predicate) or "ines" in str(each.predicate) for each in open_ward.statements("incident")
    )


@pytest.mark.parametrize("page", ["/nowhere", "https://evil.example/patients/ines", "/static/mark.svg", "x" * 4000, ""])
def test_a_made_up_page_is_none(open_ward: Hospital, page: str) -> None:
    assert report(open_ward, page=page).status_code == 200
    assert open_ward.statements("incident")[0].predicate["patients"] == []


def test_a_report_that_cannot_be_kept_is_refused(open_ward: Hospital) -> None:
    for fields in ({"problem": "x"}, {"words": " "}, {"answer": "ab" * 32}, {"occurred": "soon"}, {"severity": ""}):
        assert report(open_ward, **fields).status_code == 400
    assert steps(open_ward) == []


def test_everybody_may_report_and_stewards_alone_work_on_it(open_ward: Hospital) -> None:
    report(open_ward)
    assert open_ward.client.get("/incidents").status_code == 403
    assert open_ward.client.get("/incidents/1").status_code == 403
    assert post(open_ward, "/incidents/1/triage", severity="harm", words="x").status_code == 403
    add_account(open_ward.house.store, "au.ditor", PASSWORD, [Role.AUDITOR])
    open_ward.sign_in("au.ditor")
    assert WORDS in open_ward.client.get("/incidents/1").text
    # Reading what people wrote leaves a trace of its own.
    assert open_ward.statements("view")[-1].predicate == {"user": "au.ditor", "outlet": "incidents", "what": "incident"}
    for path in ("triage", "investigate", "correct", "link", "submitted", "recall", "close", "reopen"):
        assert post(open_ward, f"/incidents/1/{path}", severity="harm", words="x").status_code == 403
    assert open_ward.client.get("/incidents/2").status_code == 400
    assert steps(open_ward) == ["reported"]


def test_triage_switches_off_and_the_page_says_why(open_ward: Hospital) -> None:
    answer = re.search(r"answer=([0-9a-f]{64})", open_ward.client.get("/patients/ines").text)[1]
    report(open_ward, answer=answer, severity="death")
    open_ward.sign_in("sam.steward")
    page = post(open_ward, "/incidents/1/triage", severity="death", words="at once", pause="yes").text
    assert "capability switched off" in page
    for link in re.findall(r'href="(/steward/trace/[^"]+)"', page):
        assert open_ward.client.get(link).status_code == 200, link
    open_ward.sign_in()
    assert "switched off: Paused because of incident 1." in open_ward.client.get("/patients/ines").text


def test_a_recall_stands_on_every_page_until_it_is_acknowledged(open_ward: Hospital) -> None:
    recall = recalled(open_ward)
    assert not open_ward.house.shelf.state("risk").on, "what is recalled is not shown any more"
    assert "Recall: do not rely" not in open_ward.client.get("/incidents").text, "the steward was shown no answer"
    open_ward.sign_in()
    for path in ("/patients", "/patients/tom", "/patients/nobody", "/incidents/report"):
        page = open_ward.client.get(path).text
        assert "Recall: do not rely" in page, path
        assert "Do not rely on &lt;it&gt;." in page
    page = post(open_ward, f"/incidents/recalls/{recall}/acknowledge", next="/patients?q=ma")
    assert page.url.path == "/patients"
    # A chart about which an answer was recalled says so, to everybody, also after it was acknowledged.
    page = open_ward.client.get("/patients/ines").text
    assert "An answer about this person has been recalled" in page
    assert "An answer about this person has been recalled" not in open_ward.client.get("/patients/ada").text
    open_ward.sign_in("sam.steward")
    assert "acknowledged by" in open_ward.client.get("/incidents").text


def test_one_cannot_acknowledge_for_others(open_ward: Hospital) -> None:
    recall = recalled(open_ward)
    assert post(open_ward, f"/incidents/recalls/{recall}/acknowledge").status_code == 409
    assert post(open_ward, f"/incidents/recalls/{'0' * 64}/acknowledge").status_code == 400
    assert "acknowledged" not in steps(open_ward)
    assert post(open_ward, f"/incidents/recalls/{recall}/acknowledge", next="//evil.example").status_code == 409


def test_a_recall_reaches_the_ehr_s_users_as_a_card_until_its_feedback(open_ward: Hospital) -> None:
    def hook(user: str) -> list[dict]:
        call = {
            "hook": "patient-view",
            "hookInstance": str(uuid.uuid4()),
            "context": {"patientId": "ines", "userId": user},
        }
        headers = {"authorization": f"Bearer {open_ward.token}", "accept": "application/json"}
        return open_ward.client.post("/cds-services/lifechart-risk", json=call, headers=headers).json()["cards"]

    hook("Practitioner/7")
    hook("Patient/ines")
    asked = [said.predicate.get("asker", "") for said in open_ward.statements("answer")]
    assert asked[0] == "Practitioner/7"
    assert asked[1].startswith("user:")
    assert "ines" not in asked[1]
    recalled(open_ward)
    (card,) = hook("Practitioner/7")
    assert card["indicator"] == "critical"
    assert "Do not rely on <it>." in card["detail"]
    assert len(card["summary"]) < 140
    assert hook("Practitioner/8") == []
    now = datetime.now(UTC).isoformat()
    body = {"feedback": [{"card": card["uuid"], "outcome": "overridden", "outcomeTimestamp": now}]}
    headers = {"authorization": f"Bearer {open_ward.token}"}
    assert open_ward.client.post("/cds-services/lifechart-risk/feedback", json=body, headers=headers).status_code == 200
    assert hook("Practitioner/7") == []
    assert len(hook("Patient/ines")) == 1


def test_from_the_page_to_the_signed_closure(open_ward: Hospital) -> None:
    report(open_ward)
    open_ward.sign_in("sam.steward")
    post(open_ward, "/incidents/1/triage", severity="serious-harm", words="looked")
    post(open_ward, "/incidents/1/investigate", cause="data", words="a unit changed")
    post(open_ward, "/incidents/1/correct", words="refused from now on")
    for regulator in ("fda", "mhra"):
        post(open_ward, "/incidents/1/submitted", regulator=regulator, reference="17/2026")
    refused = post(open_ward, "/incidents/1/close")
    assert refused.status_code == 409
    assert "wants the signature of safety-officer" in refused.text
    signer = Signer.generate("dr.safe")
    People(open_ward.house.ledger).register(signer.public, (Office.SAFETY_OFFICER,), staff_number="7", actor="root")
    open_ward.house.incidents.sign("1", signer, comment="weighed")
    page = post(open_ward, "/incidents/1/close").text
    assert "signed by dr.safe" in page
    assert "Take it up again" in page


def test_an_unreadable_incident_shuts_no_page_and_is_said_on_all(open_ward: Hospital) -> None:
    open_ward.house.ledger.append(Statement("incident", (Subject("incident", "1" * 64),), {"step": "gossip"}))
    assert "Recalls cannot be read" in open_ward.client.get("/patients").text
