"""The loop learns, and a killed run ends with the weights of an unbroken one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lifechart.model.fit import Fitter, Recipe
from lifechart.model.sizes import Size
from lifechart.model.tokens import Tokens
from lifechart.model.vocabulary import Vocabulary


@pytest.fixture
def short(size: Size) -> Size:
    return replace(size, epochs=2, questions=4)


def fitter(vocabulary: Vocabulary, size: Size, tokens: Tokens, **more: object) -> Fitter:
    return Fitter(vocabulary, size, tokens, tokens, 5, Recipe(), torch.device("cpu"), **more)


def weights(network: torch.nn.Module) -> list[np.ndarray]:
    return [each.detach().numpy() for each in network.state_dict().values()]


@pytest.mark.parametrize("killed_at", [1, 4, 9])
def test_a_killed_run_resumes_to_the_same_weights(
    vocabulary: Vocabulary, short: Size, tokens: Tokens, tmp_path: Path, killed_at: int
) -> None:
    unbroken = fitter(vocabulary, short, tokens).run()
    checkpoint = tmp_path / "resume.pt"
    fitter(vocabulary, short, tokens, checkpoint=checkpoint).run(stop_at=killed_at)
    resumed = fitter(vocabulary, short, tokens, checkpoint=checkpoint).run()
    assert killed_at < unbroken.steps == resumed.steps
    assert unbroken.history == resumed.history
    for ours, theirs in zip(weights(unbroken.network), weights(resumed.network), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_another_runs_checkpoint_is_not_resumed(
    vocabulary: Vocabulary, short: Size, tokens: Tokens, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "resume.pt"
    fitter(vocabulary, short, tokens, checkpoint=checkpoint, data_digest="a").run(stop_at=3)
    other = fitter(vocabulary, short, tokens, checkpoint=checkpoint, data_digest="b")
    assert other.run(stop_at=1).steps == 1


def test_settled_weights_are_held_once(vocabulary: Vocabulary, short: Size, tokens: Tokens) -> None:
    one = fitter(vocabulary, short, tokens)
    one.run(stop_at=3)
    ours, averages = dict(one.network.named_parameters()), dict(one.averaged.named_parameters())
    once = {name for name, each in ours.items() if each.data_ptr() == averages[name].data_ptr()}
    assert once == set(one._held_once())
    assert "hazards.history.weight" in once
    assert {"hazards.from_hidden.0.weight", "encoder.code.weight", "backbone.last.weight"} & once == set()
    assert one.best_state["hazards.history.weight"].data_ptr() == ours["hazards.history.weight"].data_ptr()
    # What still learns, and its average, go their own ways.
    assert not torch.equal(ours["backbone.last.weight"], averages["backbone.last.weight"])


def test_the_seed_decides_the_weights(vocabulary: Vocabulary, short: Size, tokens: Tokens) -> None:
    one, two = (Fitter(vocabulary, short, tokens, tokens, s, Recipe(), torch.device("cpu")) for s in (1, 2))
    differ = [not np.array_equal(a, b) for a, b in zip(weights(one.network), weights(two.network), strict=True)]
    assert any(differ)


def test_learning_beats_the_base_rates(vocabulary: Vocabulary, size: Size, tokens: Tokens) -> None:
    fitting = fitter(vocabulary, replace(size, epochs=4), tokens)
    before = fitting.tuning_loss()
    assert fitting.run().history[-1]["tuning_loss"] < before - 0.02


def test_the_tuning_loss_does_not_hang_on_how_many_records_are_read_at_once(
    vocabulary: Vocabulary, short: Size, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = fitter(vocabulary, short, tokens)
    together = one.tuning_loss()
    monkeypatch.setattr("lifechart.model.fit.most_places", lambda collator: 1)
    assert one.tuning_loss() == pytest.approx(together, rel=1e-3)
