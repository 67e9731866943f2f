"""Deaths, outcomes, tumours, notes, and several sources as one: what each record becomes, and whose death counts."""

from __future__ import annotations

import gzip
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
import yaml

from lifechart.core.errors import InputError
from lifechart.core.timeline import BIRTH, DEATH
from lifechart.data import ingest as module
from lifechart.data.sources import (
    Batch,
    Source,
    fhir,
    linked,
    meds,
    naaccr,
    notes,
    omop,
    pathology,
    registry,
    tables,
    tumours,
    vcf,
)
from lifechart.data.sources.naaccr import moment
from tests.data.samples import patient, resource, take, write

PLUGS = {plug.name: plug for plug in (fhir.source, registry.source, notes.source, pathology.source, naaccr.source)}


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[str, Source] = {**PLUGS, "linked": linked.source}
    monkeypatch.setattr(module, "find_source", lambda path, name=None: known[name])
    monkeypatch.setattr(linked, "sources", lambda: known)


def one(source: Source, path: Path, option: str = "") -> Batch:
    (unit,) = source.units(path, option)
    (batch,) = source.read(unit)
    return batch


def events(batch: Batch) -> list[tuple[str, str]]:
    return batch.rows.select("patient", "code").rows()


def fates(batch: Batch) -> dict[str, int]:
    found: dict[str, int] = {}
    for (_, outcome), n in batch.counts.items():
        if n and outcome != "quarantined":
            found[outcome] = found.get(outcome, 0) + n
    reasons: dict[str, int] = {}
    for fault in batch.faults:
        reasons[fault.reason] = reasons.get(fault.reason, 0) + 1
    assert sum(n for (_, outcome), n in batch.counts.items() if outcome == "quarantined") == len(batch.faults)
    return found | reasons


def test_deaths_and_their_causes(tmp_path: Path) -> None:
    (tmp_path / "deaths.csv").write_text(
        "patient_id,date_of_death,underlying_cause,cause_1,name\n"
        "p1,2018-03-04,I219,E11.9,Quill\n"
        "p2,20180305,,,Quill\n"
        "p3,,,,Quill\n"
        ",2018-03-04,I219,,Quill\n"
        "p4,last week,,,Quill\n"
        "p5,2018-03-04,Mr Quill fell,,Quill\n"
        "p6,2018\n"
    )
    assert registry.source.detects(tmp_path)
    batch = one(registry.source, tmp_path)
    assert fates(batch) == {"kept": 3, "not mapped": 1, "no patient": 1, "date not valid": 1, "malformed": 1}
    assert events(batch) == [
        *((who, DEATH) for who in ("p1", "p2", "p5")),
        ("p1", "DEATH_CAUSE//ICD10//I21.9"),
        ("p1", "DEATH_CONTRIBUTOR//ICD10//E11.9"),
    ]
    assert set(batch.rows["kind"]) == {"death"}
    assert "Quill" not in str(batch)


def test_outcomes_under_a_hospitals_own_names(tmp_path: Path) -> None:
    rows = [
        {"PATNR": "p1", "event": "I21.9", "system": "ICD10", "date": "2018-03-04"},
        {"PATNR": "p1", "event": "graft-loss", "system": "Quill Hospital", "date": "2018-03-04", "value": 3},
        {"PATNR": "p1", "event": None, "date": "2018-03-04"},
        {"PATNR": "p1", "event": "x", "date": None},
        {"PATNR": "p1", "event": "x", "date": "2018-03-04", "value": "many"},
    ]
    (tmp_path / "outcomes.ndjson").write_bytes(b"\n".join(map(orjson.dumps, rows)) + b"\n\n[1]\n{")
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"columns": {"patient": "PATNR", "code": "event"}}))
    batch = one(registry.source, tmp_path, str(tmp_path / "own.yaml"))
    assert events(batch) == [("p1", "ICD10//I21.9"), ("p1", "OTHER//graft-loss")]
    wrong = {"no code": 1, "no date": 1, "value is not a number": 1, "malformed": 1, "not JSON": 1}
    assert fates(batch) == {"kept": 2} | wrong
    (tmp_path / "own.yaml").write_text("columns: {patiemt: x}")
    with pytest.raises(InputError, match="patiemt"):
        registry.source.units(tmp_path, str(tmp_path / "own.yaml"))


def test_a_register_is_believed_before_the_hospital(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write(
        folder / "fhir" / "all.ndjson",
        patient("p1", deceasedDateTime="2018-03-09"),
        patient("p2", deceasedDateTime="2017-01-02"),
        patient("p3"),
        *(resource("Condition", f"c{n}", f"p{n}") for n in (1, 2, 3)),
    )
    (folder / "deaths.csv").write_text(
        "patient,date,cause\nR1,2018-03-04,I21.9\nR3,2019-01-01,C50\nR9,2019-01-01,C50\nR7,2019-01-01,C50\n"
    )
    (folder / "link.csv").write_text("register,hospital\nR1,p1\nR3,p3\nR9,p9\n")
    ids = {"file": "link.csv", "from": "register", "to": "hospital"}
    parts = [{"source": "fhir", "path": "fhir"}, {"source": "registry", "path": "deaths.csv", "ids": ids}]
    (folder / "sources.yaml").write_text(yaml.safe_dump({"sources": parts}))
    assert linked.source.detects(folder)
    account, found = take(folder, tmp_path / "out", source="linked", as_of=datetime(2030, 1, 1), dates="shift")
    assert account.resources["death registry"] == {"kept": 2, "quarantined": 2}
    assert account.quarantined == {"death registry: patient absent": 2}
    assert account.resources["Patient"] == {"kept": 3}
    assert account.dropped["duplicate"] == 1
    born = found.filter(pl.col("code") == BIRTH).select("subject_id", born="time")
    died = found.filter(pl.col("code") == DEATH).join(born, on="subject_id")
    # Every birth is on 1 May 1960: ages tell whose death it is, whatever the shift.
    ages = died.select((pl.col("time") - pl.col("born")).dt.total_days()).to_series().sort().to_list()
    expected = [datetime(2017, 1, 2), datetime(2018, 3, 4), datetime(2019, 1, 1)]
    assert ages == [(day - datetime(1960, 5, 1)).days for day in expected]
    assert found.filter(pl.col("code") == "DEATH_CAUSE//ICD10//I21.9").height == 1


LINKS: list[tuple[Any, str]] = [
    (None, "sources"),
    ({"sources": []}, "sources"),
    ({"sources": [{"source": "fhir"}]}, "sources"),
    ({"sources": [{"source": "quill", "path": "."}]}, "source"),
    ({"sources": [{"source": "linked", "path": "."}]}, "source"),
    ({"sources": [{"source": "fhir", "path": "nowhere"}]}, "path"),
    ({"sources": [{"source": "fhir", "path": ".", "ids": {"file": "x"}}]}, "ids"),
    ({"sources": [{"source": "fhir", "path": ".", "ids": {"file": "x", "from": "a", "to": "b"}}]}, "ids"),
]


@pytest.mark.parametrize(("content", "key"), LINKS)
def test_a_wrong_list_of_sources_is_refused_by_key(tmp_path: Path, content: Any, key: str) -> None:
    (tmp_path / "sources.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=key):
        linked.source.units(tmp_path)


def test_notes_from_cells_and_files(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("Mrs Quill\nfell.")
    (tmp_path.parent / "outside.txt").write_text("secret")
    (tmp_path / "notes.csv").write_text(
        "patient_id,charttime,note_type,text,file,id\n"
        'p1,2018-03-04 10:00:00,11506-3,"A cough,\nfor a week",,n1\n'
        "p1,2018-03-05,Discharge,,texts/a.txt,n2\n"
        "p1,2018-03-06,Letter to Mrs Quill,short,,n3\n"
        "p1,2018-03-06,,,../outside.txt,n4\n"
        "p1,2018-03-06,,,/etc/passwd,n5\n"
        ",2018-03-06,,x,,n6\n"
        "p1,,,x,,n7\n"
        "p1,soon,,x,,n8\n"
    )
    assert notes.source.detects(tmp_path)
    batch = one(notes.source, tmp_path)
    assert fates(batch) == {"kept": 3, "no text": 2, "no patient": 1, "no date": 1, "date not valid": 1}
    assert batch.rows["code"].to_list() == ["LOINC//11506-3", "OTHER//Discharge", "OTHER//*"]
    assert batch.rows["text_value"].to_list() == ["A cough,\nfor a week", "Mrs Quill\nfell.", "short"]
    assert batch.rows["resource"].to_list() == ["n1", "n2", "n3"]
    assert tmp_path / "texts" / "a.txt" in notes.source.files(tmp_path)


def test_a_synoptic_report(tmp_path: Path) -> None:
    (tmp_path / "pathology.csv").write_text(
        "patient,report_date,id,topography,morphology,grade,pT,pN,pM,stage,ER,PR,HER2,Ki-67,laterality,tumour_size_mm,text\n"
        "p1,2018-03-04,r1,C50.4,8500/3,G2,pT1c,pN1a,,IIA,pos,Negative,1+ Quill,22 %,Left,18,Mrs Quill\n"
        "p1,2018-03-05,r2,breast,ductal,high grade Quill,T9,,,,,,,many,,,\n"
        ",2018-03-05,r3,C50.4,,,,,,,,,,,,,\n"
    )
    assert pathology.source.detects(tmp_path)
    batch = one(pathology.source, tmp_path)
    assert fates(batch) == {"kept": 1, "nothing that is read": 1, "no patient": 1}
    assert batch.rows["code"].to_list() == [
        *("ICDO3//C50.4", "ICDO3//8500/3", "LOINC//33732-9//AJCC//G2", "LOINC//21899-0//AJCC//T1c"),
        *("LOINC//21900-6//AJCC//N1a", "LOINC//21902-2//AJCC//IIA", "LOINC//20228-3//SIDE//left"),
        *("LOINC//16112-5", "LOINC//16113-3", "LOINC//29593-1", "LOINC//21889-1", "LOINC//60568-3"),
    ]
    assert batch.rows["text_value"].drop_nulls().to_list()[:2] == ["positive", "negative"]
    assert batch.rows.filter(pl.col("kind") != "note").filter(pl.col("text_value") == "1+ Quill").is_empty()
    assert batch.rows["numeric_value"].drop_nulls().to_list() == [22.0, 18.0]


XML = """<?xml version="1.0"?>
<NaaccrData xmlns="http://naaccr.org/naaccrxml" recordType="I">
  <Patient>
    <Item naaccrId="patientIdNumber">p1</Item><Item naaccrId="nameLast">Quill</Item>
    <Item naaccrId="dateOfBirth">19500201</Item><Item naaccrNum="220">2</Item>
    <Item naaccrId="vitalStatus">0</Item><Item naaccrId="dateOfLastContact">20200304</Item>
    <Item naaccrId="causeOfDeath">C509</Item><Item naaccrId="icdRevisionNumber">1</Item>
    <Tumor><Item naaccrId="dateOfDiagnosis">201806</Item><Item naaccrId="primarySite">C504</Item>
      <Item naaccrId="histologicTypeIcdO3">8500</Item><Item naaccrId="behaviorCodeIcdO3">3</Item>
      <Item naaccrId="ajccTnmPathT">pT1c</Item><Item naaccrId="gradePathological">2</Item>
      <Item naaccrId="laterality">2</Item><Item naaccrId="estrogenReceptorSummary">1</Item>
      <Item naaccrId="regionalNodesPositive">98</Item><Item naaccrId="regionalNodesExamined">12</Item></Tumor>
    <Tumor><Item naaccrId="dateOfDiagnosis">999999</Item><Item naaccrId="primarySite">C504</Item></Tumor>
  </Patient>
  <Patient><Item naaccrId="nameLast">Quill</Item><Tumor><Item naaccrId="primarySite">C504</Item></Tumor></Patient>
</NaaccrData>
"""
TUMOUR_CODES = [
    *("ICDO3//C50.4", "ICDO3//8500/3", "LOINC//33732-9//AJCC//G2", "LOINC//21899-0//AJCC//T1c"),
    *("LOINC//20228-3//SIDE//left", "LOINC//16112-5", "LOINC//21894-1"),
]


@pytest.mark.parametrize("packed", [False, True])
def test_a_registrys_document(tmp_path: Path, packed: bool) -> None:
    content = XML.encode()
    (tmp_path / ("a.xml.gz" if packed else "a.xml")).write_bytes(gzip.compress(content) if packed else content)
    assert naaccr.source.detects(tmp_path)
    batch = one(naaccr.source, tmp_path)
    assert fates(batch) == {"kept": 2, "date not valid": 1, "no patient": 2}
    codes = batch.rows["code"].to_list()
    assert codes == [BIRTH, "GENDER//female", DEATH, "DEATH_CAUSE//ICD10//C50.9", *TUMOUR_CODES]
    assert batch.rows.filter(pl.col("code") == "ICDO3//C50.4")["time"].to_list() == [datetime(2018, 6, 30, 23, 59, 59)]
    assert "Quill" not in str(batch)


def test_a_registrys_table(tmp_path: Path) -> None:
    (tmp_path / "abstracts.csv").write_text(
        "20,240,220,390,400,522,523,1011,3844,410,3827,830\n"
        "p1,19500201,2,20180604,C504,8500,3,pT1c,2,2,1,12\n,,,20180604,C504,,,,,,,\np2,,1,20180604,,,,,,,,\n"
    )
    batch = one(naaccr.source, tmp_path)
    assert fates(batch) == {"kept": 1, "no patient": 1, "nothing that is read": 1}
    assert batch.rows["code"].to_list() == [BIRTH, "GENDER//female", *TUMOUR_CODES]


def test_xml_with_entities_of_its_own_is_refused(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "Quill"><!ENTITY b SYSTEM "file:///etc/passwd">]>'
    (tmp_path / "a.xml").write_text(bomb + XML.split("\n", 1)[1].replace(">p1<", ">&b;<"))
    batch = one(naaccr.source, tmp_path)
    assert fates(batch) == {"file cannot be read further": 1}
    (tmp_path / "a.xml").write_text(XML[: len(XML) // 2])
    assert fates(one(naaccr.source, tmp_path)) == {"file cannot be read further": 1}


def test_partial_dates() -> None:
    assert moment("2016", start=True) == datetime(2016, 1, 1)
    assert moment("201602") == datetime(2016, 2, 29, 23, 59, 59)
    assert moment("20160230") is None
    assert moment("99999999") is None
    assert all(field.kind and (field.code or field.system) for field in tumours.fields().values())


def test_each_folder_is_taken_for_what_it_is(tmp_path: Path) -> None:
    cdm = tmp_path / "cdm"
    cdm.mkdir()
    (cdm / "person.csv").write_text("person_id,gender_concept_id,year_of_birth\n1,8532,1960\n")
    (cdm / "death.csv").write_text("person_id,death_date,cause_concept_id\n")
    (cdm / "note.csv").write_text("person_id,note_date,note_text\n")
    (tmp_path / "notes.csv").write_text("patient,time,text\n")
    (tmp_path / "deaths.csv").write_text("patient,date\n")
    plugs = {**PLUGS, "omop": omop.source, "meds": meds.source, "vcf": vcf.source, "tables": tables.source}
    assert [name for name, plug in plugs.items() if plug.detects(cdm)] == ["omop"]
    assert [name for name, plug in plugs.items() if plug.detects(tmp_path / "notes.csv")] == ["notes"]
    assert [name for name, plug in plugs.items() if plug.detects(tmp_path / "deaths.csv")] == ["registry"]
