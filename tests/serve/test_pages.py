"""Every page in a real browser: no accessibility violation, nothing wider than the screen, no script error, and
decisions with and without JavaScript. Pictures for the eye: set LIFECHART_PICTURES to a folder."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifechart.core.capability import Role
from lifechart.ledger import page as trace_page
from lifechart.ledger.keys import Signer
from lifechart.ledger.statement import Statement, Subject
from lifechart.ledger.trace import trace
from lifechart.release.incidents.scope import Scope
from lifechart.release.people import Office, People
from lifechart.serve.access import add_account
from lifechart.serve.pages import STATIC
from tests.browser import launched, window, wrong_with
from tests.serve.house import PASSWORD, Hospital, hospital

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

WIDTHS = (1280, 390)

if not (STATIC / "vendor").exists():
    pytest.skip("web/build.py has not run", allow_module_level=True)

PAGES = {
    "sign-in": ("", "/sign-in"),
    "find": ("dr.reyes", "/patients?q=ma"),
    "find-nothing": ("dr.reyes", "/patients?q=zz"),
    "find-too-short": ("dr.reyes", "/patients?q=z"),
    "patient": ("dr.reyes", "/patients/ines"),
    "patient-red-flag": ("dr.reyes", "/patients/tom"),
    "patient-little-known": ("dr.reyes", "/patients/ada"),
    "not-there": ("dr.reyes", "/patients/nobody"),
    "not-allowed": ("dr.reyes", "/steward"),
    "steward": ("sam.steward", "/steward"),
    "release": ("sam.steward", "/steward/risk/releases/1"),
    "documents": ("sam.steward", "/steward/risk/documents"),
    "document-public": ("sam.steward", "/steward/risk/documents/public"),
    "trace-release": ("sam.steward", "/steward/trace/2"),
    "trace-answer": ("sam.steward", "/steward/trace/4"),
    "trace-data-set": ("sam.steward", f"/steward/trace/{'cd' * 32}"),
    "trace-nothing": ("sam.steward", "/steward/trace/gossip"),
    "incident-report": ("dr.reyes", "/incidents/report?page=/patients/ines"),
    "incidents": ("sam.steward", "/incidents"),
    "incident": ("sam.steward", "/incidents/1"),
    "incident-closed": ("sam.steward", "/incidents/2"),
    "patient-recalled": ("dr.li", "/patients/ines"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    with hospital(tmp_path_factory.mktemp("house")) as held:
        held.sign_in()
        held.client.get("/patients/ines")
        # Somebody withdrew who is in the data behind the release, so that the steward's page has that to show.
        said = {"what": "withdrawn", "purposes": ["training"], "held_by": ["cd" * 32], "register": "hmac:0"}
        held.house.ledger.append(Statement("withdrawal", (Subject("patient", "ef" * 32),), said))
        complain(held)
        yield held


def complain(held: Hospital) -> None:
    """Let an incident be triaged and its answer recalled, and another one be closed. `dr.li` was shown the answer."""
    house, incidents = held.house, held.house.incidents
    add_account(house.store, "dr.li", PASSWORD, [Role.CLINICIAN])
    held.sign_in("dr.li")
    held.client.get("/patients/ines")
    given = house.ledger.find(kind="answer")[-1].statement.subjects[0].digest
    first = incidents.report("wrong-answer", "serious-harm", "Said low, was high.", actor="dr.li", answers=[given])
    incidents.triage(first.digest, "serious-harm", "The chart held a wrong unit.", actor="sam.steward")
    incidents.investigate(first.digest, "data", "Found in the feed of October.", actor="sam.steward")
    message = "Risks rested on a wrong unit: look at the values themselves."
    incidents.recall(first.digest, Scope("risk", answers=(given,)), message, actor="sam.steward")
    second = incidents.report("other", "no-harm", "The page was slow.", actor="dr.reyes")
    incidents.triage(second.digest, "no-harm", "A disk was full.", actor="sam.steward")
    incidents.investigate(second.digest, "organisation", "Nobody watched it.", actor="sam.steward")
    incidents.correct(second.digest, "Somebody watches it.", actor="sam.steward")
    officer = Signer.generate("dr.safe")
    People(house.ledger).register(officer.public, (Office.SAFETY_OFFICER,), staff_number="7", actor="root")
    incidents.sign(second.digest, officer, comment="weighed")
    incidents.close(second.digest, actor="sam.steward")


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    with launched() as started:
        yield started


@pytest.fixture
def faults() -> list[str]:
    return []


def open_page(
    browser: playwright.Browser, place: Hospital, name: str, width: int, faults: list[str], **more: object
) -> playwright.Page:
    page = window(browser, width, base_url=str(place.client.base_url), **more).new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if "Content Security" in message.text else None)
    page.on(
        "request", lambda request: faults.append(request.url) if str(place.client.base_url) not in request.url else None
    )
    if name:
        page.goto("/sign-in")
        page.fill("#name", name)
        page.fill("#password", PASSWORD)
        page.click("main form button:has-text('Sign in')")
    return page


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_page_is_sound(browser: playwright.Browser, place: Hospital, faults: list[str], name: str, width: int) -> None:
    user, path = PAGES[name]
    # axe is put into the page by the test, which the page's own policy rightly forbids.
    page = open_page(browser, place, user, width, faults, bypass_csp=True)
    page.goto(path)
    for folded in page.query_selector_all("details:not([open]) > summary"):
        if folded.is_visible():
            folded.click()
    if folder := os.environ.get("LIFECHART_PICTURES"):
        page.screenshot(path=f"{folder}/{name}-{width}.png", full_page=True)
    assert wrong_with(page) == []
    assert not faults
    page.context.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_a_trace_in_a_file_is_sound(
    browser: playwright.Browser, place: Hospital, tmp_path: Path, faults: list[str], width: int
) -> None:
    """It loads nothing, every box can be reached by keyboard, and leads to its row."""
    ledger = place.house.ledger
    (tmp_path / "trace.html").write_text(trace_page.render(trace(ledger, place.forecaster.digest), ledger.head()))
    page = window(browser, width, offline=True).new_page()
    page.on("request", lambda request: faults.append(request.url) if "trace.html" not in request.url else None)
    page.goto(f"file://{tmp_path}/trace.html")
    if folder := os.environ.get("LIFECHART_PICTURES"):
        page.screenshot(path=f"{folder}/trace-file-{width}.png", full_page=True)
    assert wrong_with(page) == []
    boxes = page.locator(".lc-trace__box a")
    reached = set()
    for _ in range(boxes.count() + 5):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.getAttribute('href')"))
    assert {boxes.nth(number).get_attribute("href") for number in range(boxes.count())} <= reached
    for target in reached - {None}:
        assert page.locator(target).count() == 1
    assert not faults
    page.context.close()


def test_charts_are_drawn_from_their_tables_under_the_real_policy(
    browser: playwright.Browser, place: Hospital, faults: list[str]
) -> None:
    page = open_page(browser, place, "dr.reyes", 1280, faults)
    page.goto("/patients/ines")
    page.locator(".lc-chart").first.scroll_into_view_if_needed()
    page.wait_for_selector(".lc-chart canvas")
    assert not faults
    page.context.close()


def test_a_driver_leads_into_the_folded_table(browser: playwright.Browser, place: Hospital, faults: list[str]) -> None:
    page = open_page(browser, place, "dr.reyes", 1280, faults)
    page.goto("/patients/ines")
    link = page.locator(".lc-drivers a").first
    target = page.locator(link.get_attribute("href"))
    assert not target.is_visible()
    link.click()
    target.wait_for(state="visible")
    page.context.close()


@pytest.mark.parametrize("scripted", [True, False])
def test_a_risk_is_dismissed_with_and_without_javascript(
    browser: playwright.Browser, place: Hospital, faults: list[str], scripted: bool
) -> None:
    page = open_page(browser, place, "dr.reyes", 1280, faults, java_script_enabled=scripted)
    page.goto("/patients/ines")
    risk = page.locator(".lc-risk").first
    risk.locator(".lc-dismiss summary").click()
    risk.locator("select").select_option("not-now" if scripted else "unlikely")
    risk.locator("button[value=dismissed]").click()
    words = "Not what matters at the moment" if scripted else "Does not fit this person"
    page.locator(".lc-decided", has_text=words).first.wait_for()
    page.context.close()
