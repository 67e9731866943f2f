"""The one dial, and what picks its place: more events never ask for a smaller network."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench._scaling_flops import cost
from lifechart.core.errors import InputError
from lifechart.core.settings import Settings
from lifechart.data import shards
from lifechart.ledger.log import open_log
from lifechart.model.checkpoint import load_model
from lifechart.model.sizes import AUTO, EVENTS_A_PARAMETER, SIZES, Size, size_for, size_named
from lifechart.model.train import train
from tests.model.clinic import SICK, clinic
from tests.model.test_train import scattered

CODES = 450


@given(st.integers(0, 10**10), st.integers(0, 10**10), st.integers(2, 5_000))
def test_more_events_never_ask_for_a_smaller_size(one: int, two: int, codes: int) -> None:
    fewer, more = (list(SIZES).index(size_for(each, codes)) for each in sorted((one, two)))
    assert fewer <= more


@pytest.mark.parametrize("name", list(SIZES)[1:])
def test_a_size_is_picked_from_the_event_on_that_pays_for_it(name: str) -> None:
    enough = SIZES[name].parameters(CODES) * EVENTS_A_PARAMETER
    assert size_for(int(enough) + 1, CODES) == name
    assert list(SIZES).index(size_for(int(enough) - 1, CODES)) == list(SIZES).index(name) - 1


def test_the_smallest_size_serves_where_nothing_pays() -> None:
    assert size_for(0, CODES) == "xs"


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_its_parameters_are_those_the_study_counted(size: Size) -> None:
    counted = cost(size.width, size.layers, CODES, outcomes=100, rank=size.rank, seen=0, per_event=0.0)
    assert size.parameters(CODES) == counted.parameters


def test_auto_is_no_size_of_its_own() -> None:
    with pytest.raises(InputError, match="auto"):
        size_named("xxl")
    with pytest.raises(InputError, match="xs, s, m, l"):
        size_named(AUTO)


def test_training_picks_a_size_and_the_ledger_names_it(tmp_path: Path) -> None:
    shards.write_dataset(tmp_path / "dataset", scattered(clinic(120, seed=6)), {SICK: "Sickness"})
    log = open_log(Settings(home=tmp_path / "home"))
    result = train(tmp_path / "dataset", tmp_path / "model", size=AUTO, seed=0, log=log, epochs=1)
    assert result.size == "xs"
    assert "size xs" in result.summary()
    (entry,) = log.entries()
    assert entry.statement.predicate["size"] == "xs"
    assert load_model(tmp_path / "model").size.width == SIZES["xs"].width
