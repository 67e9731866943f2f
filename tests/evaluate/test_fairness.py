"""A model that is worse for a group is found; labels that are wrong in a group are laid at the record's door."""

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from lifechart.core.errors import InputError
from lifechart.core.timeline import BIRTH, RECORD_END
from lifechart.evaluate import verdicts
from lifechart.evaluate.fairness import AND, UNJUDGED, Fairness, examine, pairs, parse_thresholds
from lifechart.evaluate.question import ask, score
from lifechart.evaluate.tasks import default_task
from tests.evaluate.hospital import HEART, HORIZONS, INPATIENT, OUTCOMES, LastValue, events_of

DIABETES = "SNOMED//44054006"


class Careless(LastValue):
    """Gives women forecasts that were drawn for other women."""

    def risks(self, events: pl.DataFrame, prompts: pl.DataFrame) -> NDArray[np.float32]:
        table = super().risks(events, prompts)
        women = (prompts["subject_id"] % 2 == 0).to_numpy()
        table[women] = np.random.default_rng(1).permutation(table[women])
        return table


def found(model: LastValue, events: pl.DataFrame, *outcomes: str) -> Fairness:
    task = default_task().model_copy(update={"horizons_days": (365,)})
    question = ask(events, model, task, None, 100, 0)
    return examine(question, score(model, question), outcomes, {})


@pytest.fixture(scope="module")
def events() -> pl.DataFrame:
    return events_of(1500, seed=4)


def test_a_fair_model_is_left_alone(events: pl.DataFrame) -> None:
    fair = found(LastValue(), events, HEART, INPATIENT)
    assert fair.worse == []
    assert fair.under_recorded == []
    assert {"sex=female", "race=black", f"sex=female{AND}race=black"} <= {each.group for each in fair.figures}


def test_a_careless_model_is_found_where_it_is_careless(events: pl.DataFrame) -> None:
    worse = found(Careless(), events, HEART).worse
    assert "auroc" in {each.metric for each in worse if each.group == "sex=female"}
    assert all("male" not in each.group or "female" in each.group for each in worse if each.metric == "auroc")


def _diabetic(share_written: dict[int, float]) -> tuple[pl.DataFrame, LastValue]:
    """Return lives in which a high HbA1c means diabetes a while later, written down by `share_written` of each sex."""
    rng = np.random.default_rng(9)
    events = events_of(1500, seed=2).filter(pl.col("code") != "LOINC//4548-4")
    end = events.filter(pl.col("code") == RECORD_END).select("subject_id", end="time")
    lives = events.filter(pl.col("code") == BIRTH).join(end, on="subject_id")
    rows: list[tuple[object, ...]] = []
    for subject, start, stop in lives.select("subject_id", "time", "end").iter_rows():
        ill = rng.random() < 0.3
        for share in np.sort(rng.uniform(0.4, 1.0, 12)):
            when = start + share * (stop - start)
            rows.append((subject, when, "LOINC//4548-4", "laboratory", float(rng.normal(7.2 if ill else 5.2, 0.2))))
            rows.append((subject, when, "ENCOUNTER//ambulatory", "encounter", None))
        if ill and rng.random() < share_written[subject % 2]:
            rows.append((subject, start + rng.uniform(0.5, 1.0) * (stop - start), DIABETES, "condition", None))
    more = pl.DataFrame(rows, schema=events.schema, orient="row")
    return pl.concat([events, more]).sort("subject_id", "time", nulls_last=False), Knows()


class Knows(LastValue):
    """Knows who is ill from the latest HbA1c, and is right about them whatever is written down."""

    def __init__(self) -> None:
        super().__init__(outcomes=(*OUTCOMES, DIABETES))

    def risks(self, events: pl.DataFrame, prompts: pl.DataFrame) -> NDArray[np.float32]:
        past = (
            events.filter(pl.col("code") == "LOINC//4548-4").sort("time").select("subject_id", "time", "numeric_value")
        )
        asked = prompts.with_row_index("row").sort("prediction_time")
        latest = asked.join_asof(
            past, left_on="prediction_time", right_on="time", by="subject_id", check_sortedness=False
        ).sort("row")
        ill = (latest["numeric_value"].fill_null(0.0) > 6.2).to_numpy()
        risk = np.where(ill, 0.055, 0.0005)
        own = super().risks(events, prompts)
        mine = np.repeat(risk[:, None, None], len(HORIZONS), 2)
        return np.concatenate([own, mine], 1).astype(np.float32)


def test_missing_diagnoses_are_the_records_fault() -> None:
    events, model = _diabetic({0: 0.35, 1: 1.0})
    fair = found(model, events, DIABETES)
    assert "sex=female" in {each.group for each in fair.under_recorded}
    assert "sex=male" not in {each.group for each in fair.under_recorded}
    assert fair.worse == []
    aside = {each.group for each in fair.figures if each.verdict == UNJUDGED}
    assert "sex=female" in aside
    ratio = next(e for e in fair.figures if e.group == "sex=female" and e.metric == "observed_expected")
    assert ratio.value < 0.7 * ratio.others
    shown = verdicts.section(fair, {})
    assert [each["group"] for each in shown["record"]] == ["sex: female"]
    assert not shown["model"]


def test_all_written_down_is_no_finding() -> None:
    events, model = _diabetic({0: 0.7, 1: 0.7})
    assert found(model, events, DIABETES).under_recorded == []


def test_pairs_join_two_attributes() -> None:
    groups = {
        "sex=female": np.array([1, 1, 0], bool),
        "sex=male": np.array([0, 0, 1], bool),
        "age=80+": np.ones(3, bool),
    }
    both = pairs(groups)
    assert both["sex=female & age=80+"].tolist() == [True, True, False]
    assert "sex=female & sex=male" not in both


@pytest.mark.parametrize("text", ["SNOMED//44054006", "SNOMED//1=0", "=0.1", "SNOMED//1=x", "SNOMED//1=1"])
def test_thresholds_are_risks(text: str) -> None:
    assert parse_thresholds(["SNOMED//1=0.05"]) == {"SNOMED//1": 0.05}
    with pytest.raises(InputError):
        parse_thresholds([text])
