"""A step in parts is a step in one: the same loss and gradients, whoever works on the parts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lifechart.model import step as stepping
from lifechart.model import threads
from lifechart.model.fit import Fitter, Recipe
from lifechart.model.sizes import Size
from lifechart.model.step import Cores, Objective, parts_of, totals_of
from lifechart.model.tokens import Tokens
from lifechart.model.vocabulary import Vocabulary


@pytest.fixture
def gradients(vocabulary: Vocabulary, size: Size, tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> object:
    def run(places: int, cores: int, dropout: float = 0.0, weight: float = 0.1) -> tuple:
        monkeypatch.setattr(stepping, "CPU_PLACES", places)
        recipe = replace(Recipe(), dropout=dropout)
        fitter = Fitter(vocabulary, size, tokens, tokens, 3, recipe, torch.device("cpu"))
        questions, windows, groups = fitter._plan(0)
        parts = parts_of(fitter.learner, tokens, questions, windows, groups[0])
        fitter.network.train()
        objective = Objective(fitter.network, recipe.recurrence_weight, weight)
        with threads.limited_to(cores):
            working = Cores(objective, None)
            with working.at_work():
                totals = totals_of(parts)
                loss = working.gradients(parts, totals, 11)
        grads = {name: each.grad for name, each in fitter.network.named_parameters() if each.grad is not None}
        return loss, grads, len(parts)

    return run


def test_many_parts_have_the_gradient_of_one(gradients) -> None:
    # Without the next event, whose moments are drawn part by part.
    whole, expected, one = gradients(10**6, 1, weight=0.0)
    loss, grads, several = gradients(128, 1, weight=0.0)
    assert one == 1
    assert several > 4
    assert loss == pytest.approx(whole, rel=1e-5)
    assert grads.keys() == expected.keys()
    for name, grad in grads.items():
        np.testing.assert_allclose(grad, expected[name], atol=1e-5 + 1e-4 * expected[name].abs().max(), err_msg=name)


def test_the_number_of_cores_changes_nothing(gradients) -> None:
    loss, grads, _ = gradients(256, 1, dropout=0.3)
    again, others, _ = gradients(256, 2, dropout=0.3)
    assert loss == again
    for name, grad in grads.items():
        assert torch.equal(grad, others[name]), name


def test_torch_has_its_threads_back(gradients) -> None:
    before = torch.get_num_threads()
    gradients(512, 2)
    assert torch.get_num_threads() == before
    assert threads.cores() == before
