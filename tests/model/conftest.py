"""One small fitted model, shared by the tests that only read it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from lifechart.model.calibration import calibrate
from lifechart.model.checkpoint import save_model
from lifechart.model.fit import Fitter, Recipe
from lifechart.model.fit_codes import fit_every_code
from lifechart.model.forecaster import NetworkForecaster, load_forecaster
from lifechart.model.inference import tell
from lifechart.model.questions import label, sample_questions
from lifechart.model.sizes import SIZES, Size
from lifechart.model.tokens import Tokens, tokenise
from lifechart.model.vocabulary import Vocabulary, build_vocabulary
from tests.model.clinic import clinic

TINY = replace(SIZES["xs"], width=32, rank=16, context=64, batch_tokens=1024, epochs=5, questions=16, rate=4e-3)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def events() -> pl.DataFrame:
    return clinic(400, seed=1)


@pytest.fixture(scope="session")
def later_events() -> pl.DataFrame:
    """Other people of the same clinic."""
    return clinic(300, seed=2, start=10_000)


@pytest.fixture(scope="session")
def vocabulary(events: pl.DataFrame) -> Vocabulary:
    return build_vocabulary(events)


@pytest.fixture(scope="session")
def tokens(events: pl.DataFrame, vocabulary: Vocabulary) -> Tokens:
    return tokenise(events, vocabulary)


@pytest.fixture(scope="session")
def size() -> Size:
    return TINY


@pytest.fixture(scope="session")
def model_folder(
    tmp_path_factory: pytest.TempPathFactory, later_events: pl.DataFrame, vocabulary: Vocabulary, tokens: Tokens
) -> Path:
    """A fitted, calibrated model on disk."""
    folder = tmp_path_factory.mktemp("model")
    tuning = tokenise(later_events, vocabulary)
    fitter = Fitter(vocabulary, TINY, tokens, tuning, 0, Recipe(averaging=0.9), torch.device("cpu"))
    network = fitter.run().network
    fit_every_code(network.every_code, tokens, vocabulary, 0, steps=150)

    def asked(split: Tokens, salt: int) -> tuple:
        questions = sample_questions(split, 8, np.random.default_rng(salt))
        told = tell(network, fitter.collator, split, questions)
        return told, label(split, questions, len(vocabulary.outcomes)), questions.subject

    calibration = calibrate(asked(tokens, 1), asked(tuning, 2), vocabulary.outcomes.index("MEDS_DEATH"))
    save_model(folder, network, calibration, vocabulary, TINY, {"seed": 0})
    return folder


@pytest.fixture(scope="session")
def forecaster(model_folder: Path) -> NetworkForecaster:
    return load_forecaster(model_folder)
