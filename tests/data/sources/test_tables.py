"""Tables under a mapping: each row's fate, every form of time, wrong mappings, and a real cohort."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from lifechart.core.errors import InputError
from lifechart.core.timeline import BIRTH, DEATH, RECORD_END
from lifechart.data.sources.tables import load_mapping
from tests.data.samples import take
from tests.shared_data import shared

NAFLD = Path(__file__).parents[3] / "examples" / "nafld" / "lifechart.yaml"


def mapping() -> dict[str, Any]:
    return {
        "name": "small",
        "day_zero": datetime(2010, 1, 1).date(),
        "tables": [
            {
                "file": "people.csv",
                "subject": "id",
                "persons": True,
                "events": [
                    {"kind": "demographic", "code": BIRTH, "time": {"age": "age"}},
                    {
                        "kind": "demographic",
                        "code": {"column": "sex", "values": {"f": "GENDER//female", "m": "GENDER//male"}},
                    },
                ],
            },
            {
                "file": "results.csv",
                "subject": "person",
                "events": [
                    {
                        "kind": "laboratory",
                        "code": "LOINC//1",
                        "where": {"test": ["a", "A"]},
                        "time": {"column": "taken", "format": "%d/%m/%Y"},
                        "value": "result",
                        "unit": "g/L",
                    },
                    {
                        "kind": "laboratory",
                        "code": "LOINC//2",
                        "where": {"test": "b"},
                        "time": {"days": "day"},
                        "text": "result",
                    },
                ],
            },
        ],
        "names": {"LOINC//1": "First"},
    }


def prepare(folder: Path, content: dict[str, Any], results: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "lifechart.yaml").write_text(yaml.safe_dump(content))
    (folder / "people.csv").write_text("id,name,age,sex\n1,Ada Quill,50,f\n2,Bo Quill,40,m\n")
    (folder / "results.csv").write_text(results)
    return folder


def test_rows_become_events_and_each_has_a_fate(tmp_path: Path) -> None:
    results = (
        "person,test,taken,day,result,nurse\n"
        "1,a,15/03/2011,,5.5,Quill\n"
        "1,A,16/03/2011,,6.5,Quill\n"
        "2,b,,400,positive,Quill\n"
        "2,c,,400,1,Quill\n"  # not spoken of
        "1,a,31/02/2011,,5.5,Quill\n"  # no such day
        "1,a,15/03/2011,,high,Quill\n"  # no number
        ",a,15/03/2011,,5,Quill\n"  # nobody
        "9,a,15/03/2011,,5,Quill\n"  # no such person
        "1,a,15/03/2011\n"  # broken row
    )
    account, found = take(prepare(tmp_path / "in", mapping(), results), tmp_path / "out", as_of=datetime(2015, 1, 1))
    assert account.resources == {
        "people.csv": {"kept": 2},
        "results.csv": {"kept": 3, "not mapped": 1, "quarantined": 5},
    }
    assert account.quarantined == {
        "results.csv: no subject, time or value": 3,
        "results.csv: malformed": 1,
        "results.csv: patient absent": 1,
    }
    results_found = found.filter(pl.col("kind") == "laboratory").sort("code", "numeric_value")
    assert results_found["code"].to_list() == ["LOINC//1", "LOINC//1", "LOINC//2"]
    assert results_found["numeric_value"].to_list() == [5.5, 6.5, None]
    assert results_found["text_value"].to_list() == [None, None, "positive"]
    assert "Quill" not in str(found.rows())
    births = found.filter(pl.col("code") == BIRTH)["time"].dt.year().sort().to_list()
    assert births == [1960, 1970]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda m: m.pop("tables"), "tables"),
        (lambda m: m.update(day_zero="soon"), "day_zero"),
        (lambda m: m["tables"][0].pop("subject"), "subject"),
        (lambda m: m["tables"][0]["events"][0].update(kind="thing"), "kind"),
        (lambda m: m["tables"][0]["events"][0].update(when="now"), "when"),
        (lambda m: m["tables"][0]["events"][0].update(time={"age": "age", "days": 0}), "time"),
        (lambda m: m["tables"][0]["events"][0].update(code={"column": "sex"}), "code"),
        (lambda m: m["tables"][0].update(file="nowhere.csv"), "nowhere"),
    ],
)
def test_a_wrong_mapping_is_refused_by_key(tmp_path: Path, change: Any, key: str) -> None:
    content = mapping()
    change(content)
    with pytest.raises(InputError, match=key):
        take(prepare(tmp_path / "in", content, "person,test,taken,day,result\n"), tmp_path / "out")


def test_the_nafld_cohort(tmp_path: Path) -> None:
    folder = shared("data/nafld")
    account, found = take(folder, tmp_path / "out", source="tables", option=str(NAFLD), dates="shift", min_patients=5)
    assert account.subjects == 17_549
    assert account.total == 17_549 + 400_123 + 34_327
    assert account.of("quarantined") == 0
    assert found.filter(pl.col("code") == DEATH).height == 1364
    per_subject = found.group_by("subject_id").agg(
        born=pl.col("time").filter(pl.col("code") == BIRTH).first(),
        ends=pl.col("code").eq(RECORD_END).sum(),
        last=pl.col("time").max(),
        final=pl.col("code").last(),
    )
    assert per_subject["ends"].to_list() == [1] * 17_549
    assert set(per_subject["final"]) == {RECORD_END}
    assert (per_subject["last"] - per_subject["born"]).max() <= timedelta(days=32_873)
    assert {"SNOMED//84114007", "LOINC//2085-9"} <= set(found["code"])
    assert set(load_mapping(NAFLD).names) >= set(found["code"]) - {RECORD_END}


def test_a_time_of_nobody_s_life_is_a_fault(tmp_path: Path) -> None:
    rows = ["id,age,sex", "a,40,f", "b,8507,m", "c,1e300,f", "d,nan,m"]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "people.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "in" / "results.csv").write_text("")
    found = mapping()
    found["tables"] = [{**found["tables"][0], "events": found["tables"][0]["events"][:1]}]
    (tmp_path / "in" / "lifechart.yaml").write_text(yaml.safe_dump(found))
    account, _ = take(tmp_path / "in", tmp_path / "out", as_of=datetime(2010, 6, 1))
    assert account.resources["people.csv"] == {"kept": 1, "quarantined": 3}
    assert account.quarantined == {"people.csv: no subject, time or value": 3}
