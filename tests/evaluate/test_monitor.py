"""A small replayed hospital: what is planted is found and named, and nothing is where nothing was planted."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from bench._shifts import NORTH, SCENARIOS, Replay, batches
from lifechart.core.errors import InputError
from lifechart.evaluate.monitor import Monitor, cause
from lifechart.evaluate.signals import ALL, Batch, Key, Reference
from lifechart.release.monitoring import Alarm

WEEKS = 30


@pytest.fixture(scope="module")
def replay() -> Replay:
    return Replay(500, 250)


@pytest.fixture(scope="module")
def reference(replay: Replay) -> list[Batch]:
    return list(batches(replay, WEEKS, 1))


def follow(replay: Replay, reference: list[Batch], number: int) -> list[Alarm]:
    monitor = Monitor(reference, false_alarms_per_year=0.5)
    scenario = SCENARIOS[number]
    return [alarm for batch in batches(replay, 8, 2, scenario, 2) for alarm in monitor.observe(batch)]


@pytest.mark.parametrize("number", [3, 5, 6, 7, 8, 9, 10], ids=lambda number: SCENARIOS[number].name)
def test_what_was_planted_is_named(number: int, replay: Replay, reference: list[Batch]) -> None:
    scenario, alarms = SCENARIOS[number], follow(replay, reference, number)
    right = [a for a in alarms if (a.kind, a.what, a.where) == (scenario.kind, scenario.what, scenario.where)]
    assert right
    assert all(alarm.week >= "week 002" for alarm in alarms)
    assert right[0].since in ("week 001", "week 002", "week 003", "week 004")
    assert cause(alarms).startswith(scenario.cause)


def test_a_new_drug_is_named_and_a_handful_of_people_is_not_counted_out() -> None:
    def week(name: str, codes: dict[str, int]) -> Batch:
        rows = [(n, code) for code, people in codes.items() for n in range(people)]
        events = pl.DataFrame(rows, schema={"subject_id": pl.Int64, "code": pl.String}, orient="row")
        empty = {"numeric_value": pl.Float32, "text_value": pl.String, "unit": pl.String}
        return Batch(
            name,
            events.with_columns(
                time=pl.datetime(2026, 1, 1),
                kind=pl.lit("medication"),
                **{k: pl.lit(None, v) for k, v in empty.items()},
            ),
        )

    monitor = Monitor([week(f"{n}", {"RxNorm//1": 200}) for n in range(20)], false_alarms_per_year=0.5)
    found = [a for n in range(4) for a in monitor.observe(week(f"new {n}", {"RxNorm//1": 200, "RxNorm//2": 8}))]
    said = next(alarm.said for alarm in found if alarm.kind == "unseen code")
    assert "RxNorm//2" in said
    few = Monitor([week(f"{n}", {"RxNorm//1": 200}) for n in range(20)], false_alarms_per_year=50)
    first = few.observe(week("new", {"RxNorm//1": 200, "RxNorm//2": 8, "RxNorm//3": 8}))
    assert [alarm.said for alarm in first if "RxNorm//2" in alarm.said] == []


def test_an_alarm_says_how_much(replay: Replay, reference: list[Batch]) -> None:
    alarm = next(a for a in follow(replay, reference, 10) if a.kind == "value" and a.where == ALL)
    assert alarm.before / alarm.after == pytest.approx(18.016, rel=0.05)
    assert f"{alarm.before:.4g}" in alarm.said
    assert "median" in alarm.said


def test_nothing_is_said_of_an_unshifted_year(replay: Replay, reference: list[Batch]) -> None:
    monitor = Monitor(reference, false_alarms_per_year=0.1)
    assert [alarm for batch in batches(replay, 26, 3) for alarm in monitor.observe(batch)] == []


def test_forecasts_and_their_labels_are_followed_by_subgroup(replay: Replay, reference: list[Batch]) -> None:
    keys = Monitor(reference, false_alarms_per_year=0.5).keys
    kinds = {(key.kind, key.where) for key in keys}
    assert {("calibration", ALL), ("calibration", "sex=female"), ("risk", "sex=male"), ("discrimination", ALL)} <= kinds
    assert ("value", NORTH) in kinds


def test_labels_that_come_late_say_nothing_before_they_come(reference: list[Batch]) -> None:
    usual = Reference(reference, 11)
    batch = replace(reference[10], matured=None)
    assert not [key for key in usual.measure(batch) if key.kind in ("calibration", "discrimination")]


def test_calibration_is_observed_over_expected(reference: list[Batch]) -> None:
    batch = reference[10]
    assert batch.matured is not None
    key = next(key for key in Reference(reference, 11).measure(batch) if key.kind == "calibration" and key.where == ALL)
    measured = Reference(reference, 11).measure(batch)[key]
    assert measured.shown == pytest.approx(batch.matured["label"].sum() / batch.matured["probability"].sum())


def test_a_shifted_embedding_and_novelty_are_found(reference: list[Batch]) -> None:
    rng = np.random.default_rng(0)
    axes = rng.standard_normal((12, 12))

    def embedded(batch: Batch, shift: float) -> Batch:
        assert batch.forecasts is not None
        vectors = rng.standard_normal((batch.forecasts.height, 12)) @ axes + shift
        extra = {"embedding": vectors.tolist(), "novelty": np.clip(rng.random(len(vectors)) + shift / 4, 0, 1)}
        return replace(batch, forecasts=batch.forecasts.with_columns(**{k: pl.Series(v) for k, v in extra.items()}))

    monitor = Monitor([embedded(batch, 0) for batch in reference], false_alarms_per_year=0.5)
    kinds = {a.kind for batch in reference[:6] for a in monitor.observe(embedded(batch, 1.0))}
    assert {"embedding", "novelty"} <= kinds


def test_counts_are_of_people(reference: list[Batch]) -> None:
    batch = reference[0]
    doubled = replace(batch, events=pl.concat([batch.events, batch.events]))
    usual = Reference(reference, 11)
    once, twice = usual.measure(batch), usual.measure(doubled)
    for key in once:
        if key.kind in ("code", "unseen code", "demographic format", "value"):
            assert twice[key].weight == once[key].weight, key
            assert twice[key].value == pytest.approx(once[key].value, abs=1e-6), key


def test_words_the_reference_never_used() -> None:
    def week(name: str, word: str) -> Batch:
        rows = [
            {"subject_id": n, "time": None, "code": "LOINC//72166-2", "numeric_value": None, "text_value": word,
             "unit": None, "kind": "survey"}
            for n in range(40)
        ]  # fmt: skip
        schema = {"time": pl.Datetime("us"), "numeric_value": pl.Float32, "unit": pl.String}
        return Batch(name, pl.DataFrame(rows, schema_overrides=schema))

    usual = Reference([week(f"{n}", "left") for n in range(8)], 11)
    assert usual.measure(week("8", "left"))[Key("wording", "survey")].shown == 0
    assert usual.measure(week("9", "L"))[Key("wording", "survey")].shown == 1


def test_missing_columns_are_named(reference: list[Batch]) -> None:
    assert reference[0].forecasts is not None
    broken = replace(reference[0], forecasts=reference[0].forecasts.drop("groups"))
    with pytest.raises(InputError, match="groups"):
        Monitor([broken, *reference[1:]], false_alarms_per_year=0.5)


def test_a_model_that_no_longer_ranks_is_found_though_its_mean_holds(reference: list[Batch]) -> None:
    rng = np.random.default_rng(0)

    def shuffled(batch: Batch) -> Batch:
        assert batch.matured is not None
        order = rng.permutation(batch.matured.height)
        return replace(batch, matured=batch.matured.with_columns(label=batch.matured["label"].gather(order)))

    monitor = Monitor(reference, false_alarms_per_year=0.5)
    found = [alarm for batch in reference[4:] for alarm in monitor.observe(shuffled(batch))]
    assert "discrimination" in {alarm.kind for alarm in found}
    assert not {alarm.kind for alarm in found} & {"value", "code", "population", "risk"}
