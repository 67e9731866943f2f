"""What the page shows of a chart: names, ages, allergies, series and their flags; each table with its odd rows."""

from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifechart.serve import chart_view
from lifechart.serve.chart_view import Axis, Item
from lifechart.serve.pages import certainty, day, number, one_in, percent
from lifechart.serve.records import chart_of
from tests.serve.toy_ehr import ACTIVE, LOINC, SNOMED, coded, ines, observation, patient, simple


def chart(*extra: dict):
    return chart_of([patient("p", "Doe", "Jo", "1950-06-15"), *extra], "p")


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ([{"family": "Doe", "given": ["Jo", "Ann"]}], "DOE, Jo Ann"),
        ([{"use": "old", "family": "Roe"}, {"use": "official", "family": "Doe", "given": ["Jo"]}], "DOE, Jo"),
        ([{"family": "Nick"}, {"use": "official", "family": "Doe"}], "DOE"),
        ([{"text": "Jo Doe"}], "Jo Doe"),
        ([{"use": "maiden", "family": "Roe"}], "Name not recorded"),
        ([], "Name not recorded"),
    ],
)
def test_name(names: list[dict], shown: str) -> None:
    assert chart_view.name_of({"name": names}) == shown


@pytest.mark.parametrize(
    ("born", "on", "shown"),
    [
        ("1950-06-15", date(2020, 6, 14), "69 years"),
        ("1950-06-15", date(2020, 6, 15), "70 years"),
        ("2019-01-31", date(2020, 2, 1), "12 months"),
        ("2020-01-20", date(2020, 2, 1), "12 days"),
        ("1950", date(2020, 1, 1), "70 years"),
        (None, date(2020, 1, 1), "not recorded"),
    ],
)
def test_age(born: str | None, on: date, shown: str) -> None:
    assert chart_view.person({"id": "p", "birthDate": born}, on).age == shown


def allergy(identity: str, code: str, name: str, **more: object) -> dict:
    return simple("AllergyIntolerance", identity, "p", coded(SNOMED, code, name), "2000-01-01", **{**ACTIVE, **more})


REFUTED = {"verificationStatus": {"coding": [{"code": "refuted"}]}}
RESOLVED = {"clinicalStatus": {"coding": [{"code": "resolved"}]}}
NUTS, NONE = ("1", "Nuts"), ("716186003", "No known allergy")


@pytest.mark.parametrize(
    ("resources", "listed", "status"),
    [
        ([], (), "not recorded"),
        ([allergy("a", *NONE)], (), "none known"),
        ([allergy("a", *NUTS)], ("Nuts",), "listed"),
        ([allergy("a", *NONE), allergy("b", *NUTS)], ("Nuts",), "listed"),
        ([allergy("a", *NUTS), allergy("b", *NUTS)], ("Nuts",), "listed"),
        ([allergy("a", *NUTS, criticality="high")], ("Nuts (high risk)",), "listed"),
        ([allergy("a", *NUTS, **REFUTED)], (), "not recorded"),
        ([allergy("a", *NUTS, **RESOLVED)], (), "not recorded"),
        ([allergy("a", *NONE, **REFUTED)], (), "not recorded"),
    ],
)
def test_allergies(resources: list[dict], listed: tuple[str, ...], status: str) -> None:
    found = chart_view.allergies(chart(*resources))
    assert (found.listed, found.status) == (listed, status)


def test_series_keep_units_apart_and_take_the_newest_range() -> None:
    series = chart_view.measurements(
        chart(
            observation("a", "p", "2345-7", "Glucose", 90, "mg/dL", "2020-01-01", norm=(70, 99)),
            observation("b", "p", "2345-7", "Glucose", 5.0, "mmol/L", "2021-01-01"),
            observation("c", "p", "2345-7", "Glucose", 105, "mg/dL", "2022-01-01", norm=(70, 100)),
        )
    )
    assert [(each.unit, len(each.points), each.high) for each in series] == [("mg/dL", 2, 100), ("mmol/L", 1, None)]
    assert series[0].flag(105) == "high"
    assert series[0].flag(60) == "low"
    assert series[0].flag(100) == ""
    assert series[1].flag(50) == ""


def test_withdrawn_entries_are_not_shown() -> None:
    wrong = observation("a", "p", "2345-7", "Glucose", 900, "mg/dL", "2020-01-01")
    wrong["status"] = "entered-in-error"
    assert not chart_view.measurements(chart(wrong))


def test_two_numbers_of_one_reading_share_one_place() -> None:
    anchors = [
        point.anchor
        for series in chart_view.measurements(chart_of(ines(), "ines"))
        for point in series.points
        if point.anchor
    ]
    assert len(anchors) == len(set(anchors))


def test_active_problems_stand_first() -> None:
    assert [item.name for item in chart_view.conditions(chart_of(ines(), "ines"))] == [
        "COPD",
        "Hypertension",
        "Pneumonia",
    ]


START = datetime(2000, 1, 1)


@given(st.integers(1, 40_000), st.integers(-50_000, 50_000))
def test_the_axis_keeps_everything_on_the_page(days: int, at: int) -> None:
    axis = Axis(START, START + timedelta(days=days))
    place = axis.at(START + timedelta(days=at))
    assert 0 <= place <= 100
    assert axis.width(START, None) <= 100
    assert all(0 <= position <= 100 for _, position in axis.years)
    assert len(axis.years) <= 9


def test_an_axis_of_nothing_is_a_year() -> None:
    assert chart_view.axis([Item("a", "x", None)], START).start == START - timedelta(days=365)


@pytest.mark.parametrize(
    ("probability", "shown", "frequency"),
    [
        (0.0, "0.0%", "fewer than 1 in 1,000"),
        (0.0004, "<0.1%", "fewer than 1 in 1,000"),
        (0.0034, "0.3%", "1 in 294"),
        (0.0996, "10%", "1 in 10"),
        (0.33, "33%", "1 in 3"),
        (0.5, "50%", "5 in 10"),
        (1.0, "100%", "10 in 10"),
    ],
)
def test_probabilities_in_figures_and_words(probability: float, shown: str, frequency: str) -> None:
    assert percent(probability) == shown
    assert one_in(probability) == frequency


@given(st.floats(0.001, 0.999), st.floats(0.0, 1.0))
def test_a_wider_interval_is_never_called_surer(low: float, share: float) -> None:
    order = ["fairly certain", "moderately certain", "rough: the interval is wide"]
    narrow = certainty(low, low + (0.999 - low) * share / 2)
    wide = certainty(low, low + (0.999 - low) * share)
    assert order.index(narrow) <= order.index(wide)


def test_other_words() -> None:
    assert day(None) == "not recorded"
    assert number(None) == "–"
    assert number(4.1000000001) == "4.1"
    assert chart_view.text_of(None) == "Not named"
    assert chart_view.text_of({"coding": [{"code": "7", "system": LOINC}]}) == "7"
