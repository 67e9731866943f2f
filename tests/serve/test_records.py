"""Reading the EHR: the whole chart or none of it, from the configured server alone, with no name in any error."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifechart.core.settings import Settings
from lifechart.serve.records import Chart, ChartUnreadable, Ehr, NoSuchPatient, chart_of, entries_of, same_server
from tests.serve.toy_ehr import BASE, ToyEhr, ines, patient, tom


def with_ehr(toy: ToyEhr, use: Callable[[Ehr], Awaitable[object]], **settings: object) -> object:
    async def run() -> object:
        ehr = Ehr(Settings(fhir_url=BASE, **settings), toy)
        try:
            return await use(ehr)
        finally:
            await ehr.close()

    return asyncio.run(run())


def read(toy: ToyEhr, patient_id: str = "ines", token: str = "", **settings: object) -> Chart:
    return with_ehr(toy, lambda ehr: ehr.chart(patient_id, token), **settings)


def keys(chart: Chart) -> set[str]:
    return {f"{each['resourceType']}/{each['id']}" for each in chart.resources}


@pytest.mark.parametrize("everything", [True, False])
@pytest.mark.parametrize("page", [7, 1000])
def test_the_whole_chart_by_either_way_and_any_page_size(everything: bool, page: int) -> None:
    chart = read(ToyEhr(everything, page))
    assert keys(chart) == {f"{each['resourceType']}/{each['id']}" for each in ines()}
    assert chart.resources[0]["resourceType"] == "Patient"
    assert len(chart.timeline) > 80
    assert set(chart.timeline.events["reference"].drop_nulls()) <= keys(chart)


FAILURES = [
    httpx.Response(500),
    httpx.Response(401),
    httpx.Response(302, headers={"location": "http://elsewhere.test/"}),
    httpx.Response(200, content=b"<html>"),
    httpx.Response(200, content=b"[]"),
    httpx.ReadTimeout("slow"),
    httpx.ConnectError("down"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: str(failure)[:30])
def test_one_part_that_fails_fails_the_chart(failure: httpx.Response | Exception) -> None:
    toy = ToyEhr(everything=False)
    toy.broken["Observation"] = failure
    with pytest.raises(ChartUnreadable) as error:
        read(toy)
    assert "ines" not in str(error.value)
    assert error.value.__cause__ is None or "ines" not in str(error.value.__cause__)


def test_an_error_within_a_bundle_fails_the_chart_and_a_warning_does_not() -> None:
    for severity, fails in (("error", True), ("warning", False)):
        toy = ToyEhr()
        outcome = {"resourceType": "OperationOutcome", "id": "o", "issue": [{"severity": severity}]}
        toy.patients["ines"].append(outcome)
        if fails:
            with pytest.raises(ChartUnreadable):
                read(toy)
        else:
            assert "OperationOutcome/o" not in keys(read(toy))


def test_another_patients_resource_fails_the_chart() -> None:
    toy = ToyEhr()
    toy.patients["ines"].append(tom()[-1])
    with pytest.raises(ChartUnreadable, match="another patient") as error:
        read(toy)
    assert "tom" not in str(error.value)


@pytest.mark.parametrize("unknown", ["nobody", "../metadata", "a/b", "x" * 65, "", "ines?x=1", ".."])
def test_an_unknown_or_impossible_id_is_no_patient(unknown: str) -> None:
    toy = ToyEhr()
    with pytest.raises(NoSuchPatient):
        read(toy, unknown)
    assert all("metadata" in str(each.url) or "nobody" in str(each.url) for each in toy.requests)


def test_a_next_page_elsewhere_is_not_followed() -> None:
    toy = ToyEhr(page=10)
    toy.next_base = "http://169.254.169.254/fhir"
    with pytest.raises(ChartUnreadable, match="another server"):
        read(toy)


def test_the_token_goes_to_the_ehr_and_a_lent_one_stands_in_for_it() -> None:
    toy = ToyEhr()
    read(toy, fhir_token="ours")
    assert {each.headers["authorization"] for each in toy.requests} == {"Bearer ours"}
    toy = ToyEhr()
    read(toy, token="lent", fhir_token="ours")
    assert {each.headers["authorization"] for each in toy.requests} == {"Bearer lent"}


def test_search_by_name_and_by_record_number() -> None:
    def search(text: str) -> list[str]:
        return [each["id"] for each in with_ehr(ToyEhr(), lambda ehr: ehr.search_patients(text))]

    assert search("okafor") == ["tom"]
    assert search("MRN-INES-4471") == ["ines"]
    assert search("no one & nothing=1") == []


@pytest.mark.parametrize(
    ("url", "same"),
    [
        (BASE, True),
        (BASE + "/", True),
        (BASE + "/Patient?x=1", True),
        (BASE + "?page=2", True),
        (BASE + "evil/Patient", False),
        ("https://ehr.test/fhir", False),
        ("http://ehr.test:81/fhir", False),
        ("http://ehr.test.evil.example/fhir", False),
        ("http://ehr.test@evil.example/fhir", False),
        ("http://user@ehr.test/fhir", False),
        ("http://ehr.test/fhir/../admin", False),
        ("http://ehr.test/fhir\\@evil.example", False),
        ("file:///fhir", False),
        ("http://[::1/fhir", False),
        ("", False),
    ],
)
def test_same_server(url: str, same: bool) -> None:
    assert same_server(url, BASE) is same


@given(st.from_regex(r"https?://[a-z0-9.@:\[\]-]{1,20}/[a-z/.]{0,10}", fullmatch=True))
def test_no_other_host_passes_for_ours(url: str) -> None:
    if same_server(url, BASE):
        assert httpx.URL(url).host == "ehr.test"


def test_a_chart_needs_its_one_patient() -> None:
    with pytest.raises(ChartUnreadable):
        chart_of(ines()[1:], "ines")
    with pytest.raises(ChartUnreadable):
        chart_of([*ines(), patient("extra", "X", "Y", "1950-01-01")], "ines")


def test_a_prefetched_bundle_counts_only_whole() -> None:
    bundle = {"resourceType": "Bundle", "entry": [{"resource": ines()[1]}]}
    assert entries_of(bundle) == [ines()[1]]
    assert entries_of({**bundle, "link": [{"relation": "next", "url": "x"}]}) is None
    assert entries_of({"resourceType": "OperationOutcome"}) is None
    assert entries_of({"resourceType": "Bundle", "total": 0}) == []
