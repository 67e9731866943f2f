"""Code systems and parents: round trips, and climbing always ends."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifechart.codes import embedded, forms, parents, systems


def test_every_short_name_has_one_uri() -> None:
    assert len(systems.URIS) == len(systems.SYSTEMS)


@given(st.sampled_from(sorted(systems.SYSTEMS)), st.text(min_size=1, max_size=12))
def test_join_and_split_are_inverse(uri: str, code: str) -> None:
    name = systems.SYSTEMS[uri]
    assert systems.split(systems.join(uri, code)) == (name, forms.normal(name, code))
    assert forms.normal(name, forms.normal(name, code)) == forms.normal(name, code)


def test_a_local_system_does_not_show_its_address() -> None:
    assert systems.join("http://st-mary.example/labs", "HB") == "OTHER//HB"


@pytest.mark.parametrize(
    ("code", "chain"),
    [
        ("ICD10CM//E11.65", ["ICD10CM//E11.6", "ICD10CM//E11", "ICD10CM//E08-E13", "ICD10CM//E00-E89", "ICD10CM//*"]),
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


@pytest.mark.parametrize("module", [parents, systems, forms])
def test_examples_in_docstrings_hold(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


def test_the_upper_levels_of_icd_10_cm_are_those_of_the_package() -> None:
    # Renew: python -m lifechart.codes.embedded
    assert {code: (above, name) for code, above, name in embedded.rows()} == embedded.upper()


def test_names_come_from_the_packages() -> None:
    assert parents.name("ICD10CM//E11") == "Type 2 diabetes mellitus"
    assert parents.name("HPO//HP:0001250") == "Seizure"
    assert parents.name("ICD10CM//E11.99999") is None
    assert parents.name("CPT//99213") is None


@pytest.mark.parametrize(
    ("code", "wider"),
    [
        ("ABATED//ICD10CM//E11.65", "ABATED//ICD10CM//E11.6"),
        ("ALLERGY//SNOMED//1", "ALLERGY//SNOMED//*"),
        ("ALLERGY//SNOMED//*", "ALLERGY//*"),
        ("ICD9CM//250.01", "ICD9CM//250.0"),
        ("ICD9CM//E812", "ICD9CM//*"),
        ("LOINC//72166-2//SNOMED//266919005", "LOINC//72166-2"),
        ("ICD10CM//B20", "ICD10CM//A00-B99"),
        ("ICD10CM//T36.0X1A", "ICD10CM//T36.0X1"),
        ("OTHER//HB", "OTHER//*"),
    ],
)
def test_parent(code: str, wider: str) -> None:
    assert parents.parent(code) == wider


def test_a_term_with_two_parents_has_both_and_climbs_to_one() -> None:
    both = parents.parents("HPO//HP:0001263")
    assert len(both) >= 1
    assert parents.parent("HPO//HP:0001263") == both[0]
    wider = parents.all_ancestors("HPO//HP:0001263")
    assert set(parents.ancestors("HPO//HP:0001263")) <= set(wider)
    assert wider[-1] == "HPO//*"


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("urn:oid:2.16.840.1.113883.6.96", "SNOMED"),
        ("2.16.840.1.113883.6.96", "SNOMED"),
        ("http://snomed.info/sct/731000124108", "SNOMED"),
        ("http://snomed.info/sct-of-dr-smith", "OTHER"),
        ("ICD-10-CM", "ICD10CM"),
        ("icd9proc", "ICD9CM"),
        ("CPT4", "CPT"),
        ("", "OTHER"),
    ],
)
def test_whatever_a_system_is_called(called: str, name: str) -> None:
    assert systems.named(called) == name


@pytest.mark.parametrize(
    ("system", "written", "normal"),
    [
        ("ICD10CM", "e1165", "E11.65"),
        ("ICD10CM", "E11", "E11"),
        ("ICD10CM", "O9A.111", "O9A.111"),
        ("ICD10CM", "not a code", "not a code"),
        ("ICD9CM", "25001", "250.01"),
        ("ICD9CM", "v5861", "V58.61"),
        ("ICD9CM", "4513", "4513"),  # 451.3 or the procedure 45.13
        ("NDC", "50090-3568-0", "50090356800"),
        ("NDC", "5009035680", "5009035680"),
        ("HPO", "hp_0001250", "HP:0001250"),
        ("SNOMED", "44054006", "44054006"),
        ("ATC", "a10ba02", "A10BA02"),
    ],
)
def test_notation(system: str, written: str, normal: str) -> None:
    assert forms.normal(system, written) == normal


@pytest.mark.parametrize(
    ("code", "problems"),
    [
        ("LOINC//2345-7", ()),
        ("LOINC//2345-6", (forms.CHECK_DIGIT,)),
        ("LOINC//LA33-6", ()),
        ("LOINC//glucose", (forms.NOT_A_CODE,)),
        ("SNOMED//73211009", ()),
        ("SNOMED//73211008", (forms.CHECK_DIGIT,)),
        ("NDC//5009035680", (forms.AMBIGUOUS,)),
        ("ICD10CM//E08-E13", ()),
        ("ICD10CM//E1165", (forms.NOT_A_CODE,)),
        ("CPT//99213", ()),
        ("CPT//9921", (forms.NOT_A_CODE,)),
        ("LOINC//*", ()),
        ("OTHER//what ever", ()),
        ("LOINC//72166-2//SNOMED//1", ()),
    ],
)
def test_what_speaks_against_a_code(code: str, problems: tuple[str, ...]) -> None:
    assert forms.problems(code) == problems


@given(st.integers(min_value=10_000, max_value=10**15), st.integers(0, 9), st.integers(0, 14))
def test_verhoeff_finds_every_wrong_digit(number: int, digit: int, place: int) -> None:
    sound = next(f"{number}{check}" for check in range(10) if forms.verhoeff(f"{number}{check}"))
    place %= len(sound)
    changed = sound[:place] + str(digit) + sound[place + 1 :]
    assert forms.verhoeff(changed) == (changed == sound)


def test_unsound_codes_are_counted_by_system_and_problem() -> None:
    assert forms.unsound(["LOINC//2345-6", "LOINC//2345-7", "SNOMED//x"]) == {
        "LOINC: check digit": 1,
        "SNOMED: not of the system's form": 1,
    }
