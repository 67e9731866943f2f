"""The tables say what the standard says, don't contradict each other, and have a source."""

from __future__ import annotations

import tomllib
from importlib import resources

from pydicom.datadict import dictionary_VR

from lifechart.data.deidentify.dicom import tables


def test_table_e_1_1_is_whole() -> None:
    rows = tables.rows("annex_e.csv")
    assert len(rows) == 656
    assert {row["tag"] for row in rows} >= {"50xx,xxxx", "60xx,3000", "60xx,4000", "gggg,eeee odd"}
    assert all(row["basic"].strip("*") and set(row["basic"]) <= set("XZDU/*K") for row in rows)


def test_no_attribute_of_the_standards_table_is_on_the_keep_list() -> None:
    assert not tables.annex_e().keys() & tables.keep_list().keys()
    assert not {tag for tag in tables.keep_list() if tag >> 16 & 1}


def test_no_name_address_or_free_text_is_on_the_keep_list() -> None:
    vrs = {vr for kept in tables.keep_list().values() for vr in kept.vrs}
    assert not vrs & {"PN", "AE", "AS", "DA", "TM", "DT", "UT", "LT", "ST", "UC", "UR", "UN", "OB"}


def test_value_types_are_the_dictionarys() -> None:
    for tag, kept in tables.keep_list().items():
        assert dictionary_VR(tag) == " or ".join(kept.vrs)


def test_every_table_has_a_source_and_a_date_of_review() -> None:
    folder = resources.files("lifechart.data.deidentify.dicom")
    sources = tomllib.loads(folder.joinpath("sources.toml").read_text(encoding="utf-8"))
    files = {entry.name.split(".")[0] for entry in folder.iterdir() if entry.name.endswith((".csv", ".txt"))}
    assert files == set(sources)
    assert all(entry["source"] and entry["review_by"] for entry in sources.values())


def test_dates_that_many_patients_share_do_not_move() -> None:
    for row in tables.rows("shared_dates.csv"):
        assert not tables.annex_e()[int(row["tag"].replace(",", ""), 16)].shifts
