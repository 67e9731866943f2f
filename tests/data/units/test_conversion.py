"""Conversions: known pairs, what is refused, round trips, and the worked-out table against its slow twin."""

from __future__ import annotations

import csv
import doctest
from datetime import date
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifechart.codes import forms
from lifechart.data.units import conversion, factors, marks, spellings
from lifechart.data.units.conversion import SAME, between

KNOWN = [
    # value, unit, analyte, per, value, unit: as printed by laboratories' own conversion tables
    (5.5, "mmol/L", "glucose", "", 99.1, "mg/dL"),
    (126, "mg/dL", "glucose", "", 6.99, "mmol/L"),
    (88.4, "umol/L", "creatinine", "", 1.0, "mg/dL"),
    (5.17, "mmol/L", "cholesterol", "", 200, "mg/dL"),
    (1.7, "mmol/L", "triglyceride", "", 150.5, "mg/dL"),
    (17.1, "umol/L", "bilirubin", "", 1.0, "mg/dL"),
    (5.0, "mmol/L", "urea_nitrogen", "", 14.0, "mg/dL"),
    (2.5, "mmol/L", "calcium", "", 10.02, "mg/dL"),
    (5.0, "meq/L", "calcium", "", 2.5, "mmol/L"),
    (4.2, "meq/L", "potassium", "", 4.2, "mmol/L"),
    (8.7, "mmol/L", "hemoglobin", "", 14.0, "g/dL"),
    (140, "g/L", "hemoglobin", "", 14.0, "g/dL"),
    (48, "mmol/mol", "hba1c", "", 6.54, "%"),
    (6.5, "%", "hba1c", "", 47.5, "mmol/mol"),
    (357, "umol/L", "urate", "", 6.0, "mg/dL"),
    (3.0, "mg/mmol", "", "creatinine", 26.5, "mg/g"),
    (75, "nmol/L", "calcidiol", "", 30.05, "ng/mL"),
    (1.0, "ukat/L", "enzyme", "", 60.0, "U/L"),
    (40, "[IU]/L", "enzyme", "", 40.0, "U/L"),
    (98.6, "[degF]", "", "", 37.0, "Cel"),
    (310.15, "K", "", "", 37.0, "Cel"),
    (150, "[lb_av]", "", "", 68.04, "kg"),
    (70, "[in_i]", "", "", 177.8, "cm"),
    (16, "kPa", "", "", 120.0, "mm[Hg]"),
    (250, "10*9/L", "", "", 250.0, "10*3/uL"),
    (7000, "/uL", "", "", 7.0, "10*3/uL"),
    (0.45, "L/L", "", "", 45.0, "%"),
    (2.0, "u[IU]/mL", "", "", 2.0, "m[IU]/L"),
]


@pytest.mark.parametrize(("value", "written", "analyte", "per", "expected", "wanted"), KNOWN)
def test_known_conversions(value: float, written: str, analyte: str, per: str, expected: float, wanted: str) -> None:
    found = between(written, wanted, analyte, per)
    assert found is not None
    assert found(value) == pytest.approx(expected, rel=4e-3)


@pytest.mark.parametrize(
    ("written", "wanted", "analyte"),
    [
        ("mmol/L", "mg/dL", ""),  # of what?
        ("mmol/mol", "%", ""),  # both pure numbers, but moles and grams
        ("%", "{INR}", ""),  # a prothrombin time in per cent is no INR
        ("meq/L", "mmol/L", ""),  # of what charge?
        ("meq/L", "mmol/L", "phosphorus"),  # whose charge depends on the pH
        ("meq/L", "mmol/L", "glucose"),  # which has none
        ("ng/mL{DDU}", "ng/mL{FEU}", ""),
        ("m[IU]/L", "U/L", ""),  # an international unit is an enzyme's only for enzymes
        ("mosm/L", "mmol/L", "sodium"),
        ("/[HPF]", "%", ""),
        ("{score}", "%", ""),
        ("mg", "mg/dL", "glucose"),
        ("B[mW]", "mW", ""),  # a logarithm
        ("kg", "cm", ""),
        ("furlongs per fortnight", "m/s", ""),
        ("", "mg/dL", "glucose"),
        ("mg/dL; rm -rf", "mg/dL", "glucose"),
    ],
)
def test_what_is_not_sound_is_refused(written: str, wanted: str, analyte: str) -> None:
    assert between(written, wanted, analyte) is None


def test_the_worked_out_table_is_what_the_grammar_says() -> None:
    # Renew: python -m lifechart.data.units.factors
    content = resources.files("lifechart.data.units").joinpath("factors.csv").read_text()
    stated = [tuple(row.values()) for row in csv.DictReader(content.splitlines())]
    assert stated == [tuple(map(str, row)) for row in factors.rows()]


PAIRS = [(row["from"], row["to"], row["analyte"], row["per"]) for row in spellings.rows("factors.csv")]


@given(st.sampled_from(PAIRS), st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_conversions_keep_order_and_come_back(pair: tuple[str, str, str, str], a: float, b: float) -> None:
    written, wanted, analyte, per = pair
    forth, back = between(*pair), conversion.worked_out(wanted, written, analyte, per)
    assert forth is not None
    assert back is not None
    assert back(forth(a)) == pytest.approx(a, rel=1e-9, abs=1e-6)
    if b - a > 1e-6 * max(1.0, abs(a), abs(b)):
        assert forth(a) < forth(b)


@given(st.sampled_from(sorted(spellings.known())), st.text(max_size=12))
def test_anything_may_be_written_as_a_unit(wanted: str, written: str) -> None:
    between(written, wanted, "glucose")
    spellings.candidates(written)


def test_every_unit_of_the_tables_is_ucum() -> None:
    # pint has no pH; it is only ever the same as itself.
    assert [unit for unit in spellings.known() if conversion._parsed(unit) is None] == ["[pH]"]


@pytest.mark.parametrize("table", ["canonical_units.csv", "analytes.csv", "equations.csv", "spellings.csv"])
def test_tables_are_cited_and_not_overdue(table: str) -> None:
    rows = spellings.rows(table)
    assert rows
    assert all(row["source"] and date.fromisoformat(row["review_by"]) for row in rows)


def test_canonical_units_are_sound() -> None:
    rows = spellings.rows("canonical_units.csv")
    assert len({row["loinc"] for row in rows}) == len(rows)
    assert [row["loinc"] for row in rows if forms.problems(f"LOINC//{row['loinc']}")] == []
    for row in rows:
        assert float(row["low"]) < float(row["high"])
        known = conversion.analytes().keys() | conversion.equations().keys() | {""}
        assert {row["analyte"], row["per"]} <= known, row["loinc"]
        if ", molar" in row["name"]:
            assert "mol" in row["unit"], row["loinc"]


def test_the_same_unit_is_the_same() -> None:
    assert between("mg/dL", "mg/dL") == SAME
    assert between("anything", "anything") == SAME


@pytest.mark.parametrize("module", [conversion, spellings, marks])
def test_examples_in_docstrings_hold(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]
