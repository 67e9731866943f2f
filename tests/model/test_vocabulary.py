"""What can be read: codes held by enough people, the rest through their ancestors."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lifechart.core.errors import InputError
from lifechart.model.vocabulary import UNKNOWN, Vocabulary, build_vocabulary
from tests.model.clinic import SCHEMA, SICK, STROKE, TEST


def rows(*each: tuple) -> pl.DataFrame:
    return pl.DataFrame(list(each), schema=SCHEMA, orient="row").with_columns(pl.col("time").cast(pl.Datetime("us")))


def condition(subject: int, code: str) -> tuple:
    return (subject, 0, code, None, None, None, "condition")


def test_outcomes_are_death_then_conditions_that_enough_people_have(vocabulary: Vocabulary) -> None:
    assert vocabulary.outcomes == ("MEDS_DEATH", SICK, STROKE)
    assert "RECORD_END" not in vocabulary.codes
    assert "MEDS_BIRTH" not in vocabulary.codes


def test_ends_of_conditions_and_family_history_are_not_outcomes() -> None:
    codes = [*(("ABATED//SNOMED//1", "FAMILY//SNOMED//1", "SNOMED//1"))]
    frame = rows(*(condition(subject, code) for subject in range(30) for code in codes))
    assert build_vocabulary(frame).outcomes == ("SNOMED//1",)


def test_rare_codes_back_off_to_the_nearest_parent_that_enough_people_have() -> None:
    common = [condition(subject, "ICD10CM//E11.9") for subject in range(20)]
    rare = [condition(20 + number, f"ICD10CM//E11.6{number}") for number in range(6)]
    odd = [condition(90, "SNOMED//77"), condition(91, "XYZ")]
    vocabulary = build_vocabulary(rows(*common, *rare, *odd))
    assert vocabulary.codes[vocabulary.row("ICD10CM//E11.9")] == "ICD10CM//E11.9"
    assert vocabulary.codes[vocabulary.row("ICD10CM//E11.61")] == "ICD10CM//E11"
    assert vocabulary.row("SNOMED//77") == UNKNOWN
    assert vocabulary.row("XYZ") == UNKNOWN
    parents = vocabulary.parents[vocabulary.row("ICD10CM//E11.9")]
    assert [vocabulary.codes[row] for row in parents if row >= 0] == [
        "ICD10CM//E11",
        "ICD10CM//E08-E13",
        "ICD10CM//E00-E89",
        "ICD10CM//*",
    ]


def test_categorical_text_becomes_part_of_the_code_and_backs_off_to_it() -> None:
    smokers = [(s, 0, "LOINC//72166-2", None, "Never smoker", None, "survey") for s in range(12)]
    others = [(s, 0, "LOINC//72166-2", None, f"words {s}", None, "survey") for s in range(50, 60)]
    vocabulary = build_vocabulary(rows(*smokers, *others))
    assert vocabulary.codes[vocabulary.row("LOINC//72166-2=Never smoker")] == "LOINC//72166-2=Never smoker"
    assert vocabulary.codes[vocabulary.row("LOINC//72166-2=words 50")] == "LOINC//72166-2"


def test_knots_rise_and_only_values_in_the_commonest_unit_count(events: pl.DataFrame) -> None:
    other = events.filter(pl.col("code") == TEST).head(50).with_columns(numeric_value=pl.lit(1e6), unit=pl.lit("g"))
    vocabulary = build_vocabulary(pl.concat([events, other.cast(events.schema)]))
    knots = vocabulary.knots[vocabulary.row(TEST)]
    assert (np.diff(knots) > 0).all()
    assert knots[-1] < 200
    assert vocabulary.units[vocabulary.row(TEST)] == "mg/dL"


def test_save_and_load_give_the_same_vocabulary(vocabulary: Vocabulary, tmp_path: Path) -> None:
    vocabulary.save(tmp_path / "v.json")
    again = Vocabulary.load(tmp_path / "v.json")
    assert (again.codes, again.units, again.outcomes) == (vocabulary.codes, vocabulary.units, vocabulary.outcomes)
    np.testing.assert_array_equal(again.knots, vocabulary.knots)
    np.testing.assert_array_equal(again.parents, vocabulary.parents)


def test_a_file_that_is_no_vocabulary_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text("[]")
    with pytest.raises(InputError, match="vocabulary"):
        Vocabulary.load(tmp_path / "v.json")
