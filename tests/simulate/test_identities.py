"""Identities: one per life, of nobody real, and consistent in themselves."""

from datetime import date, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifechart.simulate.identities import clinicians, hex_ids, identities, table, uniform
from lifechart.simulate.tables import keys

TODAY = date(2026, 1, 1)
ZIP3 = {"AZ": (850, 865), "NM": (870, 884), "NV": (889, 898), "UT": (840, 847), "CA": (900, 961)}


def people(lives: list[int]) -> pl.DataFrame:
    groups = list(table("identity_names")["ancestry"])
    return pl.DataFrame(
        {
            "life": pl.Series(lives, dtype=pl.Int32),
            "sex": [("female", "male")[life % 2] for life in lives],
            "ancestry": [groups[life % len(groups)] for life in lives],
            "birth": [datetime(1935 + life % 85, 1 + life % 12, 1 + life % 28) for life in lives],
        }
    )


@given(st.lists(st.integers(0, 1_000_000), min_size=1, max_size=8, unique=True), st.integers(0, 2**31))
def test_an_identity_follows_from_seed_and_life_alone(lives: list[int], seed: int) -> None:
    together = identities(people(lives), seed, TODAY)
    assert together == [identities(people([life]), seed, TODAY)[0] for life in lives]
    backwards = identities(people(lives[::-1]), seed, TODAY)
    assert together == backwards[::-1]


def test_another_seed_gives_other_people() -> None:
    lives = list(range(200))
    first, second = identities(people(lives), 1, TODAY), identities(people(lives), 2, TODAY)
    assert sum(a["patient_name"] == b["patient_name"] for a, b in zip(named(first), named(second), strict=True)) < 10


def named(found: list[dict]) -> list[dict]:
    return [{"patient_name": (tuple(one["given"]), one["family"])} for one in found]


def test_numbers_are_distinct_and_nobody_elses() -> None:
    found = identities(people(list(range(20_000))), 3, TODAY)
    for number in ("mrn", "ssn", "licence", "url"):
        assert len({one[number] for one in found}) == len(found), number
    for one in found:
        area, group, serial = (int(part) for part in one["ssn"].split("-"))
        assert area == 666 or (900 <= area <= 999 and group < 50), one["ssn"]
        assert group
        assert serial
        assert one["phone"][3:].startswith("-555-01")
        assert one["contact_phone"][3:].startswith("-555-01")
        assert one["email"].isascii()
        assert one["email"].split("@")[0]
        assert one["email"].rsplit(".", 2)[-2].endswith("example")


def test_addresses_agree_with_their_postal_codes() -> None:
    for town in table("identity_places")["towns"]:
        low, high = ZIP3[town["state"]]
        assert all(len(code) == 5 and low <= int(code[:3]) <= high for code in town["zips"]), town["city"]
    towns = {(town["city"], code) for town in table("identity_places")["towns"] for code in town["zips"]}
    found = identities(people(list(range(5_000))), 3, TODAY)
    assert {(one["city"], one["zip"]) for one in found} <= towns
    assert len({one["zip"][:3] for one in found}) >= 12


def test_names_are_as_varied_as_a_waiting_room() -> None:
    found = identities(people(list(range(5_000))), 3, TODAY)
    names = [f"{' '.join(one['given'])} {one['family']}" for one in found]
    assert sum(not name.isascii() for name in names) > 250
    assert sum("'" in name for name in names) > 20
    assert any(one["maiden"] for one in found)
    assert any(one["suffix"] for one in found)
    assert len(set(names)) > 4_000


@pytest.mark.parametrize("ancestry", keys("ancestries"))
def test_every_ancestry_has_names_to_give(ancestry: str) -> None:
    for pool in table("identity_names")["ancestry"][ancestry]:
        names = table("identity_names")["pools"][pool]
        assert all(len(set(names[part])) >= 15 for part in ("female", "male", "family"))


def test_a_childs_contact_is_a_parent() -> None:
    child = people([0]).with_columns(birth=pl.lit(datetime(2020, 1, 1)))
    assert identities(child, 3, TODAY)[0]["relation_word"] in ("mother", "father")


def test_staff_has_every_specialty_and_distinct_numbers() -> None:
    team = clinicians(5)
    assert {clinician.specialty for clinician in team} == {
        "general practice",
        "emergency medicine",
        "hospital medicine",
    }
    assert len({clinician.npi for clinician in team}) == len(team)
    assert all(len(clinician.npi) == 10 and clinician.npi[0] == "9" for clinician in team)


@given(st.integers(0, 2**40), st.integers(0, 2**31))
def test_ids_are_distinct_and_of_sixteen_digits(start: int, seed: int) -> None:
    ids = hex_ids(seed, np.arange(start, start + 100), "event")
    assert len(set(ids)) == 100
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in ids)


def test_draws_are_uniform_and_unrelated() -> None:
    numbers = np.arange(100_000)
    first, second = uniform(1, numbers, "given"), uniform(1, numbers, "family")
    assert abs(first.mean() - 0.5) < 0.005
    assert abs(np.histogram(first, 10, (0, 1))[0] / 10_000 - 1).max() < 0.05
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.015
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.015
