"""The clinician's pages: who this is, what may lie ahead, why not, decisions; and nothing where it must be nothing."""

import logging
import re
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import select

from lifechart.core.capability import Phase
from lifechart.core.forecast import Alike
from lifechart.ledger.trace import trace
from lifechart.serve.store import Decision
from tests.care.toy import HEART_FAILURE, LUNG_CANCER
from tests.serve.house import Hospital, make_readonly

IDENTIFIERS = ("Márquez", "MÁRQUEZ", "Inés", "ines", "MRN-INES-4471", "1955-03-02")


def links_to(page: str) -> Iterator[str]:
    yield from re.findall(r'href="#([^"]+)"', page)


def hidden(page: str, name: str) -> str:
    return re.search(rf'name="{name}" value="([^"]+)"', page)[1]


def banner(page: str) -> str:
    return re.search(r'<section class="lc-banner".*?</section>', page, re.DOTALL)[0]


@pytest.mark.parametrize(
    ("patient", "words"),
    [
        ("ines", ["MÁRQUEZ ØDEGÅRD, Inés", "02 Mar 1955", "Female", "MRN-INES-4471", "Allergy to penicillin (high"]),
        ("tom", ["OKAFOR, Tom", "30 Jul 1975", "Male", "MRN-TOM-4471", "No known allergies"]),
        ("ada", ["LIND, Ada", "15 Jan 1990", "Female", "MRN-ADA-4471", "Not recorded – ask"]),
    ],
)  # fmt: skip
def test_the_banner_says_who_and_what_of_allergies(ward: Hospital, patient: str, words: list[str]) -> None:
    shown = banner(ward.client.get(f"/patients/{patient}").text)
    for word in words:
        assert word in shown


def test_risks_with_interval_horizon_comparison_and_evidence(ward: Hospital) -> None:
    page = ward.client.get("/patients/ines").text
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    for words in (
        "Heart failure 20% within 1 year",
        "About 1 in 5; moderately certain (14% to 28%). 4.0 times what is usual for patients aged 65 to 79 (5.0%).",
        "within 5 years 67% 47% to 94%",
        "Patients aged 65 to 79 1,000 forecasts, 50 came true (5.0%) AUROC 0.80 (0.78–0.82)",
        "Everyone examined 4,000 forecasts, 200 came true (5.0%)",
        "It names no cause",
        "AUROC 0.80 (0.78–0.82) Observed / expected 1.04 (1.02–1.06) Intervals held 95%",
        "of the 200 people most like this one, about 180 had not had it before; about 45 of them had it within 5 years",
        "Index of 6,400 de-identified people whom the model learnt from; counts rounded to a multiple of 5",
    ):
        assert words in text, words


def test_what_became_of_like_people_is_audited_and_no_flag_and_no_forecast(ward: Hospital) -> None:
    page = ward.client.get("/patients/ines").text
    said = ward.statements("answer")[-1].predicate
    assert {"outcome": HEART_FAILURE, "horizon_days": 1825, "share": 0.25} in said["background"]
    assert 0.25 not in [claim["probability"] for claim in said["claims"]]
    assert "Act on this first" not in page
    assert not [about for about in said["cards"] if about.startswith("flag")]


def test_why_nobody_is_counted_is_said_once(ward: Hospital) -> None:
    ward.forecaster.alike = Alike(0, 0, 1825, (), "", "the model was trained under a promise")
    page = ward.client.get("/patients/ines").text
    assert page.count("Nobody is counted who was like this person: the model was trained under a promise.") == 1
    assert "lc-alike" not in page


def test_every_link_into_the_chart_has_its_place_once(ward: Hospital) -> None:
    for patient in ("ines", "tom"):
        page = ward.client.get(f"/patients/{patient}").text
        identities = re.findall(r'\bid="([^"]+)"', page)
        assert len(identities) == len(set(identities))
        wanted = set(links_to(page))
        assert wanted <= set(identities)
        assert any(target.startswith("Observation-") for target in wanted)


def test_a_red_flag_stands_above_the_risks(ward: Hospital) -> None:
    page = ward.client.get("/patients/tom").text
    assert page.index("Potassium is dangerously high: 6.8 mmol/L") < page.index("Risks ahead")
    assert "Royal College of Pathologists" in page


def test_too_little_on_record_is_said_and_the_chart_is_there(ward: Hospital) -> None:
    page = ward.client.get("/patients/ada").text
    assert "More information is needed" in page
    assert "No problems are recorded." in page


def test_an_unusual_chart_gets_no_forecast_and_the_reason(ward: Hospital) -> None:
    ward.forecaster.novelty = 0.999
    page = ward.client.get("/patients/ines").text
    assert "No forecast for this person" in page
    assert "more unusual than 99.9% of those" in page
    assert "Heart failure" not in page


def test_an_outcome_on_record_is_no_new_risk(ward: Hospital) -> None:
    system, code = "http://snomed.info/sct", HEART_FAILURE.split("//")[1]
    ward.ehr.patients["ines"].append(
        {
            "resourceType": "Condition",
            "id": "hf",
            "code": {"coding": [{"system": system, "code": code, "display": "Heart failure"}]},
            "subject": {"reference": "Patient/ines"},
            "onsetDateTime": "2020-01-01",
        }
    )
    page = ward.client.get("/patients/ines").text
    assert f'value="{HEART_FAILURE}"' not in page
    assert f'value="{LUNG_CANCER}"' in page


def test_what_could_not_be_used_is_said(ward: Hospital) -> None:
    broken = {"resourceType": "Condition", "id": "x", "subject": {"reference": "Patient/ines"}, "code": "not a concept"}
    ward.ehr.patients["ines"].append(broken)
    assert "1 entry of this chart could not be used" in ward.client.get("/patients/ines").text


def test_an_answer_is_audited_before_the_page_is_sent(ward: Hospital) -> None:
    page = ward.client.get("/patients/ines").text
    (statement,) = ward.statements("answer")
    assert statement.subjects[0].digest == hidden(page, "answer")
    assert statement.predicate["user"] == "dr.reyes"


@pytest.mark.parametrize(
    "turn", [lambda ward: ward.switch(False), lambda ward: ward.phase(Phase.OFF)], ids=["switched-off", "phase-off"]
)
def test_a_chart_opened_without_forecasts_is_audited_too(ward: Hospital, turn) -> None:
    turn(ward)
    assert "Creatinine" in ward.client.get("/patients/ines").text
    (statement,) = ward.statements("view")
    assert (statement.predicate["user"], statement.predicate["what"]) == ("dr.reyes", "chart")
    assert [subject.digest for subject in statement.subjects] == [ward.house.auditor.patient("ines")]
    assert "ines" not in str(statement)
    assert not ward.statements("answer")


def test_a_chart_without_forecasts_is_not_shown_if_the_ledger_cannot_say_so(
    ward: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward.switch(False)
    make_readonly(monkeypatch)
    answer = ward.client.get("/patients/ines")
    assert answer.status_code == 503
    found = ward.client.get("/patients", params={"q": "okafor"})
    assert found.status_code == 503
    for identifier in (*IDENTIFIERS, "OKAFOR"):
        assert identifier not in answer.text + found.text


def test_an_answer_is_the_only_statement_of_the_chart_that_it_is_on(ward: Hospital) -> None:
    ward.client.get("/patients/ines")
    assert len(ward.statements("answer")) == 1
    assert not ward.statements("view")


def test_people_who_were_found_are_audited(ward: Hospital) -> None:
    ward.client.get("/patients", params={"q": "zz"})
    assert not ward.statements("view"), "nobody was shown"
    ward.client.get("/patients", params={"q": "okafor"})
    (statement,) = ward.statements("view")
    assert statement.predicate["what"] == "search"
    assert [subject.digest for subject in statement.subjects] == [ward.house.auditor.patient("tom")]


def test_every_sentence_carries_a_reference_that_leads_to_its_sources(ward: Hospital) -> None:
    page = ward.client.get("/patients/ines").text
    (answer,) = ward.statements("answer")
    references = re.findall(r'eference <span class="lc-mono">([0-9a-f-]{14})<', page)
    assert len(references) == 1 + page.count('class="lc-risk"')
    for reference in references:
        graph = trace(ward.house.ledger, reference)
        assert graph.start == answer.subjects[0].digest
        assert {"release", "train", "evaluate"} <= {node.kind for node in graph.nodes.values()}
    asked = {trace(ward.house.ledger, reference).asked for reference in references}
    assert any(f"about {HEART_FAILURE}: 0." in each for each in asked)
    flags = ward.client.get("/patients/tom").text
    (reference,) = re.findall(r'eference <span class="lc-mono">([0-9a-f-]{14})<', flags.split("Risks ahead")[0])
    assert "about flag-0" in trace(ward.house.ledger, reference).asked


def test_no_audit_no_page(ward: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    make_readonly(monkeypatch)
    answer = ward.client.get("/patients/ines")
    assert answer.status_code == 503
    assert "Nothing can be shown" in answer.text
    for identifier in IDENTIFIERS:
        assert identifier not in answer.text


def test_no_half_chart(ward: Hospital) -> None:
    ward.ehr.everything = False
    ward.ehr.broken["AllergyIntolerance"] = httpx.Response(500)
    answer = ward.client.get("/patients/ines")
    assert answer.status_code == 502
    assert "The chart could not be read" in answer.text
    assert "MÁRQUEZ" not in answer.text
    assert ward.client.get("/patients/nobody").status_code == 502
    ward.ehr.broken.clear()
    assert ward.client.get("/patients/nobody").status_code == 404


@pytest.mark.parametrize(
    ("turn", "words"),
    [
        (lambda ward: ward.switch(False, "drift in admissions"), "This has been switched off: drift in admissions"),
        (lambda ward: ward.phase(Phase.SHADOW), "not shown yet"),
        (lambda ward: ward.phase(Phase.OFF), "has not been released for use"),
    ],
)
def test_withheld_risks_leave_the_chart(ward: Hospital, turn, words: str) -> None:
    turn(ward)
    page = ward.client.get("/patients/ines").text
    assert words in page
    assert "Creatinine" in page
    assert "within 1 year" not in page


def test_a_changed_byte_of_the_release_shows_nothing_and_names_the_file_in_the_log(
    ward: Hospital, caplog: pytest.LogCaptureFixture
) -> None:
    weights = ward.settings.shelf / "risk" / "1" / "model" / "weights.bin"
    weights.write_bytes(b"tox")
    answer = ward.client.get("/patients/ines")
    assert answer.status_code == 503
    assert "Something did not verify" in answer.text
    assert "weights.bin" in caplog.text


def decide(ward: Hospital, page: str, patient: str = "ines", htmx: bool = False, **fields: str) -> httpx.Response:
    form = {
        "form_token": hidden(page, "form_token"),
        "answer": hidden(page, "answer"),
        "outcome": HEART_FAILURE,
        "action": "dismissed",
        "reason": "known",
        "comment": "Mrs M sees cardiology",
        **fields,
    }
    return ward.client.post(f"/patients/{patient}/decisions", data=form, headers={"hx-request": "true"} if htmx else {})


def test_a_decision_is_kept_in_ledger_and_database_and_shown(ward: Hospital) -> None:
    page = ward.client.get("/patients/ines").text
    assert decide(ward, page).status_code == 200
    (statement,) = ward.statements("feedback")
    assert statement.predicate["reason"] == "known"
    assert statement.subjects[0].digest == hidden(page, "answer")
    assert "cardiology" not in str(statement)
    with ward.house.store.transaction() as session:
        (decision,) = session.scalars(select(Decision)).all()
    assert (decision.by, decision.comment) == ("dr.reyes", "Mrs M sees cardiology")
    assert len(decision.patient) == 64
    assert "Already known and being managed" in ward.client.get("/patients/ines").text.split("lc-decide__button")[0]


def test_with_htmx_only_the_decision_comes_back(ward: Hospital) -> None:
    answer = decide(ward, ward.client.get("/patients/ines").text, htmx=True, action="accepted")
    assert "Accepted" in answer.text
    assert "<html" not in answer.text


@pytest.mark.parametrize(
    "fields",
    [
        {"answer": "0" * 64},
        {"answer": "x"},
        {"outcome": "SNOMED//1"},
        {"action": "shrugged"},
        {"reason": "because"},
        {"comment": "x" * 1001},
    ],
)
def test_a_decision_on_what_was_not_said_is_refused(ward: Hospital, fields: dict[str, str]) -> None:
    assert decide(ward, ward.client.get("/patients/ines").text, **fields).status_code == 400
    assert not ward.statements("feedback")


def test_a_decision_on_another_patients_answer_is_refused(ward: Hospital) -> None:
    page = ward.client.get("/patients/ines").text
    assert decide(ward, page, patient="tom").status_code == 400


def test_search(ward: Hospital) -> None:
    assert "OKAFOR, Tom" in ward.client.get("/patients", params={"q": "okafor"}).text
    assert "No patient was found" in ward.client.get("/patients", params={"q": "zz"}).text
    assert "Enter two characters or more" in ward.client.get("/patients", params={"q": "o"}).text


def test_what_a_chart_says_is_text_not_markup(ward: Hospital) -> None:
    ward.ehr.patients["ines"][1]["code"]["text"] = "<script>alert(1)</script>"
    page = ward.client.get("/patients/ines").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_headers_keep_the_page_to_itself(ward: Hospital) -> None:
    for path in ("/patients/ines", "/patients", "/nowhere", "/static/lifechart.css"):
        headers = ward.client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers
    assert ward.client.get("/patients/ines").headers["cache-control"] == "no-store"


def test_pages_hold_no_inline_script_style_or_foreign_address(ward: Hospital) -> None:
    page = ward.client.get("/patients/ines").text
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert not re.search(r"\s(style|on\w+)=", page)
    assert not re.findall(r"https?://", page)


def test_no_identifier_reaches_the_log(ward: Hospital, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="lifechart")
    ward.client.get("/patients/ines")
    ward.client.get("/patients", params={"q": "Márquez"})
    decide(ward, ward.client.get("/patients/ines").text, outcome="ines")
    ward.ehr.broken["Patient"] = httpx.ConnectError("ines at http://ehr.test/fhir/Patient/ines")
    ward.client.get("/patients/ines")
    ward.ehr.broken["Patient"] = RuntimeError("ines")
    assert ward.client.get("/patients/ines").status_code == 500
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("lifechart"))
    assert "GET /patients/{patient_id} 200" in ours
    assert "RuntimeError" in ours
    for identifier in IDENTIFIERS:
        assert identifier not in ours
