"""Coverage of intervals and what abstaining gains, against worlds whose answer is known."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from lifechart.core.report import Metric, Report
from lifechart.core.settings import Settings
from lifechart.evaluate import abstention, certainty, coverage
from lifechart.evaluate.coverage import FREQUENCY, TRUE, wilson
from lifechart.evaluate.examine import examine
from lifechart.evaluate.headline import ALL_OUTCOMES, RECORD
from lifechart.evaluate.question import Question, ask, score
from lifechart.evaluate.tasks import default_task
from lifechart.ledger.log import open_log
from tests.evaluate.hospital import LastValue, events_of, write_dataset

FOREIGN = 5
"""Every fifth person's results arrive in a unit that the model does not know."""


@dataclass
class Sure(LastValue):
    """LastValue with intervals of a fixed reach, and a novelty that sees how far off the results lie."""

    reach: tuple[float, float] = (0.5, 2.0)
    blind: bool = False

    def intervals(self, events: pl.DataFrame, prompts: pl.DataFrame) -> NDArray[np.float32]:
        risks = self.risks(events, prompts)
        return np.clip(np.stack([risks * self.reach[0], risks * self.reach[1]], axis=-1), 0, 1)

    def situate(self, events: pl.DataFrame, prompts: pl.DataFrame) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        results = events.filter(pl.col("code") == "LOINC//4548-4").group_by("subject_id")
        far = dict(results.agg(pl.col("numeric_value").mean().abs()).iter_rows())
        value = np.array([0.0 if self.blind else far.get(each, 0.0) for each in prompts["subject_id"]])
        rank = np.argsort(np.argsort(value + 1e-9 * np.random.default_rng(0).random(len(value)), kind="stable"))
        return np.zeros((len(value), 2), np.float32), rank / len(value)


def abroad(events: pl.DataFrame) -> pl.DataFrame:
    foreign = (pl.col("subject_id") % FOREIGN == 0) & (pl.col("kind") == "laboratory")
    return events.with_columns(
        numeric_value=pl.when(foreign).then(pl.col("numeric_value") - 4).otherwise("numeric_value")
    )


@pytest.fixture(scope="module")
def native() -> pl.DataFrame:
    return events_of(400, 5)


def rows(
    question: Question, forecaster: Sure, truth: pl.DataFrame | None, known: int | None = None
) -> dict[tuple[str, str, str], Metric]:
    """Ask how sure a forecaster is, with a record oracle that knows the first `known` outcomes (by default all)."""
    scores = {forecaster.name: score(forecaster, question)}
    if truth is not None:
        best = Sure(RECORD).risks(truth, question.prompts)
        steps = [forecaster.horizons.index(each) for each in question.horizons]
        scores[RECORD] = {
            (outcome, horizon): best[:, number, step]
            for number, outcome in enumerate(forecaster.outcomes[:known])
            for step, horizon in zip(steps, question.horizons, strict=True)
        }
    found = certainty.metrics(question, forecaster, scores, {}, min_events=10)
    return {(each.name, each.outcome, each.subgroup): each for each in found}


def asked(events: pl.DataFrame, forecaster: Sure) -> Question:
    return ask(events, forecaster, default_task(), None, 40, 0)


def test_intervals_around_the_truth_hold_it_and_others_do_not(native: pl.DataFrame) -> None:
    for reach, expected in (((0.5, 2.0), 1.0), ((1.2, 2.0), 0.0)):
        forecaster = Sure(reach=reach)
        found = rows(asked(native, forecaster), forecaster, native)
        for group in ("all", "sex=female", "race=black", "age=40-64"):
            assert found[TRUE, ALL_OUTCOMES, group].value == expected
        assert found[TRUE, ALL_OUTCOMES, "all"].interval is not None


def test_frequencies_are_found_in_wide_intervals_and_missed_by_shifted_ones(native: pl.DataFrame) -> None:
    wide, off = (
        rows(asked(native, each), each, None)[FREQUENCY, ALL_OUTCOMES, "all"].value
        for each in (Sure(), Sure(reach=(2.5, 4.0)))
    )
    assert wide > 0.9
    assert off < 0.2


def test_the_true_risk_is_asked_for_where_the_oracle_knows_it(native: pl.DataFrame) -> None:
    forecaster = Sure()
    question = asked(native, forecaster)
    every, one = (rows(question, forecaster, native, known) for known in (None, 1))
    assert sum(name == TRUE and group == "all" for name, _, group in every) > 2
    assert sum(name == TRUE and group == "all" for name, _, group in one) == 2, "that outcome's, and over all"
    told, whole = one[TRUE, ALL_OUTCOMES, "sex=female"], every[TRUE, ALL_OUTCOMES, "sex=female"]
    assert told.value == 1.0
    assert told.num_events < whole.num_events


def test_without_a_truth_nothing_is_said_of_true_risks(native: pl.DataFrame) -> None:
    forecaster = Sure()
    found = rows(asked(native, forecaster), forecaster, None)
    assert not any(name == TRUE or name.startswith("excess_loss") for name, _, _ in found)


def test_outcomes_are_grouped_by_how_rare_they_are(native: pl.DataFrame) -> None:
    forecaster = Sure()
    groups = {group for _, _, group in rows(asked(native, forecaster), forecaster, native)}
    assert any(group.startswith("rarity=") for group in groups)
    assert not any(group.startswith(("language=", "site=")) for group in groups)


def test_novelty_rises_where_the_model_is_worse_and_leaving_it_out_helps(native: pl.DataFrame) -> None:
    mixed, forecaster = abroad(native), Sure()
    question = asked(mixed, forecaster)
    novelty = forecaster.situate(mixed, question.prompts)[1]
    foreign = (question.prompts["subject_id"] % FOREIGN == 0).to_numpy()
    assert novelty[foreign].mean() > novelty[~foreign].mean() + 0.3
    found = rows(question, forecaster, native)

    def lost(share: float, order: str = "novelty") -> Metric:
        return found[abstention.name_of("excess_loss", order, share), ALL_OUTCOMES, "all"]

    everybody, most = lost(1.0), lost(0.65)
    assert everybody.interval is not None
    assert most.interval is not None
    assert most.interval.high < everybody.interval.low
    assert most.num_prompts == pytest.approx(0.65 * everybody.num_prompts, abs=1)
    blind = Sure(blind=True)
    same = rows(asked(mixed, blind), blind, native)
    by_chance = [
        same[abstention.name_of("excess_loss", "novelty", share), ALL_OUTCOMES, "all"].value for share in (1.0, 0.65)
    ]
    assert by_chance[1] > 0.7 * by_chance[0]


def test_excess_loss_is_the_divergence_an_event() -> None:
    truth, risk = np.array([0.1, 0.4]), np.array([0.2, 0.3])
    found = abstention.excess_loss(truth, risk, np.array([0, 1]), np.ones((1, 2)))
    lost = sum(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)) for p, q in zip(truth, risk, strict=True))
    assert found[0] == pytest.approx(lost / 0.5)


def test_the_share_answered_at_a_bound_is_told(native: pl.DataFrame) -> None:
    forecaster = Sure()
    found = rows(asked(native, forecaster), forecaster, None)
    assert found[abstention.answered_name(0.9), ALL_OUTCOMES, "all"].value == pytest.approx(0.9, abs=0.01)


def test_wilson_keeps_within_the_unit_and_narrows() -> None:
    assert 0 < wilson(0, 10).high < 0.35
    assert wilson(10, 10).high == pytest.approx(1.0)
    assert wilson(95, 100).high - wilson(95, 100).low > wilson(950, 1000).high - wilson(950, 1000).low


def test_few_people_are_not_told_of(native: pl.DataFrame) -> None:
    few = native.filter(pl.col("subject_id") <= 100)
    few = few.with_columns(code=pl.when(pl.col("code") == "RACE//black").then(pl.lit("RACE//rare")).otherwise("code"))
    rare = pl.col("subject_id") < 20
    few = few.filter(~(pl.col("code") == "RACE//rare") | rare)
    forecaster = Sure()
    groups = {group for _, _, group in rows(asked(few, forecaster), forecaster, few)}
    assert "race=rare" not in groups
    assert coverage.MIN_PEOPLE == 11


def test_the_page_draws_it_and_marks_where_the_capability_declines(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", 1200)
    log = open_log(Settings(home=tmp_path / "home"))
    report = examine(
        dataset, Sure(), tmp_path / "out", log=log, baselines=False, bootstrap=20, min_events=15, abstains_from=0.95
    )
    assert list(report.select(name=FREQUENCY, outcome=ALL_OUTCOMES, subgroup="all"))
    assert Report.load(tmp_path / "out" / "report.json") == report
    html = (tmp_path / "out" / "report.html").read_text()
    assert "How sure is it, and when should it not answer?" in html
    assert "above a novelty of 0.95: 95% of these charts are answered" in re.sub(r"\s+", " ", html)
    assert "True risks in their interval" not in html
    plain = examine(dataset, LastValue(), tmp_path / "plain", log=log, baselines=False, bootstrap=20)
    assert not list(plain.select(name=FREQUENCY))
    assert "How sure is it" not in (tmp_path / "plain" / "report.html").read_text()
