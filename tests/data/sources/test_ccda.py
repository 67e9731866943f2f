"""C-CDA documents: each statement's events and fate, and no crash on what is none."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifechart.core.timeline import BIRTH
from lifechart.data.sources import Batch
from lifechart.data.sources.ccda import source

HEAD = """<?xml version="1.0"?><ClinicalDocument xmlns="urn:hl7-org:v3"
xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><recordTarget><patientRole><id root="1.2" extension="p1"/>
<addr><city>Quilltown</city></addr><patient><name><family>Quill</family></name>
<administrativeGenderCode code="F"/><birthTime value="19600501"/></patient></patientRole></recordTarget>"""
TAIL = "</ClinicalDocument>"
SNOMED, LOINC = "2.16.840.1.113883.6.96", "2.16.840.1.113883.6.1"


def statement(template: str, inside: str, time: str = "20150601100000-0500", more: str = "") -> str:
    root = f'<templateId root="2.16.840.1.113883.10.20.22.4.{template}"/>'
    when = f'<effectiveTime value="{time}"/>' if time else ""
    return f"<observation {more}>{root}{inside}{when}</observation>"


def cd(name: str, code: str, system: str, display: str = "") -> str:
    return f'<{name} xsi:type="CD" code="{code}" codeSystem="{system}" displayName="{display}"/>'


def read(path: Path, *statements: str, head: str = HEAD) -> Batch:
    (path / "a.xml").write_text(head + "".join(statements) + TAIL)
    (unit,) = source.units(path)
    (batch,) = source.read(unit)
    return batch


def test_each_statement_gives_its_events(tmp_path: Path) -> None:
    span = '<effectiveTime><low value="2015"/><high value="20160201"/></effectiveTime>'
    span += '<author><time value="20150701"/></author>'
    weight = cd("code", "29463-7", LOINC) + '<value xsi:type="PQ" value="70.5" unit="kg"/>'
    material = "<manufacturedMaterial>{}</manufacturedMaterial>"
    product = f"<consumable><manufacturedProduct>{material}</manufacturedProduct></consumable>"
    allergen = "<participant><participantRole><playingEntity>{}</playingEntity></participantRole></participant>"
    local = f'<value xsi:type="CD" nullFlavor="UNK">{cd("translation", "E11.9", "2.16.840.1.113883.6.90")}</value>'
    batch = read(
        tmp_path,
        statement("4", cd("value", "44054006", SNOMED, "Type 2 diabetes") + span, time=""),
        statement("4", local),
        statement("27", weight),
        statement("2", cd("code", "5778-6", LOINC) + '<value xsi:type="ST">POSITIVE</value>'),
        statement("78", cd("code", "72166-2", LOINC) + cd("value", "266919005", SNOMED)),
        statement("16", product.format(cd("code", "860975", "2.16.840.1.113883.6.88"))),
        statement("7", allergen.format(cd("code", "91936005", SNOMED))),
        statement("999", cd("code", "x", SNOMED)),
    )
    assert source.detects(tmp_path)
    assert batch.faults == []
    assert batch.rows["code"].to_list() == [
        *("GENDER//female", BIRTH, "SNOMED//44054006", "ABATED//SNOMED//44054006", "ICD10CM//E11.9", "LOINC//29463-7"),
        *("LOINC//5778-6", "LOINC//72166-2//SNOMED//266919005", "RxNorm//860975", "ALLERGY//SNOMED//91936005"),
    ]
    onset = batch.rows.filter(pl.col("code") == "SNOMED//44054006")["time"].item()
    assert onset == datetime(2015, 12, 31, 23, 59, 59), "a year alone counts at its end, later than its author"
    assert batch.rows.filter(pl.col("code") == "LOINC//29463-7").select("numeric_value", "unit", "time").row(0) == (
        70.5,
        "kg",
        datetime(2015, 6, 1, 10),
    )
    assert batch.rows["text_value"].drop_nulls().to_list() == ["positive"]
    assert "Quill" not in str(batch)


AT_FAULT = ("document statement", "quarantined")
FATES = [
    (statement("4", cd("value", "1", SNOMED)), ("document statement", "kept"), ""),
    (statement("4", cd("value", "1", SNOMED), more='negationInd="true"'), ("document statement", "withdrawn"), ""),
    (statement("4", '<statusCode code="nullified"/>'), ("document statement", "withdrawn"), ""),
    (statement("4", cd("value", "Mrs Quill", SNOMED)), AT_FAULT, "no code"),
    (statement("4", cd("value", "1", SNOMED), time=""), AT_FAULT, "no date"),
    (
        statement("4", cd("value", "1", SNOMED), time="20151301"),
        ("document statement", "quarantined"),
        "date not valid",
    ),
]


@pytest.mark.parametrize(("text", "fate", "reason"), FATES)
def test_a_statements_fate(tmp_path: Path, text: str, fate: tuple[str, str], reason: str) -> None:
    batch = read(tmp_path, text)
    assert +batch.counts == {("document patient", "kept"): 1, fate: 1}
    assert [fault.reason for fault in batch.faults] == ([reason] if reason else [])


PARTS = st.sampled_from(
    [
        *(
            "<entry>",
            "</entry>",
            "Quill",
            "&x;",
            "<!--",
            "<",
            "\x00",
            statement("2", cd("code", "1", LOINC)),
            "<observation/>",
        ),
        *(statement("2", cd("code", "1", LOINC) + '<value xsi:type="PQ" value="x"/>'), statement("4", "<value/>")),
        *(statement("27", cd("code", "1", LOINC) + '<value xsi:type="ST"/>'), statement("7", "", time="2015060125")),
    ]
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(parts=st.lists(PARTS, max_size=8), head=st.sampled_from([HEAD, "", HEAD[:200], "<!DOCTYPE x>" + HEAD[21:]]))
def test_any_document(tmp_path_factory: pytest.TempPathFactory, parts: list[str], head: str) -> None:
    batch = read(tmp_path_factory.mktemp("ccda"), *parts, head=head)
    quarantined = sum(n for (_, outcome), n in batch.counts.items() if outcome == "quarantined")
    assert quarantined == len(batch.faults)
    assert "Quill" not in str(batch.faults)
    positions = set(batch.rows["position"])
    assert len(positions) == sum(n for (_, outcome), n in batch.counts.items() if outcome == "kept")
    assert not positions & {fault.position for fault in batch.faults}
