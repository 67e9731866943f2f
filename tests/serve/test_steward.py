"""The steward's pages: how each capability stands, the switch and the phase, releases and their gate, the ledger."""

import re

import pytest

from lifechart.cli.tracing import digest_of_path
from lifechart.core.capability import Phase, Role
from lifechart.ledger.statement import Statement, Subject
from lifechart.ledger.trace import trace
from lifechart.serve.access import add_account
from tests.serve.house import PASSWORD, Hospital


@pytest.fixture
def office(place: Hospital) -> Hospital:
    place.sign_in("sam.steward")
    return place


def form(office: Hospital, path: str, **fields: str):
    token = re.search(r'name="form_token" value="([^"]+)"', office.client.get("/steward").text)[1]
    return office.client.post(path, data={"form_token": token, **fields})


def test_the_switch_takes_effect_at_once_and_is_in_the_ledger(office: Hospital) -> None:
    page = form(office, "/steward/risk/switch", switch="off", reason="calibration drifted").text
    assert "Switched off" in page
    assert "calibration drifted" in page
    statement = office.statements("switch")[-1]
    assert (statement.predicate["actor"], statement.predicate["what"]) == ("sam.steward", "off")
    office.sign_in("dr.reyes")
    assert "This has been switched off: calibration drifted" in office.client.get("/patients/ines").text


def test_a_change_wants_a_reason(office: Hospital) -> None:
    assert form(office, "/steward/risk/switch", switch="off", reason=" ").status_code == 400
    assert form(office, "/steward/risk/phase", phase="clinicians", reason="").status_code == 400
    assert form(office, "/steward/risk/phase", phase="everyone", reason="why not").status_code == 400
    assert form(office, "/steward/weather/switch", switch="off", reason="x").status_code == 400
    assert office.house.shelf.phase("risk") is Phase.SIMULATION


def test_the_phase_moves(office: Hospital) -> None:
    form(office, "/steward/risk/phase", phase="shadow", reason="silent comparison")
    assert office.house.shelf.phase("risk") is Phase.SHADOW


def test_a_release_shows_its_gate_files_and_report(office: Hospital) -> None:
    page = office.client.get("/steward/risk/releases/1").text
    for words in ("Tells who from who not", "12 of 12", "weights.bin", "Heart failure", "✓ within 1 year"):
        assert words in page
    report = office.client.get("/steward/risk/releases/1/report")
    assert report.status_code == 200
    assert "sandbox" in report.headers["content-security-policy"]
    assert office.client.get("/steward/risk/releases/2").status_code == 400
    assert office.client.get("/steward/risk/releases/..%2F1").status_code in (400, 404)


def test_a_changed_byte_is_named(office: Hospital) -> None:
    (office.settings.shelf / "risk" / "1" / "model" / "weights.bin").write_bytes(b"tox")
    page = office.client.get("/steward").text
    assert "Does not verify" in page
    assert "weights.bin" in page
    assert office.client.get("/steward/risk/releases/1").status_code == 503


def test_the_ledger_verifies_and_damage_is_told(office: Hospital) -> None:
    assert "The ledger is sound" in form(office, "/steward/verify").text
    tiles = (office.settings.ledger / "tile" / "entries").rglob("*.p/*")
    entries = max(tiles, key=lambda path: int(path.name))
    content = bytearray(entries.read_bytes())
    content[200] ^= 1
    entries.write_bytes(content)
    assert "The ledger is damaged" in form(office, "/steward/verify").text


def test_a_reference_leads_to_a_page_that_leads_on(office: Hospital) -> None:
    office.sign_in("dr.reyes")
    chart = office.client.get("/patients/ines").text
    reference = re.search(r'eference <span class="lc-mono">([0-9a-f-]{14})<', chart)[1]
    office.sign_in("sam.steward")
    page = office.client.get("/steward/trace", params={"thing": reference})
    assert page.url.path == f"/steward/trace/{reference}"
    for words in ("what risk said about", "release, entry", "train, entry", "Rests on"):
        assert words in page.text, words
    links = set(re.findall(r'href="(/steward/trace/[0-9a-f]{64})"', page.text))
    assert len(links) > 4
    for link in links:
        assert office.client.get(link).status_code == 200, link
    model = office.client.get(f"/steward/trace/{office.forecaster.digest}").text
    assert "Capabilities that rest on it" in model
    assert "1 answers" in model
    assert office.client.get("/steward/trace", params={"thing": ""}).url.path == "/steward"
    assert office.client.get("/steward/trace/gossip").status_code == 400
    assert office.client.get("/steward/trace/..%2f..%2fetc").status_code in (400, 404)


def test_the_command_knows_a_release_and_a_report_by_their_paths(office: Hospital) -> None:
    state = office.house.shelf.state("risk")
    assert state.version is not None
    release = office.settings.shelf / "risk" / state.version
    assert digest_of_path(release) == state.manifest
    (evaluated,) = office.statements("evaluate")
    assert digest_of_path(release / "report/report.json") == evaluated.subjects[0].digest
    assert digest_of_path(release / "report") == evaluated.subjects[0].digest
    weights = trace(office.house.ledger, digest_of_path(release / "model/weights.bin"))
    assert {use.capability for use in weights.uses} == {"risk"}


def test_a_release_that_rests_on_somebody_who_withdrew_is_shown(office: Hospital) -> None:
    assert "Nobody who withdrew" in office.client.get("/steward").text
    said = {"what": "withdrawn", "purposes": ["training"], "held_by": ["cd" * 32], "register": "hmac:0"}
    office.house.ledger.append(Statement("withdrawal", (Subject("patient", "ef" * 32),), said))
    page = office.client.get("/steward").text
    assert "Somebody who withdrew is still in these data sets" in page
    row = page[page.index("Withdrawn consent") :]
    assert "cdcdcdcdcdcd" in row
    assert "&lt;11" in row
    assert re.search(r"risk, version 1 <strong[^>]*>Current", row)
    office.house.ledger.append(Statement("withdrawal", (Subject("patient", "ef" * 32),), {**said, "what": "consented"}))
    assert "Nobody who withdrew" in office.client.get("/steward").text


def test_an_auditor_reads_and_changes_nothing(place: Hospital) -> None:
    add_account(place.house.store, "ann.auditor", PASSWORD, [Role.AUDITOR])
    place.sign_in("ann.auditor")
    page = place.client.get("/steward").text
    assert "Switch off now" not in page
    assert form(place, "/steward/risk/switch", switch="off", reason="x").status_code == 403
    assert form(place, "/steward/verify").status_code == 200


def test_documents_are_listed_with_what_cannot_be_written(office: Hospital) -> None:
    assert 'href="/steward/risk/documents"' in office.client.get("/steward").text
    page = office.client.get("/steward/risk/documents").text
    assert "Model card" in page
    assert "no change plan is registered" in page
    card = office.client.get("/steward/risk/documents/model_card")
    assert "Riverbend Hospital" in card.text
    assert "sandbox" in card.headers["content-security-policy"]
    assert office.client.get("/steward/risk/documents/change_plan").status_code == 400
    assert office.client.get("/steward/risk/documents/brochure").status_code == 400
    office.sign_in("dr.reyes")
    assert office.client.get("/steward/risk/documents").status_code == 403
