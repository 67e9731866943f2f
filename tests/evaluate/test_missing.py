"""A record that holds less: who lives off one laboratory value loses all of it; what is not there stays."""

from __future__ import annotations

import numpy as np
import pytest

from lifechart.evaluate import missing
from lifechart.evaluate.question import ask, score
from lifechart.evaluate.tasks import default_task
from tests.evaluate.hospital import LastValue, events_of


def test_what_is_lost_without_measurements() -> None:
    forecaster = LastValue()
    question = ask(events_of(280, 3), forecaster, default_task(), None, 40, 0)
    scores = score(forecaster, question)
    found = {row.name: row for row in missing.metrics(question, forecaster, scores, min_events=10)}
    assert {name.partition("without_")[2] for name in found} == {"laboratory", "half_of_measurements"}
    whole, half = (found[missing.LOST + name] for name in ("laboratory", "half_of_measurements"))
    assert whole.interval is not None
    assert whole.interval.low > 0
    assert -0.01 < half.value < whole.value
    assert found[missing.RATIO + "laboratory"].value > 0


def test_half_of_the_measurements_go_by_moment() -> None:
    events = events_of(60)
    gone = missing.SCENARIOS["half_of_measurements"][1](events)
    measured = events["kind"] == "laboratory"
    assert not (gone & ~measured).any()
    assert gone.sum() / measured.sum() == pytest.approx(0.5, abs=0.06)
    assert (gone == missing.SCENARIOS["half_of_measurements"][1](events)).all()


def test_nothing_is_said_of_records_without_kinds() -> None:
    forecaster = LastValue()
    question = ask(events_of(40).drop("kind"), forecaster, default_task(), None, 2, 0)
    scores = {key: np.zeros(question.prompts.height, np.float32) for key in score(forecaster, question)}
    assert list(missing.metrics(question, forecaster, scores, min_events=1)) == []
