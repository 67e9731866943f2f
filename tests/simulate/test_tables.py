"""The medicine tables: cited, dated, and naming only what exists."""

import re
from datetime import date
from importlib import resources

import numpy as np
import pytest

from lifechart.simulate import tables
from lifechart.simulate.physiology import creatinine_limit, egfr, physiology
from lifechart.simulate.processes import LATENTS, hazards, names, published

CITED = sorted(
    file.name.removesuffix(".csv")
    for file in resources.files("lifechart.simulate.tables").iterdir()
    if file.name.endswith(".csv") and not file.name.startswith("calibration")
)
OURS = [name for name in CITED if "source" in tables.rows(name)[0]]


@pytest.mark.parametrize("name", OURS)
def test_every_row_is_cited_and_dated(name: str) -> None:
    for row in tables.rows(name):
        assert row["source"].strip(), row
        assert date.fromisoformat(row["review_by"]) > date(2026, 1, 1), row


def test_breadth() -> None:
    conditions = tables.rows("conditions")
    assert len(conditions) >= 30
    assert len({row["specialty"] for row in conditions}) >= 10
    assert sum(row["enrichment"] != "1" for row in tables.rows("occult")) == 3


@pytest.mark.parametrize("name", ["conditions", "symptoms", "medications", "procedures", "immunizations", "allergies"])
def test_keys_and_codes_are_unique(name: str) -> None:
    rows = tables.rows(name)
    for column in ("key", "snomed", "rxnorm", "cvx"):
        if column in rows[0]:
            assert len({row[column] for row in rows}) == len(rows)


def test_codes_have_the_form_of_their_system() -> None:
    for table, column, form in (
        ("conditions", "snomed", r"\d{6,18}"),
        ("conditions", "icd10cm", r"[A-Z]\d[0-9A-Z](\.[0-9A-Z]{1,4})?"),
        ("observations", "loinc", r"\d{1,5}-\d"),
        ("medications", "rxnorm", r"\d{4,7}"),
        ("immunizations", "cvx", r"\d{2,3}"),
    ):
        for row in tables.rows(table):
            assert re.fullmatch(form, row[column]), row


def test_loinc_check_digits() -> None:
    for row in tables.rows("observations"):
        number, check = row["loinc"].split("-")
        digits = [int(digit) * (2 if position % 2 == 0 else 1) for position, digit in enumerate(reversed(number))]
        assert (10 - sum(digit // 10 + digit % 10 for digit in digits) % 10) % 10 == int(check), row["loinc"]


def test_snomed_check_digits() -> None:
    # Verhoeff (SNOMED CT Technical Implementation Guide): multiplication and permutation in the dihedral group D5.
    d = [[(i + j) % 5 if i < 5 and j < 5 else 0 for j in range(10)] for i in range(10)]
    for i in range(10):
        for j in range(10):
            if i < 5:
                d[i][j] = (i + j) % 5 if j < 5 else 5 + (i + j) % 5
            else:
                d[i][j] = 5 + (i - j) % 5 if j < 5 else (i - j) % 5
    swap = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]
    for table in ("conditions", "symptoms", "procedures", "allergies"):
        for row in tables.rows(table):
            check = 0
            for position, digit in enumerate(reversed(row["snomed"])):
                value = int(digit)
                for _ in range(position % 8):
                    value = swap[value]
                check = d[check][value]
            assert check == 0, (row["key"], row["snomed"])


def test_every_name_in_a_table_exists() -> None:
    name, body = names(), physiology()
    targets = {*name.processes, *(f"onset:{key}" for key in name.occults)}
    for row in tables.rows("risk_factors"):
        assert row["from"] in name.features, row
        assert row["to"] in targets, row
        assert 0 < float(row["rr"]) < 200
    assert {row["key"] for row in tables.rows("incidence")} <= targets
    for row in tables.rows("loadings"):
        assert row["latent"] in LATENTS
        assert row["target"] in targets | set(body.observations), row
    for row in tables.rows("treatments"):
        assert row["condition"] in name.conditions + name.symptoms, row
        assert row["treatment"] in name.medications + name.procedures, row
    panels = {row["panel"] for row in tables.rows("observations")}
    classes = ("inpatient", "emergency")
    for row in tables.rows("panels"):
        assert row["panel"] in panels, row
        kind, _, key = row["on"].rpartition(":")
        assert key in name.conditions if kind else key in name.processes + classes, row


def test_every_process_has_a_published_rate() -> None:
    columns = [*names().processes, *(f"onset:{key}" for key in names().occults)]
    silent = [key for key, most in zip(columns, published().max((0, 1)), strict=True) if most == 0]
    assert silent == []


def test_filtration_rate_matches_published_examples() -> None:
    # CKD-EPI 2021: a 50-year-old with 1.0 mg/dL has 92 (man) and 69 (woman).
    rates = egfr(np.array([1.0, 1.0]), np.array([50, 50]), np.array([True, False]))
    np.testing.assert_allclose(rates, [92, 69], atol=0.7)


def test_creatinine_limit_is_where_filtration_crosses() -> None:
    limit = creatinine_limit(60.0)[1, 70]
    above, below = np.round(limit + 0.005, 2), np.round(limit - 0.005, 2)
    year, male = np.array(70), np.array(True)
    assert np.round(egfr(np.array(above), year, male)) < 60 <= np.round(egfr(np.array(below), year, male))


def test_a_hidden_disease_is_diagnosed_only_where_it_is() -> None:
    table, name = hazards(), names()
    for index, key in enumerate(name.occults):
        column = np.exp(table.log_multiplier_HK[:, name.processes.index(key)])
        assert column[index + 1] == 1
        assert np.delete(column, index + 1).max() < 1e-12
