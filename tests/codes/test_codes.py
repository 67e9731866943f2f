"""Code systems and parents: round trips, and climbing always ends."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifechart.codes import parents, systems


def test_every_short_name_has_one_uri() -> None:
    assert len(systems.URIS) == len(systems.SYSTEMS)


@given(st.sampled_from(sorted(systems.SYSTEMS)), st.text(min_size=1, max_size=12))
def test_join_and_split_are_inverse(uri: str, code: str) -> None:
    assert systems.split(systems.join(uri, code)) == (systems.SYSTEMS[uri], code)


def test_a_local_system_does_not_show_its_address() -> None:
    assert systems.join("http://st-mary.example/labs", "HB") == "OTHER//HB"


@pytest.mark.parametrize(
    ("code", "chain"),
    [
        ("ICD10CM//E11.65", ["ICD10CM//E11.6", "ICD10CM//E11", "ICD10CM//*"]),
        ("ATC//A10BA02", ["ATC//A10BA", "ATC//A10B", "ATC//A10", "ATC//A", "ATC//*"]),
        ("SNOMED//44054006", ["SNOMED//*"]),
        ("SNOMED//*", []),
        ("MEDS_BIRTH", []),
    ],
)
def test_ancestors(code: str, chain: list[str]) -> None:
    assert parents.ancestors(code) == chain


@given(st.sampled_from(["ICD10CM", "ATC", "LOINC", "ICD9CM"]), st.text("ABC0123456789.", min_size=1, max_size=10))
def test_climbing_always_ends_at_any(system: str, local: str) -> None:
    chain = parents.ancestors(f"{system}//{local}")
    assert chain[-1] == f"{system}//*"
    assert len(set(chain)) == len(chain)


@pytest.mark.parametrize("module", [parents, systems])
def test_examples_in_docstrings_hold(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]
