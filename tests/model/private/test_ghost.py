"""Ghost clipping against its slow twin: each patient's gradient by itself, through the whole network."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lifechart.core.errors import InputError
from lifechart.model.batches import Collator, cut
from lifechart.model.fit import base_rates, label_of
from lifechart.model.heads import survival
from lifechart.model.network import Network
from lifechart.model.private.ghost import Ghost
from lifechart.model.questions import Questions, sample_questions
from lifechart.model.sizes import SIZES
from lifechart.model.tokens import Tokens, tokenise
from lifechart.model.vocabulary import Vocabulary
from tests.model.clinic import clinic

SIZE = replace(SIZES["xs"], width=32, layers=1, rank=8, context=32)
PATIENTS = 9


def _loss(network: Network, tokens: Tokens, questions: Questions, vocabulary: Vocabulary) -> tuple:
    windows = cut(tokens, questions, SIZE.context)
    batch, asked = Collator(vocabulary, SIZE.context, torch.device("cpu")).batch(
        tokens, questions, windows, np.arange(len(windows.first))
    )
    output = network(batch)
    loss = survival(output.log_hazard_QOB, label_of(tokens, questions.take(asked), vocabulary), 0.25) * len(asked)
    segment = batch.segment_RT.numpy()
    owner_RT = np.where(segment >= 0, windows.subject[np.maximum(segment, 0)], 0)
    return loss, torch.from_numpy(questions.subject[asked]), torch.from_numpy(owner_RT)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000))
def test_ghost_norms_and_clipped_sums_are_those_of_single_patients(vocabulary: Vocabulary, seed: int) -> None:
    tokens = tokenise(clinic(PATIENTS, seed), vocabulary)
    torch.manual_seed(seed)
    network = Network(vocabulary, SIZE, base_rates(tokens, len(vocabulary.outcomes), 0), 0.0)
    for each in network.parameters():
        nn.init.normal_(each, std=0.1)
    questions = sample_questions(tokens, 5, np.random.default_rng(seed))
    trained = tuple(each for name, each in network.named_parameters() if not name.startswith("next_code"))
    ghost = Ghost(network, trained)
    with ghost.listening():
        loss, owner_Q, owner_RT = _loss(network, tokens, questions, vocabulary)
        norms = ghost.norms(loss, tokens.num_subjects, owner_Q, owner_RT)
    clip = float(norms.median())
    clipped = ghost.clipped((clip / norms.clamp(min=1e-12)).clamp(max=1.0))

    slow = [torch.zeros_like(each) for each in trained]
    for patient in range(tokens.num_subjects):
        own = questions.take(np.flatnonzero(questions.subject == patient))
        if not len(own):
            assert norms[patient] == 0
            continue
        grads = torch.autograd.grad(_loss(network, tokens, own, vocabulary)[0], trained, allow_unused=True)
        filled = [torch.zeros_like(p) if g is None else g for g, p in zip(grads, trained, strict=True)]
        norm = torch.sqrt(sum(each.square().sum() for each in filled))
        assert float(norms[patient]) == pytest.approx(float(norm), rel=1e-4)
        for total, each in zip(slow, filled, strict=True):
            total += each * min(1.0, clip / float(norm))
    for total, each in zip(slow, clipped, strict=True):
        torch.testing.assert_close(each, total, rtol=1e-3, atol=1e-4)


class _Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))


def test_a_layer_without_a_rule_is_refused() -> None:
    module = nn.Sequential(nn.Linear(3, 3), _Odd())
    with pytest.raises(InputError, match=r"1\.weight"):
        Ghost(module, tuple(module.parameters()))


def test_parameters_keep_whether_they_take_gradients() -> None:
    linear = nn.Linear(2, 2)
    linear.bias.requires_grad_(False)
    with Ghost(linear, (linear.weight,)).listening():
        assert not linear.weight.requires_grad
    assert linear.weight.requires_grad
    assert not linear.bias.requires_grad
