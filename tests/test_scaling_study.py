"""The scaling study's own arithmetic: laws that are known are found again, FLOPs are those that torch counts."""

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench._scaling_flops import cost
from bench._scaling_laws import exponent, jackknife, paired, parabola, surface
from bench._scaling_lives import expected_auroc, latest
from bench._scaling_run import lives
from lifechart.model.backbone import Backbone
from lifechart.model.questions import ask, history
from lifechart.model.tokens import DAY_US, tokenise
from lifechart.model.vocabulary import QUANTILES, build_vocabulary
from tests.model.clinic import clinic

BUDGETS = np.array([1e10, 1e11, 1e12])


def law(parameters: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """A loss whose best size grows as the budget to the power .4 / (.6 + .4)."""
    return 1.5 + 40.0 / parameters**0.6 + 30.0 / tokens**0.4


def runs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return budget, parameters, tokens of runs about the best size of each budget."""
    rows = []
    for budget in BUDGETS:
        best = (40 * 0.6 / (30 * 0.4)) ** 1.0 * (budget / 6) ** 0.4
        rows += [(budget, best * factor, budget / 6 / best / factor) for factor in (0.25, 0.5, 1, 2, 4)]
    return tuple(np.array(rows).T)  # type: ignore[return-value]


def test_a_known_law_is_found_by_both_approaches() -> None:
    budget, parameters, tokens = runs()
    loss = law(parameters, tokens)
    curves = [parabola(b, parameters[budget == b], tokens[budget == b], loss[budget == b]) for b in BUDGETS]
    assert all(each.within for each in curves)
    assert exponent(BUDGETS, np.array([c.best_parameters for c in curves])) == pytest.approx(0.4, abs=0.02)
    assert exponent(BUDGETS, np.array([c.best_tokens for c in curves])) == pytest.approx(0.6, abs=0.02)
    found = surface(parameters, tokens, loss)
    assert (found.alpha, found.beta, found.floor) == pytest.approx((0.6, 0.4, 1.5), abs=0.05)


def test_a_loss_that_only_falls_has_no_best_size_inside() -> None:
    sizes = np.array([1e3, 1e4, 1e5])
    assert not parabola(1e9, sizes, 1e9 / sizes, np.array([3.0, 2.0, 1.0])).within
    assert not parabola(1e9, sizes, 1e9 / sizes, np.array([1.0, 1.5, 1.0])).within


def test_the_jackknife_of_a_mean_is_students_interval() -> None:
    values = np.random.default_rng(0).normal(size=30)
    each = jackknife(30, lambda kept: float(values[kept].mean()))
    assert (each.high - each.value) == pytest.approx(2.045 * values.std(ddof=1) / 30**0.5, rel=1e-3)
    same = paired(values, values, np.ones(30))
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("width", "layers"), [(32, 1), (64, 2), (96, 3), (128, 4)])
def test_the_counted_flops_of_the_blocks_are_those_torch_counts(width: int, layers: int) -> None:
    places = 96
    backbone = Backbone(width, layers, width // 32, 0.0)
    # Plain attention: the fused one of a CPU is not counted by torch.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        backbone(torch.randn(3, places, width), torch.rand(3, places), torch.rand(3, places))
    counted = cost(width, layers, codes=100, outcomes=10, rank=48, seen=places, per_event=0.0)
    assert counter.get_total_flops() / (3 * places) == pytest.approx(2 * counted.backbone + counted.attention)


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5]), st.floats(0.01, 0.99)), min_size=2, max_size=12))
def test_the_expected_auroc_is_that_of_all_pairs(rows: list[tuple[float, float]]) -> None:
    scores, truth = (np.array(each) for each in zip(*rows, strict=True))
    pairs = total = 0.0
    for i in range(len(rows)):
        for j in range(len(rows)):
            if i != j:
                weight = truth[i] * (1 - truth[j])
                total += weight
                pairs += weight * ((scores[i] > scores[j]) + (scores[i] == scores[j]) / 2)
    assert expected_auroc(scores, truth) == pytest.approx(pairs / total, abs=1e-9)


def test_a_cut_record_keeps_its_latest_events_and_what_has_no_date() -> None:
    events = clinic(5, seed=3)
    prompts = events.drop_nulls("time").group_by("subject_id").agg(pl.col("time").median()).sort("subject_id")
    prompts = prompts.rename({"time": "prediction_time"})
    whole, asked = latest(events, prompts, None)
    few, _ = latest(events, prompts, 4)
    assert asked["subject_id"].to_list() == [0, 1, 2, 3, 4]
    for number in range(5):
        mine, all_of_it = (frame.filter(pl.col("subject_id") == number) for frame in (few, whole))
        dated, ever = (
            frame.filter(pl.col("time").is_not_null() & (pl.col("code") != "MEDS_BIRTH")) for frame in (mine, all_of_it)
        )
        assert dated.height == min(4, ever.height)
        if ever.height:
            assert dated["time"].max() == ever["time"].max() <= prompts["prediction_time"][number]
        assert mine.height - dated.height == 2


def test_a_slice_of_lives_reads_like_those_lives_alone() -> None:
    events = clinic(12, seed=4)
    vocabulary = build_vocabulary(events, fewest_subjects=1, fewest_onsets=1)
    some = lives(tokenise(events, vocabulary), 4, 9)
    alone = tokenise(events.filter(pl.col("subject_id").is_between(4, 8)), vocabulary)
    for name in ("subject_ids", "starts", "code", "next_same", "end"):
        np.testing.assert_array_equal(getattr(some, name), getattr(alone, name))
    questions = ask(some, np.arange(5), some.end - DAY_US)
    ours, theirs = (history(each, questions, vocabulary.valued, len(QUANTILES)) for each in (some, alone))
    np.testing.assert_array_equal(ours.column, theirs.column)
    np.testing.assert_allclose(ours.weight, theirs.weight)
