"""Features against a slow twin, and never from the future."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from lifechart.core.timeline import RECORD_END
from lifechart.data.features import FeatureSet
from lifechart.data.history import History
from lifechart.evaluate.tasks import default_task, draw_prompts
from tests.evaluate.hospital import HEART, events_of

A1C = "LOINC//4548-4"


@pytest.fixture(scope="module")
def built():
    events = events_of(40, seed=3)
    history = History(events)
    prompts = draw_prompts(events, default_task(), seed=1)
    matrix, names = FeatureSet.choose(history, min_subjects=2).matrix(history, prompts)
    return events, prompts, pl.DataFrame(matrix, schema=names)


def years(duration: timedelta) -> float:
    return duration / timedelta(days=365.25)


def test_columns_equal_the_slow_twin(built) -> None:
    events, prompts, columns = built
    for number in range(0, prompts.height, 17):
        subject, asked = prompts.row(number)
        mine = events.filter((pl.col("subject_id") == subject) & (pl.col("time") <= asked))
        row = columns.row(number, named=True)
        tests = mine.filter(pl.col("code") == A1C)
        times, values = tests["time"].to_list(), tests["numeric_value"].to_list()
        recent = [v for t, v in zip(times, values, strict=True) if t > asked - timedelta(days=365)]
        assert row[f"{A1C}:count"] == len(times)
        assert row[f"{A1C}:count:365d"] == len(recent)
        if times:
            assert row[f"{A1C}:latest"] == pytest.approx(values[-1], rel=1e-5)
            assert row[f"{A1C}:mean"] == pytest.approx(np.mean(values), rel=1e-4, abs=1e-5)
            assert row[f"{A1C}:since_last"] == pytest.approx(years(asked - times[-1]), abs=1e-4)
            assert row[f"{A1C}:since_first"] == pytest.approx(years(asked - times[0]), abs=1e-4)
        else:
            assert np.isnan(row[f"{A1C}:latest"])
        if recent:
            assert row[f"{A1C}:least:365d"] == pytest.approx(min(recent), rel=1e-5)
            assert row[f"{A1C}:greatest:365d"] == pytest.approx(max(recent), rel=1e-5)
        else:
            assert np.isnan(row[f"{A1C}:least:365d"])
        inside = [(years(t - asked), v) for t, v in zip(times, values, strict=True) if t > asked - timedelta(days=1825)]
        if len(inside) > 2:
            slope = np.polyfit(*np.array(inside).T, 1)[0]
            assert row[f"{A1C}:slope"] == pytest.approx(slope, rel=1e-2, abs=1e-3)
        assert row[f"{HEART}:count"] == mine.filter(pl.col("code") == HEART).height


def test_undated_facts_count_and_the_records_end_does_not(built) -> None:
    _, prompts, columns = built
    is_male = prompts["subject_id"] % 2 == 1
    assert (columns["GENDER//male:count"] == is_male.cast(pl.Float32)).all()
    assert columns["GENDER//male:since_last"].is_nan().all()
    assert not [name for name in columns.columns if name.startswith(RECORD_END)]


def test_removing_the_future_changes_nothing(built) -> None:
    events, prompts, columns = built
    subject, asked = prompts.row(prompts.height // 2)
    past = events.filter((pl.col("subject_id") == subject) & (pl.col("time").is_null() | (pl.col("time") <= asked)))
    chosen = FeatureSet.choose(History(events), min_subjects=2)
    matrix, names = chosen.matrix(History(past), prompts.filter(pl.col("prediction_time") == asked).head(1))
    again = pl.DataFrame(matrix, schema=names).row(0)
    np.testing.assert_allclose(np.array(again), np.array(columns.row(prompts.height // 2)), rtol=1e-4, atol=1e-5)
