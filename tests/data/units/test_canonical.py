"""One unit a code: the same chart in any units, done twice, kept but marked, counted; training and live alike."""

from __future__ import annotations

from datetime import datetime
from math import isnan
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifechart.core.timeline import believable
from lifechart.data import units
from lifechart.data.sources.fhir import read_chart
from lifechart.data.units import conversion
from lifechart.data.units.canonical import listed
from tests.data.samples import LOINC, concept, patient, resource, take, write

SCHEMA = {"code": pl.String, "numeric_value": pl.Float32, "unit": pl.String, "text_value": pl.String}


def frame(*rows: tuple[str, float | None, str | None, str | None]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=SCHEMA, orient="row")


GLUCOSE, HBA1C, WEIGHT = "LOINC//2345-7", "LOINC//4548-4", "LOINC//29463-7"


@pytest.mark.parametrize(
    ("row", "becomes", "counted"),
    [
        ((GLUCOSE, 99.0, "mg/dL", None), (99.0, "mg/dL", None), {}),
        ((GLUCOSE, 99.0, "MG/DL", None), (99.0, "mg/dL", None), {"unit respelled": 1}),
        ((GLUCOSE, 5.5, "mmol/L", "H"), (99.0858, "mg/dL", "H"), {"converted": 1}),
        ((GLUCOSE, 5.5, "furlong", None), (5.5, "furlong", None), {"not convertible": 1}),
        ((GLUCOSE, 5.5, None, None), (5.5, None, None), {"no unit": 1}),
        ((GLUCOSE, None, None, "positive"), (None, None, "positive"), {}),
        ((GLUCOSE, 9000.0, "mg/dL", "H"), (9000.0, "mg/dL", "H implausible"), {"implausible": 1}),
        ((GLUCOSE, float("inf"), "mg/dL", None), (float("inf"), "mg/dL", "implausible"), {"implausible": 1}),
        (("LOINC//8310-5", 98.6, "degF", None), (37.0, "Cel", None), {"converted": 1}),
        (("LOINC//8310-5", 98.6, "Cel", None), (98.6, "Cel", "implausible"), {"implausible": 1}),
        (("LOINC//777-3", 250.0, "10³/µL", None), (250.0, "10*3/uL", None), {"unit respelled": 1}),
        (("LOINC//777-3", 250.0, "×10⁹/L", None), (250.0, "10*3/uL", None), {"unit respelled": 1}),
        (("LOINC//777-3", 25.0, "10*4/uL", None), (250.0, "10*3/uL", None), {"converted": 1}),
        (("LOINC//777-3", 25.0, "104/uL", None), (25.0, "104/uL", None), {"not convertible": 1}),
        (("LOINC//39156-5", 25.0, "kg/m²", None), (25.0, "kg/m2", None), {"unit respelled": 1}),
        (("LOINC//6301-6", 80.0, "%", None), (80.0, "%", None), {"not convertible": 1}),
        ((HBA1C, 48.0, "mmol/mol", None), (6.54304, "%", None), {"converted": 1}),
        (("LOINC//59261-8", 48.0, "mmol/mol Hb", None), (48.0, "mmol/mol", None), {"unit respelled": 1}),
        (("LOINC//777-3", 250.0, "G/L", None), (250.0, "10*3/uL", None), {"unit respelled": 1}),
        (("LOINC//718-7", 140.0, "G/L", None), (14.0, "g/dL", None), {"converted": 1}),
        ((GLUCOSE, 7.5, "mmol/L", "5-10 H"), (135.117, "mg/dL", "90.08-180.2 H"), {"converted": 1}),
        (("OTHER//X", 5.0, "MG/DL", None), (5.0, "mg/dL", None), {"unit respelled": 1}),
        (("OTHER//X", 5.0, "Smith's drops", None), (5.0, "Smith's drops", None), {}),
        (("OTHER//X", 5.0, "c", None), (5.0, "c", None), {}),
    ],
)
def test_what_becomes_of_a_value(row: Any, becomes: Any, counted: dict[str, int]) -> None:
    found = units.canonical(frame(row))
    (value, unit, text) = found.events.select("numeric_value", "unit", "text_value").row(0)
    assert (unit, text) == becomes[1:]
    assert value == becomes[0] or value == pytest.approx(becomes[0], rel=1e-5)
    assert found.counts == counted


LISTED = sorted(code for code, row in listed().items() if row.unit != "[pH]")
VALUES = st.floats(0.0009765625, 5000, width=32)


@st.composite
def charts(draw: st.DrawFn) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The same values in canonical units, and in whatever other units convert to them."""
    rows, others = [], []
    for code in draw(st.lists(st.sampled_from(LISTED), min_size=1, max_size=12)):
        row = listed()[code]
        ways = [
            (key[0], key)
            for key in conversion._factors()
            if key[1:] == (row.unit, row.analyte, row.per) and 1e-4 < conversion._factors()[key].factor < 1e4
        ]
        value = draw(VALUES)
        written, key = draw(st.sampled_from(ways)) if ways else (row.unit, None)
        rows.append((code, value, row.unit, None))
        others.append((code, value if key is None else between_back(key, value), written, None))
    return frame(*rows), frame(*others)


def between_back(key: tuple[str, str, str, str], value: float) -> float:
    return conversion._factors()[key].inverse()(value)


@given(charts())
@settings(max_examples=60, deadline=None)
def test_the_same_chart_in_other_units_is_the_same(chart: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    ours, theirs = (units.canonical(one).events for one in chart)
    assert ours["unit"].to_list() == theirs["unit"].to_list()
    for a, b in zip(ours["numeric_value"], theirs["numeric_value"], strict=True):
        # A float32 carries seven digits, and an offset may eat some of them.
        assert a == pytest.approx(b, rel=1e-5, abs=2e-4)


@given(charts())
@settings(max_examples=60, deadline=None)
def test_twice_is_once(chart: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    once = units.canonical(chart[1])
    twice = units.canonical(once.events)
    assert twice.events.equals(once.events)
    assert twice.counts["converted"] == twice.counts["unit respelled"] == 0


@given(charts())
@settings(max_examples=60, deadline=None)
def test_what_was_written_can_be_found_back(chart: tuple[pl.DataFrame, pl.DataFrame]) -> None:
    written = chart[1]
    found = units.canonical(written)
    back = (
        found.events.with_row_index()
        .join(written.with_row_index().select("index", written="unit", was="numeric_value"), on="index")
        .join(found.conversions, on=["code", "written"], how="left", nulls_equal=True)
    )
    for value, was, factor, offset in back.select("numeric_value", "was", "factor", "offset").iter_rows():
        assert (value - (offset or 0.0)) / (factor or 1.0) == pytest.approx(was, rel=1e-4, abs=1e-3)


MARKS = st.none() | st.sampled_from(["H", "5-10", "5-10 H", "<", "H implausible", "implausible", "positive"])
ODD = st.none() | st.sampled_from([0.0, 9000.0, float("inf"), float("nan")])


@given(charts(), st.lists(MARKS, min_size=12, max_size=12), st.lists(ODD, min_size=12, max_size=12))
@settings(max_examples=100, deadline=None)
def test_one_event_comes_out_as_a_frame_of_them(
    chart: tuple[pl.DataFrame, pl.DataFrame], texts: list[str | None], odd: list[float | None]
) -> None:
    plain = [(code, value, unit, text) for (code, value, unit, _), text in zip(chart[1].rows(), texts, strict=False)]
    strange = [(code, value, unit, text) for (code, _, unit, text), value in zip(plain, odd, strict=False)]
    lacking = [(code, value, None, text) for code, value, _, text in plain]
    events = frame(*plain, *strange, *lacking, *[("OTHER//X", value, "drops", None) for value in odd])
    whole = units.canonical(events).events
    for before, after in zip(events.rows(), whole.rows(), strict=True):
        code, value, unit, text = before
        found_value, found_unit, found_text = units.canonical_one(code, value, unit, text)
        assert (code, found_unit, found_text) == (after[0], after[2], after[3])
        assert found_value == after[1] or (isnan(found_value or 0) and isnan(after[1] or 0))
        (alone,) = units.canonical(frame(before)).events.rows()
        assert str(alone) == str(after)


def test_other_columns_pass_whatever_they_are_called() -> None:
    events = frame((GLUCOSE, 5.5, "mmol/L", None)).with_columns(
        **{name: pl.lit("mine") for name in ("outcome", "factor", "low", "wanted", "odd", "written")}
    )
    found = units.canonical(events).events
    assert found.columns == events.columns
    assert found.select(pl.col("outcome", "factor", "low", "wanted", "odd", "written")).row(0) == ("mine",) * 6


def test_an_empty_frame() -> None:
    assert units.canonical(frame()).events.height == 0
    assert units.canonical(frame(("A", None, None, None))).counts == {}


def test_the_usual_unit_of_a_code_that_is_not_listed() -> None:
    pairs = pl.DataFrame(
        [
            ("OTHER//X", "mg/dl", 3),
            ("OTHER//X", "mg/dL", 3),
            ("OTHER//X", "g/L", 5),
            ("OTHER//Y", "U", 9),
            (GLUCOSE, "mmol/L", 9),
            (GLUCOSE, "mg/dL", 1),
        ],
        schema={"code": pl.String, "unit": pl.String, "num": pl.Int64},
        orient="row",
    )
    usual = units.usual_units(pairs)
    assert usual == {"OTHER//X": "mg/dL"}
    found = units.canonical(frame(("OTHER//X", 1.5, "g/L", None), ("OTHER//X", 5.0, "drops", None)), usual)
    assert found.events.select("numeric_value", "unit").rows() == [(150.0, "mg/dL"), (5.0, "drops")]
    assert found.conversions.rows() == [("OTHER//X", "g/L", "mg/dL", 100.0, 0.0)]


def test_a_unit_that_may_be_a_name_is_not_written_down() -> None:
    found = units.canonical(frame((GLUCOSE, 5.0, "mg/dL{Smith}", None)))
    assert found.events["unit"].to_list() == ["mg/dL"]
    assert found.conversions.height == 0


def test_values_in_the_unit_that_a_model_learnt() -> None:
    events = frame(
        (GLUCOSE, 5.5, "mmol/L", None), (WEIGHT, 70.0, "kg", None), ("X", 1.0, "kg", None), ("Y", 1.0, None, None)
    )
    wanted = pl.Series(["mg/dL", "kg", "cm", "mg"])
    assert units.in_units(events, wanted).to_list() == [pytest.approx(99.0858), 70.0, None, 1.0]
    assert events["numeric_value"].to_list() == [5.5, 70.0, 1.0, 1.0]


def test_an_implausible_value_is_not_to_be_believed() -> None:
    events = frame((GLUCOSE, 9e4, "mg/dL", "H implausible"), (GLUCOSE, 90.0, "mg/dL", "N"), (GLUCOSE, None, None, "x"))
    assert events.select(believable())["numeric_value"].to_list() == [None, 90.0, None]


def observations(si: bool) -> list[dict[str, Any]]:
    """One patient's results as a European or an American laboratory writes them."""
    written = [
        ("2345-7", (5.5, "mmol/L"), (99.0858, "mg/dL")),
        ("4548-4", (48, "mmol/mol"), (6.54304, "%")),
        ("2160-0", (88.4017, "umol/L"), (1.0, "mg/dL")),
        ("718-7", (140, "g/L"), (14.0, "G/DL")),
        ("777-3", (250, "10*9/L"), (250, "K/uL")),
        ("8310-5", (37, "Cel"), (98.6, "[degF]")),
        ("29463-7", (68.0389, "kg"), (150, "lbs")),
        ("17861-6", (2.5, "mmol/L"), (10.0195, "mg/dL")),
    ]
    return [
        resource("Observation", f"o{n}", code=concept(code, LOINC), valueQuantity={"value": value, "unit": unit})
        for n, (code, *pairs) in enumerate(written)
        for value, unit in [pairs[0] if si else pairs[1]]
    ]


def test_a_chart_in_si_and_one_in_us_units_are_one_timeline_and_so_is_training(tmp_path: Path) -> None:
    columns = ["code", "unit", "text_value", "kind"]
    found = []
    for si in (True, False):
        folder = tmp_path / str(si)
        write(folder / "in" / "all.ndjson", patient(), *observations(si))
        _, ingested = take(folder / "in", folder / "out", dates="shift", as_of=datetime(2025, 1, 1))
        live = read_chart([patient(), *observations(si)]).events
        trained = ingested.filter(pl.col("code") != "RECORD_END")
        assert live.select(columns).rows() == trained.select(columns).rows()
        assert live["numeric_value"].to_list() == trained["numeric_value"].to_list()
        found.append(live)
    assert found[0].select("time", *columns).equals(found[1].select("time", *columns))
    for a, b in zip(found[0]["numeric_value"], found[1]["numeric_value"], strict=True):
        assert a == b or a == pytest.approx(b, rel=1e-5)


def test_what_a_record_says_of_a_value_reaches_both_alike(tmp_path: Path) -> None:
    def said(id_: str, quantity: dict[str, Any], **more: Any) -> dict[str, Any]:
        return resource("Observation", id_, code=concept("2823-3", LOINC), valueQuantity=quantity, **more)

    potassium = {"value": 7.2, "unit": "mmol/L"}
    normal = {"low": {"value": 3.5, "unit": "mmol/L"}, "high": {"value": 5.1, "unit": "mmol/L"}}
    words = {
        key: value
        for key, value in resource("Observation", "e", code=concept("2823-3", LOINC)).items()
        if key != "valueQuantity"
    }
    resources = [
        patient(),
        said("a", potassium, referenceRange=[normal]),
        said("b", potassium | {"value": 0.7, "comparator": "<"}, referenceRange=[normal]),
        said("c", potassium | {"value": 4}, interpretation=[{"coding": [{"code": "LL"}]}]),
        said("d", potassium | {"value": 72}),
        words | {"valueString": "> 8.0 mmol/L"},
    ]
    write(tmp_path / "in" / "all.ndjson", *resources)
    _, ingested = take(tmp_path / "in", tmp_path / "out", dates="shift", as_of=datetime(2025, 1, 1))
    columns = ["numeric_value", "unit", "text_value"]
    trained, live = (one.filter(pl.col("kind") == "laboratory") for one in (ingested, read_chart(resources).events))
    assert live.select(columns).rows() == trained.select(columns).rows()
    assert dict(zip(live["text_value"], live["numeric_value"].round(1), strict=True)) == {
        "H": pytest.approx(7.2),
        "< L": pytest.approx(0.7),
        "LL": 4.0,
        "implausible": 72.0,
        ">": 8.0,
    }


def test_the_account_and_the_table_of_conversions(tmp_path: Path) -> None:
    odd = resource("Observation", "odd", code=concept("2345-6", LOINC), valueQuantity={"value": 1, "unit": "mg/dL"})
    wild = resource("Observation", "w", code=concept("2345-7", LOINC), valueQuantity={"value": 99999, "unit": "mg/dL"})
    write(tmp_path / "in" / "all.ndjson", patient(), *observations(True), odd, wild)
    account, events = take(tmp_path / "in", tmp_path / "out")
    assert account.values == {"converted": 5, "implausible": 1, "unit respelled": 1}
    assert account.codes_unsound == {"LOINC: check digit": 1}
    assert ("converted", "<11") in account.values_table(), "what a terminal shows hides small cells"
    stated = orjson.loads((tmp_path / "out" / "account.json").read_bytes())
    assert stated["values"] == account.values
    table = pl.read_parquet(tmp_path / "out" / "metadata" / "units.parquet")
    assert table.columns == ["code", "written", "unit", "factor", "offset"]
    glucose = table.row(by_predicate=pl.col("code") == GLUCOSE, named=True)
    assert (glucose["written"], glucose["unit"]) == ("mmol/L", "mg/dL")
    wild_row = events.row(by_predicate=pl.col("numeric_value") > 9e4, named=True)
    assert wild_row["text_value"] == "implausible"


def test_the_usual_unit_over_the_whole_data_set(tmp_path: Path) -> None:
    code = concept("1234-4", LOINC)
    local = [
        resource("Observation", f"o{n}", of=f"p{n}", code=code, valueQuantity={"value": value, "unit": unit})
        for n, (value, unit) in enumerate([(10.0, "mg/dL"), (20.0, "mg/dL"), (0.3, "g/L")])
    ]
    write(tmp_path / "in" / "all.ndjson", *(patient(f"p{n}") for n in range(3)), *local)
    account, events = take(tmp_path / "in", tmp_path / "out")
    measured = events.filter(pl.col("numeric_value").is_not_null()).sort("numeric_value")
    assert measured.select("numeric_value", "unit").rows() == [
        (10.0, "mg/dL"), (20.0, "mg/dL"), (pytest.approx(30.0), "mg/dL"),
    ]  # fmt: skip
    assert account.values == {"converted": 1}
    assert pl.read_parquet(tmp_path / "out" / "metadata" / "units.parquet").height == 1
