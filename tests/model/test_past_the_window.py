"""What lies further back than the context: attention no longer sees it, and the forecast still knows it."""

from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
import torch

from lifechart.model.batches import Collator, cut
from lifechart.model.forecaster import NetworkForecaster
from lifechart.model.network import Network, Output
from lifechart.model.questions import ask, history
from lifechart.model.tokens import DAY_US, tokenise
from lifechart.model.vocabulary import QUANTILES, Vocabulary
from tests.model.clinic import SCHEMA, SICK, STROKE, TEST, VISIT

CONTEXT = 64
BIRTH = datetime(1950, 1, 1)


def long_life(first: str) -> pl.DataFrame:
    """Return a life of 300 visits and tests after one event long ago: a sickness, or a code that nobody knows."""
    rows: list[tuple[object, ...]] = [
        (1, None, "GENDER//female", None, None, None, "demographic"),
        (1, BIRTH, "MEDS_BIRTH", None, None, None, "demographic"),
        (1, BIRTH + timedelta(days=365 * 40), first, None, None, None, "condition"),
    ]
    for number in range(150):
        at = BIRTH + timedelta(days=365 * 40 + 30.0 * (number + 1))
        rows.append((1, at, VISIT, None, None, None, "encounter"))
        rows.append((1, at, TEST, 100.0, None, "mg/dL", "laboratory"))
    rows.append((1, at + timedelta(days=400), "RECORD_END", None, None, None, "record"))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def answer(network: Network, vocabulary: Vocabulary, first: str) -> tuple[Output, torch.Tensor]:
    """Return what is said at the life's end, and the hidden state that it was read from."""
    tokens = tokenise(long_life(first), vocabulary)
    questions = ask(tokens, np.zeros(1, np.int64), tokens.micros[-1:] + DAY_US)
    windows = cut(tokens, questions, CONTEXT)
    assert int(windows.sizes[0]) <= CONTEXT < len(tokens)
    batch, _ = Collator(vocabulary, CONTEXT, torch.device("cpu")).batch(tokens, questions, windows, np.zeros(1, int))
    with torch.no_grad():
        output = network(batch)
    return output, output.hidden_RTD.flatten(0, 1)[batch.cell_Q]


def test_the_forecast_knows_what_lies_beyond_the_context(forecaster: NetworkForecaster, vocabulary: Vocabulary) -> None:
    network = forecaster.model.network
    sick, seen_sick = answer(network, vocabulary, SICK)
    well, seen_well = answer(network, vocabulary, "NOBODY//KNOWS")
    # Attention saw the same: the sickness lies before its window.
    torch.testing.assert_close(seen_sick, seen_well, rtol=0, atol=0)
    stroke = vocabulary.outcomes.index(STROKE)
    raised = float((sick.log_hazard_QOB - well.log_hazard_QOB)[0, stroke].mean())
    assert raised > 0.5, "a sickness triples the hazard, however long ago it was written down"


def test_the_history_of_a_long_record_names_every_code_it_ever_met(vocabulary: Vocabulary) -> None:
    tokens = tokenise(long_life(SICK), vocabulary)
    questions = ask(tokens, np.zeros(1, np.int64), tokens.micros[-1:] + DAY_US)
    past = history(tokens, questions, vocabulary.valued, len(QUANTILES))
    assert set(tokens.code[past.token].tolist()) == set(tokens.code.tolist())


@pytest.fixture
def forecaster(forecaster: NetworkForecaster) -> NetworkForecaster:
    assert forecaster.model.size.context == CONTEXT
    return forecaster
