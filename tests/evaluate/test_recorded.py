"""A diagnosis that results show and nobody wrote down: who counts, and when a group's shortfall is one."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from lifechart.core.timeline import BIRTH
from lifechart.evaluate.recorded import Shown, compare, measured, shown

HBA1C = "LOINC//4548-4"
DIABETES = next(each for each in measured() if each.condition == "Type 2 diabetes")


def record(subject: int, results: list[tuple[int, float]], *codes: str, born: int = 1960) -> pl.DataFrame:
    start = datetime(2020, 1, 1)
    rows: list[tuple[object, ...]] = [(subject, datetime(born, 1, 1), BIRTH, None)]
    rows += [(subject, None, "GENDER//female", None)]
    rows += [(subject, start + timedelta(days=day), HBA1C, value) for day, value in results]
    rows += [(subject, start, code, None) for code in codes]
    columns = ("subject_id", "time", "code", "numeric_value")
    kinds = (pl.Int64(), pl.Datetime("us"), pl.String(), pl.Float64())
    schema = pl.Schema(dict(zip(columns, kinds, strict=True)))
    return pl.DataFrame(rows, schema=schema, orient="row")


def diabetes(*records: pl.DataFrame) -> Shown:
    return next(each for each in shown(pl.concat(records)) if each.condition is DIABETES)


@pytest.mark.parametrize(
    ("results", "counts"),
    [
        ([(0, 7.0), (90, 6.5)], True),
        ([(0, 7.0)], False),
        ([(0, 7.0), (0, 8.0)], False),
        ([(0, 7.0), (90, 6.4)], False),
        ([(0, float("nan")), (90, 7.0)], False),
    ],
)
def test_two_days_across_the_line(results: list[tuple[int, float]], counts: bool) -> None:
    assert (diabetes(record(1, results)).people.height == 1) == counts


def test_results_of_acute_care_define_nothing() -> None:
    stay = pl.DataFrame(
        [(1, datetime(2020, 3, 30), "ENCOUNTER//inpatient", None)],
        schema=record(1, []).schema,
        orient="row",
    )
    visit = stay.with_columns(time=pl.lit(datetime(2020, 3, 31)), code=pl.lit("ENCOUNTER//ambulatory"))
    results = record(1, [(0, 7.0), (90, 7.0)])
    assert diabetes(results, stay).people.is_empty()
    assert diabetes(results, stay, visit.with_columns(time=pl.col("time").cast(pl.Datetime("us")))).people.height == 1


def test_a_child_does_not_count() -> None:
    assert diabetes(record(1, [(0, 7.0), (90, 7.0)], born=2010)).people.is_empty()


@pytest.mark.parametrize(
    ("code", "is_recorded"),
    [
        ("SNOMED//44054006", True),
        ("ICD10CM//E11.65", True),
        ("ICD10CM//E10.9", False),
        ("SNOMED//440540061", False),
        ("RxNorm//860975", False),
    ],
)
def test_what_counts_as_recorded(code: str, is_recorded: bool) -> None:
    found = diabetes(record(1, [(0, 7.0), (90, 7.0)], code), record(2, [(0, 7.0), (90, 7.0)]))
    assert found.recorded.tolist() == [is_recorded, False]


@given(*(st.integers(11, 60) for _ in range(2)), *(st.floats(0, 1) for _ in range(2)))
def test_one_stratum_is_fishers_exact_test(ours: int, theirs: int, mine: float, other: float) -> None:
    members = np.arange(ours + theirs) < ours
    recorded = np.concatenate([np.arange(ours) < mine * ours, np.arange(theirs) < other * theirs])
    found = Shown(DIABETES, pl.DataFrame(), recorded, np.ones(ours + theirs, np.int64))
    (comparison,) = compare(found, {"sex=female": members})
    table = [
        [comparison.recorded, comparison.shown - comparison.recorded],
        [comparison.others_recorded, comparison.others_shown - comparison.others_recorded],
    ]
    assert np.isclose(comparison.p_value, fisher_exact(table, alternative="less").pvalue)


def test_more_results_are_not_more_bias() -> None:
    """Within each number of results both groups are alike; only pooled would one look neglected."""
    rng = np.random.default_rng(0)
    stratum = np.repeat([1, 2], 400)
    members = rng.random(800) < np.where(stratum == 1, 0.8, 0.2)
    recorded = rng.random(800) < np.where(stratum == 1, 0.3, 0.9)
    pooled = compare(Shown(DIABETES, pl.DataFrame(), recorded, np.ones(800, np.int64)), {"g": members})[0]
    within = compare(Shown(DIABETES, pl.DataFrame(), recorded, stratum), {"g": members})[0]
    assert pooled.p_value < 1e-10
    assert within.p_value > 0.01


def test_few_people_are_not_compared() -> None:
    found = Shown(DIABETES, pl.DataFrame(), np.zeros(50, np.bool_), np.ones(50, np.int64))
    assert compare(found, {"g": np.arange(50) < 10, "h": np.arange(50) < 40}) == []
    assert len(compare(found, {"g": np.arange(50) < 11})) == 1
