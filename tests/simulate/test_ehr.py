"""The simulated EHR: reads, searches, pages and whole charts agree with the export; nothing else gets in or out."""

import asyncio
import importlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from starlette.applications import Starlette

from lifechart.core.errors import InputError, RecordError
from lifechart.simulate.ehr import create_ehr
from lifechart.simulate.ehr_records import Records
from tests.simulate.test_export import TYPES, code_of, lines, of

CLINICAL = [kind for kind in TYPES if kind not in ("Patient", "Practitioner", "Organization", "Location")]


class Client:
    """Calls the application in this process, and runs what it does at start and end."""

    def __init__(self, app: Starlette) -> None:
        self._runner, self._life = asyncio.Runner(), app.router.lifespan_context(app)
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
        self._http = httpx.AsyncClient(transport=transport, base_url="http://ehr.example")

    def __enter__(self) -> "Client":
        self._runner.run(self._life.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._life.__aexit__(None, None, None))
        self._runner.run(self._http.aclose())
        self._runner.close()

    def request(self, method: str, url: str, **arguments: Any) -> httpx.Response:
        return self._runner.run(self._http.request(method, url, **arguments))

    def get(self, url: str, **arguments: Any) -> httpx.Response:
        return self.request("GET", url, **arguments)


@pytest.fixture(scope="module")
def client(hospital: Path) -> Iterator[Client]:
    with Client(create_ehr(hospital / "fhir", chart_url="https://lifechart.example/patients/{patient}")) as client:
        yield client


@pytest.fixture(scope="module")
def patient(hospital: Path) -> str:
    """Return the id of the patient with the most measurements."""
    owners = [of(row) for row in lines(hospital, "Observation")]
    return max(set(owners), key=owners.count)


def pages(client: Client, url: str) -> list[dict]:
    found = []
    while url:
        bundle = client.get(url).json()
        assert bundle["type"] == "searchset"
        found += [entry["resource"] for entry in bundle.get("entry", [])]
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), "")
    assert len(found) == bundle["total"]
    return found


@pytest.mark.parametrize("kind", TYPES)
def test_a_resource_is_read_as_it_was_exported(client: Client, hospital: Path, kind: str) -> None:
    for row in lines(hospital, kind)[::17]:
        answer = client.get(f"/fhir/{kind}/{row['id']}")
        assert answer.headers["content-type"] == "application/fhir+json"
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers
        assert answer.json() == row


@pytest.mark.parametrize("kind", CLINICAL)
def test_a_search_by_patient_finds_all_and_only_theirs(client: Client, hospital: Path, patient: str, kind: str) -> None:
    theirs = [row for row in lines(hospital, kind) if patient in (row.get("subject") or row["patient"])["reference"]]
    assert pages(client, f"/fhir/{kind}?patient={patient}&_count=7") == theirs
    assert pages(client, f"/fhir/{kind}?subject=Patient/{patient}") == theirs


def test_the_whole_chart_is_everything_that_names_the_patient(client: Client, hospital: Path, patient: str) -> None:
    expected = [row for row in lines(hospital, "Patient") if row["id"] == patient]
    for kind in CLINICAL:
        expected += [
            row for row in lines(hospital, kind) if patient in (row.get("subject") or row["patient"])["reference"]
        ]
    found = pages(client, f"/fhir/Patient/{patient}/$everything?_count=100")
    assert found[0]["resourceType"] == "Patient"
    order = lambda row: (row["resourceType"], row["id"])  # noqa: E731
    assert sorted(found, key=order) == sorted(expected, key=order)
    some = pages(client, f"/fhir/Patient/{patient}/$everything?_type=Condition,Encounter")
    assert {row["resourceType"] for row in some} == {"Condition", "Encounter"}


def test_filters_narrow(client: Client, hospital: Path, patient: str) -> None:
    mine = [row for row in lines(hospital, "Observation") if of(row) == patient]
    labs = pages(client, f"/fhir/Observation?patient={patient}&category=laboratory")
    assert labs == [row for row in mine if code_of(row["category"][0]) == "laboratory"]
    assert 0 < len(labs) < len(mine)
    code = code_of(labs[0]["code"])
    same = [row for row in mine if code_of(row["code"]) == code]
    assert pages(client, f"/fhir/Observation?patient={patient}&code=http://loinc.org|{code}") == same
    assert pages(client, f"/fhir/Observation?patient={patient}&code={code}") == same
    assert pages(client, f"/fhir/Observation?patient={patient}&code=http://snomed.info/sct|{code}") == []
    two = {code, code_of(mine[-1]["code"])}
    either = [row for row in mine if code_of(row["code"]) in two]
    assert pages(client, f"/fhir/Observation?patient={patient}&code={','.join(two)}") == either
    visit = labs[0]["encounter"]["reference"]
    inside = [row for row in mine if row["encounter"]["reference"] == visit]
    assert pages(client, f"/fhir/Observation?patient={patient}&encounter={visit}") == inside
    assert pages(client, f"/fhir/Observation?_id={mine[0]['id']},{mine[1]['id']}&patient={patient}") == mine[:2]
    assert pages(client, f"/fhir/Encounter?patient={patient}&class=IMP&status=in-progress") == []
    drug = next(row for row in lines(hospital, "MedicationRequest") if of(row) == patient)
    found = pages(
        client, f"/fhir/MedicationRequest?patient={patient}&code={code_of(drug['medicationCodeableConcept'])}"
    )
    assert drug in found


def test_patients_are_found_by_name_and_number(client: Client, hospital: Path) -> None:
    for row in lines(hospital, "Patient")[:20]:
        name = row["name"][0]
        for query in (
            f"name={name['family'].upper()} {name['given'][0][:3]}",
            f"family={name['family'].lower()}&given={name['given'][0]}",
            f"identifier={row['identifier'][0]['value']}",
            f"identifier={row['identifier'][0]['system']}|{row['identifier'][0]['value']}",
            f"_id={row['id']}",
            f"birthdate={row['birthDate']}&gender={row['gender']}",
        ):
            assert row in pages(client, f"/fhir/Patient?{query}"), query
    assert len(pages(client, "/fhir/Patient?_count=13")) == 60
    assert pages(client, "/fhir/Patient?name=Nobodysuch") == []


def test_accents_and_case_do_not_matter(tmp_path: Path) -> None:
    row = {"resourceType": "Patient", "id": "p1", "name": [{"family": "Núñez", "given": ["María José"]}]}
    (tmp_path / "Patient.ndjson").write_bytes(orjson.dumps(row) + b"\n")
    with Client(create_ehr(tmp_path)) as client:
        for text in ("nunez", "NÚÑ", "jose", "maria nunez"):
            assert pages(client, f"/fhir/Patient?name={text}") == [row]
        assert pages(client, "/fhir/Patient?name=unez") == []


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("Patient/none", 404, "not-found"),
        ("Patient/none/$everything", 404, "not-found"),
        ("Claim", 404, "not-found"),
        ("Observation", 400, "required"),
        ("Observation?code=4548-4", 400, "required"),
        ("Observation?patient=p&colour=red", 400, "not-supported"),
        ("Patient?_count=many", 400, "value"),
        ("Patient?_offset=-1", 400, "value"),
    ],
)
def test_refusals_are_operation_outcomes(client: Client, path: str, status: int, code: str) -> None:
    answer = client.get(f"/fhir/{path}")
    assert answer.status_code == status
    outcome = answer.json()
    assert outcome["issue"][0]["code"] == code
    importlib.import_module("fhir.resources.R4B.operationoutcome").OperationOutcome.model_validate(outcome)


def test_nothing_can_be_written(client: Client) -> None:
    for method in ("post", "put", "delete", "patch"):
        answer = client.request(method, "/fhir/Patient/p1")
        assert answer.status_code == 405
        assert answer.json()["resourceType"] == "OperationOutcome"


def test_an_unknown_patient_gives_an_empty_bundle(client: Client) -> None:
    assert client.get("/fhir/Condition?patient=nobody").json()["total"] == 0
    only_total = client.get("/fhir/Patient?_count=0").json()
    assert only_total["total"] == 60
    assert "entry" not in only_total


def test_bundles_and_capabilities_are_valid_fhir(client: Client, patient: str) -> None:
    models = "fhir.resources.R4B"
    statement = client.get("/fhir/metadata").json()
    importlib.import_module(f"{models}.capabilitystatement").CapabilityStatement.model_validate(statement)
    declared = {row["type"]: row for row in statement["rest"][0]["resource"]}
    assert set(declared) == set(TYPES)
    assert declared["Patient"]["operation"][0]["name"] == "everything"
    bundle = client.get(f"/fhir/Patient/{patient}/$everything?_count=40").json()
    importlib.import_module(f"{models}.bundle").Bundle.model_validate(bundle)
    assert all(entry["fullUrl"].endswith(entry["resource"]["id"]) for entry in bundle["entry"])


def test_every_declared_parameter_is_answered(client: Client, patient: str) -> None:
    for row in client.get("/fhir/metadata").json()["rest"][0]["resource"]:
        for parameter in row["searchParam"]:
            query = f"{parameter['name']}=x" if row["type"] in (*TYPES[-3:], "Patient") else f"patient={patient}"
            assert client.get(f"/fhir/{row['type']}?{query}&{parameter['name']}=x").status_code == 200


def test_a_token_is_wanted_where_one_is_set(hospital: Path) -> None:
    with Client(create_ehr(hospital / "fhir", token="secret")) as client:
        for path in ("/", "/fhir/Patient", "/fhir/Patient/x"):
            refused = client.get(path)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
            assert client.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert client.get("/fhir/metadata").status_code == 200
        assert client.get("/fhir/Patient", headers={"Authorization": "Bearer secret"}).status_code == 200


def test_the_page_lists_patients_with_a_link_to_each(client: Client, hospital: Path) -> None:
    page = client.get("/")
    assert "script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    rows = lines(hospital, "Patient")
    first = sorted(rows, key=lambda row: f"{row['name'][0]['family'].upper()}, {' '.join(row['name'][0]['given'])}")
    assert page.text.count("<tr>") == 51
    assert all(f"https://lifechart.example/patients/{row['id']}" in page.text for row in first[:50])
    assert f"/patients/{first[59]['id']}" in client.get("/?page=2").text
    one = client.get("/", params={"search": rows[0]["identifier"][0]["value"]}).text
    assert rows[0]["id"] in one
    assert "1 patient, page 1 of 1." in one
    assert "<b>" not in client.get("/", params={"search": '"><b>'}).text
    assert "No patient matches" in client.get("/", params={"search": "Nobodysuch"}).text


def test_a_bad_folder_or_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Patient\.ndjson"):
        Records(tmp_path)
    (tmp_path / "Patient.ndjson").write_bytes(b'{"resourceType":"Patient","id":"p1"}\n{"resour')
    with pytest.raises(RecordError, match=r"Patient\.ndjson, line 2"):
        Records(tmp_path)


def test_a_reader_copes_with_scattered_and_loosely_written_lines(tmp_path: Path) -> None:
    (tmp_path / "Patient.ndjson").write_bytes(b'{ "resourceType": "Patient", "id": "b" }\n{"id":"a"}\n')
    rows = [{"resourceType": "Condition", "x": "y" * 3_000_000 * (n == 1), "id": f"c{n}"} for n in range(4)]
    for number, row in enumerate(rows):
        row["subject"] = {"reference": f"Patient/{'ab'[number % 2]}"}
    (tmp_path / "Condition.ndjson").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    records = Records(tmp_path)
    assert [orjson.loads(line)["id"] for line in records.of_patient("Condition", "a")] == ["c0", "c2"]
    assert [orjson.loads(line)["id"] for line in records.of_patient("Condition", "b")] == ["c1", "c3"]
    assert records.read("Condition", "c") is None
    assert records.read("Condition", "c9") is None
    records.close()
    with Client(create_ehr(tmp_path)) as client:
        assert client.get("/fhir/Condition?patient=b").json()["entry"][0]["fullUrl"].endswith("/Condition/c1")


def test_a_whole_chart_comes_quickly(client: Client, patient: str) -> None:
    url = f"/fhir/Patient/{patient}/$everything?_count=1000"
    client.get(url)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        client.get(url)
        seconds.append(time.perf_counter() - start)
    # 20 ms is the aim; a test machine that is busy with other things gets more.
    assert min(seconds) < 0.1
