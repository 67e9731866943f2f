"""Results in words, and what stands beside a number: tables with the rows that must not match, and what may pass."""

from __future__ import annotations

import doctest
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifechart.data.sources import ROWS, results
from lifechart.data.sources.results import NOTHING, Result, understood
from lifechart.data.units import marks

UNDERSTOOD = [
    ("<5", 5.0, None, "<"),
    ("less than 5", 5.0, None, "<"),
    ("≥90", 90.0, None, ">="),
    ("Greater than or equal to 90", 90.0, None, ">="),
    ("<0.01 ng/mL", 0.01, "ng/mL", "<"),
    (">60 mL/min/1.73m2", 60.0, "mL/min/1.73m2", ">"),
    ("> 60 mL/min/1.73 m2", 60.0, "mL/min/1.73 m2", ">"),
    ("5.4", 5.4, None, None),
    ("5,4", 5.4, None, None),
    (".5", 0.5, None, None),
    ("1,234,567.5", None, None, None),
    ("12,345.6 /uL", 12345.6, "/uL", None),
    ("5.4 H", 5.4, None, "H"),
    ("7.2 mg/dL (H)", 7.2, "mg/dL", "H"),
    ("5.4*", 5.4, None, None),
    ("3.2 L", 3.2, None, None),  # litres, or low?
    ("5-10", 7.5, None, "5-10"),
    ("0 - 2 /HPF", 1.0, "/HPF", "0-2"),
    ("5 to 10", 7.5, None, "5-10"),
    ("1:160", 160.0, None, "1:160"),
    ("<1:20", 20.0, None, "<1:20"),
    ("POS.", None, None, "positive"),
    ("1+", None, None, "1+"),
    ("Trace", None, None, "trace"),
    ("-", None, None, "negative"),
]
NOT_UNDERSTOOD = [
    "1,200",  # 1200, or 1.2?
    "1,234",
    "12345",  # an accession or a post code
    "85701",
    "1984",  # a year would show where the calendar lies
    "0733103",
    "555-1234",
    "555-12-3456",
    "2015-2016",
    "10-12-2015",
    "555.1234",
    "120/80",
    "1/80",
    "10:30",
    "5 Smith",
    "12 Main Street",
    "Smith 5",
    "call 5 mg/dL",
    "1.2.3",
    "5 10",
    "NaN",
    "inf",
    "1e99",
    "10^5",
    "٣",
    "",
    " ",
    "<",
    "10-5",
    "x" * 5000 + "1",
]


@pytest.mark.parametrize(("text", "value", "unit", "beside"), UNDERSTOOD)
def test_results_in_words(text: str, value: float | None, unit: str | None, beside: str | None) -> None:
    assert understood(text) == Result(value, unit, beside)


@pytest.mark.parametrize("text", NOT_UNDERSTOOD)
def test_what_is_not_surely_a_result(text: str) -> None:
    assert understood(text) == NOTHING


@given(st.text(max_size=30))
def test_any_text_may_come_and_only_listed_words_or_marks_go_out(text: str) -> None:
    found = understood(text)
    if found.value is None:
        assert found.text is None or found.text in results.spellings().values()
    else:
        assert pl.select(marks.allowed(pl.lit(found.text, pl.String))).item() == found.text


def frame(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=ROWS)


@pytest.mark.parametrize(
    ("said", "value", "text"),
    [
        ({"text_value": "<5 mg/dL"}, 5.0, "<"),
        ({"text_value": "Dr. Smith says 5"}, None, None),
        ({"text_value": "Smith", "numeric_value": 5.0}, 5.0, None),
        ({"text_value": "H implausible", "numeric_value": 5.0}, 5.0, "H implausible"),
        ({"text_value": "H Smith", "numeric_value": 5.0}, 5.0, None),
        ({"numeric_value": 5.0, "comparator": "<"}, 5.0, "<"),
        ({"numeric_value": 5.0, "comparator": "ad"}, 5.0, None),
        ({"numeric_value": 7.2, "low": 3.5, "high": 5.1}, 7.2, "H"),
        ({"numeric_value": 4.2, "low": 3.5, "high": 5.1}, 4.2, "N"),
        ({"numeric_value": 3.5, "low": 3.5}, 3.5, "N"),
        ({"numeric_value": 1.0, "high": 5.1, "flag": "HH"}, 1.0, "HH"),
        ({"numeric_value": 1.0, "flag": "asked-declined"}, 1.0, None),
        ({"numeric_value": 3.5, "low": 3.5, "comparator": "<"}, 3.5, "< L"),
        ({"numeric_value": 4.0, "low": 3.5, "high": 5.0, "comparator": "<"}, 4.0, "<"),
        ({"flag": "POS"}, None, "positive"),
        ({"flag": "N"}, None, None),
        ({"kind": "note", "text_value": "<5"}, None, None),
    ],
)
def test_what_a_data_set_takes(said: dict[str, Any], value: float | None, text: str | None) -> None:
    read, lost = results.read(frame({"kind": "laboratory"} | said))
    assert read.select("numeric_value", "text_value").row(0) == (
        pytest.approx(value) if value is not None else None,
        text,
    )
    kept = text is not None or value is not None
    assert lost == (said.get("text_value") is not None and not (kept and "Smith" not in str(said.get("text_value"))))


@pytest.mark.parametrize(
    ("said", "value", "text"),
    [
        (("laboratory", None, None, "Dr. Smith says 5"), None, "Dr. Smith says 5"),
        (("note", None, None, "<5"), None, "<5"),
        (("laboratory", None, None, "<5"), 5.0, "<"),
        (("laboratory", 1.0, None, None), 1.0, None),
    ],
)
def test_a_live_chart_keeps_its_words(said: tuple[Any, ...], value: float | None, text: str | None) -> None:
    assert results.read_one(*said)[::2] == (value, text)


def test_the_rows_that_are_read_are_not_changed() -> None:
    rows = frame({"kind": "laboratory", "text_value": "<5"}, {"kind": "laboratory", "numeric_value": 1.0})
    before = rows.clone()
    results.read(rows)
    assert rows.equals(before)
    assert results.read(rows)[0].columns == rows.columns


BOUND = st.none() | st.integers(0, 20)


@given(st.integers(0, 20), BOUND, BOUND, st.sampled_from([None, "<", "<=", ">=", ">"]))
def test_the_fast_judgement_is_the_slow_one(
    value: int, low: int | None, high: int | None, comparator: str | None
) -> None:
    rows = frame({"numeric_value": value, "low": low, "high": high, "comparator": comparator})
    found = rows.select(marks.judgement(pl.col("comparator"))).item()
    assert found == marks.judge(value, low, high, comparator)


SAID = (
    *[text for text, *_ in UNDERSTOOD],
    *("Dr. Smith says 5", "", "H", "< L", "5-10 H", "H implausible", "positive", "POS.", "1:160", "555-1234"),
)


@given(
    kind=st.sampled_from(["laboratory", "vital", "note", "condition"]),
    value=st.none() | st.floats(0, 400, width=32),
    unit=st.none() | st.sampled_from(["mg/dL", "drops"]),
    text=st.none() | st.sampled_from(SAID),
    comparator=st.none() | st.sampled_from(["<", ">=", "ad"]),
    low=BOUND,
    high=BOUND,
    flag=st.none() | st.sampled_from(["H", "LL", "POS", "asked-declined"]),
)
def test_a_live_chart_reads_what_a_data_set_does(
    kind: str, value: float | None, unit: str | None, text: str | None, **marked: Any
) -> None:
    row = {"kind": kind, "numeric_value": value, "unit": unit, "text_value": text} | marked
    read, lost = results.read(frame(row))
    in_data = read.select("numeric_value", "unit", "text_value").row(0)
    live = results.read_one(kind, value, unit, text, tuple(marked.values()))
    if lost:
        assert (live.text, in_data) == (text, (live.value, live.unit, None))
    else:
        # What is no result is kept as it stands by a chart, and in the list's spelling by a data set.
        spelt = live if live.text is None or value is not None else live._replace(text=results.as_written(live.text))
        assert tuple(live if kind in results.VALUE_KINDS else spelt) == in_data


@pytest.mark.parametrize("module", [results, marks])
def test_examples_in_docstrings_hold(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]
