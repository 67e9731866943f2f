"""Whatever leaves the house holds no count of 1 to 10 people and none that gives one away: walked over, place by place.

The places are the rows of the table in docs/guides/privacy.md; one that stands only here, or only there, fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest

from lifechart.core.suppression import SMALLEST, shown, small
from lifechart.data import cohort, shards
from lifechart.data.account import Account
from lifechart.data.deidentify.dicom import folder as images
from lifechart.data.deidentify.risk import assess, page
from lifechart.data.sources import AFTER_END, HELD_BACK, KEPT, QUARANTINED, WITHHELD
from lifechart.evaluate import findings
from lifechart.evaluate.metrics import Sample
from lifechart.evaluate.question import MIN_PEOPLE
from lifechart.serve import pages
from tests.data.deidentify.risk.test_assess import people_events

GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "privacy.md"


def an_account() -> Account:
    """Small cells of every sort: few withheld by consent, few quarantined, few of a type."""
    return Account(
        resources={
            "Patient": {KEPT: 493, WITHHELD: 7},
            "Condition": {KEPT: 2000, AFTER_END: 40, QUARANTINED: 23, WITHHELD: 71},
            "Procedure": {KEPT: 9, QUARANTINED: 4},
            "DocumentReference": {HELD_BACK: 1000},
        },
        quarantined={"Condition: no date": 20, "Condition: date not valid": 3, "Procedure: no date": 4},
        dropped={"repeated": 3, "after the end": 51},
        values={"implausible": 2},
        events=2509,
        subjects=493,
    )


def the_ledgers_account(folder: Path) -> None:
    said = an_account().public()
    numbers = [cell for row in said["resources"].values() for cell in row.values()]
    numbers += [*said["quarantined"].values(), *said["dropped"].values(), *said["values"].values()]
    assert numbers
    assert not [number for number in numbers if number is not None and small(number)]
    # What is known of one type's faults does not give back the hidden reason.
    known = said["resources"]["Condition"][QUARANTINED]
    reasons = [said["quarantined"][f"Condition: {reason}"] for reason in ("no date", "date not valid")]
    assert known is None or reasons == [None, None]
    assert WITHHELD not in orjson.dumps(said).decode()
    assert an_account().to_json()["resources"]["Patient"][WITHHELD] == 7, "the exact account stays with the data set"


def the_table_of_ingest(folder: Path) -> None:
    header, *rows = an_account().table()
    assert WITHHELD not in header
    assert not [cell for row in rows for cell in row[1:] if cell != "–" and small(int(cell))]


def sample(people_with: int, people_without: int) -> Sample:
    people = people_with + people_without
    labels = np.arange(people) < people_with
    return Sample(labels, np.full(people, 0.1), np.arange(people))


def the_report(folder: Path) -> None:
    assert MIN_PEOPLE == SMALLEST
    told = findings._told(
        {
            "sex=female": sample(40, 100),
            "sex=male": sample(60, 100),
            "sex=other": sample(7, 100),
            "age=18-39": sample(50, 90),
            "age=40-64": sample(57, 210),
        }
    )
    # `other` is too small, and everybody less males would give it back had females been told.
    assert told == {"sex=male", "age=18-39", "age=40-64"}


def the_cohort_table(folder: Path) -> None:
    people = pl.DataFrame(
        {
            "sex": ["female"] * 300 + ["male"] * 193 + ["other"] * 7,
            "race": ["a"] * 250 + ["b"] * 250,
            "ethnicity": [None] * 500,
            "age": [50.0] * 450 + [85.0] * 50,
            "years": [5.0] * 500,
            "num_events": [40] * 500,
            "died": [True] * 30 + [False] * 463 + [True] * 7,
        },
        schema_overrides={"ethnicity": pl.String},
    )
    for row in cohort.table(people)[1:]:
        subjects, _, died = row[1:4]
        for cell in (subjects, died):
            assert cell == "–" or not small(int(cell.replace(",", ""))), row
    by_name = {row[0]: row for row in cohort.table(people)}
    assert by_name["sex: other"][1] == "–"
    assert "–" in (by_name["sex: female"][1], by_name["sex: male"][1])


def the_images_statement(folder: Path) -> None:
    totals = {
        "files": 500,
        "outcomes": {"written": 470, "held back": 23, "withheld by consent": 7},
        "reasons": {"report": 20, "lettering": 3, "withheld by consent": 7},
        "patients": 9,
        "series": 40,
        "attributes": {"removed": 4000, "replaced": 2},
    }
    said = images.public(totals)
    numbers = [*said["outcomes"].values(), *said["reasons"].values(), *said["attributes"].values(), said["patients"]]
    assert not [number for number in numbers if number is not None and small(number)]
    assert list(said["outcomes"].values()).count(None) > 1
    assert said["reasons"] == dict.fromkeys(totals["reasons"])


def the_risk_page(folder: Path) -> None:
    dataset = folder / "dataset"
    shards.write_dataset(dataset, people_events(300, 5), {})
    page.write(assess(dataset, population=5000), folder / "risk", "Riverbend")
    content = orjson.loads((folder / "risk" / page.JSON).read_bytes())
    for finding in content["findings"]:
        told = [count for count in finding["bands"].values() if count is not None]
        assert not [count for count in told if small(count)]
        assert not small(finding["records"] - sum(told))
        for one, other in pairwise(finding["remedy"]):
            assert set(one) == set(other) == {"what", "at_risk", "mean"}
    text = (folder / "risk" / page.PAGE).read_text()
    for groups in re.findall(r"People in groups of (.*?)\.</dd>", text):
        assert not [n for n in re.findall(r": ([\d,]+)", groups) if small(int(n.replace(",", "")))]


def the_stewards_page(folder: Path) -> None:
    template = (Path(pages.__file__).parent / "templates" / "steward.html").read_text()
    assert "{{ times | at_least }}" in template
    assert "{{ each.withdrawn | at_least }}" in template
    assert pages._environment.filters["at_least"] is shown
    assert shown(7) == "<11"


PLACES: dict[str, Callable[[Path], None]] = {
    "the account in the ledger's ingest statement": the_ledgers_account,
    "the table that `lifechart ingest` prints": the_table_of_ingest,
    "the totals in the ledger's statement about images": the_images_statement,
    "report.json and report.html, and what is printed and released of them": the_report,
    "cohort tables in documents": the_cohort_table,
    "risk.json and risk.html": the_risk_page,
    "the steward's page": the_stewards_page,
}


@pytest.mark.parametrize("place", PLACES)
def test_no_small_cell_leaves(place: str, tmp_path: Path) -> None:
    PLACES[place](tmp_path)


def test_the_guide_and_the_tests_know_the_same_places() -> None:
    section = GUIDE.read_text().split("## What leaves the house")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+?) \|", section, flags=re.M)
    assert set(rows) - {"place", "---"} == set(PLACES)
