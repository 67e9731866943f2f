"""How `bench strangers` reads a cohort: columns as events, and of both questions what is known by the horizon."""

from pathlib import Path

import pytest

from lifechart.core.errors import InputError

pd = pytest.importorskip("pandas", reason="pandas is not installed (lifechart[peers])")
strangers = pytest.importorskip("bench.strangers")

COHORT = pd.DataFrame(
    {
        "pid": [1, 2, 3, 4, 4, 5],
        "time": [10.0, 20.0, 30.0, 40.0, 40.0, 0.0],
        "event": [1, 0, 1, 1, 1, 1],
        "num_age": [50.0, float("nan"), 70.0, 80.0, 80.0, 90.0],
        "fac_stage": ["I", "II", None, "III", "III", "I"],
    }
)


def test_columns_become_events_and_both_questions_are_asked(tmp_path: Path) -> None:
    COHORT.to_pickle(tmp_path / "made.pickle")
    read = strangers.cohort(tmp_path, "made")
    told = read.events.select("subject_id", "code", "numeric_value", "text_value").rows()
    ages = [(1, "age", 50.0, None), (3, "age", 70.0, None), (4, "age", 80.0, None)]
    stages = [(1, "stage", None, "I"), (2, "stage", None, "II"), (4, "stage", None, "III")]
    assert sorted(told, key=str) == sorted(ages + stages, key=str), "one row a person, none of who was never followed"
    when, within = read.questions
    assert when.labels["days"].median() == pytest.approx(1000)
    assert when.horizon == pytest.approx(1200), "the median time to an event: 30 of 10, 30 and 40"
    assert when.labels["boolean_value"].to_list() == [True, False, True, True]
    assert within.labels["subject_id"].to_list() == [1, 3, 4], "of the second nobody knows: lost before the horizon"
    assert within.labels["boolean_value"].to_list() == [True, True, False]


def test_a_folder_without_the_cohorts_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_STRANGERS_DIR", str(tmp_path))
    with pytest.raises(InputError, match=r"BENCH_STRANGERS_DIR.*whas500\.pickle"):
        strangers.main(True)
