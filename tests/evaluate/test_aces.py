"""ACES tasks: read as the format says, carried out against a slow twin, refused by name."""

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifechart.core.errors import InputError
from lifechart.core.timeline import DEATH, RECORD_END
from lifechart.evaluate.aces import AcesTask, load_aces
from lifechart.evaluate.realise import realise

EPOCH = datetime(2000, 1, 1)
SCHEMA = {
    "subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String, "numeric_value": pl.Float32,
    "text_value": pl.String,
}  # fmt: skip
TASK = """
predicates:
  discharge: {code: "OUT"}
  stroke: {code: "A"}
  infarct: {code: {regex: "^B"}}
  high: {code: {any: ["LAB", "LAB2"]}, value_min: 6.5, value_min_inclusive: true}
  worse: {expr: "or(stroke, infarct, high)"}
  both: {expr: "and(stroke, infarct)"}
trigger: discharge
windows:
  input:
    start: null
    end: trigger
    start_inclusive: true
    end_inclusive: true
    has:
      _ANY_EVENT: (2, None)
      stroke: (None, 0)
    index_timestamp: end
  target:
    start: input.end
    end: start + 30d
    start_inclusive: false
    end_inclusive: true
    label: LABEL
"""


def task_of(tmp: Path, text: str = TASK, label: str = "worse") -> AcesTask:
    path = tmp / "task.yaml"
    path.write_text(text.replace("LABEL", label))
    return load_aces(path)


def frame(rows: list[tuple[int, float, str, float | None]]) -> pl.DataFrame:
    return pl.DataFrame(
        [(subject, EPOCH + timedelta(days=day), code, value, None) for subject, day, code, value in rows],
        schema=SCHEMA,
        orient="row",
    )


def slow(rows: list[tuple[int, float, str, float | None]], label: str) -> set[tuple[int, float, bool | None]]:
    """The task above, one discharge at a time."""
    found = set()
    for subject, asked in {(subject, day) for subject, day, code, _ in rows if code == "OUT"}:
        mine = [(day, code, value) for owner, day, code, value in rows if owner == subject]
        before = [each for each in mine if each[0] <= asked]
        death = min((day for day, code, _ in mine if code == DEATH), default=None)
        end = min((day for day, code, _ in mine if code == RECORD_END), default=None)
        last = max(day for day, _, _ in mine)
        moments = {day for day, code, _ in before if code != RECORD_END}
        if len(moments) < 2 or any(code == "A" for _, code, _ in before) or (death is not None and asked >= death):
            continue
        ahead = [each for each in mine if asked < each[0] <= asked + 30]
        if label == "worse":
            came = any(
                code == "A" or code.startswith("B") or (code in ("LAB", "LAB2") and value is not None and value >= 6.5)
                for _, code, value in ahead
            )
        else:
            came = any(
                {"A"} <= {c for d, c, _ in ahead if d == day}
                and any(c.startswith("B") for d, c, _ in ahead if d == day)
                for day, _, _ in ahead
            )
        stated = end is not None and (death is None or end > death)
        closes = (end if stated else last) >= asked + 30
        known = closes or (not stated and ((death is not None and death <= asked + 30) or came))
        found.add((subject, asked, came if known else None))
    return found


days = st.integers(0, 90).map(float)
events = st.lists(
    st.tuples(
        st.integers(1, 3),
        days,
        st.sampled_from(["OUT", "OUT", "A", "B1", "LAB", "LAB2", "X", DEATH, RECORD_END]),
        st.sampled_from([None, 6.4, 6.5, 9.0]),
    ),
    min_size=1,
    max_size=30,
)


@settings(deadline=None, max_examples=120)
@given(rows=events, label=st.sampled_from(["worse", "both"]))
def test_a_task_is_carried_out_as_its_slow_twin_does(
    tmp_path_factory: pytest.TempPathFactory, rows: list, label: str
) -> None:
    table = realise(frame(rows), task_of(tmp_path_factory.mktemp("aces"), label=label))
    got = {
        (subject, (when - EPOCH) / timedelta(days=1), value)
        for subject, when, value in table.select("subject_id", "prediction_time", "boolean_value").iter_rows()
    }
    assert got == slow(rows, label)


def test_windows_end_at_events_and_lie_behind_gaps(tmp_path: Path) -> None:
    text = """
predicates:
  admission: {code: IN}
  discharge: {code: OUT}
  death: {code: MEDS_DEATH}
  gone: {expr: "or(discharge, death)"}
trigger: admission
windows:
  input: {end: trigger + 24h, start: null, index_timestamp: end}
  gap: {start: trigger, end: start + 48h, start_inclusive: false, has: {discharge: "(None, 0)", death: "(None, 0)"}}
  target: {start: gap.end, end: "start -> gone", start_inclusive: false, label: death}
"""
    task = task_of(tmp_path, text)
    assert task.horizon() is None
    rows = [(1, 0.0, "IN", None), (1, 5.0, "OUT", None), (1, 9.0, "IN", None), (1, 12.0, DEATH, None),
            (2, 0.0, "IN", None), (2, 1.5, "OUT", None), (3, 0.0, "IN", None), (3, 9.0, "X", None)]  # fmt: skip
    table = realise(frame(rows), task).sort("subject_id", "prediction_time")
    assert table["subject_id"].to_list() == [1, 1]
    assert table["boolean_value"].to_list() == [False, True]
    assert (table["prediction_time"] - table["trigger_time"]).unique().to_list() == [timedelta(days=1)]


def test_the_label_is_a_target_where_offsets_alone_say_when(tmp_path: Path) -> None:
    task = task_of(tmp_path)
    assert task.horizon() == (0.0, 30.0)
    target = task.target()
    assert target is not None
    assert target.any_of[2].low == 6.5
    assert task_of(tmp_path, label="both").target() is None
    assert task_of(tmp_path, TASK.replace("end: trigger\n", "end: trigger + 1d\n")).horizon() == (0.0, 30.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('code: "A"', 'code: "A", other_cols: {ward: x}'), "other_cols"),
        (("or(stroke, infarct, high)", "or(stroke, and(infarct, high))"), "expr"),
        (("start + 30d", "start + soon"), "a time such as 30d"),
        (("trigger: discharge", "trigger: leaving"), "trigger: got 'leaving'"),
        (("stroke: (None, 0)", "stroke: 0"), "least, most"),
        (("label: LABEL", "label: nothing"), "label: got 'nothing'"),
        (("index_timestamp: end", "note: end"), "note"),
    ],
)
def test_what_is_not_read_is_refused_by_name(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        task_of(tmp_path, TASK.replace(*change))
