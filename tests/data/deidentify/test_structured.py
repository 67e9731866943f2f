"""Ids are keyed, rare codes climb to parents that enough patients hold, texts and numbers pass only if they may."""

from __future__ import annotations

import stat
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifechart.codes import parents
from lifechart.core.errors import SettingError
from lifechart.core.settings import Settings
from lifechart.data.deidentify import structured
from lifechart.data.sources import results
from tests.data.samples import KEY, concept, patient, resource, take, write


def test_subject_ids_are_positive_repeatable_keyed_and_distinct() -> None:
    ids = pl.Series([f"p{n}" for n in range(5000)])
    found = structured.subject_ids(KEY, ids)
    assert found.dtype == pl.Int64
    assert found.min() >= 0
    assert found.n_unique() == 5000
    assert found.equals(structured.subject_ids(KEY, ids))
    assert not found.is_in(structured.subject_ids(b"y" * 32, ids)).any()


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    key = structured.load_key(settings)
    path = settings.keys / "deidentify.key"
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert structured.load_key(settings) == key
    path.write_bytes(b"short")
    with pytest.raises(SettingError, match="32 bytes"):
        structured.load_key(settings)


def test_seventeen_zip_areas_become_000() -> None:
    table = structured.restricted_zips()
    assert len(table) == 17
    codes = pl.DataFrame({"code": ["ZIP3//036", "ZIP3//893", "ZIP3//902", "LOINC//036"]})
    assert codes.select(structured.widen_zips(pl.col("code")))["code"].to_list() == [
        "ZIP3//000",
        "ZIP3//000",
        "ZIP3//902",
        "LOINC//036",
    ]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Positive", "positive"),
        (" NEG ", "negative"),
        ("non-reactive", "nonreactive"),
        ("+++", "3+"),
        ("Smith", None),
        ("positive for Smith", None),
        ("", None),
        (None, None),
    ],
)
def test_result_texts_pass_by_allow_list(text: str | None, written: str | None) -> None:
    frame = pl.DataFrame({"text": [text]}, schema={"text": pl.String})
    assert frame.select(results.listed(pl.col("text")))["text"].to_list() == [written]


def holders(table: dict[str, range]) -> tuple[pl.DataFrame, dict[str, int]]:
    rows = [(code, subject) for code, subjects in table.items() for subject in subjects]
    frame = pl.DataFrame(rows, schema={"code": pl.String, "subject_id": pl.Int64}, orient="row")
    return frame, {code: len(subjects) for code, subjects in table.items()}


def test_rare_codes_climb_to_the_first_parent_that_enough_hold() -> None:
    table = {
        "ICD10CM//E11.9": range(100),
        "ICD10CM//E11.65": range(100, 102),  # with E11.64: five under E11.6
        "ICD10CM//E11.64": range(102, 105),
        "ICD10CM//I50.1": range(200, 203),  # with I50 itself: five
        "ICD10CM//I50": range(203, 205),
        "ICD10CM//Q99": range(300, 301),  # climbs to the last parent, with S: five
        "ICD10CM//S00": range(301, 305),
        "SNOMED//1": range(400, 402),  # nobody to share with
        "MEDS_DEATH": range(500, 501),
    }
    assert structured.back_off(*holders(table), 5) == {
        "ICD10CM//E11.65": "ICD10CM//E11.6",
        "ICD10CM//E11.64": "ICD10CM//E11.6",
        "ICD10CM//I50.1": "ICD10CM//I50",
        "ICD10CM//I50": "ICD10CM//I50",
        "ICD10CM//Q99": "ICD10CM//*",
        "ICD10CM//S00": "ICD10CM//*",
        "SNOMED//1": None,
    }


def test_the_same_patients_do_not_count_twice() -> None:
    table = {"ICD10CM//E11.65": range(3), "ICD10CM//E11.64": range(3), "ICD10CM//E11": range(9)}
    assert structured.back_off(*holders(table), 5) == {
        "ICD10CM//E11.65": "ICD10CM//E11",
        "ICD10CM//E11.64": "ICD10CM//E11",
    }


def test_an_answer_climbs_to_its_question() -> None:
    table = {"LOINC//72166-2//SNOMED//1": range(2), "LOINC//72166-2//SNOMED//2": range(2, 10)}
    assert structured.back_off(*holders(table), 5) == {"LOINC//72166-2//SNOMED//1": None}
    table["LOINC//72166-2"] = range(20, 25)
    assert structured.back_off(*holders(table), 5) == {"LOINC//72166-2//SNOMED//1": "LOINC//72166-2"}


CODES = st.sampled_from(
    [f"ICD10CM//A0{n}.{m}" for n in range(3) for m in ("1", "11", "12", "2")] + ["SNOMED//7", "ATC//A10BA02"]
)


@given(held=st.dictionaries(CODES, st.sets(st.integers(0, 15), min_size=1), min_size=1), k=st.integers(1, 8))
def test_every_code_that_is_written_is_held_by_enough(held: dict[str, set[int]], k: int) -> None:
    rows = [(code, subject) for code, subjects in held.items() for subject in subjects]
    frame = pl.DataFrame(rows, schema={"code": pl.String, "subject_id": pl.Int64}, orient="row")
    becomes = structured.back_off(frame, {code: len(subjects) for code, subjects in held.items()}, k)
    written: dict[str, set[int]] = {}
    for code, subjects in held.items():
        wider = becomes.get(code, code)
        if wider is not None:
            written.setdefault(wider, set()).update(subjects)
            assert wider == code or wider in ancestors(code)
    assert all(len(subjects) >= k for subjects in written.values())


def ancestors(code: str) -> list[str]:
    parent = parents.parent(code)
    return [] if parent is None else [parent, *ancestors(parent)]


def test_identifiers_in_permitted_elements_do_not_get_through(tmp_path: Path) -> None:
    """A record number as a local code, as a number, as a unit, as a display; a surname as a result."""
    lines = []
    for n in range(12):
        lines.append(patient(f"p{n}"))
        lines.append(resource("Observation", f"a{n}", f"p{n}", code=concept(f"MRN{n:07d}", "urn:local")))
        local = concept("LOCALNO", "urn:local", "Number")
        lines.append(resource("Observation", f"b{n}", f"p{n}", code=local, valueQuantity={"value": 123456789 + n}))
        lines.append(resource("Observation", f"c{n}", f"p{n}", valueQuantity={"value": 6, "unit": f"of Pt{n} Quill"}))
        shown = concept("4548-4", "http://loinc.org", f"HbA1c of Pt{n} Quill")
        lines.append(resource("Observation", f"d{n}", f"p{n}", code=shown))
        spoken = resource("Observation", f"e{n}", f"p{n}", valueString=f"Quill {n}")
        del spoken["valueQuantity"]
        lines.append(spoken)
    write(tmp_path / "in" / "all.ndjson", *lines)
    end = datetime(2016, 1, 1)
    account, found = take(tmp_path / "in", tmp_path / "out", dates="shift", min_patients=5, as_of=end)
    assert found.filter(pl.col("code") == "OTHER//*").height == 12
    assert found.filter(pl.col("code") == "OTHER//LOCALNO")["numeric_value"].null_count() == 12
    assert set(found["unit"]) == {None, "%"}
    assert found["text_value"].null_count() == found.height
    content = " ".join(str(row) for row in found.rows())
    described = pl.read_parquet(tmp_path / "out" / "metadata" / "codes.parquet")
    assert "Quill" not in content + str(described.rows())
    assert "MRN0" not in content + str(described.rows())
    assert "12345" not in content
    assert account.dropped["number held back"] == 12
    assert account.dropped["unit held back"] == 12
    assert account.dropped["text held back"] == 12
    assert account.codes_backed_off == 12
