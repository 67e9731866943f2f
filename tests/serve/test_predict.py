"""What is on the shelf is what answers: loaded once, again when it changes; by processes that may die."""

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path

import pytest

from lifechart.core.answer import Disposition
from lifechart.core.errors import IntegrityError, LifechartError
from lifechart.core.timeline import Timeline
from lifechart.serve.predict import Desk, Given, Predictor, processes
from tests.care.toy import AS_OF, NAMES, ToyForecaster, timeline
from tests.serve.house import Hospital, put_on_shelf


def toy_loader(folder: Path) -> ToyForecaster:
    assert (folder / "weights.bin").exists()
    return ToyForecaster()


def die(*_: object) -> Given:
    os._exit(1)


def test_a_new_release_answers_without_a_restart(place: Hospital) -> None:
    loads = []
    desk = Desk(place.house.shelf, lambda folder: loads.append(folder) or ToyForecaster())

    def version() -> str:
        return desk.answer("risk", timeline(), AS_OF, {}).version

    assert [version(), version()] == ["1", "1"]
    put_on_shelf(place.house, place.folder)
    assert version() == "2"
    place.house.shelf.rollback("risk", "1", actor="sam.steward", reason="second thoughts")
    assert version() == "1"
    assert len(loads) == 3


def test_the_charts_own_names_come_first(place: Hospital) -> None:
    desk = Desk(place.house.shelf, toy_loader)
    given = desk.answer("risk", timeline(), AS_OF, {"LOINC//2823-3": "Kalium"})
    assert given.forecaster == "toy"
    labels = {evidence.label for claim in given.answer.claims for evidence in claim.evidence}
    assert "Kalium 4.2 mmol/L" in labels
    assert NAMES["LOINC//2823-3"] not in labels


@pytest.fixture
def predictor(place: Hospital) -> Iterator[Predictor]:
    made = Predictor(place.house.shelf, lambda: processes(place.settings, toy_loader))
    yield made
    made.close()


def ask(predictor: Predictor, chart: Timeline) -> Given:
    return asyncio.run(predictor.answer("risk", chart, AS_OF, NAMES))


def test_processes_answer_refuse_and_are_replaced(place: Hospital, predictor: Predictor) -> None:
    given = ask(predictor, timeline())
    assert given.answer.disposition is Disposition.ANSWERED
    assert given.answer == Desk(place.house.shelf, toy_loader).answer("risk", timeline(), AS_OF, NAMES).answer

    with pytest.raises(LifechartError, match="weather"):
        asyncio.run(predictor.answer("weather", timeline(), AS_OF, {}))

    working, predictor._answer = predictor._answer, die
    with pytest.raises(BrokenExecutor):
        ask(predictor, timeline())
    predictor._answer = working
    assert ask(predictor, timeline()) == given

    (place.settings.shelf / "risk" / "1" / "model" / "weights.bin").write_bytes(b"tox")
    put_on_shelf(place.house, place.folder)
    (place.settings.shelf / "risk" / "2" / "model" / "weights.bin").write_bytes(b"tox")
    with pytest.raises(IntegrityError, match=r"weights\.bin"):
        ask(predictor, timeline())
