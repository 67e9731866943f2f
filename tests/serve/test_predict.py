"""What is on the shelf is what answers: loaded once, loaded again when it changes, and again after a rollback."""

from tests.care.toy import DIABETES
from tests.serve.house import Hospital, put_on_shelf


def test_a_new_release_answers_without_a_restart(place: Hospital) -> None:
    predictor = place.house.predictor
    first = predictor.ready("risk")
    assert predictor.ready("risk") is first
    put_on_shelf(place.house, place.folder)
    second = predictor.ready("risk")
    assert (first.version, second.version) == ("1", "2")
    place.house.shelf.rollback("risk", "1", actor="sam.steward", reason="second thoughts")
    assert predictor.ready("risk").manifest == first.manifest


def test_only_released_pairs_are_among_the_grounds(place: Hospital) -> None:
    grounds = place.house.predictor.ready("risk").grounds
    assert (DIABETES, 365) in grounds.released
    assert len(grounds.released) == 12
    assert grounds.names[DIABETES] == "Type 2 diabetes"
